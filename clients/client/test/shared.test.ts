/** One socket for several tabs, and what happens when the leading one is closed, frozen or cut off. */

import { expect, test } from "vitest";
import type { RowcastEvent, RowcastOptions } from "../src/index";
import { createSharedClient } from "../src/shared";
import { Ledger } from "./ledger";
import { FakeServer } from "./server";
import { bench, type Bench } from "./support";
import { Origin, Tab, World } from "./world";

interface Site {
  readonly world: World;
  readonly server: FakeServer;
  readonly origin: Origin;
  open(options?: Partial<RowcastOptions> & { onEvent?: (event: RowcastEvent) => void }): Promise<Bench>;
}

function site(seed = 1): Site {
  const world = new World(seed);
  const server = new FakeServer(world);
  const origin = new Origin(world);
  return {
    world,
    server,
    origin,
    async open({ onEvent, ...options } = {}) {
      const made = bench(options, { tab: new Tab(world, server, origin), create: createSharedClient });
      if (onEvent) made.client.on("*", onEvent);
      made.client.start();
      await world.until("connected", () => made.client.getStatus().state === "CONNECTED");
      await world.advance(10);
      return made;
    },
  };
}

test("three tabs have one socket, and each gets every event once", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open(), await open()];
  expect(server.sessions.size).toBe(1);
  for (let n = 0; n < 20; n++) {
    server.publish("m1", n);
    await world.advance(500);
  }
  for (const { data, resyncs } of tabs) {
    expect(data).toEqual(Array.from({ length: 20 }, (_, n) => n));
    expect(resyncs).toMatchObject([{ reason: "start" }]);
  }
  expect(server.attempts).toBe(1);
});

test("tabs that start in the same moment have one socket", async () => {
  const { world, server, origin } = site();
  const tabs = Array.from({ length: 5 }, () => bench({}, { tab: new Tab(world, server, origin), create: createSharedClient }));
  for (const { client } of tabs) client.start();
  await world.advance(100);
  expect(server.sessions.size).toBe(1);
  for (const { client } of tabs) expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "live" });
});

test("a tab that comes later starts where the others are", async () => {
  const { world, server, open } = site();
  const first = await open();
  for (let n = 0; n < 5; n++) server.publish("m1", n);
  await world.advance(10);
  const second = await open();
  expect(second.resyncs).toMatchObject([{ cursor: "1.000000000000000a:5", reason: "start" }]);
  server.publish("m1", 5);
  await world.advance(10);
  expect(first.data).toEqual([0, 1, 2, 3, 4, 5]);
  expect(second.data).toEqual([5]);
});

test("when the leading tab is closed the next takes over from its own cursor: nothing lost, nothing twice, nobody notices", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open(), await open()];
  let sent = 0;
  const send = async (): Promise<void> => {
    server.publish("m1", sent++);
    await world.advance(37);
  };
  for (let n = 0; n < 20; n++) await send();
  tabs[0]!.tab.close();
  for (let n = 0; n < 20; n++) await send();
  await world.advance(500);
  tabs[1]!.tab.close();
  for (let n = 0; n < 20; n++) await send();
  await world.advance(500);
  expect(tabs[2]!.data).toEqual(Array.from({ length: sent }, (_, n) => n));
  expect(tabs[2]!.states).toEqual(["CONNECTED"]);
  expect(tabs[2]!.resyncs).toHaveLength(1);
  expect(server.sessions.size).toBe(1);
});

test("a tab that was behind the new leader gets what it missed from the trail", async () => {
  const { world, server, origin, open } = site();
  const tabs = [await open(), await open(), await open()];
  // The last one hears nothing for a moment in which the first one dies.
  tabs[2]!.tab.freeze(true);
  server.publish("m1", 1);
  server.publish("m1", 2);
  await world.advance(10);
  for (const channel of origin.channels.open) if (channel.tab === tabs[2]!.tab) channel.onmessage = withoutFirst(channel.onmessage, 2);
  tabs[0]!.tab.close();
  tabs[2]!.tab.freeze(false);
  await world.advance(1_000);
  server.publish("m1", 3);
  await world.advance(10);
  expect(tabs[1]!.data).toEqual([1, 2, 3]);
  expect(tabs[2]!.data).toEqual([1, 2, 3]);
  expect(tabs[2]!.resyncs).toHaveLength(1);
});

