/** What the log says of a client's states. Pure. */

import type { Light, Status } from "@rowcast/client";

export interface Line {
  /** When, in milliseconds since 1970. */
  readonly at: number;
  readonly merchant: string | null;
  readonly text: string;
  readonly tone: "plain" | "good" | "warn" | "bad";
}

export const LIGHTS: Readonly<Record<Light, string>> = { live: "Live", reconnecting: "Reconnecting", delayed: "Delayed" };

const TONES: Readonly<Record<Light, Line["tone"]>> = { live: "good", reconnecting: "warn", delayed: "bad" };

/** The parts of a status that the log follows. */
export type Followed = Pick<Status, "state" | "light" | "reason" | "transport">;

/** The line that a change of status is worth; null where it is worth none. */
export function transition(before: Followed | null, after: Followed): Pick<Line, "text" | "tone"> | null {
  if (before !== null && before.light === after.light && before.state === after.state && before.transport === after.transport) return null;
  if (after.state === "INITIALIZING") return { text: "Connecting", tone: "plain" };
  const way = after.state === "CONNECTED" || after.transport === "polling" ? transportName(after.transport) : "";
  const details = [way, after.light === "live" ? "" : after.reason].filter((part) => part !== "");
  return { text: `${LIGHTS[after.light]}${details.length > 0 ? `, ${details.join(", ")}` : ""}`, tone: TONES[after.light] };
}

export function transportName(transport: Status["transport"]): string {
  if (transport === "websocket") return "by WebSocket";
  return transport === "polling" ? "by polling" : "";
}
