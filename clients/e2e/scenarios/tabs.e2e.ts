/** Several tabs of one merchant. */

import { expect, it } from "vitest";
import type { Tab } from "../src/browser";
import { expectExactlyOnce } from "../src/exactly";
import { scenario } from "../src/scenario";
import { tokenFor } from "../src/token";
import { until } from "../../testing/until";

const here = scenario();

const TABS = 5;
/** The server asks for a new token a minute before the end of the old one: four seconds after each. */
const TTL = 64;

/** Runs in the page. */
function signIn(token: string): void {
  if (localStorage.getItem("token") === null) localStorage.setItem("token", token);
}

it("five tabs with sockets of their own renew the token that they share one at a time", async () => {
  const ledger = await here.ledger("tabs");
  // The user has signed in: a token is there.
  const token = await tokenFor(ledger.merchant, TTL);
  await here.context.addInitScript(signIn, token);
  const tabs: Tab[] = [];
  for (let count = 0; count < TABS; count += 1) tabs.push(await here.liveTab(ledger, { source: "storage", ttl: TTL }));
  ledger.write();
  const fetched = async () => (await Promise.all(tabs.map((tab) => tab.surface()))).flatMap(({ tokens }) => tokens);
  await until("the token was renewed three times", 30_000, async () => (await fetched()).length >= 3);

  const tokens = [...(await fetched())].sort((one, other) => one.asked - other.asked);
  const pauses = tokens.slice(1).map(({ asked }, index) => asked - (tokens[index]?.came ?? asked));
  // Each renewal is due seconds after the one before: whoever asks sooner asks for what another tab has already.
  expect(pauses.filter((pause) => pause < 1_000), `pauses between the tabs' requests, ${pauses.join()}`).toEqual([]);
  for (const tab of tabs) {
    await expectExactlyOnce(tab, ledger);
    expect(tab.sockets).toBe(1);
  }
});

it("five tabs share a socket, and another one takes it over when its tab is closed", async () => {
  const ledger = await here.ledger("shared");
  const tabs: Tab[] = [];
  for (let count = 0; count < TABS; count += 1) tabs.push(await here.liveTab(ledger, { shared: true }));
  const leaders = () => tabs.filter(({ sockets }) => sockets > 0);
  expect(leaders()).toHaveLength(1);
  ledger.write();
  for (const tab of tabs) await until("events come to each", 10_000, async () => (await tab.delivered()).length > 3);

  const [leader] = leaders();
  if (leader === undefined) throw new Error("one of them has the socket");
  tabs.splice(tabs.indexOf(leader), 1);
  await leader.page.close();
  await until("another has opened a socket", 15_000, () => leaders().length > 0);
  for (const tab of tabs) await tab.waitForLight("live");
  for (const tab of tabs) await expectExactlyOnce(tab, ledger);
  expect(leaders()).toHaveLength(1);
});
