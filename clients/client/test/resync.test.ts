/** Snapshots: what is stored when, what waits, what is superseded. */

import { expect, test } from "vitest";
import { createClient, type Resync } from "../src/index";
import { isCovered, MOST_BUFFERED } from "../src/rooms";
import { bench, connected } from "./support";

interface Loading {
  readonly resync: Resync;
  readonly done: () => void;
  readonly fail: () => void;
}

/** An application whose snapshots end when the test says so. */
function loader(): { loads: Loading[]; onResync: (resync: Resync) => Promise<void> } {
  const loads: Loading[] = [];
  return {
    loads,
    onResync: (resync) =>
      new Promise<void>((resolve, reject) => {
        loads.push({ resync, done: resolve, fail: () => reject(new Error("no snapshot")) });
      }),
  };
}

test("cursors are compared within their stream alone, as numbers", () => {
  expect(isCovered("1.a:9", "1.a:10")).toBe(true);
  expect(isCovered("1.a:10", "1.a:10")).toBe(true);
  expect(isCovered("1.a:11", "1.a:10")).toBe(false);
  expect(isCovered("2.a:10", "1.a:10")).toBe(true);
  expect(isCovered("1.b:1", "1.a:10")).toBe(false);
  expect(isCovered("1.a:1", undefined)).toBe(false);
});

test("events wait for the snapshot, and follow it in order", async () => {
  const { loads, onResync } = loader();
  const { server, world, data } = await connected({ onResync });
  server.publish("m1", 1);
  server.publish("m1", 2);
  await world.advance(10);
  expect(data).toEqual([]);
  loads[0]!.done();
  await world.advance(1);
  server.publish("m1", 3);
  await world.advance(10);
  expect(data).toEqual([1, 2, 3]);
  expect(loads).toHaveLength(1);
});

test("while a snapshot loads, a reconnection brings no cursor; it is fetched anew, and the older one is void", async () => {
  const { loads, onResync } = loader();
  const { server, world, data, client } = await connected({ onResync });
  server.publish("m1", 1);
  await world.advance(10);
  server.kill();
  await world.until("back", () => server.auths.length === 2);
  await world.advance(10);
  expect(server.auths[1]!.resume).toEqual({});
  expect(loads).toHaveLength(2);
  expect(loads[0]!.resync.signal.aborted).toBe(true);
  expect(loads[1]!.resync).toMatchObject({ cursor: "1.000000000000000a:1", reason: "start" });
  loads[0]!.done();
  await world.advance(10);
  expect(data).toEqual([]);
  server.publish("m1", 2);
  loads[1]!.done();
  await world.advance(10);
  expect(data).toEqual([2]);
  expect(client.getStatus().light).toBe("live");
});

test("while a later snapshot loads, a reconnection uses the cursor from before it", async () => {
  const { loads, onResync } = loader();
  const { server, world, data } = await connected({ onResync });
  loads[0]!.done();
  server.publish("m1", 1);
  await world.advance(10);
  server.raiseGeneration();
  server.publish("m1", 2);
  await world.advance(10);
  expect(loads[1]!.resync).toMatchObject({ cursor: "2.000000000000000a:1", reason: "generation" });
  server.kill();
  await world.until("back", () => server.auths.length === 2);
  await world.advance(10);
  expect(server.auths[1]!.resume).toEqual({ m1: "1.000000000000000a:1" });
  expect(loads).toHaveLength(3);
  expect(loads[1]!.resync.signal.aborted).toBe(true);
  loads[2]!.done();
  server.publish("m1", 3);
  await world.advance(10);
  expect(data).toEqual([1, 3]);
});

test("a snapshot that is done while the connection is away counts: its events go on from there", async () => {
  const { loads, onResync } = loader();
  const { server, world, data } = await connected({ onResync });
  server.publish("m1", 1);
  await world.advance(10);
  server.blocked = true;
  server.kill();
  await world.advance(10);
  loads[0]!.done();
  await world.advance(10);
  expect(data).toEqual([1]);
  server.blocked = false;
  server.publish("m1", 2);
  await world.until("back", () => data.length === 2);
  expect(server.auths.at(-1)!.resume).toEqual({ m1: "1.000000000000000a:1" });
  expect(loads).toHaveLength(1);
});

test("who can go on after all needs no snapshot: the one that loads is given up", async () => {
  const { loads, onResync } = loader();
  const { server, world, data } = await connected({ onResync });
  loads[0]!.done();
  server.publish("m1", 1);
  await world.advance(10);
  for (const session of server.sessions) session.resync("m1", "slow");
  server.publish("m1", 2);
  await world.advance(10);
  expect(loads).toHaveLength(2);
  expect(data).toEqual([1]);
  server.kill();
  await world.until("back", () => data.length === 2);
  expect(loads[1]!.resync.signal.aborted).toBe(true);
  expect(data).toEqual([1, 2]);
});

test("a newer resync voids the older one: its snapshot, its events, its failure", async () => {
  const { loads, onResync } = loader();
  const { server, world, data, client } = await connected({ onResync });
  server.publish("m1", 1);
  await world.advance(10);
  server.raiseGeneration();
  server.publish("m1", 2);
  await world.advance(10);
  expect(loads[0]!.resync.signal.aborted).toBe(true);
  loads[0]!.fail();
  await world.advance(60_000);
  expect(loads).toHaveLength(2);
  expect(client.getStatus().light).toBe("live");
  loads[1]!.done();
  await world.advance(10);
  expect(data).toEqual([2]);
});

