/** A client in a world of its own, and what it did. */

import { afterEach } from "vitest";
import { createClient } from "../src/index";
import type { Resync, RowcastClient, RowcastEvent, RowcastOptions, Status } from "../src/index";
import { FakeServer } from "./server";
import { Tab, World } from "./world";

export interface Bench {
  readonly world: World;
  readonly server: FakeServer;
  readonly tab: Tab;
  readonly client: RowcastClient;
  readonly events: RowcastEvent[];
  /** The data of each event. */
  readonly data: unknown[];
  readonly resyncs: Resync[];
  readonly statuses: Status[];
  readonly states: string[];
  readonly lights: string[];
}

const benches: Bench[] = [];

export interface Surroundings {
  readonly world?: World;
  readonly server?: FakeServer;
  readonly tab?: Tab;
  readonly create?: (options: RowcastOptions) => RowcastClient;
}

/** Not started yet. */
export function bench(options: Partial<RowcastOptions> = {}, around: Surroundings = {}): Bench {
  const world = around.world ?? around.tab?.world ?? new World();
  const server = around.server ?? around.tab?.server ?? new FakeServer(world);
  const tab = around.tab ?? new Tab(world, server);
  const resyncs: Resync[] = [];
  const client = (around.create ?? createClient)({
    url: "https://edge.example",
    token: () => server.token(),
    onResync: (resync) => void resyncs.push(resync),
    ...options,
    platform: { ...tab.platform(), ...options.platform },
  });
  const made: Bench = { world, server, tab, client, events: [], data: [], resyncs, statuses: [], states: [], lights: [] };
  client.on("*", (event) => {
    made.events.push(event);
    made.data.push(event.data);
  });
  client.subscribe(() => {
    const status = client.getStatus();
    made.statuses.push(status);
    if (made.states.at(-1) !== status.state) made.states.push(status.state);
    if (made.lights.at(-1) !== status.light) made.lights.push(status.light);
  });
  benches.push(made);
  return made;
}

/** Started and welcomed. */
export async function connected(options: Partial<RowcastOptions> = {}, around: Surroundings = {}): Promise<Bench> {
  const made = bench(options, around);
  made.client.start();
  await made.world.until("connected", () => made.client.getStatus().state === "CONNECTED");
  await made.world.advance(5);
  return made;
}

/** A stopped client leaves nothing behind: every test ends with that. */
afterEach(async () => {
  const all = benches.splice(0);
  for (const { client } of all) client.stop();
  for (const { client, world, server, tab } of all) {
    await world.advance(10);
    if (tab.listening()) throw new Error(`${tab.listening()} listeners are left`);
    if (world.overflows) throw new Error("a timer was too long for browsers");
    if (server.sessions.size) throw new Error("a socket is left");
    const { state, nextAttemptAt, transport } = client.getStatus();
    if (state !== "INITIALIZING" || nextAttemptAt !== null || transport !== null) throw new Error("it goes on");
    if (tab.timers.size) throw new Error(`${tab.timers.size} timers are left`);
  }
});
