/** What applications emit to a server that only delivers: taken without a word, acknowledged where it is known, refused where it is binary. */

import { describe, expect, it } from "vitest";
import { NEWEST, type Listener, withEach } from "../src/stock";
import { system } from "../src/system";
import { until } from "../src/until";

const here = system();

/** The client is still there, and hears what comes. */
async function expectUnharmed(listener: Listener, room: string): Promise<void> {
  await here.insert(room, "still here");
  await listener.hears("still here");
  expect([listener.connects.length, listener.disconnects.length, listener.errors.length]).toEqual([1, 0, 0]);
}

withEach((stock) => {
  it("events that nobody knows are taken without a word, and never acknowledged", async () => {
    const room = here.room("unknown");
    const listener = await here.listen(stock, room).live();
    let acknowledged = false;
    listener.socket.emit("join", { room: "another" }, 1, "text", null, () => (acknowledged = true));
    listener.socket.emit("note.created", { id: 1 });
    listener.socket.volatile.emit("typing");
    listener.socket.send("hello");
    await new Promise<void>((resolve) => void listener.socket.emit("ping", resolve));
    expect(acknowledged).toBe(false);
    await expectUnharmed(listener, room);
  });

  it("what is emitted before it is connected is sent once it is", async () => {
    const listener = here.listen(stock, here.room("early"));
    const answered = new Promise<void>((resolve) => void listener.socket.emit("ping", resolve));
    await listener.live();
    await answered;
  });

  it("ping without an acknowledgement is answered by pong", async () => {
    const room = here.room("ping");
    const listener = await here.listen(stock, room).live();
    listener.socket.emit("ping");
    await until("pong", () => listener.named("pong").length === 1);
    await expectUnharmed(listener, room);
  });

  it("binary is refused by a disconnect that says so, and the client does not come back by itself", async () => {
    const room = here.room("binary");
    const listener = await here.listen(stock, room).live();
    listener.socket.emit("upload", new Uint8Array([1, 2, 3]));
    await until("it is put out", () => listener.disconnects.length === 1);
    expect(listener.disconnects).toEqual(["io server disconnect"]);
    expect(listener.named("rowcast.bye").map(({ payload }) => payload["code"])).toEqual([4400]);
    expect(listener.socket.active).toBe(false);
    // It is free to come again.
    listener.socket.connect();
    await listener.live(2);
    await here.insert(room, "again");
    await listener.hears("again");
  });
});

describe(`socket.io-client ${NEWEST.version}`, () => {
  it("an acknowledgement that does not come is a timeout of the client's own, and the socket stays", async () => {
    const room = here.room("timeout");
    const listener = await here.listen(NEWEST, room).live();
    await expect(listener.socket.timeout(200).emitWithAck("no such event", {})).rejects.toThrow("operation has timed out");
    await expect(listener.socket.timeout(5_000).emitWithAck("ping")).resolves.toBeUndefined();
    await expectUnharmed(listener, room);
  });

  it("a client that retries what is not acknowledged gives up by itself, and hears on", async () => {
    const room = here.room("retries");
    const listener = await here.listen(NEWEST, room, { retries: 1, ackTimeout: 100 }).live();
    const given = await new Promise((resolve) => void listener.socket.emit("no such event", 1, resolve));
    expect(given).toBeInstanceOf(Error);
    await expectUnharmed(listener, room);
  });
});
