/** The demo page live, reconnecting and delayed, in light and dark: pictures for the docs, to be looked at. */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { openDemo, pressBreak, type Board, type Light } from "../src/board";
import { scenario } from "../src/scenario";
import { until } from "../../testing/until";
import { withPalette } from "./palette";

const here = scenario();
const IMAGES = join(import.meta.dirname, "../../../docs/images");
const MERCHANTS = ["salon-anna", "barber-ben"];
const WIDE = { width: 1280, height: 880 };
const PHONE = { width: 390, height: 844 };

async function shoot(page: Page, name: string): Promise<void> {
  await mkdir(IMAGES, { recursive: true });
  await writeFile(join(IMAGES, `demo-${name}.png`), withPalette(await page.screenshot({ animations: "allow" })));
}

async function opened(scheme: "light" | "dark", size = WIDE): Promise<{ page: Page; boards: Board[] }> {
  const page = await here.context.newPage();
  await page.emulateMedia({ colorScheme: scheme });
  await page.setViewportSize(size);
  const boards = await openDemo(page, MERCHANTS);
  await until("the chart has something to show", 60_000, async () => (await page.locator(".chart circle").count()) > 60);
  return { page, boards };
}

async function all(boards: readonly Board[], light: Light): Promise<void> {
  await Promise.all(boards.map((board) => board.waitForLight(light, 30_000)));
}

it("live", async () => {
  const { page, boards } = await opened("light");
  await all(boards, "live");
  await shoot(page, "live");
});

it("reconnecting: WebSockets are blocked", async () => {
  const { page, boards } = await opened("dark");

  await pressBreak(page, "block-websockets");
  await all(boards, "reconnecting");
  await shoot(page, "reconnecting");
});

it("delayed: the listeners stand still", async () => {
  const { page, boards } = await opened("light");
  await pressBreak(page, "pause-listeners");
  await all(boards, "delayed");
  await until("the page says so of the listeners too", 10_000, async () => (await page.locator('.station[data-well="false"]').count()) > 0);
  await shoot(page, "delayed");
  expect(await boards[0]?.root.locator(".connection").textContent()).toContain("Connected");
});

it("on a phone", async () => {
  const { page, boards } = await opened("dark", PHONE);
  await all(boards, "live");
  await shoot(page, "phone");
});