test("a snapshot that fails is asked for again, with backoff, and the light shows it", async () => {
  const { loads, onResync } = loader();
  const { server, world, data, client } = await connected({ onResync, platform: { random: () => 1 } });
  server.publish("m1", 1);
  await world.advance(10);
  const times: number[] = [];
  for (let n = 0; n < 7; n++) {
    loads[n]!.fail();
    const before = world.time;
    await world.until("the next", () => loads.length === n + 2);
    times.push(world.time - before);
    expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "delayed", reason: "snapshot" });
  }
  expect(times).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  expect(data).toEqual([]);
  expect(loads.map(({ resync }) => resync.cursor)).toEqual(Array(8).fill("1.000000000000000a:0"));
  loads[7]!.done();
  await world.advance(10);
  expect(data).toEqual([1]);
  expect(client.getStatus()).toMatchObject({ light: "live", reason: "" });
});

test("a failed snapshot leaves no hole: the next connection starts anew", async () => {
  const { loads, onResync } = loader();
  const { server, world, client } = await connected({ onResync });
  loads[0]!.fail();
  await world.advance(10);
  client.stop();
  client.start();
  await world.until("back", () => server.auths.length === 2);
  expect(server.auths[1]!.resume).toEqual({});
});

test("an application that throws is one whose snapshot fails", async () => {
  let calls = 0;
  const { world, client, server, data } = await connected({
    onResync: () => {
      if (++calls < 3) throw new Error("not yet");
    },
  });
  server.publish("m1", 1);
  await world.until("third time", () => data.length === 1);
  expect(calls).toBe(3);
  expect(client.getStatus().light).toBe("live");
});

test("without onResync events flow from where they start", async () => {
  const { client, server, world, data } = bench({}, {
    create: ({ onResync, ...options }) => {
      void onResync;
      return createClient(options);
    },
  });
  server.publish("m1", 0);
  client.start();
  await world.advance(10);
  server.publish("m1", 1);
  await world.advance(10);
  server.raiseGeneration();
  server.publish("m1", 2);
  await world.advance(10);
  expect(data).toEqual([1, 2]);
});

test("more events than may wait make it connect anew, from where it was", async () => {
  const { loads, onResync } = loader();
  const { server, world, data } = await connected({ onResync });
  loads[0]!.done();
  server.publish("m1", "first");
  await world.advance(10_000);
  for (const session of server.sessions) session.resync("m1", "slow");
  for (let n = 0; n <= MOST_BUFFERED; n++) server.publish("m1", n);
  await world.until("back", () => server.auths.length === 2);
  await world.advance(10);
  expect(server.auths[1]!.resume).toEqual({ m1: "1.000000000000000a:1" });
  expect(data).toHaveLength(MOST_BUFFERED + 2);
  expect(new Set(data).size).toBe(data.length);
});

test("rooms wait for their own snapshots alone", async () => {
  const { loads, onResync } = loader();
  const { client, server, world, data } = bench({ onResync, token: () => server.token(["m1", "m2"]) });
  client.start();
  await world.advance(10);
  loads.find(({ resync }) => resync.room === "m2")!.done();
  server.publish("m1", "one");
  server.publish("m2", "two");
  await world.advance(10);
  expect(data).toEqual(["two"]);
});

test("events that came before are dropped by their cursor, whatever their id", async () => {
  const { server, world, data } = await connected();
  server.publish("m1", 1);
  await world.advance(10);
  const frame = { op: "event", room: "m1", type: "booking.created", at: server.iso(), data: "again" } as const;
  for (const session of server.sessions) {
    session.tell({ ...frame, id: "77-7", cursor: "1.000000000000000a:1" });
    session.tell({ ...frame, id: "1-0", cursor: "1.000000000000000a:2", data: "same id" });
  }
  await world.advance(10);
  expect(data).toEqual([1, "same id"]);
});

test("a cursor frame moves the cursor of who filters", async () => {
  const { server, world } = await connected({ types: ["note.*"] });
  for (let n = 0; n < 5; n++) server.publish("m1", n);
  for (const session of server.sessions) session.tell({ op: "cursor", room: "m1", cursor: "1.000000000000000a:5" });
  await world.advance(10);
  server.kill();
  await world.until("back", () => server.auths.length === 2);
  expect(server.auths[1]).toMatchObject({ resume: { m1: "1.000000000000000a:5" }, types: ["note.*"] });
});

test("kept cursors outlive the client; those of a snapshot that loads are not among them", async () => {
  let kept: Record<string, string> = {};
  const cursors = { load: async () => kept, save: (all: Record<string, string>) => void (kept = all) };
  const { loads, onResync } = loader();
  const first = await connected({ cursors, onResync });
  first.server.publish("m1", 1);
  await first.world.advance(10);
  expect(kept).toEqual({});
  loads[0]!.done();
  await first.world.advance(10);
  expect(kept).toEqual({ m1: "1.000000000000000a:1" });
  first.client.stop();
  first.server.publish("m1", 2);
  const second = await connected({ cursors, onResync }, { tab: first.tab });
  expect(second.data).toEqual([2]);
  expect(loads).toHaveLength(1);
  expect(kept).toEqual({ m1: "1.000000000000000a:2" });
});

test("cursors that cannot be loaded are none", async () => {
  const { resyncs } = await connected({
    cursors: {
      load: () => {
        throw new Error("forbidden");
      },
      save: () => {},
    },
  });
  expect(resyncs).toMatchObject([{ reason: "start" }]);
});
