/** What each scenario ends with: every row that was committed is on the page, once. */

import { expect } from "vitest";
import type { Tab } from "./browser";
import type { Ledger } from "./ledger";
import { until } from "../../testing/until";

/**
 * Stops writing, waits until the page shows what is committed, and looks for anything twice. Resyncs other than that of
 * the start are to be named: what a snapshot brought need not have come as an event.
 */
export async function expectExactlyOnce(tab: Tab, ledger: Ledger, resyncs: readonly string[] = []): Promise<void> {
  await ledger.pause();
  const committed = await ledger.rows();
  await until(`${ledger.merchant} sees all ${committed.length} rows`, 20_000, async () => {
    const shown = await tab.shown();
    return shown.length === committed.length && shown.every((row, index) => row.id === committed[index]?.id && row.status === committed[index]?.status);
  }).catch(async (error: unknown) => {
    expect(await tab.shown(), String(error)).toEqual(committed);
    throw error;
  });

  const events = (await tab.delivered()).map(({ event }) => event);
  expect(events.filter((event, index) => events.indexOf(event) !== index), "events that came twice").toEqual([]);

  const surface = await tab.surface();
  expect(surface.resyncs.filter((reason) => reason !== "start"), "resyncs").toEqual(resyncs);
  if (resyncs.length === 0) {
    // Nothing but the first snapshot: all that came after it came as events.
    const arrived = new Set((await tab.delivered()).filter(({ type }) => type === "booking.created").map(({ row }) => row));
    const silent = committed.filter(({ id }) => id > ledger.before && !arrived.has(id));
    expect(silent, "rows that no event brought").toEqual([]);
  }
  expect(tab.complaints).toEqual([]);
}
