/** What listeners are given: an application's own names win, any JSON arrives as it is, and no event is taken for one of the client's own. */

import { afterAll, beforeAll, expect, it } from "vitest";
import { withEach } from "../src/stock";
import { system } from "../src/system";
import { until } from "../src/until";

const here = system();

const publish = (room: string, type: string, data: unknown): Promise<unknown> =>
  here.rowcast.database.query("SELECT rowcast.publish($1, $2, $3::json)", [room, type, JSON.stringify(data)]);

beforeAll(async () => {
  await here.rowcast.database.query(
    'CREATE TABLE public."StockBooking" (id text PRIMARY KEY, "merchantId" text NOT NULL, type text, "startTime" timestamptz, price numeric)',
  );
  await here.rowcast.database.query(`SELECT rowcast.watch('public."StockBooking"', 'merchantId', type => 'booking')`);
});
afterAll(() => here.rowcast.database.query('DROP TABLE public."StockBooking"'));

withEach((stock) => {
  it("columns of the names type and merchantId are the application's own", async () => {
    const room = here.room("own-names");
    const listener = await here.listen(stock, room).live();
    const values = [room, room, "massage", "2026-03-01T10:00:00Z", "12.50"];
    await here.rowcast.database.query('INSERT INTO public."StockBooking" VALUES ($1, $2, $3, $4, $5)', values);
    await until("the event", () => listener.named("booking.created").length === 1);
    const [event] = listener.named("booking.created");
    expect(event?.payload).toMatchObject({ id: room, merchantId: room, type: "massage", price: 12.5 });
    expect(Date.parse(String(event?.payload["startTime"]))).toBe(Date.parse("2026-03-01T10:00:00Z"));
  });

  it("data that is no object arrives as it is, with what is recovered by behind it", async () => {
    const room = here.room("any-json");
    const listener = await here.listen(stock, room).live();
    const all = ["a text", 7, true, null, [1, [2]], { "": "ü\u2028\"\\" }, {}];
    for (const data of all) await publish(room, "app.said", data);
    await until("all of them", () => listener.named("app.said").length === all.length);
    const expected = all.map((data) => (typeof data === "object" && data !== null && !Array.isArray(data) ? { ...data, type: "app.said", merchantId: room } : data));
    expect(listener.named("app.said").map(({ payload }) => payload)).toEqual(expected);
    expect(new Set(listener.named("app.said").map(({ more }) => more.length))).toEqual(new Set([1]));
    listener.socket.io.engine.close();
    await listener.live(2);
    expect(Boolean(listener.connects[1])).toBe(stock.recovers);
  });

  it("types that clients keep for themselves come under another name, and nothing ends by them", async () => {
    const room = here.room("reserved");
    const listener = await here.listen(stock, room).live();
    await until("it was told to fetch", () => listener.resyncs().length === 1);
    const types = ["connect", "connected", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "resync"];
    for (const type of types) {
      await expect(publish(room, type, {})).rejects.toThrow("Socket.IO keeps it for itself");
      // As those came in that were published before they were refused.
      await here.rowcast.database.query("INSERT INTO rowcast.append (room, type, data) VALUES ($1, $2, '{}')", [room, type]);
    }
    await here.insert(room, "after");
    await listener.hears("after");
    expect(listener.heard.slice(2, -1).map(({ name }) => name)).toEqual(types.map((type) => `rowcast.${type}`));
    expect([listener.connects.length, listener.disconnects.length, listener.resyncs().length]).toEqual([1, 0, 1]);
  });

  it("a large row arrives whole, and one that is too large as a reference that says so", async () => {
    const room = here.room("large");
    const listener = await here.listen(stock, room).live();
    const large = "x".repeat(200_000);
    await here.insert(room, large);
    await here.insert(room, "y".repeat(300_000));
    await until("both", () => listener.named("note.created").length === 2);
    const [whole, reference] = listener.named("note.created").map(({ payload }) => payload);
    expect(whole?.["note"]).toBe(large);
    expect(reference).toEqual({ id: expect.any(Number), type: "note.created", merchantId: room, truncated: true });
  });
});
