/** Waiting for conditions, for the tests that have a system running. */

const LOOK_EVERY = 25;

/** Resolves when the condition holds; rejects with what was waited for when it does not within `ms`. */
export async function until(what: string, ms: number, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + ms;
  for (;;) {
    if (await holds()) return;
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
  }
}
