/** No WebSockets: refused by a proxy, unwanted by the page, or switched off for everyone. Polling goes on where they ended. */

import { expect, it } from "vitest";
import { openTab } from "../src/browser";
import { expectExactlyOnce } from "../src/exactly";
import { scenario } from "../src/scenario";
import { breakIt } from "../src/system";
import { until } from "../../testing/until";

const here = scenario();

it("a proxy that refuses WebSockets: falls to polling, loses nothing, comes back", async () => {
  const ledger = await here.ledger("blocked");
  const tab = await here.liveTab(ledger);
  ledger.write();
  await breakIt("block-websockets");
  await tab.waitForTransport("polling", 20_000);
  expect(await tab.light()).toBe("delayed");
  const before = (await tab.delivered()).length;
  await until("polls bring events", 10_000, async () => (await tab.delivered()).length > before + 5);

  await breakIt("allow-websockets");
  await tab.waitForTransport("websocket", 20_000);
  await tab.waitForLight("live");
  await expectExactlyOnce(tab, ledger);
});

it("a proxy that refuses WebSockets from the start", async () => {
  const ledger = await here.ledger("blocked-start");
  await ledger.insert("before the page");
  await breakIt("block-websockets");
  const tab = await openTab(here.context, { merchant: ledger.merchant });
  await tab.waitForTransport("polling", 20_000);
  await until("the snapshot is shown", 10_000, async () => (await tab.shown()).length === 1);
  ledger.mark();
  ledger.write();
  await until("polls bring events", 10_000, async () => (await tab.delivered()).length > 5);
  await expectExactlyOnce(tab, ledger);
});

it("a page that wants polling opens no socket until it is told otherwise", async () => {
  const ledger = await here.ledger("polling");
  const wish = 'localStorage.setItem("rowcast:transport", "polling")';
  await here.context.addInitScript(`if (!sessionStorage.getItem("wished")) { sessionStorage.setItem("wished", "1"); ${wish} }`);
  const tab = await openTab(here.context, { merchant: ledger.merchant });
  await until("the snapshot was fetched", 10_000, async () => (await tab.surface()).resyncs.length === 1);
  await tab.waitForTransport("polling");
  ledger.mark();
  ledger.write();
  await until("polls bring events", 10_000, async () => (await tab.delivered()).length > 5);
  expect(tab.sockets).toBe(0);

  // As another tab would say it; in the same one the browser sends no such event.
  await tab.page.evaluate(() => {
    localStorage.removeItem("rowcast:transport");
    dispatchEvent(new StorageEvent("storage", { key: "rowcast:transport", newValue: null, storageArea: localStorage }));
  });
  await tab.waitForTransport("websocket");
  await tab.waitForLight("live");
  await expectExactlyOnce(tab, ledger);
});

it("WebSockets switched off for everyone, and on again, at run time", async () => {
  const ledger = await here.ledger("switch");
  const tab = await here.liveTab(ledger);
  ledger.write();
  await breakIt("switch-off");
  await tab.waitForTransport("polling", 25_000);
  const before = (await tab.delivered()).length;
  await until("polls bring events", 10_000, async () => (await tab.delivered()).length > before + 5);

  await breakIt("switch-on");
  await tab.waitForTransport("websocket", 25_000);
  await tab.waitForLight("live");
  await expectExactlyOnce(tab, ledger);
});
