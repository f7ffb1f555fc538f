/** Heartbeats, sleep, hidden pages, the network's coming and going. */

import { expect, test } from "vitest";
import { bench, connected } from "./support";

const OPEN_FOR = 6_000;

test("a visible page notices within 5 seconds that nothing answers, and connects anew", async () => {
  const { client, server, world, data } = await connected();
  await world.advance(OPEN_FOR);
  server.halfOpen = true;
  const cut = world.time;
  await world.until("delayed", () => client.getStatus().light === "delayed");
  expect(world.time - cut).toBeLessThanOrEqual(5_010);
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", reason: "silent" });
  server.halfOpen = false;
  server.publish("m1", 1);
  await world.advance(10);
  expect(client.getStatus().light).toBe("live");
  server.halfOpen = true;
  await world.until("given up", () => client.getStatus().state === "RECONNECTING", 10_000);
  server.publish("m1", 2);
  server.halfOpen = false;
  await world.until("back", () => data.length === 2);
});

test("frames prove life: while they come nobody pings", async () => {
  const { client, server, world } = await connected();
  let pings = 0;
  for (const session of server.sessions) {
    const send = session.send.bind(session);
    session.send = (text) => {
      if (text.includes("ping")) pings++;
      send(text);
    };
  }
  for (let n = 0; n < 30; n++) {
    server.publish("m1", n);
    await world.advance(1_000);
  }
  expect(pings).toBe(0);
  await world.advance(20_000);
  expect(pings).toBeGreaterThanOrEqual(4);
  expect(client.getStatus().light).toBe("live");
});

test("its rhythm is an option, and can be none", async () => {
  const { client, server, world } = await connected({ heartbeat: { interval: 1_000, timeout: 200 } });
  server.halfOpen = true;
  await world.advance(1_250);
  expect(client.getStatus().reason).toBe("silent");
  server.halfOpen = false;
  const other = await connected({ heartbeat: false });
  other.server.halfOpen = true;
  await other.world.advance(500_000);
  expect(other.client.getStatus().light).toBe("live");
  other.server.halfOpen = false;
});

test("a hidden page, and Node, go by the server's own rhythm", async () => {
  for (const hidden of [true, false]) {
    const { client, server, world, tab } = bench(hidden ? {} : { platform: { document: undefined } });
    tab.visibilityState = hidden ? "hidden" : "visible";
    client.start();
    await world.advance(100);
    server.halfOpen = true;
    await world.advance(24_000);
    expect(client.getStatus().light).toBe("live");
    await world.until("noticed", () => client.getStatus().light === "delayed", 3_000);
    await world.until("given up", () => client.getStatus().state === "RECONNECTING", 26_000);
    server.halfOpen = false;
  }
});

test("after sleep nobody is declared dead for having slept", async () => {
  const { client, world, states, server } = await connected();
  for (let n = 0; n < 5; n++) {
    world.sleep(3_600_000 / 5);
    await world.advance(7_000);
  }
  expect(states).toEqual(["CONNECTED"]);
  expect(client.getStatus().light).toBe("live");
  expect(server.attempts).toBe(1);
});

test("asleep between a ping and its verdict, it asks again", async () => {
  const { client, world, states, server } = await connected();
  await world.advance(3_999);
  // The ping goes out, and the answer is on its way when the machine falls asleep.
  server.latency = () => 50;
  await world.advance(10);
  world.sleep(100_000);
  await world.advance(3_000);
  expect(states).toEqual(["CONNECTED"]);
  expect(client.getStatus().light).toBe("live");
});

test("a socket that died in its sleep is found soon after", async () => {
  const { client, server, world, data } = await connected();
  await world.advance(OPEN_FOR);
  server.halfOpen = true;
  server.publish("m1", 1);
  world.sleep(1_000_000);
  const woke = world.time;
  await world.until("delayed", () => client.getStatus().light !== "live");
  expect(world.time - woke).toBeLessThan(3_000);
  await world.until("given up", () => client.getStatus().state === "RECONNECTING", 10_000);
  server.halfOpen = false;
  await world.until("healed", () => data.length === 1, 15_000);
});

