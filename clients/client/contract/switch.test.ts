/** The operators' switch: everyone is sent to polling, and comes back, at run time and without loss. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { live, startRowcast, stopWatching, until, watch, type Rowcast } from "./support";

let rowcast: Rowcast;

beforeAll(async () => {
  rowcast = await startRowcast("--edges", "2");
});
afterEach(stopWatching);
afterAll(() => rowcast.stop());

const turn = (on: boolean): Promise<unknown> =>
  rowcast.database.query("SELECT rowcast.set_switch('websocket', $1)", [on]);

test("switched off, every client polls; switched on, every one comes back; each event once", async () => {
  const options = { url: rowcast.installation().url, token: () => rowcast.token("switched", 3600), polling: { interval: 200 } };
  const watchers = Array.from({ length: 5 }, () => watch(options));
  for (const watcher of watchers) await live(watcher);
  let sent = 0;
  const sendUntil = async (what: string, check: () => boolean): Promise<void> => {
    await until(what, async () => {
      await rowcast.insert("switched", String(sent++));
      return check();
    });
  };
  const statuses = () => watchers.map(({ client }) => client.getStatus());
  for (let round = 0; round < 2; round++) {
    await turn(false);
    await sendUntil("all poll", () => statuses().every(({ transport, reason }) => transport === "polling" && reason === "switched"));
    // Who comes while sockets are off is sent to polling as well.
    if (round === 0) watchers.push(watch(options));
    await sendUntil("the newcomer polls", () => statuses().every(({ transport }) => transport === "polling"));
    await turn(true);
    await sendUntil("all are back", () => statuses().every(({ light }) => light === "live"));
  }
  const expected = Array.from({ length: sent }, (_, n) => String(n));
  for (const { notes, resyncs } of watchers) {
    await until("all of them", () => notes.at(-1) === expected.at(-1));
    expect(notes).toEqual(expected.slice(expected.length - notes.length));
    expect(resyncs).toEqual(["start"]);
  }
  expect(watchers.slice(0, 5).map(({ notes }) => notes.length)).toEqual(Array(5).fill(sent));
});
