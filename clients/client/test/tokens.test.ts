/** Tokens: not there yet, refreshed in time, refused, of 30 seconds and 30 days, in several tabs. */

import { expect, test } from "vitest";
import type { RowcastOptions, TokenRequest } from "../src/index";
import { claimsOf } from "../src/tokens";
import { FakeServer } from "./server";
import { bench, connected, type Bench } from "./support";
import { Origin, Tab, World } from "./world";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** A source that gives what the server takes, and keeps what it was asked. */
function source(life: number): { requests: TokenRequest[]; reasons: string[]; of: (server: () => FakeServer) => RowcastOptions["token"] } {
  const requests: TokenRequest[] = [];
  const reasons: string[] = [];
  return {
    requests,
    reasons,
    of: (server) => (request) => {
      requests.push(request);
      reasons.push(request.reason);
      return server().token("m1", life);
    },
  };
}

test("claims are read, and nothing else is believed or thrown", () => {
  const token = (text: string): string => `h.${Buffer.from(text).toString("base64url")}.s`;
  expect(claimsOf(token('{"exp":7,"sub":"ü?>"}'))).toMatchObject({ exp: 7 });
  for (const odd of ["", "x", "a.b.c", "..", token("7"), token("null"), token("[]"), token("{")]) expect(claimsOf(odd).exp).toBeUndefined();
  expect(claimsOf(null)).toEqual({});
});