/** Loses the first messages. */
function withoutFirst(run: ((event: MessageEvent) => void) | null, count: number): (event: MessageEvent) => void {
  let left = count;
  return (event) => {
    if (left-- <= 0) run?.(event);
  };
}

test("tabs that came before a room's first event go on without a snapshot when their leading tab is closed", async () => {
  const { world, server, open } = site();
  server.room("m1").isNew = true;
  const tabs = [await open(), await open(), await open()];
  for (let n = 0; n < 5; n++) server.publish("m1", n);
  await world.advance(10);
  tabs[0]!.client.stop();
  tabs[0]!.tab.close();
  server.publish("m1", 5);
  await world.advance(5_000);
  server.publish("m1", 6);
  await world.advance(10);
  for (const { data, resyncs } of tabs.slice(1)) {
    expect(data).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(resyncs).toMatchObject([{ reason: "start" }]);
  }
});

test("a leading tab that stops its client hands over", async () => {
  const { world, server, open } = site();
  const [first, second] = [await open(), await open()];
  first.client.stop();
  await world.advance(500);
  server.publish("m1", 1);
  await world.advance(10);
  expect(second.data).toEqual([1]);
  expect(server.sessions.size).toBe(1);
  expect(second.states).toEqual(["CONNECTED"]);
});

test("a leading tab that is frozen is relieved, and follows when it thaws", async () => {
  const { world, server, open } = site();
  const [first, second] = [await open(), await open()];
  first.tab.freeze(true);
  server.publish("m1", 1);
  await world.until("taken over", () => second.data.length === 1, 30_000);
  server.publish("m1", 2);
  await world.advance(10);
  expect(second.data).toEqual([1, 2]);
  first.tab.freeze(false);
  await world.until("thawed", () => first.data.length === 2, 30_000);
  await world.advance(5_000);
  expect(server.sessions.size).toBe(1);
  server.publish("m1", 3);
  await world.advance(10);
  expect(first.data).toEqual([1, 2, 3]);
  expect(second.data).toEqual([1, 2, 3]);
});

test("an edge that is killed costs nobody an event", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open(), await open()];
  await world.advance(6_000);
  server.publish("m1", 1);
  await world.advance(10);
  server.kill();
  server.publish("m1", 2);
  await world.until("back", () => tabs.every(({ data }) => data.length === 2), 60_000);
  for (const { data, resyncs } of tabs) {
    expect(data).toEqual([1, 2]);
    expect(resyncs).toHaveLength(1);
  }
  expect(server.sessions.size).toBe(1);
});

test("where sockets fail every tab falls back to polling, and comes back", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open()];
  server.blocked = true;
  server.kill();
  server.publish("m1", 1);
  await world.until("polling", () => tabs.every(({ client, data }) => client.getStatus().transport === "polling" && data.length === 1), 200_000);
  server.blocked = false;
  server.publish("m1", 2);
  await world.until("back", () => tabs.every(({ client }) => client.getStatus().state === "CONNECTED"), 200_000);
  await world.advance(100);
  for (const { data } of tabs) expect(data).toEqual([1, 2]);
});

test("goodbyes and the switch reach every tab", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open()];
  server.bye(1012, 3_000);
  await world.advance(10);
  for (const { client } of tabs) expect(client.getStatus().nextAttemptAt! - world.time).toBeGreaterThan(2_900);
  await world.advance(3_500);
  for (const { client } of tabs) expect(client.getStatus().state).toBe("CONNECTED");
  server.switchOff(true);
  await world.advance(20);
  for (const { client } of tabs) expect(client.getStatus()).toMatchObject({ reason: "switched", transport: "polling" });
  server.switchOff(false);
  server.publish("m1", 1);
  await world.until("back", () => tabs.every(({ data }) => data.length === 1), 70_000);
});

