/** Connecting, losing, backing off, the circuit breaker, goodbyes and close codes. */

import { expect, test, vi } from "vitest";
import { createClient } from "../src/index";
import { bench, connected, type Bench } from "./support";

test("nothing happens before the start", async () => {
  const { client, server, world } = bench();
  await world.advance(100_000);
  expect(client.getStatus()).toMatchObject({ state: "INITIALIZING", light: "reconnecting", transport: null, error: null });
  expect(server.attempts + server.requests.length).toBe(0);
});

test("making a client touches nothing: it works where there is no browser", () => {
  const client = createClient({ url: "/relative", token: "t", platform: { now: () => 7 } });
  expect(client.getStatus()).toEqual({
    state: "INITIALIZING",
    light: "reconnecting",
    reason: "connecting",
    since: 7,
    transport: null,
    nextAttemptAt: null,
    error: null,
  });
  expect(client.getStatus()).toBe(client.getStatus());
});

test("it connects, fetches a snapshot, and hands events on in order", async () => {
  const { client, server, world, data, resyncs, states } = await connected();
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "live", reason: "", transport: "websocket" });
  expect(resyncs).toMatchObject([{ room: "m1", cursor: "1.000000000000000a:0", reason: "start" }]);
  for (let n = 1; n <= 3; n++) server.publish("m1", n);
  await world.advance(10);
  expect(data).toEqual([1, 2, 3]);
  expect(states).toEqual(["CONNECTED"]);
});

test("events carry what they carry, and nothing of the wire", async () => {
  const { server, world, events } = await connected();
  server.publish("m1", { id: 1 });
  await world.advance(10);
  expect(events).toEqual([
    { room: "m1", cursor: "1.000000000000000a:1", id: "1-0", type: "booking.created", at: expect.any(String), data: { id: 1 } },
  ]);
});

test("patterns choose, and end where they are told to", async () => {
  const { client, server, world } = await connected();
  const heard: string[] = [];
  client.on("booking.created", () => heard.push("exact"));
  client.on("booking.*", () => heard.push("prefix"));
  const end = client.on("*", () => heard.push("all"));
  server.publish("m1", 1);
  await world.advance(10);
  end();
  server.publish("m1", 2, "note.added");
  server.publish("m1", 3, "booking.updated");
  await world.advance(10);
  expect(heard).toEqual(["exact", "prefix", "all", "prefix"]);
});

test("after a loss it goes on from its cursor: nothing twice, nothing missing", async () => {
  const { client, server, world, data, resyncs, states } = await connected();
  server.publish("m1", 1);
  await world.advance(10_000);
  server.kill();
  server.publish("m1", 2);
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", light: "reconnecting", reason: "network", transport: null });
  await world.until("back", () => client.getStatus().state === "CONNECTED");
  server.publish("m1", 3);
  await world.advance(10);
  expect(data).toEqual([1, 2, 3]);
  expect(resyncs).toHaveLength(1);
  expect(server.auths.at(-1)?.resume).toEqual({ m1: "1.000000000000000a:1" });
  expect(states).toEqual(["CONNECTED", "RECONNECTING", "CONNECTED"]);
});

test("backoff is full jitter between 0 and a bound that doubles to its maximum", async () => {
  const waits: number[] = [];
  const { client, server, world } = bench({ attempts: 12, platform: { random: () => 0.5 } });
  server.blocked = true;
  client.subscribe(() => {
    const { nextAttemptAt, state } = client.getStatus();
    if (nextAttemptAt && state === "RECONNECTING") waits.push(nextAttemptAt - world.time);
  });
  client.start();
  await world.until("tripped", () => client.getStatus().state === "DEGRADED");
  expect([...new Set(waits)]).toEqual([500, 1_000, 2_000, 4_000, 8_000, 15_000]);
});

test("five failed attempts open the circuit: it polls with the same cursors, half-opens, and comes back", async () => {
  const { client, server, world, data, resyncs, states } = await connected();
  server.publish("m1", 1);
  await world.advance(6_000);
  server.blocked = true;
  server.kill();
  const before = server.attempts;
  await world.until("degraded", () => client.getStatus().state === "DEGRADED");
  expect(server.attempts - before).toBe(5);
  server.publish("m1", 2);
  await world.until("the first poll", () => data.length === 2, 1_000);
  expect(client.getStatus()).toMatchObject({ light: "delayed", reason: "network", transport: "polling" });
  expect(server.pages[0]?.searchParams.get("after")).toBe("m1=1.000000000000000a%3A1");
  const polls = server.pages.length;
  const attempts = server.attempts;
  server.publish("m1", 3);
  await world.advance(60_100);
  expect(server.pages.length - polls).toBe(1);
  expect(server.attempts - attempts).toBeGreaterThanOrEqual(2);
  expect(server.attempts - attempts).toBeLessThanOrEqual(4);
  expect(data).toEqual([1, 2, 3]);
  server.blocked = false;
  server.publish("m1", 4);
  await world.until("back", () => client.getStatus().state === "CONNECTED", 31_000);
  server.publish("m1", 5);
  await world.advance(100_000);
  expect(data).toEqual([1, 2, 3, 4, 5]);
  expect(resyncs).toHaveLength(1);
  expect(states).toEqual(["CONNECTED", "RECONNECTING", "DEGRADED", "CONNECTED"]);
  expect(client.getStatus()).toMatchObject({ light: "live", transport: "websocket", nextAttemptAt: null });
});

