/** The connection's transition table, as data: for each state and signal the next state and what to do. No behaviour lives here. */

import type { State } from "./types";

/** What can happen. */
export type Signal =
  | "start"
  | "stop"
  /** A button, or other options. */
  | "retry"
  /** The server's first frame is there. */
  | "welcomed"
  /** An attempt failed, or a connection was lost. */
  | "dropped"
  /** The same, and the attempts are used up. */
  | "tripped"
  /** Sockets are not wanted: by the server, an option or the switch in localStorage. */
  | "switched"
  /** They are wanted again. */
  | "unswitched"
  /** Nothing that the client can do by itself helps. */
  | "refused"
  /** There is no token, or none but a refused one. */
  | "untokened"
  | "offline"
  /** Online again, visible again, thawed. */
  | "woken";

/** What is done about it. */
export type Action =
  | "none"
  /** Ask for a token and open a socket, now. */
  | "connect"
  /** The same after a backoff. */
  | "backoff"
  /** Wait for a token. */
  | "await"
  /** The connection stands: nothing else is tried. */
  | "settle"
  /** Is it alive? */
  | "probe"
  /** Poll, and try a socket now and then. */
  | "degrade"
  /** Poll only. */
  | "poll"
  /** Wait for the network, and try now and then. */
  | "sleep"
  /** End everything. */
  | "halt";

/** Next state and action for each pair. */
export const table: Record<State, Record<Signal, readonly [State, Action]>> = {
  INITIALIZING: {
    start: ["INITIALIZING", "connect"],
    stop: ["INITIALIZING", "halt"],
    retry: ["INITIALIZING", "connect"],
    welcomed: ["CONNECTED", "settle"],
    dropped: ["RECONNECTING", "backoff"],
    tripped: ["DEGRADED", "degrade"],
    switched: ["DEGRADED", "poll"],
    unswitched: ["INITIALIZING", "none"],
    refused: ["DEGRADED", "halt"],
    untokened: ["INITIALIZING", "await"],
    offline: ["RECONNECTING", "sleep"],
    woken: ["INITIALIZING", "connect"],
  },
  CONNECTED: {
    start: ["CONNECTED", "none"],
    stop: ["INITIALIZING", "halt"],
    retry: ["RECONNECTING", "connect"],
    welcomed: ["CONNECTED", "settle"],
    dropped: ["RECONNECTING", "backoff"],
    tripped: ["DEGRADED", "degrade"],
    switched: ["DEGRADED", "poll"],
    unswitched: ["CONNECTED", "none"],
    refused: ["DEGRADED", "halt"],
    untokened: ["RECONNECTING", "await"],
    offline: ["RECONNECTING", "sleep"],
    woken: ["CONNECTED", "probe"],
  },
  RECONNECTING: {
    start: ["RECONNECTING", "none"],
    stop: ["INITIALIZING", "halt"],
    retry: ["RECONNECTING", "connect"],
    welcomed: ["CONNECTED", "settle"],
    dropped: ["RECONNECTING", "backoff"],
    tripped: ["DEGRADED", "degrade"],
    switched: ["DEGRADED", "poll"],
    unswitched: ["RECONNECTING", "none"],
    refused: ["DEGRADED", "halt"],
    untokened: ["RECONNECTING", "await"],
    offline: ["RECONNECTING", "sleep"],
    woken: ["RECONNECTING", "connect"],
  },
  DEGRADED: {
    start: ["DEGRADED", "none"],
    stop: ["INITIALIZING", "halt"],
    retry: ["RECONNECTING", "connect"],
    welcomed: ["CONNECTED", "settle"],
    dropped: ["DEGRADED", "degrade"],
    tripped: ["DEGRADED", "degrade"],
    switched: ["DEGRADED", "poll"],
    unswitched: ["DEGRADED", "connect"],
    refused: ["DEGRADED", "halt"],
    untokened: ["DEGRADED", "degrade"],
    offline: ["RECONNECTING", "sleep"],
    woken: ["DEGRADED", "connect"],
  },
};
