/** An edge with settings of its own: a base path, two namespaces, whole events, and a short patience. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { Link } from "../src/link";
import { Listener, type Options, withEach } from "../src/stock";
import { system, type OwnEdge } from "../src/system";
import { until } from "../src/until";

const here = system();
let edge: OwnEdge;

const PATH = "/realtime/socket.io";

beforeAll(async () => {
  edge = await here.startEdge({
    BASE_PATH: "/realtime",
    HEARTBEAT: "1s",
    SOCKETIO__NAMESPACES: "/notifications,/",
    SOCKETIO__PAYLOAD: "envelope",
    SOCKETIO__PING_TIMEOUT: "1s",
  });
});
afterAll(() => edge.stop());

withEach((stock) => {
  const listen = (room: string, namespace: string, more: Options = {}, url = edge.url): Listener =>
    new Listener(stock, `${url}${namespace}`, { path: PATH, auth: { token: here.token(room) }, ...more });

  it("gets whole events where they are set", async () => {
    const room = here.room("envelope");
    const listener = await listen(room, "/notifications").live();
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
    const listener = await listen(room, "").live();
    await here.insert(room, "main");
    await until("the event", () => listener.named("note.created").length === 1);
  });

  it("is in two namespaces by one socket, and leaves them one at a time", async () => {
    const link = await Link.to(edge.url);
    const room = here.room("two");
    const both = ["/notifications", ""].map((name) => listen(room, name, { forceNew: false }, link.url));
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

  it("a network that is gone without a word is noticed by pings that do not come, and nothing is missing", async () => {
    const link = await Link.to(edge.url);
    const room = here.room("silent");
    const listener = await listen(room, "/notifications", {}, link.url).live();
    link.stall();
    await here.insert(room, "into nothing");
    await listener.live(2);
    expect(listener.disconnects).toEqual(["ping timeout"]);
    if (stock.recovers) await until("what it missed", () => listener.named("note.created").length === 1);
    else expect(listener.resyncs()).toEqual(["start", "start"]);
  });

  it("a quiet client is pinged, and stays", async () => {
    const room = here.room("quiet");
    const listener = await listen(room, "/notifications").live();
    let pings = 0;
    listener.socket.io.engine.on("packet", ({ type }) => void (pings += Number(type === "ping")));
    await until("three pings", () => pings === 3);
    expect(listener.disconnects).toEqual([]);
  });
});
