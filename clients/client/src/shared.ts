/**
 * `@rowcast/client/shared`: one socket for all tabs that are signed in alike.
 *
 * Each tab has a client of its own, with its own cursors. In place of a WebSocket it gets what is here: the tab that holds
 * a lock opens the socket, and what arrives there is passed to the others over a channel. A tab that joins tells its
 * cursors, and gets what it has missed from the trail that every tab keeps, or a `resync`. When the leading tab is
 * gone, the next one that waits for the lock goes on from where it is itself.
 */

import { createClient } from "./index";
import { isCovered } from "./rooms";
import { claimsOf } from "./tokens";
import type { EventMap, Platform, RowcastClient, RowcastOptions } from "./types";
import type { Frame, RoomStart, Welcome } from "./wire";

export type * from "./types";

/** A leading tab that answers nothing for so long is frozen: the lock is taken from it. */
const PATIENCE = 2_000;
/** So long does a tab that takes over wait for a last word of the one before. */
const PAUSE = 100;
/** So many frames of each room are kept for tabs that join. */
const TRAIL = 1_000;

type Surroundings = Pick<Platform, "now" | "random" | "setTimeout" | "clearTimeout"> & {
  readonly locks: Pick<LockManager, "request">;
  readonly BroadcastChannel: typeof BroadcastChannel;
  readonly WebSocket: typeof WebSocket;
};

interface Auth {
  readonly op: "auth" | "refresh" | "ping";
  token: string;
  readonly types?: readonly string[];
  readonly resume: Record<string, string>;
}

/** Where a room is, and the frames that led there. */
interface Trail {
  from: string;
  at: string;
  readonly frames: string[];
}

/** What tabs tell each other, and who says it. */
type Message = { readonly by: string } & (
  | { readonly hello: Record<string, string> }
  | { readonly to: string; readonly frames: readonly string[] }
  | { readonly frame: string }
  | { readonly ping: true }
  /** One leads from here on, or is welcomed: the others ask where they stand. */
  | { readonly up: true }
  | { readonly end: number }
);
type Without<T, K extends string> = T extends unknown ? Omit<T, K> : never;

/** As `createClient`; where tabs cannot find each other each has a socket of its own. */
export function createSharedClient<Events extends object = EventMap>(options: RowcastOptions): RowcastClient<Events> {
  const p: Partial<Surroundings> & Pick<Surroundings, "now" | "random" | "setTimeout" | "clearTimeout"> = {
    now: () => Date.now(),
    random: () => Math.random(),
    setTimeout: (run, ms) => setTimeout(run, ms),
    clearTimeout: (timer) => clearTimeout(timer as number),
    WebSocket: globalThis.WebSocket,
    BroadcastChannel: globalThis.BroadcastChannel,
    locks: globalThis.navigator?.locks,
    ...(options.platform as object),
  };
  if (!p.locks || !p.BroadcastChannel || !p.WebSocket) return createClient(options);
  const trails = new Map<string, Trail>();
  const WebSocket = class {
    constructor(url: string) {
      return sharedSocket(p as Surroundings, url, trails);
    }
  } as unknown as typeof globalThis.WebSocket;
  return createClient({ ...options, platform: { ...options.platform, WebSocket } });
}

/** Tabs share where all that their tokens say is the same, but for times and names of the tokens themselves. */
function keyOf(url: string, { token, types }: Auth): string {
  const { exp, iat, nbf, jti, ...who } = claimsOf(token) as Record<string, unknown>;
  return `rowcast:socket:${JSON.stringify([url, types, "sub" in who ? who : token])}`;
}

/** A room without history has the stream of zeros. */
const EMPTY = /\.0+:0$/;

const cursorOf = (data: string): string => (JSON.parse(data) as { cursor: string }).cursor;

/** What is said to one tab alone: malformed, token, not allowed. */
const isOwn = (code: number): boolean => code > 4399 && code < 4404;

