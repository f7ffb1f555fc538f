/** Options that change while it runs, and what is counted. */

import { expect, test } from "vitest";
import type { RowcastOptions } from "../src/index";
import { connected, type Bench } from "./support";

const base = (made: Bench): RowcastOptions => ({
  url: "https://edge.example",
  token: () => made.server.token(),
  onResync: () => {},
});

test("other functions, other numbers: no reconnection", async () => {
  const made = await connected();
  for (let n = 0; n < 5; n++) {
    made.client.setOptions({ ...base(made), attempts: n + 1, backoff: { min: n }, debug: () => {} });
    await made.world.advance(1_000);
  }
  expect(made.server.attempts).toBe(1);
  expect(made.states).toEqual(["CONNECTED"]);
});

test("the newest onResync is the one that is called", async () => {
  const made = await connected();
  const called: string[] = [];
  made.client.setOptions({ ...base(made), onResync: ({ reason }) => void called.push(reason) });
  made.server.raiseGeneration();
  await made.world.advance(10);
  expect(called).toEqual(["generation"]);
});

test.each([
  ["url", { url: "https://other.example" }],
  ["types", { types: ["note.*"] }],
  ["token", { token: { storage: "local", key: "access" } }],
] as const)("another %s connects anew, with the same cursors", async (_, changed) => {
  const made = await connected();
  made.tab.origin.storage.write(null, "access", made.server.token());
  made.server.publish("m1", 1);
  await made.world.advance(10);
  made.client.setOptions({ ...base(made), ...changed });
  await made.world.advance(10);
  expect(made.server.auths).toHaveLength(2);
  expect(made.server.auths[1]!.resume).toEqual({ m1: "1.000000000000000a:1" });
  expect(made.client.getStatus().state).toBe("CONNECTED");
  expect(made.resyncs).toHaveLength(1);
});

test("options that are set before the start are those it starts with", async () => {
  const made = await connected();
  made.client.stop();
  made.client.setOptions({ ...base(made), types: ["note.*"] });
  made.client.start();
  await made.world.advance(10);
  expect(made.server.auths[1]!.types).toEqual(["note.*"]);
});

test("time in each state, reconnections and ages are reported with the next sign-in, and then forgotten", async () => {
  const { server, world, client } = await connected();
  server.publish("m1", 1);
  await world.advance(9_995);
  server.blocked = true;
  server.kill();
  await world.advance(1_000);
  server.blocked = false;
  await world.until("back", () => client.getStatus().state === "CONNECTED");
  const report = server.auths[1]!.report as ReturnType<typeof client.report>;
  expect(report.states.CONNECTED).toBeCloseTo(10, 1);
  expect(report.states.RECONNECTING).toBeGreaterThanOrEqual(1);
  expect(report.reconnects).toEqual([]);
  expect(report.ages).toHaveLength(1);
  expect(report.ages[0]).toBeLessThan(0.01);
  expect(report.refreshes).toEqual({ ok: 0, failed: 0 });
  const next = client.report();
  expect(next.ages).toEqual([]);
  expect(next.reconnects).toHaveLength(1);
  expect(next.reconnects[0]).toBeGreaterThanOrEqual(1);
  expect(next.states.CONNECTED ?? 0).toBeLessThan(0.01);
});

test("a report that did not arrive is sent again", async () => {
  const { server, world, client } = await connected();
  server.publish("m1", 1);
  await world.advance(6_000);
  server.mute = true;
  server.kill();
  await world.until("a sign-in that nobody answers", () => server.auths.length === 2);
  await world.advance(10_100);
  server.mute = false;
  await world.until("back", () => client.getStatus().state === "CONNECTED");
  for (const auth of server.auths.slice(1)) expect((auth.report as ReturnType<typeof client.report>).ages).toHaveLength(1);
  expect(client.report().ages).toEqual([]);
});

test("a report is bounded", async () => {
  const { server, world, client } = await connected();
  for (let n = 0; n < 200; n++) server.publish("m1", n);
  await world.advance(10);
  expect(client.report().ages).toHaveLength(64);
});

test("while it is stopped no time is counted", async () => {
  const { world, client } = await connected();
  await world.advance(1_000);
  client.stop();
  await world.advance(1_000_000);
  const total = Object.values(client.report().states).reduce((sum, seconds) => sum + seconds, 0);
  expect(total).toBeLessThan(2);
});
