/** The demo page, as its users see it. */

import type { Locator, Page } from "playwright-core";
import pg from "pg";
import type { BreakName } from "../../demo/src/api";
import { dev } from "./system";
import { until } from "../../testing/until";

export type Light = "live" | "reconnecting" | "delayed";

/** One merchant's window in it. */
export class Board {
  readonly root: Locator;

  constructor(
    readonly page: Page,
    readonly merchant: string,
  ) {
    this.root = page.locator(`[data-merchant="${merchant}"].merchant`);
  }

  /** What it shows, by id; what fades away is not there any more. */
  async shown(): Promise<string> {
    const cards = await this.root.locator('.booking:not([data-change="leaving"])').evaluateAll((all) =>
      all.map((card) => ({ id: Number(card.getAttribute("data-booking")), status: card.getAttribute("data-status") })),
    );
    return listed(cards);
  }

  /** Presses a button of this merchant's client. */
  press(name: "add" | "expire" | "polling"): Promise<void> {
    return this.root.locator(`[data-client="${name}"]`).click();
  }

  /** Presses a button of the newest booking that has it, and says which booking that was. Bookings move: it is pressed where it is. */
  async act(action: "confirm" | "cancel" | "delete"): Promise<number> {
    const answered = this.page.waitForResponse((response) => /\/demo\/bookings\/\d+$/.test(response.url()));
    await this.root.locator(`.booking:not([data-change="leaving"]) [data-action="${action}"]`).first().dispatchEvent("click");
    const response = await answered;
    if (!response.ok()) throw new Error(`${action}: ${response.status()}`);
    return Number(new URL(response.url()).pathname.split("/").pop());
  }

  async waitForLight(light: Light, ms = 20_000): Promise<void> {
    await this.root.locator(`[data-rowcast][data-light="${light}"]`).waitFor({ timeout: ms });
  }
}

/** Opens the page, and waits until both merchants are live. */
export async function openDemo(page: Page, merchants: readonly string[]): Promise<Board[]> {
  await page.goto((await dev()).url);
  const boards = merchants.map((merchant) => new Board(page, merchant));
  for (const board of boards) {
    await board.waitForLight("live");
    await board.root.and(page.locator('[data-loaded="true"]')).waitFor();
  }
  return boards;
}

/** Presses one of the buttons that break or mend something. */
export async function pressBreak(page: Page, name: BreakName): Promise<void> {
  const answered = page.waitForResponse((response) => response.url().endsWith(`/demo/break/${name}`));
  await page.locator(`[data-break="${name}"]`).click();
  const response = await answered;
  if (!response.ok()) throw new Error(`${name}: ${response.status()} ${await response.text()}`);
}

/** The shop's table, read beside the page. */
export class Shop {
  private constructor(private readonly pool: pg.Pool) {}

  static async open(): Promise<Shop> {
    return new Shop(new pg.Pool({ connectionString: (await dev()).database_url, max: 1 }));
  }

  close(): Promise<void> {
    return this.pool.end();
  }

  async status(id: number): Promise<string | null> {
    const { rows } = await this.pool.query<{ status: string }>('SELECT status FROM "Booking" WHERE id = $1', [id]);
    return rows[0]?.status ?? null;
  }

  async committed(merchant: string): Promise<string> {
    const text = `SELECT id, status FROM "Booking" WHERE "merchantId" = $1`;
    const { rows } = await this.pool.query<{ id: string; status: string }>(text, [merchant]);
    return listed(rows.map(({ id, status }) => ({ id: Number(id), status })));
  }

  /** Waits until a board shows each committed row once. The shop goes on writing: the two are compared between two of its writes. */
  async waitForSame(board: Board, ms = 20_000): Promise<void> {
    await until(`${board.merchant} sees what is committed, each row once`, ms, async () => {
      const before = await this.committed(board.merchant);
      return (await board.shown()) === before && (await this.committed(board.merchant)) === before;
    });
  }
}

function listed(rows: readonly { readonly id: number; readonly status: string | null }[]): string {
  return [...rows]
    .sort((one, other) => one.id - other.id)
    .map(({ id, status }) => `${id} ${status}`)
    .join(", ");
}
