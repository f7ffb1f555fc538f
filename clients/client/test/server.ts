/** A model of the edge, for tests: rooms with logs, sessions over sockets, pages over HTTP, and faults at will. */

import type { Frame, Page } from "../src/wire";
import type { Tab, World } from "./world";

interface Claims {
  readonly sub: string;
  readonly merchantId: string | readonly string[];
  readonly iat: number;
  readonly exp: number;
}

const DAY = 86_400_000;

interface Stored {
  readonly offset: number;
  readonly id: string;
  readonly type: string;
  readonly at: string;
  readonly data: unknown;
}

/** A room's log. */
class Room {
  generation = 1;
  stream = "000000000000000a";
  head = 0;
  log: Stored[] = [];
  /** Nothing was ever published here: before the first event there is no stream, and cursors name that of zeros. */
  isNew = false;

  cursor(offset = this.head): string {
    return `${this.generation}.${this.isNew && offset === 0 ? "0".repeat(16) : this.stream}:${offset}`;
  }

  /** What follows a cursor; null: history does not reach back. */
  after(cursor: string | undefined): Stored[] | null {
    const [, generation, stream, offset] = /^(\d+)\.(\w+):(\d+)$/.exec(cursor ?? "") ?? [];
    const floor = this.head - this.log.length;
    if (Number(generation) !== this.generation || (stream !== this.stream && cursor !== this.cursor(0))) return null;
    if (Number(offset) < floor || Number(offset) > this.head) return null;
    return this.log.filter((event) => event.offset > Number(offset));
  }
}

interface Auth {
  readonly op: "auth" | "refresh" | "ping";
  readonly token: string;
  readonly resume?: Record<string, string>;
  readonly types?: readonly string[];
  readonly report?: unknown;
}

export class FakeServer {
  readonly rooms = new Map<string, Room>();
  readonly sessions = new Set<FakeSocket>();
  /** Every sign-in, as it came. */
  readonly auths: Auth[] = [];
  /** Every page's address. */
  readonly pages: URL[] = [];
  readonly requests: { url: URL; token: string | null }[] = [];
  attempts = 0;
  latency: () => number = () => 1;

  // Faults.
  /** Handshakes fail. */
  blocked = false;
  /** Handshakes succeed, and nothing follows. */
  mute = false;
  /** Open sockets carry nothing any more, and are not closed. */
  halfOpen = false;
  /** Requests fail. */
  unreachable = false;
  switchedOff = false;
  live = true;
  reason = "";
  basePath = "";
  /** Added to the clock that the server goes by. */
  ahead = 0;
  pageSize = 100;
  /** Instead of any page: a status with headers and a body. */
  answer: { status: number; body?: unknown; headers?: Record<string, string> } | null = null;
  readonly revoked = new Set<string>();
  private readonly issued = new Set<string>();
  private streams = 10;

  constructor(readonly world: World) {}

  now(): number {
    return this.world.time + this.ahead;
  }

  iso(at = this.now()): string {
    return new Date(at).toISOString().replace("Z", "000Z");
  }

  room(name: string): Room {
    if (!this.rooms.has(name)) this.rooms.set(name, new Room());
    return this.rooms.get(name)!;
  }

  token(room: string | readonly string[] = "m1", seconds = 3600, subject = "u1", iat = this.now() / 1000): string {
    const claims: Claims = { sub: subject, merchantId: room, iat, exp: iat + seconds };
    const text = Buffer.from(JSON.stringify({ ...claims, jti: this.world.random() })).toString("base64url");
    const token = `h.${text}.s`;
    this.issued.add(token);
    return token;
  }

  publish(room: string, data: unknown, type = "booking.created"): void {
    const log = this.room(room);
    const offset = ++log.head;
    const event = { offset, id: `${offset}-0`, type, at: this.iso(), data };
    log.log.push(event);
    for (const session of this.sessions) session.event(room, event);
  }

  /** History before the last `kept` events is gone. */
  trim(room: string, kept = 0): void {
    const { log } = this.room(room);
    log.splice(0, log.length - kept);
  }

  /** History begins anew, as after a flushed Redis: what the room's sessions have is void. */
  renew(room: string): void {
    const stream = `${++this.streams}`.padStart(16, "0");
    Object.assign(this.room(room), { stream, head: 0, log: [] });
    for (const session of this.sessions) session.resync(room, "renewed");
  }

  /** No token that was given out counts any more. */
  revokeAll(): void {
    this.issued.forEach((token) => this.revoked.add(token));
    this.issued.clear();
    this.kill(4401);
  }

  /** Everyone is to fetch anew. */
  raiseGeneration(): void {
    for (const [name, room] of this.rooms) {
      room.generation++;
      for (const session of this.sessions) session.resync(name, "generation");
    }
  }

  /** The switch of all sockets. */
  switchOff(off: boolean): void {
    this.switchedOff = off;
    if (off) for (const session of [...this.sessions]) session.switchOff();
  }