test("the number of attempts is an option, and connections that hold forget failures", async () => {
  const { client, server, world } = await connected({ attempts: 2 });
  await world.advance(6_000);
  for (let round = 0; round < 3; round++) {
    server.kill();
    await world.until("back", () => client.getStatus().state === "CONNECTED");
    await world.advance(6_000);
  }
  server.blocked = true;
  server.kill();
  const before = server.attempts;
  await world.until("degraded", () => client.getStatus().state === "DEGRADED");
  expect(server.attempts - before).toBe(2);
});

test("a server that welcomes and hangs up again and again counts as failing", async () => {
  const { client, server, world, states } = await connected();
  for (let n = 0; n < 5; n++) {
    server.kill();
    await world.advance(2);
    if (n < 4) await world.until("back", () => client.getStatus().state === "CONNECTED");
  }
  expect(states.at(-1)).toBe("DEGRADED");
});

test("a server that accepts and never answers is given up after the time for it", async () => {
  const { client, server, world } = bench({ connectTimeout: 3_000 });
  server.mute = true;
  client.start();
  await world.advance(2_900);
  expect(client.getStatus()).toMatchObject({ state: "INITIALIZING" });
  await world.advance(200);
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", reason: "network" });
  server.mute = false;
  await world.until("connected", () => client.getStatus().state === "CONNECTED");
});

test("a handshake that hangs is given up as well", async () => {
  const { client, server, world } = bench({ connectTimeout: 3_000 });
  server.latency = () => 1e9;
  client.start();
  await world.advance(3_100);
  expect(client.getStatus().state).toBe("RECONNECTING");
  client.stop();
  world.timers.clear();
});

test("an edge that goes away says when to come back, and it is no failure", async () => {
  const { client, server, world, states } = await connected({ attempts: 1 });
  server.bye(1012, 7_000);
  await world.advance(10);
  const { nextAttemptAt } = client.getStatus();
  expect(nextAttemptAt! - world.time).toBeGreaterThan(6_900);
  await world.advance(6_900);
  expect(client.getStatus().state).toBe("RECONNECTING");
  await world.advance(200);
  expect(states).toEqual(["CONNECTED", "RECONNECTING", "CONNECTED"]);
});

test.each([4008, 4408, 4429, 1012, 1006, 1001])("%d comes back with backoff", async (code) => {
  const { client, server, world } = await connected();
  server.kill(code);
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", error: null });
  await world.until("back", () => client.getStatus().state === "CONNECTED");
});

test.each([
  [4403, "forbidden"],
  [4400, "malformed"],
  [1009, "malformed"],
] as const)("%d does not come back by itself: %s", async (code, error) => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, server, world, tab } = await connected();
  server.kill(code);
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", light: "delayed", reason: error, error: { code: error } });
  const before = server.attempts + server.requests.length;
  tab.fire("online");
  tab.fire("visibilitychange");
  await world.advance(1_000_000);
  expect(server.attempts + server.requests.length).toBe(before);
  client.reconnect();
  await world.until("a button helps", () => client.getStatus().state === "CONNECTED");
  expect(client.getStatus().error).toBeNull();
  logged.mockRestore();
});

test("a frame that is no JSON ends the connection, and an unknown one nothing", async () => {
  const { client, server, world } = await connected();
  const [session] = server.sessions;
  session!.onmessage!({ data: '{"op":"dance"}' } as MessageEvent);
  session!.onmessage!({ data: "null" } as MessageEvent);
  await world.advance(2);
  expect(client.getStatus().state).toBe("RECONNECTING");
  await world.until("back", () => client.getStatus().state === "CONNECTED");
});

test("a button tries at once, whatever the state", async () => {
  const { client, server, world } = bench();
  client.reconnect();
  server.blocked = true;
  client.start();
  await world.until("degraded", () => client.getStatus().state === "DEGRADED");
  server.blocked = false;
  client.reconnect();
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", light: "reconnecting" });
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
  const before = server.attempts;
  client.reconnect();
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
  expect(server.attempts).toBe(before + 1);
});

test("the server's light shows, with its reason", async () => {
  const { client, server, world, lights } = await connected();
  server.setLive(false, "redis");
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "delayed", reason: "redis" });
  server.setLive(true);
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ light: "live", reason: "" });
  expect(lights).toEqual(["live", "delayed", "live"]);
});