test("a token of an hour and a half is replaced at 80 % of its life, in place", async () => {
  const { reasons, of } = source(5_400);
  let server!: FakeServer;
  const made = bench({ token: of(() => server) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(0.8 * 5_400_000 - 5_000);
  expect(reasons).toEqual(["connect"]);
  await made.world.advance(10_000);
  expect(reasons).toEqual(["connect", "expiring"]);
  expect(made.states).toEqual(["CONNECTED"]);
  expect(server.attempts).toBe(1);
});

test("a token of ten hours is replaced an hour before its end", async () => {
  const { reasons, of } = source(36_000);
  let server!: FakeServer;
  const made = bench({ token: of(() => server) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(9 * HOUR - 5_000);
  expect(reasons).toEqual(["connect"]);
  await made.world.advance(10_000);
  expect(reasons).toEqual(["connect", "expiring"]);
});

test("how long before is an option", async () => {
  const { reasons, of } = source(36_000);
  let server!: FakeServer;
  const made = bench({ token: of(() => server), refreshAhead: 60_000 });
  ({ server } = made);
  made.client.start();
  await made.world.advance(10 * HOUR - 65_000);
  expect(reasons).toEqual(["connect"]);
  await made.world.advance(10_000);
  expect(reasons).toEqual(["connect", "expiring"]);
});

test("a token of 30 seconds lives for ever, without a reconnection", async () => {
  const { reasons, of } = source(30);
  let server!: FakeServer;
  const made = bench({ token: of(() => server) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(300_000);
  expect(server.attempts).toBe(1);
  expect(made.states).toEqual(["CONNECTED"]);
  // Every 24 seconds, not more often.
  expect(reasons.length).toBeGreaterThan(10);
  expect(reasons.length).toBeLessThan(15);
  expect(made.client.report().refreshes).toEqual({ ok: reasons.length - 1, failed: 0 });
});

test("a token of 30 days is replaced after 29 days and 23 hours: no timer is longer than browsers keep", async () => {
  const { reasons, of } = source(30 * 86_400);
  let server!: FakeServer;
  const made = bench({ token: of(() => server), heartbeat: false });
  ({ server } = made);
  made.client.start();
  await made.world.advance(30 * DAY - HOUR - 10_000);
  expect(reasons).toEqual(["connect"]);
  await made.world.advance(20_000);
  expect(reasons).toEqual(["connect", "expiring"]);
  expect(made.world.overflows).toBe(0);
});

test("tokens that all end at the same moment are not replaced without pause", async () => {
  let asked = 0;
  let server!: FakeServer;
  let end = 0;
  const made = bench({
    token: () => {
      asked++;
      return server.token("m1", (end - server.now()) / 1000);
    },
    heartbeat: false,
  });
  ({ server } = made);
  end = server.now() + HOUR;
  made.client.start();
  await made.world.advance(HOUR - 1_000);
  expect(asked).toBeLessThan(40);
});

test("nor are tokens of a sign-in that ends at its moment, however often they are issued anew", async () => {
  let asked = 0;
  let server!: FakeServer;
  let signedIn = 0;
  const made = bench({ token: () => (asked++, server.token("m1", 3_600, "u1", signedIn)), heartbeat: false });
  ({ server } = made);
  signedIn = server.now() / 1000;
  made.client.start();
  await made.world.advance(HOUR - 1_000);
  expect(asked).toBeLessThan(40);
});

test("a refresh that is not allowed is no end: the client signs in anew", async () => {
  const made = bench();
  made.client.start();
  await made.world.advance(10);
  for (const session of made.server.sessions) session.tell({ op: "token_expiring", in: 60 });
  await made.world.advance(1);
  made.server.kill(4403);
  await made.world.until("again", () => made.server.auths.length === 2 && made.client.getStatus().state === "CONNECTED");
  expect(made.client.getStatus().error).toBeNull();
});

test("a source that has no newer token yet is asked again before the end", async () => {
  let server!: FakeServer;
  let token = "";
  const made = bench({ token: () => token });
  ({ server } = made);
  token = server.token("m1", 1_000);
  made.client.start();
  await made.world.advance(850_000);
  token = server.token("m1", 1_000);
  await made.world.advance(200_000);
  expect(made.states).toEqual(["CONNECTED"]);
  expect(made.client.report().refreshes.ok).toBeGreaterThanOrEqual(1);
  expect(made.client.report().refreshes.failed).toBeGreaterThanOrEqual(1);
});

test("the server's notice asks at once", async () => {
  const { reasons, of } = source(3_600);
  let server!: FakeServer;
  const made = bench({ token: of(() => server) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(100);
  for (const session of server.sessions) session.tell({ op: "token_expiring", in: 60 });
  await made.world.advance(100);
  expect(reasons).toEqual(["connect", "expiring"]);
  expect(made.states).toEqual(["CONNECTED"]);
});

test("an expired token of someone who is logged in is replaced by itself", async () => {
  const reasons: string[] = [];
  let server!: FakeServer;
  let old = "";
  const made = bench({
    token: ({ reason, previous }) => {
      reasons.push(reason);
      if (reason === "refused") expect(previous).toBe(old);
      return reason === "refused" ? server.token() : old;
    },
  });
  ({ server } = made);
  old = server.token("m1", -10);
  made.client.start();
  await made.world.until("connected", () => made.client.getStatus().state === "CONNECTED", 5_000);
  expect(reasons).toEqual(["connect", "refused"]);
  expect(made.client.getStatus()).toMatchObject({ light: "live", error: null });
  expect(server.auths[1]!.report).toMatchObject({ refreshes: { ok: 1, failed: 0 } });
});

test("a refused token without another is not shown to the server again, and a new one is found", async () => {
  let server!: FakeServer;
  let token = "";
  const made = bench({ token: () => token });
  ({ server } = made);
  token = server.token("m1", -10);
  made.client.start();
  await made.world.advance(120_000);
  expect(server.auths).toHaveLength(1);
  expect(made.client.getStatus()).toMatchObject({ state: "RECONNECTING", reason: "token", error: { code: "token" } });
  token = server.token();
  await made.world.until("connected", () => made.client.getStatus().state === "CONNECTED", 31_000);
});

test("a token that is a text and is refused rests until another is given", async () => {
  let made!: Bench;
  const options = (token: string): RowcastOptions => ({ url: "https://edge.example", token, onResync: () => {} });
  made = bench({ token: "x.y.z" });
  made.client.start();
  await made.world.advance(60_000);
  expect(made.server.auths).toHaveLength(1);
  expect(made.client.getStatus()).toMatchObject({ state: "DEGRADED", reason: "token", error: { code: "token" }, nextAttemptAt: null });
  made.client.setOptions(options(made.server.token()));
  await made.world.until("connected", () => made.client.getStatus().state === "CONNECTED", 1_000);
  made.client.setOptions(options(made.server.token()));
  await made.world.advance(100);
  expect(made.states).toEqual(["DEGRADED", "RECONNECTING", "CONNECTED"]);
  expect(made.server.attempts).toBe(2);
  expect(made.client.report().refreshes.ok).toBe(1);
});

test("a token that is not there yet is waited for, and the state stays INITIALIZING", async () => {
  let token: string | null = null;
  const { client, server, world, states } = bench({ token: () => token });
  client.start();
  await world.advance(100_000);
  expect(client.getStatus()).toMatchObject({ state: "INITIALIZING", light: "reconnecting", reason: "token", error: null });
  expect(server.attempts).toBe(0);
  token = server.token();
  await world.until("connected", () => client.getStatus().state === "CONNECTED", 31_000);
  expect(states).toEqual(["INITIALIZING", "CONNECTED"]);
});

test("a token that appears in the storage is used within a second, in this tab and in another", async () => {
  const { client, server, world, tab } = bench({ token: { storage: "local", key: "access" } });
  client.start();
  await world.advance(100_000);
  // In the same tab nobody hears of it.
  tab.origin.storage.write(tab, "access", server.token());
  await world.until("connected", () => client.getStatus().state === "CONNECTED", 1_100);
  client.stop();
  tab.origin.storage.write(tab, "access", null);
  client.start();
  await world.advance(100_000);
  tab.origin.storage.write(null, "access", server.token());
  await world.advance(5);
  expect(client.getStatus().state).toBe("CONNECTED");
});

test("a session's storage works as well", async () => {
  const { client, server, world, tab } = bench({ token: { storage: "session", key: "access" } });
  tab.sessionValues.set("access", server.token());
  client.start();
  await world.advance(10);
  expect(client.getStatus().state).toBe("CONNECTED");
});

test("a newer token in the storage is taken in place, without asking for one", async () => {
  let asked = 0;
  const { server, world, tab, states, client } = bench({
    token: { storage: "local", key: "access", refresh: async () => (asked++, null) },
  });
  tab.origin.storage.write(null, "access", server.token());
  client.start();
  await world.advance(10);
  tab.origin.storage.write(null, "access", server.token("m1", 7_200));
  await world.advance(10);
  expect(client.report().refreshes).toEqual({ ok: 1, failed: 0 });
  expect(states).toEqual(["CONNECTED"]);
  expect(asked).toBe(0);
});

test("what refresh gives is kept in the storage", async () => {
  let server!: FakeServer;
  const made = bench({ token: { storage: "local", key: "access", refresh: async () => server.token() } });
  ({ server } = made);
  made.tab.origin.storage.write(null, "access", server.token("m1", 100));
  const first = made.tab.origin.storage.values.get("access");
  made.client.start();
  await made.world.advance(85_000);
  expect(made.tab.origin.storage.values.get("access")).not.toBe(first);
  expect(made.states).toEqual(["CONNECTED"]);
});

test("another user's token is not refreshed in place: the client signs in anew, into the other room", async () => {
  let subject = "u1";
  let server!: FakeServer;
  const made = bench({ token: () => server.token(subject === "u1" ? "m1" : "m2", 3_600, subject) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(10);
  subject = "u2";
  for (const session of server.sessions) session.tell({ op: "token_expiring", in: 60 });
  await made.world.until("again", () => made.client.getStatus().state === "CONNECTED" && server.attempts === 2);
  await made.world.advance(10);
  server.publish("m1", "theirs");
  server.publish("m2", "ours");
  await made.world.advance(10);
  expect(made.data).toEqual(["ours"]);
  expect(made.resyncs.map(({ room }) => room)).toEqual(["m1", "m2"]);
});

test("a refresh may add rooms and take some away", async () => {
  let rooms = ["m1", "m2"];
  let server!: FakeServer;
  const made = bench({ token: () => server.token(rooms) });
  ({ server } = made);
  made.client.start();
  await made.world.advance(10);
  rooms = ["m2", "m3"];
  for (const session of server.sessions) session.tell({ op: "token_expiring", in: 60 });
  await made.world.advance(10);
  for (const room of ["m1", "m2", "m3"]) server.publish(room, room);
  await made.world.advance(10);
  expect(made.data).toEqual(["m2", "m3"]);
  expect(made.resyncs.map(({ room, reason }) => `${room} ${reason}`)).toEqual(["m1 start", "m2 start", "m3 start"]);
  server.kill();
  await made.world.until("back", () => server.auths.length === 2);
  expect(Object.keys(server.auths[1]!.resume!)).toEqual(["m2", "m3"]);
});

test("a source that throws, or never answers, is asked again", async () => {
  let mode: "throws" | "hangs" | "works" = "throws";
  let asked = 0;
  let aborted = 0;
  let server!: FakeServer;
  const made = bench({
    token: ({ signal }) => {
      asked++;
      signal.addEventListener("abort", () => aborted++);
      if (mode === "throws") throw new Error("no network");
      return mode === "hangs" ? new Promise(() => {}) : server.token();
    },
  });
  ({ server } = made);
  made.client.start();
  await made.world.advance(20_000);
  expect(asked).toBeGreaterThan(2);
  mode = "hangs";
  await made.world.advance(60_000);
  expect(aborted).toBeGreaterThanOrEqual(1);
  mode = "works";
  await made.world.until("connected", () => made.client.getStatus().state === "CONNECTED", 61_000);
  expect(made.client.getStatus().error).toBeNull();
});

test("a clock that is wrong by hours spoils nothing: the server's counts", async () => {
  for (const ahead of [-5 * HOUR, 5 * HOUR]) {
    const { reasons, of } = source(3_600);
    let server!: FakeServer;
    const made = bench({ token: of(() => server) });
    ({ server } = made);
    server.ahead = ahead;
    made.client.start();
    await made.world.advance(0.8 * HOUR - 5_000);
    expect(reasons).toEqual(["connect"]);
    server.publish("m1", 1);
    await made.world.advance(10_000);
    expect(reasons).toEqual(["connect", "expiring"]);
    expect(made.states).toEqual(["CONNECTED"]);
    expect(made.client.report().ages[0]).toBeLessThan(1);
  }
});

test("a token that ends while it polls is replaced there too", async () => {
  const { reasons, of } = source(100);
  let server!: FakeServer;
  const made = bench({ token: of(() => server), transport: "polling", polling: { interval: 10_000 } });
  ({ server } = made);
  made.client.start();
  await made.world.advance(5);
  const last = { token: server.requests.at(-1)!.token! };
  server.revoked.add(last.token);
  // From here on the source gives what the server refuses, until it is told so.
  const before = reasons.length;
  await made.world.advance(500_000);
  expect(reasons.length).toBeGreaterThan(before);
  expect(server.pages.length).toBeGreaterThan(45);
  expect(made.client.getStatus()).toMatchObject({ state: "DEGRADED", error: null });
});

test("a page that is refused is asked for again with a new token, soon", async () => {
  let server!: FakeServer;
  let token = "";
  const made = bench({ token: ({ reason }) => (reason === "refused" ? (token = server.token()) : token), transport: "polling" });
  ({ server } = made);
  token = server.token("m1", -1);
  made.client.start();
  await made.world.until("a page", () => server.pages.length === 1, 2_000);
  await made.world.advance(5);
  expect(made.client.getStatus().error).toBeNull();
});

test("five tabs refresh one at a time, and with a storage one for all", async () => {
  const world = new World();
  const server = new FakeServer(world);
  const origin = new Origin(world);
  let underway = 0;
  let most = 0;
  let asked = 0;
  const refresh = async (): Promise<string> => {
    asked++;
    most = Math.max(most, ++underway);
    await new Promise<void>((done) => void world.setTimeout(done, 500));
    underway--;
    return server.token("m1", 1_000);
  };
  origin.storage.write(null, "access", server.token("m1", 1_000));
  const tabs: Bench[] = [];
  for (let n = 0; n < 5; n++)
    tabs.push(
      await connected({ token: { storage: "local", key: "access", refresh } }, { tab: new Tab(world, server, origin) }),
    );
  await world.advance(5_000_000);
  expect(most).toBe(1);
  // Six times 800 seconds have passed.
  expect(asked).toBe(6);
  for (const { states } of tabs) expect(states).toEqual(["CONNECTED"]);
  expect(server.attempts).toBe(5);
});

test("five tabs with a function are told each other's order, one at a time", async () => {
  const world = new World();
  const server = new FakeServer(world);
  const origin = new Origin(world);
  let shared = server.token("m1", 1_000);
  let underway = 0;
  let most = 0;
  let issued = 0;
  const token = async ({ reason, previous }: TokenRequest): Promise<string> => {
    if (reason === "connect" || previous !== shared) return shared;
    most = Math.max(most, ++underway);
    await new Promise<void>((done) => void world.setTimeout(done, 500));
    underway--;
    issued++;
    return (shared = server.token("m1", 1_000));
  };
  for (let n = 0; n < 5; n++) await connected({ token }, { tab: new Tab(world, server, origin) });
  await world.advance(2_000_000);
  expect(most).toBe(1);
  expect(issued).toBe(2);
  expect(server.attempts).toBe(5);
});

test("stopped while a token is asked for, nothing comes of it", async () => {
  let give: (token: string) => void = () => {};
  let aborted = false;
  const { client, server, world } = bench({
    token: ({ signal }) => {
      signal.addEventListener("abort", () => (aborted = true));
      return new Promise((resolve) => (give = resolve));
    },
  });
  client.start();
  await world.advance(10);
  client.stop();
  expect(aborted).toBe(true);
  give(server.token());
  await world.advance(10_000);
  expect(server.attempts).toBe(0);
});
