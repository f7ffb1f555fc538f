/** What the client counts and reports with its next sign-in: kept until a welcome shows that it has arrived. */

import type { Report, State } from "./types";

interface Mutable extends Report {
  readonly states: Partial<Record<State, number>>;
  readonly reconnects: number[];
  readonly refreshes: { ok: number; failed: number };
  readonly ages: number[];
}

/** As many as the server takes. */
const MOST_RECONNECTS = 32;
const MOST_AGES = 64;

const nothing = (): Mutable => ({ states: {}, reconnects: [], refreshes: { ok: 0, failed: 0 }, ages: [] });

function sum(a: Report, b: Report): Mutable {
  const states: Mutable["states"] = { ...a.states };
  for (const [state, seconds] of Object.entries(b.states) as [State, number][])
    states[state] = (states[state] ?? 0) + seconds;
  return {
    states,
    reconnects: [...a.reconnects, ...b.reconnects].slice(-MOST_RECONNECTS),
    refreshes: { ok: a.refreshes.ok + b.refreshes.ok, failed: a.refreshes.failed + b.refreshes.failed },
    ages: [...a.ages, ...b.ages].slice(-MOST_AGES),
  };
}

export interface Counters {
  /** Entered a state; null: stopped. */
  state(next: State | null): void;
  refresh(ok: boolean): void;
  /** Handed on so many milliseconds after its commit. */
  age(ms: number): void;
  /** All that no welcome has confirmed; it counts as sent from here on if `send`. */
  report(send?: boolean): Report;
  /** What was sent has arrived. */
  sent(): void;
}

export function counters(now: () => number): Counters {
  let underway = nothing();
  let counted = nothing();
  let state: State | null = null;
  let since = 0;
  let lostAt = 0;
  const seconds = (ms: number): number => Math.max(0, ms) / 1000;
  const settle = (): void => {
    const at = now();
    if (state) counted.states[state] = (counted.states[state] ?? 0) + seconds(at - since);
    since = at;
  };
  return {
    state(next) {
      settle();
      if (next === "CONNECTED") {
        if (lostAt) counted.reconnects.push(seconds(since - lostAt));
        lostAt = 0;
      } else if (!next) lostAt = 0;
      else if (state === "CONNECTED") lostAt = since;
      state = next;
    },
    refresh(ok) {
      counted.refreshes[ok ? "ok" : "failed"]++;
    },
    age(ms) {
      if (counted.ages.push(seconds(ms)) > MOST_AGES) counted.ages.shift();
    },
    report(send) {
      settle();
      const all = sum(underway, counted);
      if (send) {
        underway = all;
        counted = nothing();
      }
      return all;
    },
    sent() {
      underway = nothing();
    },
  };
}