test("the light of the server, and its silence, show in every tab", async () => {
  const { world, server, open } = site();
  const tabs = [await open(), await open()];
  server.setLive(false, "redis");
  await world.advance(10);
  for (const { client } of tabs) expect(client.getStatus()).toMatchObject({ light: "delayed", reason: "redis" });
  server.setLive(true);
  await world.advance(10);
  // The leading tab is hidden and asks seldom; the other one is looked at.
  tabs[0]!.tab.visibilityState = "hidden";
  server.halfOpen = true;
  const cut = world.time;
  await world.until("noticed", () => tabs[1]!.client.getStatus().light === "delayed", 10_000);
  expect(world.time - cut).toBeLessThanOrEqual(5_010);
  server.kill();
  server.halfOpen = false;
});

test("each tab refreshes its own token, and an end of the leader's does not end the others", async () => {
  const { world, server, open } = site();
  const tabs = [await open({ token: () => server.token("m1", 100) }), await open({ token: () => server.token("m1", 100) })];
  await world.advance(1_000_000);
  server.publish("m1", 1);
  await world.advance(10);
  for (const { data, states } of tabs) {
    expect(data).toEqual([1]);
    expect(states).toEqual(["CONNECTED"]);
  }
  expect(server.attempts).toBe(1);
});

test("tabs of different users share nothing", async () => {
  const { world, server, open } = site();
  const one = await open({ token: () => server.token("m1", 3_600, "u1") });
  const two = await open({ token: () => server.token("m2", 3_600, "u2") });
  expect(server.sessions.size).toBe(2);
  server.publish("m1", 1);
  server.publish("m2", 2);
  await world.advance(10);
  expect(one.data).toEqual([1]);
  expect(two.data).toEqual([2]);
});

test("tabs that filter differently share nothing", async () => {
  const { server, open } = site();
  await open({ types: ["note.*"] });
  await open();
  expect(server.sessions.size).toBe(2);
});

test.each(["locks", "BroadcastChannel"])("without %s each tab has a socket of its own", async (missing) => {
  const { server, open } = site();
  await open({ platform: { [missing]: undefined } });
  await open({ platform: { [missing]: undefined } });
  expect(server.sessions.size).toBe(2);
});

test.each(Array.from({ length: Number(process.env.SEEDS ?? 30) }, (_, n) => n + 1))(
  "tabs come, go, freeze and thaw while edges die: schedule %d",
  async (seed) => {
    const { world, server, open } = site(seed);
    const tabs: { made: Bench; ledger: Ledger }[] = [];
    for (let n = 0; n < 80; n++) {
      await world.advance(world.random() ** 2 * 3_000);
      if (world.random() < 0.6) server.publish("m1", n);
      const draw = world.random();
      const some = tabs[Math.floor(world.random() * tabs.length)];
      if (draw < 0.2 && tabs.length < 5) {
        const ledger = new Ledger();
        const made = await open({ onResync: (resync) => ledger.snapshot(resync), onEvent: (event) => ledger.event(event) });
        tabs.push({ made, ledger });
      } else if (draw < 0.3 && some && tabs.length > 1) {
        some.made.tab.close();
        tabs.splice(tabs.indexOf(some), 1);
      } else if (draw < 0.45 && some) some.made.tab.freeze(!some.made.tab.frozen);
      else if (draw < 0.5) server.kill();
    }
    for (const { made } of tabs) made.tab.freeze(false);
    server.publish("m1", "last");
    const head = server.room("m1").cursor().split(".")[1];
    const isDone = (): boolean =>
      tabs.every(({ made, ledger }) => made.client.getStatus().light === "live" && ledger.of("m1") === head);
    await world.until("everything is everywhere", isDone, 300_000).catch(() => {});
    expect(tabs.map(({ made, ledger }) => [made.client.getStatus().light, ledger.of("m1"), ledger.faults])).toEqual(
      tabs.map(() => ["live", head, []]),
    );
    expect(server.sessions.size).toBe(1);
  },
);
