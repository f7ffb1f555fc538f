/** What the client takes from its surroundings, and timers on top of it. Nothing is touched before it is used. */

import type { Platform } from "./types";

/** The surroundings, with what is given in place of what is there. */
export function platformOf(given: Partial<Platform> = {}): Platform {
  const g = globalThis as Partial<typeof globalThis>;
  return {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    get WebSocket() {
      return g.WebSocket;
    },
    get fetch() {
      return g.fetch?.bind(g);
    },
    get events() {
      return g.addEventListener ? (g as typeof globalThis) : undefined;
    },
    get document() {
      return g.document;
    },
    get location() {
      return g.location;
    },
    get localStorage() {
      return storage("localStorage");
    },
    get sessionStorage() {
      return storage("sessionStorage");
    },
    get locks() {
      return g.navigator?.locks;
    },
    online: () => g.navigator?.onLine !== false,
    ...given,
  };
}

/** Where storage is forbidden, looking at it throws. */
function storage(name: "localStorage" | "sessionStorage"): Storage | undefined {
  try {
    return globalThis[name];
  } catch {
    return undefined;
  }
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
    if (typeof reportError === "function") reportError(error);
    else
      setTimeout(() => {
        throw error;
      });
  }
}
