/** Nothing is broken but tokens: the first event, refreshes, expiry, StrictMode. */

import { expect, it } from "vitest";
import { openTab } from "../src/browser";
import { expectExactlyOnce } from "../src/exactly";
import { scenario } from "../src/scenario";
import { dev } from "../src/system";
import { signedToken } from "../src/token";
import { until } from "../../testing/until";

const here = scenario();

it("the first event comes after the first snapshot, each row once", async () => {
  const ledger = await here.ledger("first");
  await ledger.insert("before the page");
  const tab = await openTab(here.context, { merchant: ledger.merchant });
  await tab.waitForLight("live");
  await until("the snapshot is shown", 5_000, async () => (await tab.shown()).length === 1);
  ledger.mark();

  const id = await ledger.insert("after it");
  await until("the event is shown", 5_000, async () => (await tab.shown()).some((row) => row.id === id));
  expect(await tab.delivered()).toHaveLength(1);
  await expectExactlyOnce(tab, ledger);
});

it("a token is refreshed in place: the same socket, the light live throughout", async () => {
  const ledger = await here.ledger("refresh");
  const tab = await here.liveTab(ledger, { ttl: 4 });
  ledger.write();
  await until("newer tokens have outlived the first one", 20_000, async () => {
    const { tokens } = await tab.surface();
    return tokens.length > 2 && (tokens.at(-1)?.came ?? 0) - (tokens[0]?.came ?? 0) > 5_000;
  });

  const { moments } = await tab.surface();
  const first = moments.findIndex(({ light }) => light === "live");
  expect(moments.slice(first).map(({ light }) => light)).toEqual(["live"]);
  expect(tab.sockets).toBe(1);
  await expectExactlyOnce(tab, ledger);
});

it("a token that has expired while logged in is replaced by itself", async () => {
  const ledger = await here.ledger("expired");
  const tab = await here.liveTab(ledger, { ttl: 3, expiring: "ignore" });
  ledger.write();
  await until("the server has ended the socket", 15_000, async () => tab.sockets >= 2);
  await tab.waitForLight("live");
  await expectExactlyOnce(tab, ledger);
});

it("a token in storage that expired while the page was closed is replaced by itself", async () => {
  const ledger = await here.ledger("stored");
  const { jwt_secret } = await dev();
  const old = signedToken(jwt_secret, { merchantId: ledger.merchant, exp: Math.floor(Date.now() / 1_000) - 3_600 });
  await here.context.addInitScript((token) => {
    if (localStorage.getItem("token") === null) localStorage.setItem("token", token);
  }, old);
  const tab = await here.liveTab(ledger, { source: "storage" });
  expect((await tab.surface()).tokens).toHaveLength(1);
  expect(await tab.page.evaluate(() => localStorage.getItem("token"))).not.toBe(old);

  ledger.write();
  await until("events come", 5_000, async () => (await tab.delivered()).length > 3);
  await expectExactlyOnce(tab, ledger);
});

it("under StrictMode one socket stays, and each event comes once", async () => {
  const ledger = await here.ledger("strict");
  const tab = await here.liveTab(ledger, { strict: true });
  ledger.write();
  await until("events come", 5_000, async () => (await tab.delivered()).length > 5);
  await expectExactlyOnce(tab, ledger);
  expect(tab.sockets).toBeLessThanOrEqual(2);
});