test.each([
  ["a button", ({ client }: Bench) => client.reconnect()],
  ["a refused token", ({ server }: Bench) => server.kill(4401)],
  ["a loss", ({ server }: Bench) => server.kill()],
  ["the switch", ({ server }: Bench) => server.switchOff(true)],
] as const)("a light that was not live is never shown as live on the way, by %s", async (_, cause) => {
  const made = await connected({}, {});
  const { server, world, statuses } = made;
  server.setLive(false, "redis");
  await world.advance(10);
  const before = statuses.length;
  cause(made);
  await world.advance(100);
  expect(statuses.length).toBeGreaterThan(before);
  for (const status of statuses.slice(before)) {
    expect(status.light).not.toBe("live");
    expect(status.transport).toBe(status.state === "CONNECTED" ? "websocket" : status.state === "DEGRADED" ? "polling" : null);
  }
});

test("a welcome that is not live says so at once", async () => {
  const { client, server, world, lights } = bench();
  server.live = false;
  client.start();
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "delayed", reason: "server" });
  expect(lights).toEqual(["delayed"]);
});

test("the status is the same object until something changes", async () => {
  const { client, server, world, statuses } = await connected();
  const before = client.getStatus();
  const changes = statuses.length;
  server.publish("m1", 1);
  await world.advance(60_000);
  expect(client.getStatus()).toBe(before);
  expect(statuses.length).toBe(changes);
});

test("since moves with the state and the light, and with nothing else", async () => {
  const { client, server, world } = await connected();
  const { since } = client.getStatus();
  await world.advance(1_000);
  server.setLive(false, "redis");
  await world.advance(2);
  const delayed = client.getStatus().since;
  expect(delayed).toBeGreaterThan(since);
  await world.advance(1_000);
  server.setLive(false, "lag");
  await world.advance(2);
  expect(client.getStatus()).toMatchObject({ reason: "lag", since: delayed });
});

test("stop and start again: the cursors are kept", async () => {
  const { client, server, world, data, resyncs } = await connected();
  server.publish("m1", 1);
  await world.advance(10);
  client.stop();
  server.publish("m1", 2);
  await world.advance(10_000);
  expect(server.sessions.size).toBe(0);
  client.start();
  await world.until("connected", () => client.getStatus().state === "CONNECTED");
  await world.advance(5);
  expect(data).toEqual([1, 2]);
  expect(resyncs).toHaveLength(1);
});

test("started, stopped and started in one breath it is one client", async () => {
  const { client, server, world } = bench();
  client.start();
  client.stop();
  client.start();
  client.start();
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
  expect(server.attempts).toBe(1);
  expect(server.sessions.size).toBe(1);
});

test("stopped while it connects it does not connect", async () => {
  const { client, server, world, states } = bench();
  client.start();
  await world.advance(1);
  client.stop();
  await world.advance(100);
  expect(server.sessions.size).toBe(0);
  expect(states).toEqual([]);
});

test("handlers and listeners that throw break nothing", async () => {
  const thrown: unknown[] = [];
  const later = vi.spyOn(globalThis, "setTimeout").mockImplementation(((run: () => void) => {
    try {
      run();
    } catch (error) {
      thrown.push(error);
    }
  }) as typeof setTimeout);
  const { client, server, world, data } = await connected();
  client.on("*", () => {
    throw new Error("handler");
  });
  client.subscribe(() => {
    throw new Error("listener");
  });
  server.publish("m1", 1);
  server.publish("m1", 2);
  server.setLive(false, "redis");
  await world.advance(10);
  expect(data).toEqual([1, 2]);
  expect(thrown.map(String)).toEqual(["Error: handler", "Error: handler", "Error: listener"]);
  client.stop();
  later.mockRestore();
});

test("a handler may stop the client: what follows is handed on at the next start", async () => {
  const { client, server, world, data } = await connected();
  client.on("*", (event) => {
    if (event.data === 1) client.stop();
  });
  server.publish("m1", 1);
  server.publish("m1", 2);
  await world.advance(10);
  expect(data).toEqual([1]);
  client.start();
  await world.advance(10);
  expect(data).toEqual([1, 2]);
});

test("without a WebSocket it says what to do", async () => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, world } = bench({ platform: { WebSocket: undefined } });
  client.start();
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", error: { code: "platform", message: expect.stringContaining("platform: { WebSocket }") } });
  expect(logged).toHaveBeenCalledTimes(1);
  logged.mockRestore();
});

test("the console stays empty while things fail and heal", async () => {
  const spies = (["log", "info", "warn", "error", "debug"] as const).map((name) => vi.spyOn(console, name));
  const { client, server, world } = await connected();
  server.unreachable = true;
  server.kill();
  await world.advance(200_000);
  server.unreachable = false;
  await world.until("back", () => client.getStatus().state === "CONNECTED");
  for (const spy of spies) {
    expect(spy).not.toHaveBeenCalled();
    spy.mockRestore();
  }
});

test("debug lines go where they are wanted", async () => {
  const lines: string[] = [];
  const { tab } = await connected({ debug: (line) => lines.push(line) });
  expect(lines).toContain("rowcast: INITIALIZING: welcomed → CONNECTED, settle");
  const spy = vi.spyOn(console, "debug").mockImplementation(() => {});
  tab.origin.storage.write(null, "rowcast:debug", "1");
  const { client } = await connected({}, { tab });
  expect(spy).toHaveBeenCalled();
  client.stop();
  spy.mockRestore();
});
