/** The stock clients' own bundles in Chromium, through the balancer. */

import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Browser, BrowserContext, Page } from "playwright-core";
import type { io, Socket } from "socket.io-client";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { launch } from "../../testing/chromium";
import { NAMESPACE, system } from "../src/system";
import { until } from "../src/until";

declare global {
  interface Window {
    io: typeof io;
    socket: Socket;
    kept: Kept;
  }
}

/** What the page has heard. */
interface Kept {
  readonly names: string[];
  readonly notes: string[];
  readonly connects: boolean[];
  readonly disconnects: string[];
  readonly errors: string[];
}

const here = system();
const bundle = (name: string): string => join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), "dist/socket.io.min.js");

let browser: Browser;
let context: BrowserContext;

beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser.close());
beforeEach(async () => {
  context = await browser.newContext();
  await context.route("**/stock/", (route) => route.fulfill({ body: "<!doctype html><title>stock</title>", contentType: "text/html" }));
});
afterEach(() => context.close());

/** A page with the client's bundle, connected to a room. */
async function open(name: string, room: string, origin = here.url()): Promise<{ page: Page; sockets: string[] }> {
  const page = await context.newPage();
  const sockets: string[] = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  await page.goto(`${origin}/stock/`);
  await page.addScriptTag({ path: bundle(name) });
  await page.evaluate(
    ({ url, token }) => {
      const kept: Kept = { names: [], notes: [], connects: [], disconnects: [], errors: [] };
      const socket = window.io(url, { auth: { token }, transports: ["websocket", "polling"], reconnectionDelay: 50, reconnectionDelayMax: 500 });
      socket.on("connect", () => void kept.connects.push(Boolean(socket.recovered)));
      socket.on("disconnect", (reason) => void kept.disconnects.push(reason));
      socket.on("connect_error", ({ message }) => void kept.errors.push(message));
      socket.on("note.created", ({ note }: { note: string }) => void kept.notes.push(note));
      socket.onAny((name: string) => void kept.names.push(name));
      Object.assign(window, { socket, kept });
    },
    { url: `${here.url()}${NAMESPACE}`, token: here.token(room) },
  );
  return { page, sockets };
}

const kept = (page: Page): Promise<Kept> => page.evaluate(() => window.kept);

describe.each([
  { version: "4.8", name: "socket.io-client", recovers: true },
  { version: "4.0", name: "socket.io-client-4.0", recovers: false },
])("socket.io-client $version in Chromium", ({ name, recovers }) => {
  it("connects through the balancer, hears, and goes on when the edges are killed", async () => {
    const room = here.room("chromium");
    const { page, sockets } = await open(name, room);
    await until("it is connected", async () => (await kept(page)).names.includes("resync"));
    expect(sockets).toEqual([expect.stringMatching(/\/socket\.io\/\?EIO=4&transport=websocket$/)]);
    const writer = here.write(room);
    await until("events come", async () => (await kept(page)).notes.length > 10);
    await here.killEdges();
    await until("it is back", async () => (await kept(page)).connects.length === 2);
    await writer.more(20);
    const sent = await writer.stop();
    await until("the last row", async () => (await kept(page)).notes.at(-1) === sent.at(-1));
    const { notes, names, connects, disconnects } = await kept(page);
    expect(disconnects).toEqual(["transport close"]);
    expect(connects).toEqual([false, recovers]);
    expect(names.filter((word) => word === "resync")).toHaveLength(recovers ? 1 : 2);
    expect(new Set(notes).size).toBe(notes.length);
    if (recovers) expect(notes).toEqual(sent);
    await here.whole();
  });

  it("a page of another origin connects too, where origins are not limited", async () => {
    const room = here.room("origin");
    const { page } = await open(name, room, "http://app.example");
    await until("it is connected", async () => (await kept(page)).names.includes("resync"));
    await here.insert(room, "across");
    await until("the row", async () => (await kept(page)).notes.length === 1);
  });

  it("a token that is over is refreshed by the page, with the same socket", async () => {
    const room = here.room("page-refresh");
    const { page } = await open(name, room);
    await until("it is connected", async () => (await kept(page)).connects.length === 1);
    await page.evaluate(
      ({ old, fresh }) => {
        const { socket } = window;
        const auth = socket.auth as { token: string };
        auth.token = old;
        socket.on("connect_error", (error) => {
          if (!error.message.includes("jwt")) return;
          auth.token = fresh;
          socket.connect();
        });
        socket.io.engine.close();
      },
      { old: here.token(room, -60), fresh: here.token(room) },
    );
    await until("it is connected again", async () => (await kept(page)).connects.length === 2);
    expect((await kept(page)).errors).toEqual(["jwt expired"]);
    await here.insert(room, "in");
    await until("the row", async () => (await kept(page)).notes.length === 1);
  });
});