test("a page whose timers are slowed down finds zombies all the same", async () => {
  const { client, server, world, tab } = await connected();
  await world.advance(OPEN_FOR);
  tab.visibilityState = "hidden";
  server.halfOpen = true;
  // Browsers let timers of hidden pages fire once a minute.
  for (let n = 0; n < 6 && client.getStatus().state === "CONNECTED"; n++) {
    world.sleep(60_000);
    await world.advance(1);
  }
  expect(client.getStatus().state).toBe("RECONNECTING");
  server.halfOpen = false;
});

test.each(["visibilitychange", "pageshow", "resume", "online"])("on %s it asks at once", async (type) => {
  const { client, server, world, tab } = await connected();
  await world.advance(100);
  server.halfOpen = true;
  tab.fire(type);
  await world.advance(1_010);
  expect(client.getStatus()).toMatchObject({ light: "delayed", reason: "silent" });
  server.halfOpen = false;
});

test("a page that is hidden asks nothing", async () => {
  const { client, server, world, tab } = await connected();
  server.halfOpen = true;
  tab.visibilityState = "hidden";
  tab.fire("visibilitychange");
  await world.advance(1_100);
  expect(client.getStatus().light).toBe("live");
  server.halfOpen = false;
});

test("back on the screen it does not wait for its backoff", async () => {
  const { client, server, world, tab } = await connected();
  server.blocked = true;
  server.kill();
  await world.until("waiting", () => (client.getStatus().nextAttemptAt ?? 0) - world.time > 1_000);
  server.blocked = false;
  tab.fire("visibilitychange");
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
});

test("offline: it says so, and tries nothing until it is online", async () => {
  const { client, server, world, tab, states } = await connected();
  await world.advance(OPEN_FOR);
  tab.online = false;
  tab.fire("offline");
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", light: "reconnecting", reason: "offline" });
  const before = server.attempts;
  await world.advance(29_000);
  expect(server.attempts).toBe(before);
  tab.online = true;
  server.publish("m1", 1);
  tab.fire("online");
  await world.advance(10);
  expect(states).toEqual(["CONNECTED", "RECONNECTING", "CONNECTED"]);
});

test("offline for hours it never opens the circuit, and tries now and then: browsers are wrong at times", async () => {
  const { client, server, world, tab } = await connected();
  tab.online = false;
  tab.fire("offline");
  await world.advance(3_600_000);
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", reason: "offline" });
  expect(server.attempts).toBeGreaterThan(60);
  expect(server.attempts).toBeLessThan(130);
});

test("a browser that is wrong about being offline is connected within half a minute", async () => {
  const { client, world, server, tab } = await connected();
  tab.fire("offline");
  expect(client.getStatus().reason).toBe("offline");
  await world.advance(30_100);
  expect(client.getStatus().state).toBe("CONNECTED");
  expect(server.attempts).toBe(2);
});

test("started offline it waits for the network", async () => {
  const { client, server, world, tab } = bench();
  tab.online = false;
  client.start();
  await world.advance(10_000);
  expect(server.attempts).toBe(0);
  expect(client.getStatus()).toMatchObject({ light: "reconnecting", reason: "offline" });
  tab.online = true;
  tab.fire("online");
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
});

test("offline while it polls, and online again: it goes on polling", async () => {
  const { client, server, world, tab } = bench({ transport: "polling" });
  client.start();
  await world.advance(10);
  tab.online = false;
  tab.fire("offline");
  expect(client.getStatus()).toMatchObject({ state: "RECONNECTING", reason: "offline", transport: null });
  tab.online = true;
  tab.fire("online");
  await world.advance(10);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", transport: "polling" });
  expect(server.pages).toHaveLength(2);
});
