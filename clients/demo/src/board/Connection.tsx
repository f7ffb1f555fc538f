/** How this merchant's client reaches the server, in a line of its own: the light says whether, this says how. */

import { useEffect, useState } from "react";
import type { Status } from "@rowcast/client";
import { connectionLine } from "./connectionLine";

export function Connection({ status }: { readonly status: Status }) {
  const seconds = useSecondsUntil(status.nextAttemptAt);
  return <p className="connection">{connectionLine(status, seconds)}</p>;
}

function useSecondsUntil(at: number | null): number | null {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (at === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [at]);
  return at === null ? null : Math.max(0, Math.ceil((at - now) / 1_000));
}
