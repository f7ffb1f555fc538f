/** Edges, listeners and Redis die or stand still, and come back. */

import { expect, it } from "vitest";
import { expectExactlyOnce } from "../src/exactly";
import { scenario } from "../src/scenario";
import { breakIt, killEdges } from "../src/system";
import { until } from "../../testing/until";

const here = scenario();

/** The light has to turn within this time, in milliseconds. */
const TRUE_WITHIN = 5_000;

it("edges that are killed are left for others, without a resync", async () => {
  const ledger = await here.ledger("edges");
  const tab = await here.liveTab(ledger);
  ledger.write();
  await until("events come", 5_000, async () => (await tab.delivered()).length > 3);
  await killEdges();
  await until("another socket was opened", 15_000, () => tab.sockets > 1);
  await tab.waitForLight("live", 20_000);
  expect((await tab.surface()).moments.map(({ light }) => light)).toContain("reconnecting");
  await expectExactlyOnce(tab, ledger);
});

it("listeners that stand still turn the light to Delayed within 5 s although the socket is open, and back", async () => {
  const ledger = await here.ledger("listeners");
  const tab = await here.liveTab(ledger);
  ledger.write();
  const stopped = Date.now();
  await breakIt("pause-listeners");
  await tab.waitForLight("delayed", TRUE_WITHIN);
  const turned = (await tab.surface()).moments.find(({ at, light }) => at >= stopped && light === "delayed");
  expect(turned?.state).toBe("CONNECTED");
  expect((turned?.at ?? Infinity) - stopped).toBeLessThanOrEqual(TRUE_WITHIN);

  await breakIt("resume-listeners");
  await tab.waitForLight("live");
  expect(tab.sockets).toBe(1);
  await expectExactlyOnce(tab, ledger);
});

it("Redis restarted: what it knew is fetched anew, and nothing is missing", async () => {
  const ledger = await here.ledger("redis");
  const tab = await here.liveTab(ledger);
  ledger.write();
  await until("events come", 5_000, async () => (await tab.delivered()).length > 3);
  await breakIt("restart-redis");
  await until("the page was told to fetch anew", 30_000, async () => (await tab.surface()).resyncs.length > 1);
  await tab.waitForLight("live", 20_000);
  await expectExactlyOnce(tab, ledger, (await tab.surface()).resyncs.filter((reason) => reason !== "start"));
});
