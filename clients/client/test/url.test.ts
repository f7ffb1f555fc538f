/** Base URLs: schemes, paths, pages, and the wrong ones, which are told the right one. */

import { expect, test, vi } from "vitest";
import { resolveUrl } from "../src/url";
import { bench } from "./support";

const PAGE = "https://shop.example/bookings/today";

test.each([
  ["https://e.example", "https://e.example"],
  ["https://e.example/", "https://e.example"],
  ["wss://e.example/realtime", "https://e.example/realtime"],
  ["https://e.example/api///", "https://e.example/api"],
  ["https://e.example:8443/api?x=1#y", "https://e.example:8443/api"],
  ["/", "https://shop.example"],
  ["/api", "https://shop.example/api"],
  ["//e.example/api/", "https://e.example/api"],
  ["http://localhost:3000", "http://localhost:3000"],
  ["ws://127.0.0.1:3000/x", "http://127.0.0.1:3000/x"],
  ["http://app.localhost", "http://app.localhost"],
  ["http://[::1]:8080", "http://[::1]:8080"],
])("%s is %s", (url, base) => {
  expect(resolveUrl(url, PAGE)).toEqual(["", base]);
});

test.each([
  ["ws://e.example/api", "https://e.example/api"],
  ["http://e.example", "https://e.example"],
  ["http://127.0.0.1.example", "https://127.0.0.1.example"],
])("%s from a page over https is mixed content, and the right one is %s", (url, right) => {
  const [code, message] = resolveUrl(url, PAGE);
  expect(code).toBe("mixed_content");
  expect(message).toContain(`use ${right}`);
  expect(resolveUrl(url, "http://shop.example/")[0]).toBe("");
  expect(resolveUrl(url, undefined)[0]).toBe("");
});

test.each(["/api", "e.example", "", "http://"])("%j means nothing outside of a page", (url) => {
  expect(resolveUrl(url, undefined)[0]).toBe("url");
});

test("other schemes are refused", () => {
  expect(resolveUrl("ftp://e.example", undefined)[0]).toBe("url");
});

test.each([
  ["http://e.example", "mixed_content", PAGE],
  ["ftp://e.example", "url", PAGE],
] as const)("%s is said at once, on the console once, and nothing is tried: %s", async (url, code, href) => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, server, world } = bench({ url, platform: { location: { href } } });
  client.start();
  await world.advance(500_000);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", light: "delayed", reason: code, error: { code } });
  expect(server.attempts + server.requests.length).toBe(0);
  expect(logged).toHaveBeenCalledTimes(1);
  client.setOptions({ url: "https://e.example", token: () => server.token(), onResync: () => {} });
  await world.advance(20);
  expect(client.getStatus()).toMatchObject({ state: "CONNECTED", error: null });
  logged.mockRestore();
});

test.each([
  ["", "/realtime", "https://e.example/realtime"],
  ["/api", "", "https://e.example"],
  ["/wrong", "/right/path", "https://e.example/right/path"],
])("a base path %j where it is %j gets an error that names the right one", async (path, right, whole) => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, server, world } = bench({ url: `https://e.example${path}` });
  server.basePath = right;
  client.start();
  await world.advance(100_000);
  const { error, state } = client.getStatus();
  expect(state).toBe("DEGRADED");
  expect(error?.code).toBe("path");
  expect(error?.message.endsWith(`use ${whole}`)).toBe(true);
  expect(server.attempts).toBe(1);
  expect(server.requests).toHaveLength(1);
  expect(server.requests[0]!.token).toBeNull();
  expect(logged).toHaveBeenCalledTimes(1);
  client.setOptions({ url: whole, token: () => server.token(), onResync: () => {} });
  await world.advance(20);
  expect(client.getStatus().state).toBe("CONNECTED");
  logged.mockRestore();
});

test("the right path asks once and goes on trying", async () => {
  const { client, server, world } = bench({ url: "https://e.example/api", attempts: 50 });
  server.basePath = "/api";
  server.blocked = true;
  client.start();
  await world.advance(60_000);
  expect(server.requests).toHaveLength(1);
  expect(server.attempts).toBeGreaterThan(3);
  expect(client.getStatus()).toMatchObject({ error: null });
  server.blocked = false;
  await world.until("connected", () => client.getStatus().state === "CONNECTED");
});

test("a 404 of something else is said, and tried again: it may be a deployment", async () => {
  const { client, server, world } = bench();
  server.blocked = true;
  server.answer = { status: 404, body: "not found" };
  client.start();
  await world.until("said", () => client.getStatus().error?.code === "path");
  server.blocked = false;
  server.answer = null;
  await world.until("connected", () => client.getStatus().state === "CONNECTED");
  expect(client.getStatus().error).toBeNull();
});

test("an origin that is not allowed is named, where the answer can be read", async () => {
  const logged = vi.spyOn(console, "error").mockImplementation(() => {});
  const { client, server, world } = bench();
  server.blocked = true;
  server.answer = { status: 403, body: { error: "origin", message: "add https://shop.example to edge.allowed_origins" } };
  client.start();
  await world.advance(100_000);
  expect(client.getStatus()).toMatchObject({ state: "DEGRADED", error: { code: "origin" } });
  expect(server.attempts).toBe(1);
  logged.mockRestore();
});
