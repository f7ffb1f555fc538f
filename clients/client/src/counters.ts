/** What the client counts and reports with its next sign-in; forgotten when a welcome shows that it has arrived. */

import type { Report, State } from "./types";

/** As many as the server takes. */
const MOST_RECONNECTS = 32;
const MOST_AGES = 64;

export type Counters = [
  /** Entered a state; null: stopped. */
  enter: (next: State | null) => void,
  refresh: (ok: boolean) => void,
  /** Handed on so many milliseconds after its commit. */
  age: (ms: number) => void,
  report: () => Report,
  /** The last report has arrived. */
  arrived: () => void,
];

export function counters(now: () => number): Counters {
  const nothing = () => ({
    states: {} as Partial<Record<State, number>>,
    reconnects: [] as number[],
    refreshes: { ok: 0, failed: 0 },
    ages: [] as number[],
  });
  let counted = nothing();
  let state: State | null = null;
  let since = 0;
  let lostAt = 0;

  const keep = (list: number[], ms: number, most: number): void => {
    if (list.push(Math.max(0, ms) / 1000) > most) list.shift();
  };
  const settle = (): void => {
    const at = now();
    if (state) counted.states[state] = (counted.states[state] ?? 0) + Math.max(0, at - since) / 1000;
    since = at;
  };
  return [
    (next) => {
      settle();
      if (next === "CONNECTED" && lostAt) keep(counted.reconnects, since - lostAt, MOST_RECONNECTS);
      if (state === "CONNECTED") lostAt = since;
      if (!next) lostAt = 0;
      state = next;
    },
    (ok) => {
      counted.refreshes[ok ? "ok" : "failed"]++;
    },
    (ms) => keep(counted.ages, ms, MOST_AGES),
    () => {
      settle();
      return structuredClone(counted);
    },
    () => {
      counted = nothing();
    },
  ];
}
