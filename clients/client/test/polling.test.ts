/** Pages: forced, switched by the server, long, refused, and the ways to and from sockets. */

import { expect, test, vi } from "vitest";
import { bench, connected } from "./support";

test("forced by an option it opens no socket, and hands events on once", async () => {
  const { client, server, world, data, resyncs } = bench({ transport: "polling", polling: { interval: 5_000 } });
  client.start();
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", light: "delayed", reason: "switched", transport: "polling", error: null });
  expect(client.getStatus().nextAttemptAt! - world.time).toBeGreaterThan(4_900);
  for (let n = 0; n < 10; n++) {
    server.publish("m1", n);
    await world.advance(2_000);
  }
  await world.advance(5_000);
  expect(data).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(resyncs).toMatchObject([{ reason: "start" }]);
  expect(server.attempts).toBe(0);
});

test("forced by localStorage, live, in both directions", async () => {
  const { client, server, world, data, tab, states } = await connected();
  server.publish("m1", 1);
  await world.advance(10);
  tab.origin.storage.write(null, "rowcast:transport", "polling");
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", reason: "switched", transport: "polling" });
  expect(server.sessions.size).toBe(0);
  server.publish("m1", 2);
  await world.advance(61_000);
  expect(data).toEqual([1, 2]);
  server.publish("m1", 3);
  tab.origin.storage.write(null, "rowcast:transport", null);
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", light: "live" });
  expect(data).toEqual([1, 2, 3]);
  expect(states).toEqual(["CONNECTED", "DEGRADED", "CONNECTED"]);
});

test("localStorage is asked at the start", async () => {
  const { client, server, world, tab } = bench();
  tab.origin.storage.write(null, "rowcast:transport", "polling");
  client.start();
  await world.advance(100_000);
  expect(server.attempts).toBe(0);
  expect(server.pages.length).toBeGreaterThan(1);
});

test("a switch off turns to polling at once, and a switch on back, without loss", async () => {
  const { client, server, world, data, resyncs, states } = await connected();
  server.publish("m1", 1);
  await world.advance(10);
  server.switchOff(true);
  server.publish("m1", 2);
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", light: "delayed", reason: "switched", transport: "polling" });
  server.publish("m1", 3);
  await world.advance(100_000);
  expect(server.attempts).toBe(1);
  server.switchOff(false);
  server.publish("m1", 4);
  await world.until("back", () => client.getStatus().state === "CONNECTED", 61_000);
  server.publish("m1", 5);
  await world.advance(10);
  expect(data).toEqual([1, 2, 3, 4, 5]);
  expect(resyncs).toHaveLength(1);
  expect(states).toEqual(["CONNECTED", "DEGRADED", "CONNECTED"]);
});

test("who signs in while sockets are off is told so after the sign-in, and polls", async () => {
  const { client, server, world, data } = bench();
  server.switchedOff = true;
  client.start();
  await world.advance(20);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", reason: "switched", transport: "polling" });
  server.publish("m1", 1);
  await world.advance(61_000);
  expect(data).toEqual([1]);
  expect(server.attempts).toBe(1);
});

test("a page that says polling ends the attempts, and one that says sockets begins them", async () => {
  const { client, server, world } = bench({ attempts: 1 });
  server.blocked = true;
  server.switchedOff = true;
  client.start();
  await world.advance(100_000);
  const before = server.attempts;
  await world.advance(600_000);
  expect(server.attempts).toBe(before);
  server.blocked = false;
  server.switchedOff = false;
  await world.until("connected", () => client.getStatus().state === "CONNECTED", 61_000);
});

test("without polling a switched client looks now and then whether sockets are back", async () => {
  const { client, server, world } = await connected({ polling: false });
  server.switchOff(true);
  await world.advance(100_000);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", transport: null });
  expect(server.requests).toEqual([]);
  server.switchOff(false);
  await world.until("back", () => client.getStatus().state === "CONNECTED", 31_000);
});

test("a long history comes in pages, one after the other", async () => {
  const { client, server, world, data } = await connected();
  client.setOptions({ url: "https://edge.example", token: () => server.token(), transport: "polling", onResync: () => {} });
  await world.advance(10);
  server.pageSize = 7;
  for (let n = 0; n < 50; n++) server.publish("m1", n);
  client.reconnect();
  await world.advance(100);
  expect(data).toEqual(Array.from({ length: 50 }, (_, n) => n));
});

test("a long poll is held by the server, and answered when there is something", async () => {
  const { client, server, world, data } = bench({ transport: "polling", polling: { interval: 0, wait: 20 } });
  client.start();
  await world.advance(10);
  expect(server.pages).toHaveLength(2);
  expect(server.pages[1]!.searchParams.get("wait")).toBe("20");
  await world.advance(10_000);
  server.publish("m1", 1);
  await world.advance(10);
  expect(data).toEqual([1]);
  await world.advance(100_000);
  expect(server.pages.length).toBeLessThan(12);
});

