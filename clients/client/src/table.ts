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

/** The states by their first letters, in the order of the table's columns. */
export const names = { I: "INITIALIZING", C: "CONNECTED", R: "RECONNECTING", D: "DEGRADED" } as const satisfies Record<string, State>;
export type Letter = keyof typeof names;

/** Next state and action. */
type Cell = `${Letter} ${Action}`;

/** For each signal, what it does in each state; one cell where that is the same in all. */
export const table: Record<Signal, Cell | readonly [Cell, Cell, Cell, Cell]> = {
  //          INITIALIZING, CONNECTED,    RECONNECTING, DEGRADED
  start:      ["I connect", "C none",     "R none",     "D none"],
  retry:      ["I connect", "R connect",  "R connect",  "R connect"],
  dropped:    ["R backoff", "R backoff",  "R backoff",  "D degrade"],
  unswitched: ["I none",    "C none",     "R none",     "D connect"],
  untokened:  ["I await",   "R await",    "R await",    "D degrade"],
  woken:      ["I connect", "C probe",    "R connect",  "D connect"],
  welcomed:   "C settle",
  tripped:    "D degrade",
  switched:   "D poll",
  refused:    "D halt",
  offline:    "R sleep",
  stop:       "I halt",
};

/** What a signal does in a state. */
export function step(state: Letter, signal: Signal): [Letter, Action] {
  const row = table[signal];
  const cell = typeof row === "string" ? row : row["ICRD".indexOf(state)]!;
  return cell.split(" ") as [Letter, Action];
}
