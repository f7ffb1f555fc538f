/** The transition table, pair by pair, and as a whole. */

import { describe, expect, test } from "vitest";
import { names, step as stepOf, table, type Letter, type Signal } from "../src/table";
import type { State } from "../src/index";

const letters = Object.keys(names) as Letter[];
const states = Object.values(names);
const letterOf = (state: State): Letter => letters[states.indexOf(state)]!;
const step = (state: State, signal: Signal): [State, string] => {
  const [next, action] = stepOf(letterOf(state), signal);
  return [names[next], action];
};
const signals = Object.keys(table) as Signal[];

/** Written out by hand: state, signal, next state, action. */
const expected = `
INITIALIZING start      INITIALIZING connect
INITIALIZING stop       INITIALIZING halt
INITIALIZING retry      INITIALIZING connect
INITIALIZING welcomed   CONNECTED    settle
INITIALIZING dropped    RECONNECTING backoff
INITIALIZING tripped    DEGRADED     degrade
INITIALIZING switched   DEGRADED     poll
INITIALIZING unswitched INITIALIZING none
INITIALIZING refused    DEGRADED     halt
INITIALIZING untokened  INITIALIZING await
INITIALIZING offline    RECONNECTING sleep
INITIALIZING woken      INITIALIZING connect
CONNECTED    start      CONNECTED    none
CONNECTED    stop       INITIALIZING halt
CONNECTED    retry      RECONNECTING connect
CONNECTED    welcomed   CONNECTED    settle
CONNECTED    dropped    RECONNECTING backoff
CONNECTED    tripped    DEGRADED     degrade
CONNECTED    switched   DEGRADED     poll
CONNECTED    unswitched CONNECTED    none
CONNECTED    refused    DEGRADED     halt
CONNECTED    untokened  RECONNECTING await
CONNECTED    offline    RECONNECTING sleep
CONNECTED    woken      CONNECTED    probe
RECONNECTING start      RECONNECTING none
RECONNECTING stop       INITIALIZING halt
RECONNECTING retry      RECONNECTING connect
RECONNECTING welcomed   CONNECTED    settle
RECONNECTING dropped    RECONNECTING backoff
RECONNECTING tripped    DEGRADED     degrade
RECONNECTING switched   DEGRADED     poll
RECONNECTING unswitched RECONNECTING none
RECONNECTING refused    DEGRADED     halt
RECONNECTING untokened  RECONNECTING await
RECONNECTING offline    RECONNECTING sleep
RECONNECTING woken      RECONNECTING connect
DEGRADED     start      DEGRADED     none
DEGRADED     stop       INITIALIZING halt
DEGRADED     retry      RECONNECTING connect
DEGRADED     welcomed   CONNECTED    settle
DEGRADED     dropped    DEGRADED     degrade
DEGRADED     tripped    DEGRADED     degrade
DEGRADED     switched   DEGRADED     poll
DEGRADED     unswitched DEGRADED     connect
DEGRADED     refused    DEGRADED     halt
DEGRADED     untokened  DEGRADED     degrade
DEGRADED     offline    RECONNECTING sleep
DEGRADED     woken      DEGRADED     connect
`;

const rows = expected
  .trim()
  .split("\n")
  .map((line) => line.split(/\s+/) as [State, Signal, State, string]);

test.each(rows)("%s, %s: %s, %s", (state, signal, next, action) => {
  expect(step(state, signal)).toEqual([next, action]);
});

test("no pair is left out", () => {
  const pairs = states.flatMap((state) => signals.map((signal) => `${state} ${signal}`));
  expect(rows.map(([state, signal]) => `${state} ${signal}`).sort()).toEqual(pairs.sort());
});

describe("as a whole", () => {
  test("every state is reached from every other", () => {
    for (const from of states) {
      const reached = new Set<State>([from]);
      for (const state of reached) for (const signal of signals) reached.add(step(state, signal)[0]);
      expect([...reached].sort()).toEqual([...states].sort());
    }
  });

  test("a welcome always connects, a stop always ends, and what is refused rests", () => {
    for (const state of states) {
      expect(step(state, "welcomed")).toEqual(["CONNECTED", "settle"]);
      expect(step(state, "stop")).toEqual(["INITIALIZING", "halt"]);
      expect(step(state, "refused")).toEqual(["DEGRADED", "halt"]);
    }
  });

  test("who is degraded leaves it by a welcome, a button, the network or the end alone", () => {
    const leaving = signals.filter((signal) => step("DEGRADED", signal)[0] !== "DEGRADED");
    expect(leaving.sort()).toEqual(["offline", "retry", "stop", "welcomed"]);
  });
});
