/** What all scenarios share: a browser for a file, a context for a test, a whole system before each. */

import { randomUUID } from "node:crypto";
import type { Browser, BrowserContext } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach } from "vitest";
import type { Wishes } from "../fixture/surface";
import { openContext, openTab, type Tab } from "./browser";
import { Ledger } from "./ledger";
import { mend } from "./system";
import { launch } from "../../testing/chromium";

export interface Scenario {
  readonly browser: Browser;
  readonly context: BrowserContext;
  /** A merchant of this test's own. */
  ledger(name: string): Promise<Ledger>;
  /** A tab that is live, with its first snapshot; from here on events alone bring rows. */
  liveTab(ledger: Ledger, wishes?: Omit<Wishes, "merchant">): Promise<Tab>;
}

/** Call it once in a file, outside of tests. */
export function scenario(): Scenario {
  let browser: Browser;
  let context: BrowserContext;
  let ledgers: Ledger[] = [];

  beforeAll(async () => {
    browser = await launch();
  });
  afterAll(() => browser.close());
  beforeEach(async () => {
    await mend();
    context = await openContext(browser);
  });
  afterEach(async () => {
    await Promise.all(ledgers.map((ledger) => ledger.close()));
    ledgers = [];
    await context.close();
  });

  return {
    get browser() {
      return browser;
    },
    get context() {
      return context;
    },
    async ledger(name) {
      const ledger = await Ledger.open(`e2e-${name}-${randomUUID().slice(0, 8)}`);
      ledgers.push(ledger);
      return ledger;
    },
    async liveTab(ledger, wishes = {}) {
      const tab = await openTab(context, { merchant: ledger.merchant, ...wishes });
      await tab.waitForLight("live");
      ledger.mark();
      return tab;
    },
  };
}
