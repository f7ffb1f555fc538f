/** The client over the real edge's pages, and on its way between pages and sockets. */

import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { live, platform, startRowcast, stopWatching, until, watch, type Rowcast } from "./support";

let rowcast: Rowcast;

beforeAll(async () => {
  rowcast = await startRowcast("--edges", "2");
});
afterEach(stopWatching);
afterAll(() => rowcast.stop());

/** A storage whose switch the test turns, and who hears of it. */
function switchboard(): { storage: Pick<Storage, "getItem" | "setItem" | "removeItem">; events: EventTarget; turn: (transport: string | null) => void } {
  const values = new Map<string, string>();
  const events = new EventTarget();
  return {
    storage: {
      getItem: (key) => values.get(key) ?? null,
      setItem: (key, value) => void values.set(key, value),
      removeItem: (key) => void values.delete(key),
    },
    events,
    turn(transport) {
      if (transport === null) values.delete("rowcast:transport");
      else values.set("rowcast:transport", transport);
      events.dispatchEvent(Object.assign(new Event("storage"), { key: "rowcast:transport" }));
    },
  };
}

test("from socket to pages to socket each event comes once, without a resync", async () => {
  const { storage, events, turn } = switchboard();
  const watcher = watch({
    url: rowcast.installation().url,
    token: () => rowcast.token("to and fro ü/&=", 3600),
    polling: { interval: 100 },
    platform: { ...platform, localStorage: storage, events },
  });
  await live(watcher);
  const sent: string[] = [];
  const send = (note: string): Promise<void> => rowcast.insert("to and fro ü/&=", sent[sent.push(note) - 1]!);
  for (let round = 0; round < 3; round++) {
    await send(`socket ${round}`);
    turn("polling");
    await send(`between ${round}`);
    await until("polling", () => watcher.client.getStatus().transport === "polling");
    await send(`pages ${round}`);
    await until("all of them", () => watcher.notes.length === sent.length);
    turn(null);
    await send(`back ${round}`);
    await live(watcher);
  }
  await until("all of them", () => watcher.notes.length >= sent.length);
  expect(watcher.notes).toEqual(sent);
  expect(watcher.resyncs).toEqual(["start"]);
});

test("a long poll brings an event as soon as it is committed", async () => {
  const watcher = watch({
    url: rowcast.installation().url,
    token: () => rowcast.token("held", 3600),
    transport: "polling",
    polling: { interval: 0, wait: 20 },
  });
  await until("where it starts", () => watcher.resyncs.length === 1);
  for (let n = 0; n < 5; n++) {
    const before = Date.now();
    await rowcast.insert("held", String(n));
    await until("the event", () => watcher.notes.length === n + 1);
    expect(Date.now() - before).toBeLessThan(10_000);
  }
  expect(watcher.notes).toEqual(["0", "1", "2", "3", "4"]);
});

test("types are filtered in pages as in sockets", async () => {
  const watcher = watch({
    url: rowcast.installation().url,
    token: () => rowcast.token("filtered", 3600),
    transport: "polling",
    types: ["note.deleted"],
    polling: { interval: 50 },
  });
  await until("where it starts", () => watcher.resyncs.length === 1);
  await rowcast.insert("filtered", "goes");
  await rowcast.database.query("DELETE FROM public.contract_notes WHERE room = 'filtered'");
  await until("the event", () => watcher.notes.length > 0);
  expect(watcher.notes).toEqual(["goes"]);
});

test("a token that was over is replaced while it polls", async () => {
  const old = rowcast.token("over", -60);
  const watcher = watch({
    url: rowcast.installation().url,
    token: ({ reason }) => (reason === "refused" ? rowcast.token("over", 3600) : old),
    transport: "polling",
    polling: { interval: 50 },
  });
  await until("where it starts", () => watcher.resyncs.length === 1);
  expect(watcher.client.getStatus()).toMatchObject({ transport: "polling", error: null });
});

test("a wrong base path gets an error that names the right one", async () => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { url } = rowcast.installation();
  const watcher = watch({ url: `${url}/api`, token: () => rowcast.token("lost", 3600) });
  await until("an error", () => watcher.client.getStatus().error !== null);
  const { error, state } = watcher.client.getStatus();
  expect(state).toBe("DEGRADED");
  expect(error?.code).toBe("path");
  expect(error?.message.endsWith(`use ${url}`)).toBe(true);
  expect(logged).toHaveBeenCalledTimes(1);
  logged.mockRestore();
});

test("a token that names no room is not shown again", async () => {
  const watcher = watch({ url: rowcast.installation().url, token: () => rowcast.token([], 3600) });
  await until("an error", () => watcher.client.getStatus().error !== null);
  expect(watcher.client.getStatus()).toMatchObject({ state: "DEGRADED", nextAttemptAt: null, error: { code: "forbidden" } });
});

test("a raised generation is a resync, over sockets and in pages", async () => {
  const url = { url: rowcast.installation().url, token: () => rowcast.token("raised", 3600) };
  const watchers = [watch(url), watch({ ...url, transport: "polling", polling: { interval: 100 } })];
  for (const watcher of watchers) await until("where it starts", () => watcher.resyncs.length === 1);
  await rowcast.insert("raised", "before");
  for (const watcher of watchers) await until("the event", () => watcher.notes.length === 1);
  // What is gone by TRUNCATE no row tells.
  await rowcast.database.query("TRUNCATE public.contract_notes");
  for (const watcher of watchers) await until("a resync", () => watcher.resyncs.length >= 2);
  await rowcast.insert("raised", "after");
  for (const watcher of watchers) await until("the event", () => watcher.notes.at(-1) === "after");
  for (const watcher of watchers) expect(watcher.notes).toEqual(["before", "after"]);
});
