/**
 * Seeded schedules of faults, and a ledger: each event is handed on once and in order, or covered by a snapshot.
 *
 * SEED=… repeats one; SEEDS=… tries so many.
 */

import { expect, test } from "vitest";
import { Ledger } from "./ledger";
import { FakeServer } from "./server";
import { bench } from "./support";
import { Tab, World } from "./world";

const ROOMS = ["m1", "m/2 ü"];
const env = process.env;
const seeds = env.SEED ? [Number(env.SEED)] : Array.from({ length: Number(env.SEEDS ?? 60) }, (_, n) => n + 1);

/** One thing that can go wrong, or right again. */
function disturb(world: World, server: FakeServer, tab: Tab): void {
  const pick = <T>(...all: T[]): T => all[Math.floor(world.random() * all.length)]!;
  const room = pick(...ROOMS);
  pick(
    () => server.kill(pick(1006, 1001, 4008, 4429)),
    () => server.bye(1012, world.random() * 5_000),
    () => (server.blocked = !server.blocked),
    () => (server.mute = !server.mute),
    () => {
      // A link that carries nothing loses what was sent: it stays so until the sockets are gone.
      if (server.halfOpen) server.kill();
      server.halfOpen = !server.halfOpen;
    },
    () => (server.unreachable = !server.unreachable),
    () => server.switchOff(!server.switchedOff),
    () => server.setLive(!server.live, "redis"),
    () => server.raiseGeneration(),
    () => server.trim(room, Math.floor(world.random() * 5)),
    () => server.renew(room),
    () => {
      tab.online = !tab.online;
      tab.fire(tab.online ? "online" : "offline");
    },
    () => {
      tab.visibilityState = pick("visible", "hidden");
      tab.fire("visibilitychange");
    },
    () => tab.origin.storage.write(null, "rowcast:transport", pick("polling", null)),
    () => world.sleep(world.random() * 100_000),
    () => server.revokeAll(),
    () => (server.latency = pick(() => 1, () => 1 + world.random() * 300, () => 1 + world.random() * 3_000)),
  )();
}

/** Everything works again. */
function heal(server: FakeServer, tab: Tab): void {
  if (server.halfOpen) server.kill();
  server.blocked = server.mute = server.halfOpen = server.unreachable = false;
  server.switchOff(false);
  server.setLive(true);
  server.latency = () => 1;
  tab.online = true;
  tab.visibilityState = "visible";
  tab.fire("online");
  tab.origin.storage.write(null, "rowcast:transport", null);
}

test.each(seeds)("schedule %d", async (seed) => {
  const world = new World(seed);
  const server = new FakeServer(world);
  const tab = new Tab(world, server);
  const ledger = new Ledger();
  const life = 20 + world.random() * 500;
  server.pageSize = 1 + Math.floor(world.random() * 20);
  const { client } = bench(
    {
      token: async () => {
        await new Promise<void>((done) => void world.setTimeout(done, world.random() * 100));
        if (world.random() < 0.1) throw new Error("no token today");
        return world.random() < 0.1 ? null : server.token(ROOMS, life);
      },
      polling: { interval: 1_000 + world.random() * 20_000, wait: world.random() < 0.5 ? 0 : 10 },
      attempts: 1 + Math.floor(world.random() * 5),
      onResync: async (resync) => {
        await new Promise<void>((done) => void world.setTimeout(done, world.random() ** 3 * 20_000));
        if (world.random() < 0.3) throw new Error("no snapshot today");
        if (!resync.signal.aborted) ledger.snapshot(resync);
      },
    },
    { tab },
  );
  client.on("*", (event) => ledger.event(event));
  client.start();
  for (let n = 0; n < 150; n++) {
    await world.advance(world.random() ** 2 * 10_000);
    if (world.random() < 0.4) disturb(world, server, tab);
    for (let k = world.random() * 5; k > 1; k--) server.publish(ROOMS[Math.floor(world.random() * 2)]!, n);
    if (world.random() < 0.02) client.reconnect();
    if (world.random() < 0.02) {
      client.stop();
      await world.advance(world.random() * 1_000);
      client.start();
    }
  }
  heal(server, tab);
  const isDone = (): boolean =>
    client.getStatus().light === "live" &&
    ROOMS.every((room) => ledger.of(room) === server.room(room).cursor().split(".")[1]);
  await world.until("everything is there", isDone, 600_000).catch((error: unknown) => ledger.faults.push(String(error)));
  expect(ledger.faults).toEqual([]);
  expect(ledger.handedOn + ledger.snapshots).toBeGreaterThan(2);
});
