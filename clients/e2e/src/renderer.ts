/**
 * A page's process, to be frozen. DevTools' `Page.setWebLifecycleState` freezes hidden pages alone, and under Playwright none is
 * hidden; a process that is stopped does not run either.
 */

import type { Browser, Page } from "playwright-core";
import { until } from "../../testing/until";

interface ProcessInfo {
  readonly id: number;
  readonly type: string;
  readonly cpuTime: number;
}

/** The process that renders a page: the one among Chromium's that is busy when the page is made busy. */
export async function rendererOf(browser: Browser, page: Page): Promise<number> {
  const devtools = await browser.newBrowserCDPSession();
  const spent = async (): Promise<Map<number, number>> => {
    const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
    return new Map(processInfo.filter(({ type }: ProcessInfo) => type === "renderer").map(({ id, cpuTime }: ProcessInfo) => [id, cpuTime]));
  };
  const before = await spent();
  let pid = 0;
  await until("one renderer works far more than the others", 20_000, async () => {
    await page.evaluate(() => {
      const end = performance.now() + 300;
      while (performance.now() < end);
    });
    const worked = [...(await spent())].map(([id, cpuTime]) => ({ id, seconds: cpuTime - (before.get(id) ?? 0) }));
    const [first, second] = worked.sort((one, other) => other.seconds - one.seconds);
    pid = first?.id ?? 0;
    return first !== undefined && first.seconds > 0.2 && first.seconds > 3 * (second?.seconds ?? 0);
  });
  await devtools.detach();
  return pid;
}

/** Does something while a process stands still. */
export async function frozen(pid: number, run: () => Promise<void>): Promise<void> {
  process.kill(pid, "SIGSTOP");
  try {
    await run();
  } finally {
    process.kill(pid, "SIGCONT");
  }
}
