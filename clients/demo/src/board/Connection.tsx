/** How this merchant's client reaches the server, in a line of its own: the light says whether, this says how. */

import { useEffect, useState } from "react";
import type { Status } from "@rowcast/client";

export function Connection({ status }: { readonly status: Status }) {
  const seconds = useSecondsUntil(status.nextAttemptAt);
  return <p className="connection">{connectionLine(status, seconds)}</p>;
}

/** What is said of a status, with the seconds until the next attempt or poll where one is due. */
export function connectionLine({ state, transport, reason, error }: Status, seconds: number | null): string {
  const next = seconds === null ? "" : seconds > 0 ? ` in ${seconds} s` : " now";
  if (error !== null) return error.message;
  switch (state) {
    case "INITIALIZING":
      return "Connecting";
    case "CONNECTED":
      return reason === "" ? "Connected by WebSocket" : `Connected, but ${reason} is behind`;
    case "RECONNECTING":
      return next === "" ? "Connecting again" : `Connecting again${next}`;
    case "DEGRADED":
      return transport === "polling" ? `Polling${next === "" ? "" : `, next look${next}`}` : `Not connected${next === "" ? "" : `, next try${next}`}`;
  }
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
