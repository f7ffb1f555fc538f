/**
 * The connection is lost while rows are written. The newest client brings back where it was, and goes on there, on any edge;
 * the oldest cannot, and is told to fetch. What an application has in the end is what is committed.
 */

import { describe, expect, it } from "vitest";
import { Link } from "../src/link";
import { NEWEST, type Listener, type Stock, withEach } from "../src/stock";
import { system, type Writer } from "../src/system";
import { until } from "../src/until";

const here = system();

/** Ends the writing, and looks at what came of it after so many lost connections. */
async function expectNothingMissing(stock: Stock, listener: Listener, writer: Writer, lost: number): Promise<void> {
  const sent = await writer.stop();
  await until("all that is committed", () => listener.known.size >= sent.length);
  await listener.fetched();
  expect([...listener.known].map(Number).sort((one, other) => one - other)).toEqual(sent.map(Number));
  const heard = listener.notes().map(Number);
  expect(heard, "each once, in order").toEqual([...new Set(heard)].sort((one, other) => one - other));
  expect(listener.connects.map(Boolean)).toEqual([false, ...Array<boolean>(lost).fill(stock.recovers)]);
  if (!stock.recovers) {
    expect(listener.resyncs()).toEqual(Array<string>(lost + 1).fill("start"));
    return;
  }
  expect(listener.resyncs()).toEqual(["start"]);
  expect(heard, "all that came after the start").toEqual(sent.slice(heard[0]).map(Number));
}

withEach((stock) => {
  it("its engine is closed from below", async () => {
    const room = here.room("below");
    const listener = await here.listen(stock, room).live();
    const writer = here.write(room);
    for (let lost = 1; lost <= 3; lost += 1) {
      await writer.more(20);
      listener.socket.io.engine.close();
      await listener.live(lost + 1);
    }
    expect(new Set(listener.disconnects)).toEqual(new Set(["forced close"]));
    await expectNothingMissing(stock, listener, writer, 3);
  });

  it("its network is reset, and leads to the other edge", async () => {
    const link = await Link.to(here.url(0));
    const room = here.room("elsewhere");
    const listener = await here.listen(stock, room, {}, link.url).live();
    const writer = here.write(room);
    for (const [index, edge] of ([1, 0, 1] as const).entries()) {
      await writer.more(20);
      link.down();
      link.leadTo(here.url(edge));
      await until("it has noticed", () => listener.disconnects.length === index + 1);
      await writer.more(20);
      link.up();
      await listener.live(index + 2);
    }
    await until("the other edge has it", async () => (await here.carried(1)) === 1 && (await here.carried(0)) === 0);
    expect(new Set(listener.disconnects)).toEqual(new Set(["transport close"]));
    await expectNothingMissing(stock, listener, writer, 3);
  });

  it("every edge is killed", async () => {
    const room = here.room("killed");
    const listener = await here.listen(stock, room).live();
    const writer = here.write(room);
    await writer.more(20);
    await here.killEdges();
    await listener.live(2);
    await writer.more(20);
    expect(listener.disconnects).toEqual(["transport close"]);
    await here.whole();
    await expectNothingMissing(stock, listener, writer, 1);
  });

  it("an edge that is told to end says so, and its clients go on at the other", async () => {
    const room = here.room("drained");
    const edge = await here.startEdge({ DRAIN_DELAY: "0s", DRAIN_WINDOW: "1s" });
    const link = await Link.to(edge.url);
    const listener = await here.listen(stock, room, {}, link.url).live();
    const writer = here.write(room);
    await writer.more(20);
    link.leadTo(here.url(0));
    edge.tellToEnd();
    await listener.live(2);
    await writer.more(20);
    await edge.stop();
    expect(listener.named("rowcast.bye").map(({ payload }) => payload["code"])).toEqual([1012]);
    expect(listener.disconnects).toEqual(["transport close"]);
    await expectNothingMissing(stock, listener, writer, 1);
  });
});

describe(`socket.io-client ${NEWEST.version}, when it cannot be recovered`, () => {
  /** Loses the connection of a client that has heard a row, does something, and has it back. */
  async function lose(name: string, meanwhile: (listener: Listener) => Promise<void> | void): Promise<Listener> {
    const link = await Link.to(here.url(0));
    const room = here.room(name);
    const listener = await here.listen(NEWEST, room, {}, link.url).live();
    const witness = await here.listen(NEWEST, room, {}, here.url(0)).live();
    await here.insert(room, "before");
    await listener.hears("before");
    link.down();
    await until("it has noticed", () => listener.disconnects.length === 1);
    await here.insert(room, "missed");
    // Else it may come behind the resync, as what happens then.
    await witness.hears("missed");
    await meanwhile(listener);
    link.up();
    await listener.live(2);
    await until("it is told to fetch", () => listener.resyncs().length === 2);
    await here.insert(room, "after");
    await listener.hears("after");
    await listener.fetched();
    expect(listener.connects).toEqual([false, false]);
    expect(listener.notes()).toEqual(["before", "after"]);
    return listener;
  }

  it.each(["nonsense", "", "1", "m1=1.00000000000000ff:7"])("an offset that no edge gave out (%j) is a resync", async (offset) => {
    const listener = await lose("tampered", ({ socket }) => void Reflect.set(socket, "_lastOffset", offset));
    expect(listener.known).toEqual(new Set(["before", "missed", "after"]));
  });

  it("an offset of another history is a resync", async () => {
    const listener = await lose("foreign", ({ socket }) => {
      const offset = String(Reflect.get(socket, "_lastOffset"));
      const other = offset.replace(/[0-9a-f]{16}(?=:)/, "00000000000000ff");
      expect(other).not.toBe(offset);
      Reflect.set(socket, "_lastOffset", other);
    });
    expect(listener.known).toEqual(new Set(["before", "missed", "after"]));
  });

  it("an offset of a generation that is over is a resync", async () => {
    const witness = await here.listen(NEWEST, here.room("witness")).live();
    await lose("truncated", async () => {
      // What is gone by TRUNCATE no row tells, so that everyone is to fetch anew.
      await here.rowcast.database.query("TRUNCATE public.contract_notes");
      await until("others are told to fetch", () => witness.resyncs().length >= 2);
    });
  });

  it("after the resync it is recovered again", async () => {
    const listener = await lose("twice", ({ socket }) => void Reflect.set(socket, "_lastOffset", "nonsense"));
    listener.socket.io.engine.close();
    await listener.live(3);
    expect(listener.connects.at(-1)).toBe(true);
    expect(listener.resyncs()).toHaveLength(2);
  });
});
