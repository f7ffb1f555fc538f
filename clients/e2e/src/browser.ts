/** Chromium, and the pages in it. */

import type { Browser, BrowserContext, Page } from "playwright-core";
import type { Surface, Wishes } from "../fixture/surface";
import { FIXTURE_PATH, serveFixture } from "./fixture";
import { dev } from "./system";
import { until } from "../../testing/until";

/** A window of the fixture. */
export class Tab {
  /** WebSockets that the page has opened, whatever became of them. */
  sockets = 0;
  /** What the page complained of; a scenario that expects nothing of the kind looks at it. */
  readonly complaints: string[] = [];

  constructor(readonly page: Page) {
    page.on("websocket", () => (this.sockets += 1));
    page.on("pageerror", (error) => this.complaints.push(String(error)));
  }

  surface(): Promise<Surface> {
    return this.page.evaluate(() => window.fixture);
  }

  /** The ids of the rows that the page shows, as often as it shows them. */
  async shown(): Promise<{ id: number; status: string }[]> {
    const rows = await this.page.locator("#rows tr").evaluateAll((all) =>
      all.map((row) => ({ id: Number(row.getAttribute("data-row")), status: row.getAttribute("data-status") ?? "" })),
    );
    return rows.sort((one, other) => one.id - other.id);
  }

  /** The ids of all events that the page was given, one for each time. */
  delivered(): Promise<{ event: string; type: string; row: number }[]> {
    return this.page.locator("#deliveries li").evaluateAll((all) =>
      all.map((item) => ({ event: item.getAttribute("data-event") ?? "", type: item.getAttribute("data-type") ?? "", row: Number(item.getAttribute("data-row")) })),
    );
  }

  async light(): Promise<string> {
    return (await this.page.locator("#light").getAttribute("data-light")) ?? "";
  }

  async waitForLight(light: "live" | "reconnecting" | "delayed", ms = 15_000): Promise<void> {
    await until(`the light is ${light}`, ms, async () => (await this.light()) === light);
  }

  async waitForTransport(transport: "websocket" | "polling", ms = 15_000): Promise<void> {
    await until(`the transport is ${transport}`, ms, async () => (await this.page.locator("#light").getAttribute("data-transport")) === transport);
  }
}

/** A context whose pages may open the fixture. */
export async function openContext(browser: Browser): Promise<BrowserContext> {
  const context = await browser.newContext();
  await serveFixture(context, (await dev()).url);
  return context;
}

/** A new window with the fixture in it. */
export async function openTab(context: BrowserContext, wishes: Wishes): Promise<Tab> {
  const tab = new Tab(await context.newPage());
  const { url } = await dev();
  const query = new URLSearchParams(Object.entries(wishes).map(([name, value]) => [name, String(value)]));
  await tab.page.goto(`${url}${FIXTURE_PATH}?${query}`);
  await tab.page.locator("#light").waitFor({ state: "attached" });
  return tab;
}
