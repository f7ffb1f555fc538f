/** What is said of a connection beside its light: how it is made, and when something happens next. Pure. */

import type { Status } from "@rowcast/client";

/**
 * The line for a status; `seconds` are those until the next attempt or poll, null where none is due. What went wrong is
 * not said here: a merchant can do nothing with it. The log has it.
 */
export function connectionLine({ state, transport, reason }: Pick<Status, "state" | "transport" | "reason">, seconds: number | null): string {
  const due = seconds === null ? "" : seconds > 0 ? ` in ${seconds} s` : " now";
  switch (state) {
    case "INITIALIZING":
      return "Connecting";
    case "CONNECTED":
      return reason === "" ? "Connected by WebSocket" : `Connected, but behind: ${reason}`;
    case "RECONNECTING":
      return `Connecting again${due}`;
    case "DEGRADED":
      if (transport === "polling") return due === "" ? "Polling" : `Polling, next${due}`;
      return due === "" ? "Not connected" : `Not connected, next try${due}`;
  }
}
