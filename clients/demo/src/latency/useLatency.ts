/** Measures events from their commit until they are on the screen: the frame after the page has taken them. */

import { useCallback, useEffect, useRef } from "react";
import { usePage } from "../page";
import { milliseconds } from "./samples";

/** A function that is given each event's time. Events that come while the page is hidden are not shown, and not measured. */
export function useLatency(merchant: string): (at: string) => void {
  const { samples } = usePage();
  const waiting = useRef<number[]>([]);
  const frame = useRef<number | null>(null);

  useEffect(
    () => () => {
      if (frame.current !== null) cancelAnimationFrame(frame.current);
      frame.current = null;
    },
    [],
  );

  return useCallback(
    (at: string) => {
      if (document.visibilityState === "hidden") return;
      waiting.current.push(milliseconds(at));
      frame.current ??= requestAnimationFrame(() => {
        const shown = performance.timeOrigin + performance.now();
        const latencies = waiting.current.splice(0).map((committed) => ({ merchant, ms: Math.max(0, shown - committed) }));
        frame.current = null;
        samples.add(...latencies);
      });
    },
    [merchant, samples],
  );
}
