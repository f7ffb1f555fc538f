/** The stock clients, as they are published, and a listener that keeps whatever one of them hears. */

import { io as newest, type ManagerOptions, type Socket, type SocketOptions } from "socket.io-client";
import { io as oldest } from "socket.io-client-4.0";
import { afterEach, describe } from "vitest";
import { until } from "./until";

/** A version of the client. */
export interface Stock {
  readonly version: string;
  readonly io: typeof newest;
  /** Whether it brings back where it was: `socket.recovered` came with 4.6. */
  readonly recovers: boolean;
}

export const NEWEST: Stock = { version: "4.8", io: newest, recovers: true };
export const OLDEST: Stock = { version: "4.0", io: oldest, recovers: false };
export const STOCK: readonly Stock[] = [NEWEST, OLDEST];

/** The same tests with each of them. */
export function withEach(tests: (stock: Stock) => void): void {
  for (const stock of STOCK) describe(`socket.io-client ${stock.version}`, () => tests(stock));
}

/** What an application hands to `io()`. */
export type Options = Partial<ManagerOptions & SocketOptions>;

/** What a `connect_error` says. */
export interface Refusal {
  readonly message: string;
  /** What the server adds to a refused CONNECT. */
  readonly data?: { readonly code: number; readonly reason: string; readonly message: string; readonly reconnect: string };
  /** Of HTTP: the status. */
  readonly description?: unknown;
  /** Of HTTP: what was answered. Clients before 4.5 do not have it. */
  readonly responseText?: string;
}

/** An event, with all that its listeners are given. */
export interface Heard {
  readonly name: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly more: readonly unknown[];
}

/** Quick to come back, as tests have no time. */
const QUICK: Options = { forceNew: true, transports: ["websocket"], reconnectionDelay: 20, reconnectionDelayMax: 400 };

const listeners: Listener[] = [];
afterEach(() => listeners.splice(0).forEach(({ socket }) => socket.disconnect()));

export class Listener {
  readonly socket: Socket;
  readonly heard: Heard[] = [];
  /** One for each `connect`: whether the client took itself for recovered. */
  readonly connects: (boolean | undefined)[] = [];
  readonly disconnects: string[] = [];
  readonly errors: Refusal[] = [];
  /** What an application has that fetches at a resync and adds what events bring. */
  readonly known = new Set<string>();
  #fetching: Promise<void> = Promise.resolve();

  constructor(
    stock: Stock,
    url: string,
    options: Options,
    private readonly fetchNotes?: () => Promise<readonly string[]>,
  ) {
    this.socket = stock.io(url, { ...QUICK, ...options });
    this.socket.on("connect", () => void this.connects.push(this.socket.recovered));
    this.socket.on("disconnect", (reason) => void this.disconnects.push(reason));
    this.socket.on("connect_error", (error) => void this.errors.push(refusal(error)));
    this.socket.onAny((name: string, payload: Heard["payload"], ...more: unknown[]) => this.#hears({ name, payload, more }));
    listeners.push(this);
  }

  /** Events of this name. */
  named(name: string): Heard[] {
    return this.heard.filter((heard) => heard.name === name);
  }

  /** The notes of rows that came as events. */
  notes(): string[] {
    return this.named("note.created").map(({ payload }) => String(payload["note"]));
  }

  /** Why it was told to fetch anew, one for each time. */
  resyncs(): string[] {
    return this.named("resync").map(({ payload }) => String(payload["reason"]));
  }

  /** Waits until it is connected and has begun. */
  async live(times = 1): Promise<this> {
    await until(`connected for the time ${times}`, () => this.connects.length >= times && this.socket.connected);
    await until("the server's first word", () => this.named("connected").length >= times);
    return this;
  }

  /** Waits until all that it was told to fetch is there. */
  async fetched(): Promise<void> {
    await this.#fetching;
  }

  /** Waits until this note is the last that it has heard. */
  async hears(note: string): Promise<void> {
    await until(`the note ${note}`, () => this.notes().at(-1) === note);
  }

  #hears(heard: Heard): void {
    this.heard.push(heard);
    if (heard.name === "note.created") this.known.add(String(heard.payload["note"]));
    if (heard.name !== "resync" || this.fetchNotes === undefined) return;
    const notes = this.fetchNotes();
    this.#fetching = this.#fetching.then(async () => (await notes).forEach((note) => this.known.add(note)));
  }
}

/** What it says now: the client clears its request as soon as its listeners were told. */
function refusal(error: Error & { data?: unknown; description?: unknown; context?: unknown }): Refusal {
  const { message, data, description, context } = error;
  const responseText = (context as { responseText?: string } | undefined)?.responseText;
  return { message, description, ...(data === undefined ? {} : { data: data as Refusal["data"] & object }), ...(responseText === undefined ? {} : { responseText }) };
}
