/** A stock client comes, is told where it is, and hears what is committed in its rooms, and nothing else. */

import { expect, it } from "vitest";
import { withEach } from "../src/stock";
import { system } from "../src/system";
import { until } from "../src/until";

const here = system();

withEach((stock) => {
  it("is told its room, fetches, and hears each row as emit(type, payload)", async () => {
    const room = here.room("first");
    await here.insert(room, "before it came");
    // Else the listener may come to it after the client has come, which then hears it.
    const waiting = "SELECT FROM rowcast.outbox WHERE room = $1";
    await until("it is published", async () => (await here.rowcast.database.query(waiting, [room])).rowCount === 0);
    const listener = await here.listen(stock, room).live();
    await until("it is told to fetch", () => listener.resyncs().length === 1);
    await here.insert(room, "one");
    await here.insert(room, "two");
    await listener.hears("two");
    expect(listener.heard.map(({ name }) => name)).toEqual(["connected", "resync", "note.created", "note.created"]);
    const [connected, resync, event] = listener.heard;
    expect(connected?.payload).toMatchObject({ room, live: true, rooms: { [room]: { resumed: false } } });
    expect(connected?.more).toEqual([]);
    expect(resync?.payload).toMatchObject({ room, reason: "start" });
    expect(event?.payload).toEqual({ id: expect.any(Number), room, note: "one", type: "note.created", merchantId: room });
    expect(event?.more).toEqual([expect.any(String)]);
    await listener.fetched();
    expect([...listener.known]).toEqual(["before it came", "one", "two"]);
  });

  it("hears what becomes of a row by the names of its changes", async () => {
    const room = here.room("changes");
    const listener = await here.listen(stock, room).live();
    await here.insert(room, "first");
    await here.rowcast.database.query("UPDATE public.contract_notes SET note = 'second' WHERE room = $1", [room]);
    await here.rowcast.database.query("DELETE FROM public.contract_notes WHERE room = $1", [room]);
    await until("the last change", () => listener.named("note.deleted").length === 1);
    const changes = listener.heard.filter(({ name }) => name.startsWith("note."));
    expect(changes.map(({ name, payload }) => [name, payload["note"]])).toEqual([
      ["note.created", "first"],
      ["note.updated", "second"],
      ["note.deleted", "second"],
    ]);
  });

  it("hears nothing of rooms that its token does not name", async () => {
    const [mine, other] = [here.room("mine"), here.room("other")];
    const listeners = [await here.listen(stock, mine).live(), await here.listen(stock, other).live()];
    for (let n = 0; n < 20; n += 1) for (const room of [mine, other]) await here.insert(room, `${room} ${n}`);
    for (const [index, room] of [mine, other].entries()) {
      const listener = listeners[index]!;
      await listener.hears(`${room} 19`);
      expect(listener.notes()).toEqual(Array.from({ length: 20 }, (_, n) => `${room} ${n}`));
      expect(new Set(listener.heard.map(({ payload }) => payload["merchantId"] ?? payload["room"]))).toEqual(new Set([room]));
    }
  });

  it("hears all rooms of its token", async () => {
    const rooms = [here.room("a"), here.room("b")];
    const listener = await here.listen(stock, "", { auth: { token: here.token(rooms) } }).live();
    await until("it is told to fetch both", () => listener.resyncs().length === 2);
    expect(listener.named("connected")[0]?.payload["room"]).toBe(rooms[0]);
    expect(listener.named("resync").map(({ payload }) => payload["room"]).sort()).toEqual([...rooms].sort());
    for (const room of rooms) await here.insert(room, room);
    await listener.hears(rooms[1]!);
    expect(listener.named("note.created").map(({ payload }) => payload["merchantId"])).toEqual(rooms);
  });

  it("hears the types alone that it asks for", async () => {
    const room = here.room("types");
    const listener = await here.listen(stock, room, { auth: { token: here.token(room), types: ["note.deleted"] } }).live();
    await here.insert(room, "unheard");
    await here.rowcast.database.query("DELETE FROM public.contract_notes WHERE room = $1", [room]);
    await until("the event", () => listener.named("note.deleted").length === 1);
    expect(listener.notes()).toEqual([]);
  });

  it("goes, is not counted any more, and comes back when it is told to", async () => {
    const room = here.room("gone");
    const listener = await here.listen(stock, room, {}, here.url(0)).live();
    await until("it is counted", async () => (await here.carried(0)) === 1);
    listener.socket.disconnect();
    await until("it is not counted", async () => (await here.carried(0)) === 0);
    expect(listener.disconnects).toEqual(["io client disconnect"]);
    await here.insert(room, "while it was away");
    listener.socket.connect();
    await listener.live(2);
    await until("what it missed", () => listener.known.has("while it was away"));
    expect(listener.connects.map(Boolean)).toEqual([false, stock.recovers]);
  });
});
