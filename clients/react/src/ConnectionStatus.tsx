/** The light that users see: Live, Reconnecting or Delayed, in words, and a button that tries at once while it is not live. */

import type { CSSProperties, ReactElement, ReactNode } from "react";
import type { Light, Status } from "@rowcast/client";
import { useStore } from "./store";
import { useRowcast } from "./useRowcast";

/** The words, for other languages. */
export interface ConnectionLabels extends Readonly<Record<Light, string>> {
  /** The button's. */
  readonly reconnect: string;
}

/** What own markup is made of. */
export interface ConnectionView {
  readonly light: Light;
  readonly label: string;
  readonly status: Status;
  readonly reconnect: () => void;
}

export interface ConnectionStatusProps {
  readonly labels?: Partial<ConnectionLabels>;
  readonly className?: string;
  readonly style?: CSSProperties;
  /** Own markup in place of this one's. */
  readonly children?: (view: ConnectionView) => ReactNode;
}

const LABELS: ConnectionLabels = { live: "Live", reconnecting: "Reconnecting", delayed: "Delayed", reconnect: "Reconnect" };

/** Of the dot, which says nothing that the word does not; `--rowcast-<light>` replaces them. */
const COLOURS: Readonly<Record<Light, string>> = { live: "#1a7f37", reconnecting: "#bf8700", delayed: "#cf222e" };

export function ConnectionStatus({ labels, className, style, children }: ConnectionStatusProps): ReactElement {
  useStore("<ConnectionStatus>");
  const { status, reconnect } = useRowcast();
  const { light } = status;
  const words = { ...LABELS, ...labels };
  if (children) return <>{children({ light, label: words[light], status, reconnect })}</>;
  // As wide as its longest word, whatever it says: nothing beside it moves.
  const width = Math.max(...[words.live, words.reconnecting, words.delayed].map((word) => word.length));
  return (
    <span className={className} data-rowcast="" data-light={light} style={{ display: "inline-flex", alignItems: "baseline", gap: ".5em", ...style }}>
      <span
        aria-hidden="true"
        style={{ width: ".6em", height: ".6em", borderRadius: "50%", background: `var(--rowcast-${light}, ${COLOURS[light]})` }}
      />
      <span role="status" aria-live="polite" style={{ minWidth: `${width}ch` }}>
        {words[light]}
      </span>
      <button type="button" onClick={reconnect} style={{ visibility: light === "live" ? "hidden" : "visible" }}>
        {words.reconnect}
      </button>
    </span>
  );
}
