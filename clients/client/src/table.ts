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

/** Next state and action, the state by its first letter. */
type Cell = `${"I" | "C" | "R" | "D"} ${Action}`;

/** The states, in the order of the table's columns. */
export const states: readonly State[] = ["INITIALIZING", "CONNECTED", "RECONNECTING", "DEGRADED"];

/** For each signal, what it does in each state. */
export const table: Record<Signal, readonly [Cell, Cell, Cell, Cell]> = {
  //          INITIALIZING, CONNECTED,    RECONNECTING, DEGRADED
  start:      ["I connect", "C none",     "R none",     "D none"],
  stop:       ["I halt",    "I halt",     "I halt",     "I halt"],
  retry:      ["I connect", "R connect",  "R connect",  "R connect"],
  welcomed:   ["C settle",  "C settle",   "C settle",   "C settle"],
  dropped:    ["R backoff", "R backoff",  "R backoff",  "D degrade"],
  tripped:    ["D degrade", "D degrade",  "D degrade",  "D degrade"],
  switched:   ["D poll",    "D poll",     "D poll",     "D poll"],
  unswitched: ["I none",    "C none",     "R none",     "D connect"],
  refused:    ["D halt",    "D halt",     "D halt",     "D halt"],
  untokened:  ["I await",   "R await",    "R await",    "D degrade"],
  offline:    ["R sleep",   "R sleep",    "R sleep",    "R sleep"],
  woken:      ["I connect", "C probe",    "R connect",  "D connect"],
};

/** What a signal does in a state. */
export function step(state: State, signal: Signal): [State, Action] {
  const [letter, action] = table[signal][states.indexOf(state)]!.split(" ") as [string, Action];
  return [states.find((name) => name.startsWith(letter))!, action];
}