test("a poll that never comes back is given up", async () => {
  const { client, server, world } = bench({ transport: "polling", connectTimeout: 3_000, polling: { interval: 5_000 } });
  server.latency = () => 1e7;
  client.start();
  await world.advance(3_100);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", error: { code: "network" } });
  server.latency = () => 1;
  await world.advance(6_000);
  expect(client.getStatus().error).toBeNull();
});

test("Retry-After is kept to", async () => {
  const { client, server, world } = bench({ transport: "polling", polling: { interval: 5_000 } });
  server.answer = { status: 503, body: { error: "limit", message: "too many" }, headers: { "retry-after": "120" } };
  client.start();
  await world.advance(119_000);
  expect(server.requests).toHaveLength(1);
  server.answer = null;
  await world.advance(2_000);
  expect(server.requests).toHaveLength(2);
  expect(client.getStatus().error).toBeNull();
});

test("what answers 200 and is no Rowcast is no page", async () => {
  const { client, server, world, resyncs } = bench({ transport: "polling" });
  server.answer = { status: 200, body: { hello: "this is a captive portal" } };
  client.start();
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ error: { code: "network" } });
  server.answer = null;
  await world.advance(61_000);
  expect(resyncs).toHaveLength(1);
});

test.each([
  [403, { error: "not_allowed", message: "no room" }, "forbidden"],
  [403, { error: "origin", message: "add it to edge.allowed_origins" }, "origin"],
  [400, { error: "malformed", message: "after is no cursor" }, "malformed"],
] as const)("a page that is refused with %d rests: %j", async (status, body, code) => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, server, world } = bench({ transport: "polling" });
  server.answer = { status, body };
  client.start();
  await world.advance(1_000_000);
  expect(server.requests).toHaveLength(1);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", error: { code, message: expect.stringContaining(body.message) }, transport: null });
  logged.mockRestore();
});

test("the server's light shows in pages", async () => {
  const { client, server, world } = bench({ transport: "polling", polling: { interval: 1_000 } });
  server.setLive(false, "listener");
  client.start();
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ light: "delayed", reason: "listener" });
  server.setLive(true);
  await world.advance(1_100);
  expect(client.getStatus()).toMatchObject({ light: "delayed", reason: "switched" });
});

test("types are asked for in pages too, and what they leave out moves the cursor", async () => {
  const { client, server, world, data } = bench({ transport: "polling", types: ["note.*", "x"], polling: { interval: 1_000 } });
  client.start();
  await world.advance(10);
  server.publish("m1", 1);
  server.publish("m1", 2, "note.added");
  server.publish("m1", 3);
  await world.advance(3_000);
  expect(data).toEqual([2]);
  expect(server.pages.at(-1)!.searchParams.get("types")).toBe("note.*,x");
  expect(server.pages.at(-1)!.searchParams.get("after")).toBe("m1=1.000000000000000a%3A3");
});

test("a snapshot that loads while it polls: the pages go on, the stored cursor does not", async () => {
  const loads: (() => void)[] = [];
  const { client, server, world, data } = bench({
    transport: "polling",
    polling: { interval: 1_000 },
    onResync: () => new Promise((done) => loads.push(done)),
  });
  client.start();
  await world.advance(10);
  for (let n = 0; n < 5; n++) {
    server.publish("m1", n);
    await world.advance(1_100);
  }
  expect(loads).toHaveLength(1);
  expect(data).toEqual([]);
  // A connection anew: from the stored cursor, which there is none of.
  client.reconnect();
  await world.advance(10);
  expect(loads).toHaveLength(2);
  server.publish("m1", "last");
  await world.advance(1_100);
  loads[1]!();
  await world.advance(10);
  expect(data).toEqual(["last"]);
});

test("socket to polling to socket: each event once, though the poll and the socket overlap", async () => {
  const { client, server, world, data } = await connected({ attempts: 1, polling: { interval: 1_000 } });
  let sent = 0;
  const send = (): void => server.publish("m1", sent++);
  for (let round = 0; round < 10; round++) {
    server.blocked = true;
    server.kill();
    for (let n = 0; n < 20; n++) {
      send();
      await world.advance(371);
    }
    server.blocked = false;
    for (let n = 0; n < 200; n++) {
      send();
      await world.advance(171);
    }
    expect(client.getStatus().state).toBe("CONNECTED");
  }
  expect(data).toEqual(Array.from({ length: sent }, (_, n) => n));
});
