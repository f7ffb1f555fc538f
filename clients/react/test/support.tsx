/** A client that does as it is told, for tests of the hooks alone; and surroundings for the real one, which count what is left of it. */

import { cleanup, configure } from "@testing-library/react";
import { afterEach } from "vitest";
import type { Platform, RowcastClient, RowcastEvent, RowcastOptions, Status } from "@rowcast/client";

afterEach(cleanup);
// A condition is waited for, however busy the machine is.
configure({ asyncUtilTimeout: 20_000 });

export const ROOM = "salon-anna";

export const LIVE: Status = {
  state: "CONNECTED",
  light: "live",
  reason: "",
  since: 1,
  transport: "websocket",
  nextAttemptAt: null,
  error: null,
};
export const RECONNECTING: Status = { ...LIVE, state: "RECONNECTING", light: "reconnecting", reason: "network", since: 2, transport: null };
export const DELAYED: Status = { ...LIVE, state: "DEGRADED", light: "delayed", reason: "redis", since: 3, transport: "polling" };

export function event(offset: number, type = "booking.created", data: unknown = { id: offset }): RowcastEvent {
  return { room: ROOM, cursor: cursorAt(offset), id: String(offset), type, at: "2026-11-27T20:00:00.000000Z", data };
}

export function cursorAt(offset: number): string {
  return `1.00000000000000aa:${offset}`;
}

/** Follows the interface and nothing else: no sockets, no time. */
export class FakeClient implements RowcastClient {
  running = false;
  readonly calls: string[] = [];
  readonly listeners = new Set<() => void>();
  readonly handlers = new Set<{ readonly pattern: string; readonly handler: (event: RowcastEvent) => void }>();
  #status: Status = { ...RECONNECTING, state: "INITIALIZING", reason: "connecting" };

  start(): void {
    this.running = true;
    this.calls.push("start");
  }
  stop(): void {
    this.running = false;
    this.calls.push("stop");
  }
  reconnect(): void {
    this.calls.push("reconnect");
  }
  setOptions(): void {
    this.calls.push("setOptions");
  }
  getStatus(): Status {
    return this.#status;
  }
  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }
  on(pattern: string, handler: (event: RowcastEvent) => void): () => void {
    const entry = { pattern, handler };
    this.handlers.add(entry);
    this.calls.push(`on ${pattern}`);
    return () => void this.handlers.delete(entry);
  }
  report() {
    return { states: {}, reconnects: [], refreshes: { ok: 0, failed: 0 }, ages: [] };
  }

  show(status: Status): void {
    this.#status = status;
    for (const listener of [...this.listeners]) listener();
  }
  emit(sent: RowcastEvent): void {
    for (const { pattern, handler } of [...this.handlers])
      if (pattern.endsWith("*") ? sent.type.startsWith(pattern.slice(0, -1)) : sent.type === pattern) handler(sent);
  }
}

interface Auth {
  readonly op: "auth";
  readonly token: string;
  readonly resume: Readonly<Record<string, string>>;
}

/** What the real client is given for the browser: sockets to a server that welcomes everybody, and counted timers and listeners. */
export class Surroundings {
  readonly sockets: FakeSocket[] = [];
  readonly auths: Auth[] = [];
  readonly timers = new Set<unknown>();
  listeners = 0;
  readonly platform: Partial<Platform>;

  constructor() {
    const around = this;
    const target = {
      addEventListener: () => void this.listeners++,
      removeEventListener: () => void this.listeners--,
    };
    this.platform = {
      random: () => 0.1,
      WebSocket: class extends FakeSocket {
        constructor(url: string) {
          super(url, around);
        }
      } as unknown as typeof WebSocket,
      fetch: undefined,
      events: target,
      document: { ...target, visibilityState: "hidden" },
      localStorage: undefined,
      locks: undefined,
      setTimeout: (run, ms) => {
        const timer = setTimeout(() => {
          this.timers.delete(timer);
          run();
        }, ms);
        this.timers.add(timer);
        return timer;
      },
      clearTimeout: (timer) => {
        this.timers.delete(timer);
        clearTimeout(timer as Parameters<typeof clearTimeout>[0]);
      },
    };
  }

  options(more: Partial<RowcastOptions> = {}): RowcastOptions {
    return {
      url: "https://edge.example",
      token: () => "token",
      onResync: () => {},
      backoff: { min: 0, max: 0 },
      ...more,
      platform: this.platform,
    };
  }

  open(): FakeSocket[] {
    return this.sockets.filter(({ readyState }) => readyState < 2);
  }

  /** The one socket that is open. */
  get socket(): FakeSocket {
    const [socket, ...others] = this.open();
    if (!socket || others.length > 0) throw new Error(`${others.length + (socket ? 1 : 0)} sockets are open`);
    return socket;
  }
}

export class FakeSocket {
  readyState = 0;
  onopen: (() => void) | null = null;
  onmessage: ((message: { readonly data: string }) => void) | null = null;
  onclose: ((end: { readonly code: number }) => void) | null = null;
  onerror: (() => void) | null = null;
  readonly #around: Surroundings;

  constructor(
    readonly url: string,
    around: Surroundings,
  ) {
    this.#around = around;
    around.sockets.push(this);
    queueMicrotask(() => {
      if (this.readyState !== 0) return;
      this.readyState = 1;
      this.onopen?.();
    });
  }

  send(text: string): void {
    const frame = JSON.parse(text) as Auth | { readonly op: "ping" | "refresh" };
    if (frame.op !== "auth") return;
    this.#around.auths.push(frame);
    const known = frame.resume[ROOM];
    this.give({
      op: "welcome",
      session: "s",
      rooms: { [ROOM]: { cursor: known ?? cursorAt(0), resumed: known !== undefined } },
      heartbeat: 25,
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      now: new Date().toISOString(),
      live: true,
    });
  }

  /** A frame from the server. */
  give(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }

  close(): void {
    this.readyState = 3;
  }

  /** The network takes it away. */
  drop(): void {
    this.readyState = 3;
    this.onclose?.({ code: 1006 });
  }
}
