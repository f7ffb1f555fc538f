/** An edge with settings of its own: a base path, two namespaces, whole events, and a short patience. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { Link } from "../src/link";
import { Listener, STOCK, withEach, type Options, type Stock } from "../src/stock";
import { system, type OwnEdge } from "../src/system";
import { until } from "../src/until";

const here = system();
let edge: OwnEdge;

const PATH = "/realtime/socket.io";
/** In milliseconds. */
const SIGN_IN = 1_000;

beforeAll(async () => {
  edge = await here.startEdge({
    BASE_PATH: "/realtime",
    HEARTBEAT: "1s",
    SIGN_IN_TIMEOUT: `${SIGN_IN}ms`,
    SOCKETIO__NAMESPACES: "/notifications,/",
    SOCKETIO__PAYLOAD: "envelope",
    SOCKETIO__PING_TIMEOUT: "1s",
  });
});
afterAll(() => edge.stop());

const listen = (stock: Stock, room: string, namespace: string, more: Options = {}, url = edge.url): Listener =>
  new Listener(stock, `${url}${namespace}`, { path: PATH, auth: { token: here.token(room) }, ...more });

withEach((stock) => {
  it("gets whole events where they are set", async () => {
    const room = here.room("envelope");
    const listener = await listen(stock, room, "/notifications").live();
    await here.insert(room, "whole");
    await until("the event", () => listener.named("note.created").length === 1);
    const [event] = listener.named("note.created");
    expect(event?.payload).toEqual({
      room,
      cursor: expect.any(String),
      id: expect.any(String),
      type: "note.created",
      at: expect.stringMatching(/^\d{4}-.*Z$/),
      data: { id: expect.any(Number), room, note: "whole" },
    });
  });

  it("is in the main namespace without naming one, where it is served", async () => {
    const room = here.room("main");
    const listener = await listen(stock, room, "").live();
    await here.insert(room, "main");
    await until("the event", () => listener.named("note.created").length === 1);
  });

  it("is in two namespaces by one socket, and leaves them one at a time", async () => {
    const link = await Link.to(edge.url);
    const room = here.room("two");
    const both = ["/notifications", ""].map((name) => listen(stock, room, name, { forceNew: false }, link.url));
    const heard = (): number[] => both.map((listener) => listener.named("note.created").length);
    for (const listener of both) await listener.live();
    expect(link.asked).toHaveLength(1);
    await here.insert(room, "both");
    await until("both hear it", () => heard().every((events) => events === 1));

    link.cut();
    await until("both have noticed", () => both.every(({ disconnects }) => disconnects.length === 1));
    for (const listener of both) await listener.live(2);
    expect(both.map(({ connects }) => Boolean(connects[1]))).toEqual([stock.recovers, stock.recovers]);
    expect(link.asked).toHaveLength(2);
    await here.insert(room, "both again");
    await until("both hear it", () => heard().every((events) => events === 2));

    both[0]!.socket.disconnect();
    await here.insert(room, "one");
    await until("the other hears it", () => heard()[1] === 3);
    expect(heard()).toEqual([2, 3]);
    expect(both[1]!.socket.connected).toBe(true);
    expect(link.asked).toHaveLength(2);
  });

  it("a namespace that is left and entered again in haste does not put its client out of the other", async () => {
    const room = here.room("haste");
    const [calm, hasty] = ["/notifications", ""].map((name) => listen(stock, room, name, { forceNew: false })) as [Listener, Listener];
    await calm.live();
    for (let n = 0; n < 30; n += 1) {
      // A client that was not answered yet goes without a word, so that two CONNECTs come in a row.
      hasty.socket.disconnect().connect();
      if (n % 3 === 0) hasty.socket.emit("ping");
      if (n % 5 === 0) await here.insert(room, String(n));
    }
    await until("both are connected", () => calm.socket.connected && hasty.socket.connected);
    await here.insert(room, "the last");
    const last = (listener: Listener): unknown => (listener.named("note.created").at(-1)?.payload["data"] as { note: string } | undefined)?.note;
    await until("both hear it", () => [calm, hasty].every((listener) => last(listener) === "the last"));
    expect(calm.disconnects).not.toContain("io server disconnect");
  });
});

it("a network that is gone without a word is noticed by pings that do not come, and nothing is missing", async () => {
  const link = await Link.to(edge.url);
  const room = here.room("silent");
  const listeners = STOCK.map((stock) => listen(stock, room, "/notifications", {}, link.url));
  for (const listener of listeners) await listener.live();
  link.stall();
  await here.insert(room, "into nothing");
  for (const [index, listener] of listeners.entries()) {
    await listener.live(2);
    expect(listener.disconnects).toEqual(["ping timeout"]);
    if (STOCK[index]?.recovers) await until("what it missed", () => listener.named("note.created").length === 1);
    else await until("it is told to fetch", () => listener.resyncs().length === 2);
  }
});

it("quiet clients are pinged, and stay", async () => {
  const room = here.room("quiet");
  const listeners = STOCK.map((stock) => listen(stock, room, "/notifications"));
  const pings = listeners.map(() => 0);
  for (const [index, listener] of listeners.entries()) {
    await listener.live();
    listener.socket.io.engine.on("packet", ({ type }) => void (pings[index]! += Number(type === "ping")));
  }
  await until("three pings", () => pings.every((count) => count >= 3));
  expect(listeners.flatMap(({ disconnects }) => disconnects)).toEqual([]);
});

it("a refresh that takes longer than signing in may take is asked for once", async () => {
  const room = here.room("slow-refresh");
  const listeners = STOCK.map((stock) => listen(stock, room, "/notifications", { auth: { token: here.token(room, -60) } }));
  const asked = Date.now();
  for (const { socket } of listeners) {
    socket.on("connect_error", async () => {
      await until("the time to sign in is long over", () => Date.now() > asked + 2 * SIGN_IN);
      (socket.auth as { token: string }).token = here.token(room);
      socket.connect();
    });
  }
  for (const listener of listeners) {
    await listener.live();
    expect(listener.errors.map(({ message }) => message)).toEqual(["jwt expired"]);
    expect(listener.disconnects).toEqual([]);
  }
});