function sharedSocket(p: Surroundings, url: string, trails: Map<string, Trail>): object {
  const id = `${p.now()} ${p.random()}`;
  let abort = new AbortController();
  let auth: Auth;
  let name = "";
  let channel: BroadcastChannel | undefined;
  let raw: WebSocket | undefined;
  let welcome: Welcome | undefined;
  let skew = NaN;
  let leads = false;
  /** The server has welcomed this tab's socket. */
  let ready = false;
  /** Who leads, as far as this tab knows. */
  let leader = "";
  /** That one has said where this one stands: what it passes on follows from there. */
  let joined = false;
  let closed = false;
  let release = (): void => {};
  let timer: unknown;

  const fake = {
    readyState: 0,
    onopen: null as (() => void) | null,
    onmessage: null as ((event: { data: string }) => void) | null,
    onclose: null as ((event: { code: number }) => void) | null,
    onerror: null,
    send,
    close,
  };
  const later = (ms: number, run: () => void): void => {
    p.clearTimeout(timer);
    timer = p.setTimeout(run, ms);
  };
  const post = (message: Without<Message, "by">): void => channel?.postMessage({ ...message, by: id });
  const pass = (data: string): void => {
    if (!closed) fake.onmessage?.({ data });
  };
  const positions = (): Record<string, string> =>
    welcome ? Object.fromEntries([...trails].map(([room, { at }]) => [room, at])) : auth.resume;

  later(0, () => {
    fake.readyState = 1;
    fake.onopen?.();
  });

  // ---- From the client

  function send(text: string): void {
    const message = JSON.parse(text) as Auth;
    if (message.op === "ping") {
      if (raw?.readyState === 1) raw.send(text);
      else post({ ping: true });
    } else if (message.op === "auth") {
      auth = message;
      name = keyOf(url, auth);
      channel = new p.BroadcastChannel(name);
      channel.onmessage = ({ data }: MessageEvent<Message>) => hear(data);
      lock({ signal: abort.signal });
      hello();
    } else {
      auth.token = message.token;
      if (keyOf(url, auth) !== name) end(1012);
      else if (raw?.readyState === 1) raw.send(text);
      else if (welcome) pass(JSON.stringify({ op: "refreshed", expires_at: expiry(welcome), rooms: welcome.rooms }));
    }
  }

  function close(): void {
    closed = true;
    fake.readyState = 3;
    p.clearTimeout(timer);
    abort.abort();
    if (raw) {
      raw.onopen = raw.onmessage = raw.onclose = null;
      raw.close();
    }
    channel?.close();
    channel = undefined;
    release();
  }

  function end(code: number): void {
    if (closed) return;
    close();
    fake.onclose?.({ code });
  }

  /** The same for all whom this tab leads. What is wrong with its token is not theirs. */
  function fail(code: number): void {
    post({ end: isOwn(code) ? 1006 : code });
    end(code);
  }

  /** When this tab's own token ends. */
  function expiry({ expires_at }: Welcome): string {
    const exp = Number(claimsOf(auth.token).exp) * 1000;
    return exp ? new Date(exp).toISOString() : expires_at;
  }

  // ---- Who leads

  function lock(options: LockOptions): void {
    const held = (): Promise<void> =>
      new Promise((resolve) => {
        release = resolve;
        if (closed) return resolve();
        leads = true;
        post({ up: true });
        later(welcome ? PAUSE : 0, connect);
      });
    // It ends by itself when it was stolen, or given up before it was granted.
    p.locks.request(name, options, held).catch(() => {
      if (leads) fail(1006);
    });
  }

  function hello(): void {
    joined = false;
    post({ hello: positions() });
    later(PATIENCE, () => {
      abort.abort();
      abort = new AbortController();
      lock({ steal: true });
    });
  }

  function connect(): void {
    const socket = (raw = new p.WebSocket(url, ["rowcast.v1"]));
    socket.onopen = () => socket.send(JSON.stringify({ ...auth, resume: positions() }));
    socket.onmessage = ({ data }: MessageEvent<string>) => serve(data);
    socket.onclose = ({ code }) => fail(code);
    socket.onerror = () => {};
  }

  /** The leading tab: a frame of the server. */
  function serve(data: string): void {
    const frame = JSON.parse(data) as Frame;
    if (frame.op === "welcome") {
      ready = true;
      if (frame.now) skew = Date.parse(frame.now) - p.now();
      greet(frame);
      return post({ up: true });
    }
    if (frame.op === "bye" && isOwn(frame.code)) post({ end: 1006 });
    else if (frame.op !== "refreshed" && frame.op !== "token_expiring") post({ frame: data });
    take(data);
  }

  /** The leading tab: where another one stands, and what it has missed. */
  function answer(resume: Record<string, string>): string[] {
    const rooms: Record<string, RoomStart> = {};
    const missed: string[] = [];
    for (const [room, { from, at, frames }] of trails) {
      const cursor = resume[room];
      // A trail from before the room's first event holds all of it.
      const resumed = isCovered(from, cursor) || (EMPTY.test(from) && isCovered(cursor ?? "", at));
      rooms[room] = { cursor: resumed ? cursor! : at, resumed };
      if (resumed) missed.push(...frames.filter((data) => !isCovered(cursorOf(data), cursor)));
      else if (cursor) missed.push(JSON.stringify({ op: "resync", room, cursor: at, reason: "tab" }));
    }
    const { now, ...rest } = welcome!;
    const clock = now ? { now: new Date(p.now() + skew).toISOString() } : {};
    return [JSON.stringify({ ...rest, ...clock, rooms }), ...missed];
  }

  // ---- Frames

  function hear(message: Message): void {
    const { by } = message;
    if ("hello" in message) {
      if (leads) post({ to: by, frames: ready ? answer(message.hello) : [] });
    } else if ("ping" in message) {
      if (raw?.readyState === 1) raw.send('{"op":"ping"}');
    } else if (raw) {
      // This one leads: what another one says was on its way when it was relieved.
    } else if ("up" in message) {
      leader = by;
      if (!leads) hello();
    } else if (leader && leader !== by) {
      // The same, from one that does not know yet that it was.
    } else if ("end" in message) end(message.end);
    else if ("frame" in message) {
      if (joined) take(message.frame);
    } else if (message.to === id) {
      leader = by;
      if (!leads) p.clearTimeout(timer);
      const [greeting, ...missed] = message.frames;
      if (!greeting) return;
      joined = true;
      greet(JSON.parse(greeting) as Welcome);
      missed.forEach(take);
    }
  }

  function greet(frame: Welcome): void {
    const before = welcome;
    welcome = frame;
    for (const room of trails.keys()) if (!(room in frame.rooms)) trails.delete(room);
    for (const [room, { cursor }] of Object.entries(frame.rooms)) {
      const at = trails.get(room)?.at;
      if (!before) {
        if (at !== cursor) trails.set(room, { from: cursor, at: cursor, frames: [] });
      } else if (!at) take(JSON.stringify({ op: "resync", room, cursor, reason: "start" }));
    }
    pass(JSON.stringify(before ? { op: "status", live: frame.live } : { ...frame, expires_at: expiry(frame) }));
  }

  /** A frame of the server, from wherever it came. */
  function take(data: string): void {
    const frame = JSON.parse(data) as Frame;
    if (frame.op === "resync") trails.set(frame.room, { from: frame.cursor, at: frame.cursor, frames: [] });
    if (frame.op === "event" || frame.op === "cursor") {
      const trail = trails.get(frame.room);
      if (!trail || isCovered(frame.cursor, trail.at)) return;
      trail.at = frame.cursor;
      if (trail.frames.push(data) > TRAIL) trail.from = cursorOf(trail.frames.shift()!);
    }
    pass(data);
  }

  return fake;
}
