/** Tokens: what is refused and in which words, and how applications of stock clients come back with another one. */

import type { Socket } from "socket.io-client";
import { expect, it } from "vitest";
import { Listener, STOCK, withEach, type Refusal } from "../src/stock";
import { NAMESPACE, system } from "../src/system";
import { until } from "../src/until";

const here = system();

/** As many applications do it: whenever the word is `jwt`, another token is fetched, and the same socket is connected again. */
function refreshOnError(socket: Socket, freshToken: () => Promise<string>): () => number {
  const auth = socket.auth as { token: string };
  let refreshes = 0;
  socket.on("connect_error", async (error) => {
    if (!error.message.includes("jwt")) return;
    refreshes += 1;
    auth.token = await freshToken();
    socket.connect();
  });
  return () => refreshes;
}

withEach((stock) => {
  const refused = async (auth: Record<string, unknown>): Promise<Refusal> => {
    const { errors, socket } = here.listen(stock, "", { auth });
    await until("a refusal", () => errors.length > 0);
    expect(socket.connected).toBe(false);
    return errors[0]!;
  };

  it("a token that is over is refused by name", async () => {
    const { message, data } = await refused({ token: here.token(here.room("over"), -60) });
    expect(message).toBe("jwt expired");
    expect(data).toMatchObject({ code: 4401, reason: "expired", reconnect: "new_token" });
  });

  it.each([
    ["none", () => ({})],
    ["one that is no token", () => ({ token: "nonsense" })],
    ["one that is no text", () => ({ token: 7 })],
    ["one that somebody else signed", () => ({ token: here.token(here.room("forged")).replace(/[^.]+$/, "AAAA") })],
  ])("a missing or wrong token is refused in words that lead to another one: %s", async (_, auth) => {
    const { message, data } = await refused(auth());
    expect(message).toContain("jwt");
    expect(data).toMatchObject({ code: 4401, reconnect: "new_token" });
  });

  it("an application that refreshes on connect_error gets in with the same socket", async () => {
    const room = here.room("refreshed");
    const listener = here.listen(stock, room, { auth: { token: here.token(room, -60) } });
    const refreshes = refreshOnError(listener.socket, async () => here.token(room));
    await listener.live();
    await here.insert(room, "in");
    await listener.hears("in");
    expect(listener.errors.map(({ message }) => message)).toEqual(["jwt expired"]);
    expect(refreshes()).toBe(1);
  });

  it("an auth that is a function is asked anew at each attempt", async () => {
    const room = here.room("asked");
    const tokens = [here.token(room, -60), here.token(room), here.token(room)];
    let asked = 0;
    const listener = here.listen(stock, room, { auth: (give) => give({ token: tokens[asked++] }) });
    listener.socket.on("connect_error", () => void listener.socket.connect());
    await listener.live();
    listener.socket.io.engine.close();
    await listener.live(2);
    expect(asked).toBe(3);
  });

  it("a token that ends while it is connected: it comes back by connect_error and refresh, and nothing is missing", async () => {
    const room = here.room("ends");
    const listener = here.listen(stock, room, { auth: { token: here.token(room, 3) } });
    const refreshes = refreshOnError(listener.socket, async () => here.token(room));
    const writer = here.write(room);
    await listener.live(2);
    await writer.more(20);
    const sent = await writer.stop();
    await until("all that is committed", () => listener.known.size >= sent.length);
    expect(listener.errors.map(({ message }) => message)).toEqual(["jwt expired"]);
    expect(listener.disconnects).toEqual(["transport close"]);
    expect(listener.named("rowcast.bye").map(({ payload }) => payload["code"])).toEqual([4401]);
    expect(refreshes()).toBe(1);
    expect(listener.connects.map(Boolean)).toEqual([false, stock.recovers]);
    expect(listener.resyncs()).toHaveLength(stock.recovers ? 1 : 2);
    const heard = listener.notes();
    expect(new Set(heard).size).toBe(heard.length);
    if (stock.recovers) expect(heard).toEqual(sent.slice(Number(heard[0])));
  });

  it("who refreshes with a token of another subject is put out", async () => {
    const room = here.room("somebody");
    const listener = await here.listen(stock, room).live();
    listener.socket.emit("refresh", { token: here.rowcast.token(room, 3600, "somebody else") });
    await until("it is put out", () => listener.disconnects.length === 1);
    expect(listener.named("rowcast.bye")).toHaveLength(1);
  });

  it("a token that is revoked ends the connection, and only a newer one gets in", async () => {
    const room = here.room("revoked");
    const listener = await here.listen(stock, room).live();
    const refreshes = refreshOnError(listener.socket, async () => {
      // The second in which it was revoked has to be over: tokens say when they were issued in seconds.
      const second = Math.floor(Date.now() / 1000);
      await until("the next second", () => Math.floor(Date.now() / 1000) > second + 1);
      return here.token(room);
    });
    await here.command("revoke", "--room", room);
    await listener.live(2);
    expect(listener.errors.map(({ message }) => message)).toEqual(["jwt revoked"]);
    expect(listener.errors[0]?.data).toMatchObject({ code: 4401, reason: "revoked" });
    expect(refreshes()).toBe(1);
  });

  it("a token that names no room is refused for good, and no refresh is tried", async () => {
    const listener = here.listen(stock, "", { auth: { token: here.token([]) } });
    const refreshes = refreshOnError(listener.socket, async () => here.token([]));
    await until("a refusal", () => listener.errors.length > 0);
    const [{ message, data } = { message: "" }] = listener.errors;
    expect(message).toMatch(/^not allowed: /);
    expect(data).toMatchObject({ code: 4403, reconnect: "never" });
    // Whoever comes after it is served: by then it would have tried again.
    await (await here.listen(stock, here.room("next")).live()).socket.disconnect();
    expect(refreshes()).toBe(0);
    expect(listener.errors).toHaveLength(1);
    expect(listener.socket.connected).toBe(false);
  });

  it.each(["/nowhere", "/"])("a namespace that is not served is refused as the protocol says: %s", async (namespace) => {
    const listener = new Listener(stock, `${here.url()}${namespace}`, { auth: { token: here.token(here.room("lost")) } });
    await until("a refusal", () => listener.errors.length > 0);
    expect(listener.errors[0]?.message).toBe("Invalid namespace");
    expect(listener.errors[0]?.data).toBeUndefined();
  });

  it("a token with its scheme in front, or in the handshake's header, counts too", async () => {
    const room = here.room("scheme");
    const token = `Bearer ${here.token(room)}`;
    await here.listen(stock, room, { auth: { token } }).live();
    await here.listen(stock, room, { auth: {}, extraHeaders: { authorization: token } }).live();
  });
});

