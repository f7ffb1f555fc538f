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
  heard(): void;
  /** Asks at once. */
  probe(): void;
  stop(): void;
}

export function heartbeat(env: {
  readonly now: () => number;
  readonly after: After;
  /** How much silence is followed by a ping, in milliseconds. */
  readonly interval: () => number;
  readonly timeout: number;
  readonly ping: () => void;
  /** No answer within the timeout, or one at last. */
  readonly silent: (silent: boolean) => void;
  /** No answer for an interval more. */
  readonly dead: () => void;
}): Heartbeat {
  let cancel: Cancel = () => {};
  let heardAt = env.now();
  let asked = false;

  const timer = (ms: number, run: (late: boolean) => void): void => {
    cancel();
    const due = env.now() + ms;
    cancel = env.after(ms, () => run(env.now() - due > LATE));
  };

  const idle = (): void => {
    asked = false;
    timer(Math.max(heardAt + env.interval() - env.now(), 1), () => {
      if (env.now() - heardAt < env.interval()) idle();
      else ask(1);
    });
  };

  /** `chances`: how often a late timer may ask again. */
  const ask = (chances: number): void => {
    asked = true;
    env.ping();
    timer(env.timeout, (late) => {
      if (late && chances) return ask(chances - 1);
      env.silent(true);
      wait(chances);
    });
  };

  const wait = (chances: number): void => {
    env.ping();
    timer(env.interval(), (late) => (late && chances ? wait(chances - 1) : env.dead()));
  };

  idle();
  return {
    heard() {
      heardAt = env.now();
      if (!asked) return;
      env.silent(false);
      idle();
    },
    probe: () => asked || ask(1),
    stop: () => cancel(),
  };
}
