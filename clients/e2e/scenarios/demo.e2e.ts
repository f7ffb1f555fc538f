/** The demo page itself, by its buttons, while the shop goes on writing. */

import axe, { type AxeResults } from "axe-core";
import type { Page } from "playwright-core";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openDemo, pressBreak, Shop, type Board } from "../src/board";
import { scenario } from "../src/scenario";
import { until } from "../../testing/until";

const here = scenario();
const MERCHANTS = ["salon-anna", "barber-ben"];

let page: Page;
let shop: Shop;
let boards: Board[];
let sockets: number;
let complaints: string[];

beforeEach(async () => {
  page = await here.context.newPage();
  sockets = 0;
  complaints = [];
  page.on("websocket", () => (sockets += 1));
  page.on("pageerror", (error) => complaints.push(String(error)));
  shop = await Shop.open();
  boards = await openDemo(page, MERCHANTS);
});
afterEach(async () => {
  await shop.close();
  expect(complaints).toEqual([]);
});

async function expectBothExact(): Promise<void> {
  for (const board of boards) await board.waitForLight("live");
  for (const board of boards) await shop.waitForSame(board);
}

it("bookings are added, confirmed, cancelled and deleted by its buttons", async () => {
  const [anna, ben] = boards;
  if (anna === undefined || ben === undefined) throw new Error("there are two merchants");
  const answered = page.waitForResponse((response) => response.url().endsWith("/demo/bookings") && response.request().method() === "POST");
  await anna.press("add");
  const { id } = (await (await answered).json()) as { id: number };
  await anna.root.locator(`[data-booking="${id}"]`).waitFor();
  expect(await ben.root.locator(`[data-booking="${id}"]`).count()).toBe(0);

  for (const action of ["confirm", "cancel", "delete"] as const) {
    const changed = await ben.act(action);
    await until(`${action} is on the page as it was committed`, 10_000, async () => {
      const card = ben.root.locator(`[data-booking="${changed}"]:not([data-change="leaving"])`);
      const status = await shop.status(changed);
      const shown = (await card.count()) === 0 ? null : await card.getAttribute("data-status", { timeout: 1_000 }).catch(() => "moving");
      return shown === status;
    });
  }
  await expectBothExact();
});

it("whatever its buttons break, the lights say so, and both boards heal", async () => {
  await pressBreak(page, "pause-listeners");
  for (const board of boards) await board.waitForLight("delayed", 5_000);
  await pressBreak(page, "resume-listeners");
  await expectBothExact();

  await pressBreak(page, "kill-edge");
  await expectBothExact();

  await pressBreak(page, "block-websockets");
  for (const board of boards) await board.waitForLight("delayed", 20_000);
  await pressBreak(page, "allow-websockets");
  await expectBothExact();

  await pressBreak(page, "switch-off");
  for (const board of boards) await board.waitForLight("delayed", 25_000);
  await pressBreak(page, "switch-on");
  await expectBothExact();
});

it.each(["light", "dark"] as const)("it can be read and used by everyone, in its %s colours", async (colorScheme) => {
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await pressBreak(page, "pause-listeners");
  for (const board of boards) await board.waitForLight("delayed", 5_000);
  await page.evaluate(axe.source);
  // As text: in the page it is `window.axe`, not this module's import.
  const { violations } = await page.evaluate<AxeResults>('axe.run({ resultTypes: ["violations"] })');
  expect(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" ")}`)).toEqual([]);
});

it("a merchant's client is sent to polling, and its token ended, by its own buttons", async () => {
  const [anna, ben] = boards;
  if (anna === undefined || ben === undefined) throw new Error("there are two merchants");
  await anna.press("polling");
  await anna.waitForLight("delayed");
  await shop.waitForSame(anna);
  await ben.waitForLight("live", 1_000);
  await anna.press("polling");
  await anna.waitForLight("live");

  const before = sockets;
  await ben.press("expire");
  await until("its token has ended, and it came back with another", 20_000, () => sockets >= before + 2);
  await expectBothExact();
});