it("refresh, emitted, changes the token in place and is acknowledged", async () => {
  const room = here.room("in-place");
  const listeners = STOCK.map((stock) => here.listen(stock, room, { auth: { token: here.token(room, 3) } }));
  const over = Date.now() + 3_500;
  for (const listener of listeners) {
    await listener.live();
    const answer = await new Promise<{ expires_at: string; rooms: Record<string, unknown>; now: string }>((resolve) => {
      listener.socket.emit("refresh", { token: here.token(room) }, resolve);
    });
    expect(Object.keys(answer.rooms)).toEqual([room]);
    expect(Date.parse(answer.expires_at) - Date.parse(answer.now)).toBeGreaterThan(3_000_000);
    expect(listener.named("rowcast.refreshed").map(({ payload }) => payload)).toEqual([answer]);
  }
  await until("the first tokens are over", () => Date.now() > over);
  await here.insert(room, "still here");
  for (const listener of listeners) {
    await listener.hears("still here");
    expect([listener.connects.length, listener.disconnects.length]).toEqual([1, 0]);
  }
});

it("sockets are switched off: all are told to poll, and refused until they are on again", async () => {
  const room = here.room("switched");
  const listeners = STOCK.map((stock) => here.listen(stock, room));
  for (const listener of listeners) await listener.live();
  await here.command("switch", "websocket", "off");
  try {
    await until("all are put out", () => listeners.every(({ disconnects }) => disconnects.length === 1));
    for (const listener of listeners) {
      expect(listener.disconnects).toEqual(["io server disconnect"]);
      expect(listener.named("rowcast.mode").map(({ payload }) => payload["transport"])).toEqual(["polling"]);
    }
    for (const stock of STOCK) {
      const other = here.listen(stock, room);
      await until("a refusal", () => other.errors.length > 0);
      expect(other.errors[0]?.message).toContain("switched to polling");
      expect(other.errors[0]?.data).toMatchObject({ code: 4410 });
      other.socket.disconnect();
    }
  } finally {
    await here.command("switch", "websocket", "on");
  }
  await here.insert(room, "while it was off");
  for (const { socket } of listeners) {
    // It is the application that tries again; sockets are on as soon as the edges have heard it.
    socket.on("connect_error", () => setTimeout(() => socket.connect(), 50));
    socket.connect();
  }
  for (const [index, listener] of listeners.entries()) {
    await listener.live(2);
    await until("what it missed", () => listener.known.has("while it was off"));
    expect(Boolean(listener.connects.at(-1))).toBe(STOCK[index]?.recovers);
  }
});

it("the path of HTTP is no namespace: a client of the stack before that names it is told so", async () => {
  const listener = new Listener(STOCK[0]!, `${here.url()}/api${NAMESPACE}`, { auth: { token: here.token(here.room("api")) } });
  await until("a refusal", () => listener.errors.length > 0);
  expect(listener.errors[0]?.message).toBe("Invalid namespace");
});