  setLive(live: boolean, reason = ""): void {
    this.live = live;
    this.reason = reason;
    for (const session of this.sessions) session.tell({ op: "status", live, reason });
  }

  /** All sockets are cut, without a word. */
  kill(code = 1006): void {
    for (const session of [...this.sessions]) session.end(code);
  }

  bye(code: number, delay: number): void {
    for (const session of [...this.sessions]) {
      session.tell({ op: "bye", code, reconnect_in_ms: delay });
      session.end(code);
    }
  }

  disconnect(tab: Tab): void {
    for (const session of [...this.sessions]) if (session.tab === tab) this.sessions.delete(session);
  }

  verify(token: string | null): Claims | null {
    if (!token || this.revoked.has(token)) return null;
    try {
      const claims = JSON.parse(Buffer.from(token.split(".")[1]!, "base64url").toString()) as Claims;
      return claims.exp * 1000 > this.now() ? claims : null;
    } catch {
      return null;
    }
  }

  socketClass(tab: Tab): typeof WebSocket {
    const server = this;
    return class extends FakeSocket {
      constructor(url: string | URL) {
        super(server, tab, String(url));
      }
    } as unknown as typeof WebSocket;
  }

  fetchFrom(tab: Tab): typeof fetch {
    return (input, init) => this.fetch(tab, new URL(String(input)), init ?? {});
  }

  private async fetch(tab: Tab, url: URL, init: RequestInit): Promise<Response> {
    const token = new Headers(init.headers).get("authorization")?.slice(7) ?? null;
    this.requests.push({ url, token });
    await this.pause(init.signal ?? undefined);
    if (this.unreachable || tab.closed) throw new TypeError("failed to fetch");
    const [status, body, headers] = await this.serve(url, token, init.signal ?? undefined);
    await this.pause(init.signal ?? undefined);
    return new Response(JSON.stringify(body), { status, headers });
  }

  private async serve(url: URL, token: string | null, signal?: AbortSignal): Promise<[number, unknown, Record<string, string>]> {
    if (this.answer) return [this.answer.status, this.answer.body ?? {}, this.answer.headers ?? {}];
    if (url.pathname !== `${this.basePath}/v1/events`)
      return [404, { error: "not_found", base_path: this.basePath, websocket: `${this.basePath}/ws` }, {}];
    const claims = this.verify(token);
    if (!claims) return [401, { error: "token", message: "a token is needed" }, {}];
    this.pages.push(url);
    const wait = Number(url.searchParams.get("wait") ?? 0) * 1000;
    const end = this.now() + wait;
    let page = this.page(url, claims);
    while (wait && this.now() < end && !page.events.length && !page.resync.length && !signal?.aborted) {
      await this.pause(signal);
      page = this.page(url, claims);
    }
    return [200, page, {}];
  }

  private page(url: URL, claims: Claims): Page {
    const after = new URLSearchParams(url.searchParams.get("after") ?? "");
    const types = url.searchParams.get("types")?.split(",");
    const page = {
      rooms: {} as Record<string, { cursor: string; resumed: boolean }>,
      events: [] as (Frame & { op: "event" })[],
      resync: [] as (Frame & { op: "resync" })[],
      live: this.live,
      reason: this.reason,
      more: false,
      transport: this.switchedOff ? ("polling" as const) : ("websocket" as const),
      expires_at: this.iso(claims.exp * 1000),
      now: this.iso(),
    };
    for (const name of [claims.merchantId].flat()) {
      const room = this.room(name);
      const sent = after.get(name) ?? undefined;
      const missed = room.after(sent);
      if (!missed) {
        page.rooms[name] = { cursor: room.cursor(), resumed: false };
        if (sent) page.resync.push({ op: "resync", room: name, cursor: room.cursor(), reason: "log" });
        continue;
      }
      const taken = missed.slice(0, this.pageSize - page.events.length);
      page.more ||= taken.length < missed.length;
      page.rooms[name] = { cursor: room.cursor(taken.length < missed.length ? (taken.at(-1)?.offset ?? room.head - missed.length) : room.head), resumed: true };
      for (const event of taken) if (wanted(types, event.type)) page.events.push(frameOf(name, room, event));
    }
    return page;
  }

  private pause(signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.world.clearTimeout(timer);
        reject(new DOMException("aborted", "AbortError"));
      };
      const timer = this.world.setTimeout(() => {
        signal?.removeEventListener("abort", abort);
        resolve();
      }, this.latency());
      signal?.addEventListener("abort", abort);
    });
  }
}

const wanted = (types: readonly string[] | undefined, type: string): boolean =>
  !types || types.some((pattern) => (pattern.endsWith("*") ? type.startsWith(pattern.slice(0, -1)) : pattern === type));

const frameOf = (name: string, room: Room, { offset, id, type, at, data }: Stored): Frame & { op: "event" } => ({
  op: "event",
  room: name,
  cursor: room.cursor(offset),
  id,
  type,
  at,
  data,
});

