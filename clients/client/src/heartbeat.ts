/**
 * Is the other side alive? Any frame proves it; after silence a ping asks for one.
 *
 * A timer that fires late has slept, with the page or the machine: its verdict would be about the sleep, so it asks again.
 */

import type { After, Cancel } from "./platform";

/** A timer that is later than this has slept. */
const LATE = 2_000;

export interface Heartbeat {
  /** A frame came. */
  readonly heard: () => void;
  /** Asks at once. */
  readonly probe: () => void;
  readonly stop: () => void;
}

/**
 * After `interval` milliseconds of silence it pings; without an answer within `timeout` it says `silent`, and an
 * interval later `dead`.
 */
export function heartbeat(
  now: () => number,
  after: After,
  interval: () => number,
  timeout: number,
  ping: () => void,
  silent: (silent: boolean) => void,
  dead: () => void,
): Heartbeat {
  let cancel: Cancel = () => {};
  let heardAt = now();
  let asked = false;

  const timer = (ms: number, run: (late: boolean) => void): void => {
    cancel();
    const due = now() + ms;
    cancel = after(ms, () => run(now() - due > LATE));
  };

  const idle = (): void => {
    asked = false;
    const left = heardAt + interval() - now();
    if (left > 0) timer(left, idle);
    else ask(1);
  };

  /** `chances`: how often a late timer may ask again. */
  const ask = (chances: number, overdue?: boolean): void => {
    asked = true;
    ping();
    timer(overdue ? interval() : timeout, (late) => {
      if (late && chances) return ask(chances - 1, overdue);
      if (overdue) return dead();
      silent(true);
      ask(chances, true);
    });
  };

  idle();
  return {
    heard() {
      heardAt = now();
      if (!asked) return;
      silent(false);
      idle();
    },
    probe: () => asked || ask(1),
    stop: () => cancel(),
  };
}
