/** The page itself is away: frozen, stopped, or without a network. */

import { expect, it } from "vitest";
import { expectExactlyOnce } from "../src/exactly";
import { frozen, rendererOf } from "../src/renderer";
import { scenario } from "../src/scenario";
import { killEdges } from "../src/system";
import { until } from "../../testing/until";

const here = scenario();

/** How many rows are to be committed while the page is away: some seconds' work, so that pings go unanswered. */
const MISSED = 60;

it("a renderer that was frozen, as on a machine that slept, shows what it missed when it is thawed", async () => {
  const ledger = await here.ledger("asleep");
  const tab = await here.liveTab(ledger);
  await frozen(await rendererOf(here.browser, tab.page), async () => {
    ledger.write();
    await until("rows were committed meanwhile", 20_000, () => ledger.inserted >= MISSED);
  });
  await tab.waitForLight("live");
  await expectExactlyOnce(tab, ledger);
});

it("a renderer whose edge died while it was frozen finds another", async () => {
  const ledger = await here.ledger("asleep-edge");
  const tab = await here.liveTab(ledger);
  await frozen(await rendererOf(here.browser, tab.page), async () => {
    ledger.write();
    await killEdges();
  });
  await until("another socket was opened", 15_000, () => tab.sockets > 1);
  await tab.waitForLight("live", 20_000);
  await expectExactlyOnce(tab, ledger);
});

it("a page that goes offline comes back with what it missed", async () => {
  const ledger = await here.ledger("offline");
  const tab = await here.liveTab(ledger);
  ledger.write();
  await until("events come", 5_000, async () => (await tab.delivered()).length > 3);
  await here.context.setOffline(true);
  await until("the light is not live", 10_000, async () => (await tab.light()) !== "live");
  const before = (await tab.delivered()).length;
  const id = await ledger.insert("while offline");
  expect((await tab.shown()).some((row) => row.id === id)).toBe(false);

  await here.context.setOffline(false);
  await tab.waitForLight("live");
  await until("what was missed comes", 10_000, async () => (await tab.delivered()).length > before);
  await expectExactlyOnce(tab, ledger);
});