/** A WebSocket with its session at the server's end. */
export class FakeSocket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((event: MessageEvent) => void) | null = null;
  onclose: ((event: CloseEvent) => void) | null = null;
  onerror: (() => void) | null = null;
  private claims: Claims | null = null;
  private types: readonly string[] | undefined;
  private joined = new Set<string>();
  /** Frames arrive in the order in which they were sent, however long each takes. */
  private arrival = 0;
  private expiry: number | undefined;

  constructor(
    private readonly server: FakeServer,
    readonly tab: Tab,
    readonly url: string,
  ) {
    server.attempts++;
    const right = new URL(url).pathname === `${server.basePath}/ws`;
    server.world.setTimeout(() => {
      if (this.readyState !== 0) return;
      if (server.blocked || server.unreachable || !right || !tab.online) return this.closed(1006);
      this.readyState = 1;
      server.sessions.add(this);
      this.tab.run(() => this.onopen?.());
    }, server.latency());
  }

  send(text: string): void {
    if (this.readyState !== 1) throw new Error("not open");
    this.later(() => this.received(JSON.parse(text) as Auth));
  }

  close(): void {
    this.readyState = 3;
    this.leave();
  }

  private received(message: Auth): void {
    const { server } = this;
    if (this.readyState !== 1) return;
    if (message.op === "auth") server.auths.push(message);
    if (server.mute || server.halfOpen) return;
    if (message.op === "ping") return this.tell({ op: "pong" });
    const claims = server.verify(message.token);
    if (!claims) return this.end(4401);
    if (message.op === "refresh" && claims.sub !== this.claims?.sub) return this.end(4403);
    if (server.switchedOff) return this.switchOff();
    const names = [claims.merchantId].flat();
    this.claims = claims;
    this.watchExpiry();
    const times = { expires_at: server.iso(claims.exp * 1000), now: server.iso() };
    if (message.op === "refresh") return this.refreshed(names, times);
    this.types = message.types;
    const rooms: Record<string, { cursor: string; resumed: boolean }> = {};
    const behind: Frame[] = [];
    for (const name of names) {
      const room = server.room(name);
      const sent = message.resume?.[name];
      const missed = room.after(sent);
      rooms[name] = { cursor: missed ? sent! : room.cursor(), resumed: !!missed };
      if (!missed && sent) behind.push({ op: "resync", room: name, cursor: room.cursor(), reason: "log" });
      for (const event of missed ?? []) if (wanted(this.types, event.type)) behind.push(frameOf(name, room, event));
      this.joined.add(name);
    }
    this.tell({ op: "welcome", rooms, heartbeat: 25, live: server.live, ...times });
    for (const frame of behind) this.tell(frame);
  }

  private refreshed(names: readonly string[], times: { expires_at: string; now: string }): void {
    const rooms: Record<string, { cursor: string; resumed: boolean }> = {};
    for (const name of names) rooms[name] = { cursor: this.server.room(name).cursor(), resumed: this.joined.has(name) };
    this.joined = new Set(names);
    this.tell({ op: "refreshed", rooms, ...times });
  }

  private watchExpiry(): void {
    const { world } = this.server;
    world.clearTimeout(this.expiry);
    const left = this.claims!.exp * 1000 - this.server.now();
    this.expiry = world.setTimeout(() => (left > DAY ? this.watchExpiry() : this.end(4401)), Math.min(left, DAY));
  }

  event(name: string, event: Stored): void {
    if (this.joined.has(name) && wanted(this.types, event.type))
      this.tell(frameOf(name, this.server.room(name), event));
  }

  resync(name: string, reason: string): void {
    if (this.joined.has(name)) this.tell({ op: "resync", room: name, cursor: this.server.room(name).cursor(), reason });
  }

  switchOff(): void {
    this.tell({ op: "mode", transport: "polling" });
    this.tell({ op: "bye", code: 4410, reconnect_in_ms: 100 });
    this.end(4410);
  }

  /** To the client. */
  tell(frame: Frame): void {
    if (this.server.halfOpen) return;
    const data = JSON.stringify(frame);
    this.later(() => {
      this.tab.run(() => {
        if (this.readyState === 1) this.onmessage?.({ data } as MessageEvent);
      });
    });
  }

  /** The server's end is closed; the client hears of it behind what was sent before. */
  end(code: number): void {
    this.leave();
    this.later(() => this.closed(code));
  }

  private closed(code: number): void {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.leave();
    this.tab.run(() => this.onclose?.({ code } as CloseEvent));
  }

  private leave(): void {
    this.server.sessions.delete(this);
    this.joined.clear();
    this.server.world.clearTimeout(this.expiry);
  }

  private later(run: () => void): void {
    const { world } = this.server;
    this.arrival = Math.max(this.arrival, world.time + this.server.latency());
    world.setTimeout(run, this.arrival - world.time);
  }
}
