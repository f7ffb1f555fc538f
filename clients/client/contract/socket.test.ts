/** The client over the real edge's sockets. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { live, startRowcast, stopWatching, until, watch, type Rowcast } from "./support";

let rowcast: Rowcast;

beforeAll(async () => {
  rowcast = await startRowcast("--edges", "2");
});
afterEach(stopWatching);
afterAll(() => rowcast.stop());

test("the first event arrives, and the start is a resync", async () => {
  const watcher = watch({ url: rowcast.installation().url, token: () => rowcast.token("first", 3600) });
  await live(watcher);
  await rowcast.insert("first", "hello");
  await until("the event", () => watcher.notes.length > 0);
  expect(watcher.notes).toEqual(["hello"]);
  expect(watcher.resyncs).toEqual(["start"]);
  const [age] = watcher.client.report().ages;
  expect(age).toBeLessThan(5);
});

test("a killed edge costs no event, and no resync", async () => {
  const watcher = watch({ url: rowcast.installation().url, token: () => rowcast.token("killed", 3600) });
  await live(watcher);
  const sent: string[] = [];
  const send = (note: string): Promise<void> => rowcast.insert("killed", sent[sent.push(note) - 1]!);
  for (let n = 0; n < 60; n++) {
    await send(String(n));
    if (n !== 10 && n !== 30) continue;
    for (const edge of rowcast.installation().edges) process.kill(edge.pid, "SIGKILL");
    const losses = (): number => watcher.states.filter((state, at, all) => state !== "CONNECTED" && all[at - 1] === "CONNECTED").length;
    await until("the client has noticed", () => losses() === (n === 10 ? 1 : 2));
    await send(`${n}, unheard`);
    await live(watcher);
  }
  await until("all events", () => watcher.notes.length >= sent.length);
  await live(watcher);
  expect(watcher.notes).toEqual(sent);
  expect(watcher.resyncs).toEqual(["start"]);
  expect(watcher.states).toContain("RECONNECTING");
});

test("a token is refreshed in place, before it ends", async () => {
  const watcher = watch({
    url: rowcast.installation().url,
    token: ({ reason }) => rowcast.token("refreshed", reason === "connect" ? 5 : 3600),
  });
  await live(watcher);
  await until("a refresh", () => watcher.client.report().refreshes.ok > 0);
  // Longer than the first token's life.
  const end = Date.now() + 6_000;
  await until("the first token is over", () => Date.now() > end);
  await rowcast.insert("refreshed", "still here");
  await until("the event", () => watcher.notes.length > 0);
  expect(watcher.states).toEqual(["CONNECTED"]);
  expect(watcher.client.report().refreshes).toEqual({ ok: 1, failed: 0 });
});

test("a token that was over before it was used is replaced by itself", async () => {
  const reasons: string[] = [];
  const old = rowcast.token("expired", -60);
  const watcher = watch({
    url: rowcast.installation().url,
    token: ({ reason }) => {
      reasons.push(reason);
      return reason === "refused" ? rowcast.token("expired", 3600) : old;
    },
  });
  await live(watcher);
  await rowcast.insert("expired", "back");
  await until("the event", () => watcher.notes.length > 0);
  expect(reasons.at(-1)).toBe("refused");
  expect(watcher.client.getStatus().error).toBeNull();
});
