/** A merchant's bookings as the database has them: written by the scenario, and compared with what a page shows. */

import pg from "pg";
import { dev } from "./system";

export interface Row {
  readonly id: number;
  readonly status: string;
}

/** How long the writer rests between two statements, in milliseconds. */
const PACE = 40;

export class Ledger {
  private writing: Promise<void> = Promise.resolve();
  private isWriting = false;
  private last = 0;
  /** How many rows were inserted. */
  inserted = 0;
  /** Rows up to this one may have come with a snapshot; those after it are to come as events. */
  before = 0;

  private constructor(
    readonly merchant: string,
    private readonly pool: pg.Pool,
  ) {}

  /** For a merchant that nobody else writes for. */
  static async open(merchant: string): Promise<Ledger> {
    const { database_url } = await dev();
    return new Ledger(merchant, new pg.Pool({ connectionString: database_url, max: 2 }));
  }

  async insert(customer = "Ida"): Promise<number> {
    const text = `INSERT INTO "Booking" ("merchantId", "customerName", "startTime") VALUES ($1, $2, now()) RETURNING id`;
    const { rows } = await this.pool.query<{ id: string }>(text, [this.merchant, customer]);
    this.last = Number(rows[0]?.id);
    this.inserted += 1;
    return this.last;
  }

  async update(id: number, status: string): Promise<void> {
    await this.pool.query(`UPDATE "Booking" SET status = $2 WHERE id = $1`, [id, status]);
  }

  async remove(id: number): Promise<void> {
    await this.pool.query(`DELETE FROM "Booking" WHERE id = $1`, [id]);
  }

  /** All pages are live: from here on, events alone bring what is committed. */
  mark(): void {
    this.before = this.last;
  }

  /** What is committed now, by id. */
  async rows(): Promise<Row[]> {
    const text = `SELECT id, status FROM "Booking" WHERE "merchantId" = $1 ORDER BY id`;
    const { rows } = await this.pool.query<{ id: string; status: string }>(text, [this.merchant]);
    return rows.map(({ id, status }) => ({ id: Number(id), status }));
  }

  /** Writes until `pause`: new rows, with now and then a changed and a removed one. */
  write(): void {
    if (this.isWriting) return;
    this.isWriting = true;
    this.writing = this.loop();
    // It is awaited by `pause`; until then its failure must not end the process.
    this.writing.catch(() => undefined);
  }

  /** Resolves when the writer's last statement is committed. */
  async pause(): Promise<void> {
    this.isWriting = false;
    await this.writing;
  }

  async close(): Promise<void> {
    await this.pause();
    await this.pool.end();
  }

  private async loop(): Promise<void> {
    const ids: number[] = [];
    for (let turn = 1; this.isWriting; turn += 1) {
      ids.push(await this.insert());
      const old = ids[ids.length - 3];
      if (turn % 3 === 0 && old !== undefined) await this.update(old, "CONFIRMED");
      if (turn % 7 === 0 && old !== undefined) await this.remove(old);
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
  }
}
