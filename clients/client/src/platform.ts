/** What the client takes from its surroundings, and timers on top of it. Nothing is touched before it is used. */

import type { Platform } from "./types";

/**
 * The surroundings, with what is given in place of what is there. What is neither given nor named here is the global of
 * that name, looked at when it is used: a storage can be forbidden, and throw.
 */
export function platformOf(given: Partial<Platform> = {}): Platform {
  const g = globalThis as Partial<typeof globalThis>;
  const named = {
    now: () => Date.now(),
    random: () => Math.random(),
    events: g.addEventListener && g,
    locks: g.navigator?.locks,
    online: () => g.navigator?.onLine !== false,
    ...given,
  };
  return new Proxy(named as Platform, {
    get(target, name) {
      if (name in target) return target[name as keyof Platform];
      try {
        const value: unknown = g[name as keyof typeof g];
        // Bound, because some of them insist on it.
        return typeof value === "function" ? value.bind(g) : value;
      } catch {
        return undefined;
      }
    },
  });
}

/** Ends a timer. */
export type Cancel = () => void;
/** Runs something later. */
export type After = (ms: number, run: () => void) => Cancel;

/** Longer timers fire at once: they are cut into pieces. */
const LONGEST = 2_000_000_000;

export function timers(p: Platform): After {
  return (ms, run) => {
    let timer: unknown;
    const arm = (left: number): void => {
      timer = p.setTimeout(left > LONGEST ? () => arm(left - LONGEST) : run, Math.min(left, LONGEST));
    };
    arm(ms);
    return () => p.clearTimeout(timer);
  };
}

/** Runs the application's code: what it throws is the application's, and does not break the client. */
export function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
