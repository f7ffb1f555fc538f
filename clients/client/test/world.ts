/** A small world without real time: a clock that tests move, tabs with storages, locks and events of their own. */

import type { Platform } from "../src/index";
import type { FakeServer } from "./server";

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

/** Timers by their time, and by their order where that is the same. */
class Heap {
  private readonly all: Timer[] = [];

  first(): Timer | undefined {
    return this.all[0];
  }

  push(timer: Timer): void {
    let at = this.all.push(timer) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.swap(parent, at)) return;
      at = parent;
    }
  }

  pop(): void {
    const last = this.all.pop();
    if (!last || !this.all.length) return;
    this.all[0] = last;
    let at = 0;
    for (;;) {
      const left = 2 * at + 1;
      if (left >= this.all.length) return;
      const child = left + 1 < this.all.length && this.isAfter(left, left + 1) ? left + 1 : left;
      if (!this.swap(at, child)) return;
      at = child;
    }
  }

  private isAfter(one: number, other: number): boolean {
    const [a, b] = [this.all[one]!, this.all[other]!];
    return a.at > b.at || (a.at === b.at && a.order > b.order);
  }

  /** Puts both in order; false: they were. */
  private swap(upper: number, lower: number): boolean {
    if (!this.isAfter(upper, lower)) return false;
    [this.all[upper], this.all[lower]] = [this.all[lower]!, this.all[upper]!];
    return true;
  }
}

/** 2026-01-01: any time will do. */
const START = 1_767_225_600_000;

export class World {
  time = START;
  readonly timers = new Map<number, Timer>();
  private readonly heap = new Heap();
  /** Timers longer than browsers keep: they fire at once there. */
  overflows = 0;
  private order = 0;
  private seed: number;

  constructor(seed = 1) {
    this.seed = seed;
  }

  readonly now = (): number => this.time;

  /** mulberry32: small, and the same everywhere. */
  readonly random = (): number => {
    this.seed = (this.seed + 0x6d2b79f5) | 0;
    let t = Math.imul(this.seed ^ (this.seed >>> 15), 1 | this.seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };

  readonly setTimeout = (run: () => void, ms: number): number => {
    if (ms > 2 ** 31 - 1) this.overflows++;
    const order = ++this.order;
    const timer = { at: this.time + (ms > 2 ** 31 - 1 ? 1 : Math.max(0, ms)), order, run };
    this.timers.set(order, timer);
    this.heap.push(timer);
    return order;
  };

  readonly clearTimeout = (timer: unknown): void => {
    this.timers.delete(timer as number);
  };

  /** Lets time pass, timer by timer. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const next = this.next();
      if (!next || next.at > end) break;
      this.time = Math.max(this.time, next.at);
      this.timers.delete(next.order);
      next.run();
      await settle();
    }
    this.time = end;
    await settle();
  }

  /** The machine sleeps: time passes, and no timer fires meanwhile. */
  sleep(ms: number): void {
    this.time += ms;
  }

  /** Waits until something is so, a millisecond at a time. */
  async until(what: string, check: () => boolean, most = 600_000): Promise<void> {
    const end = this.time + most;
    await settle();
    while (!check()) {
      if (this.time >= end) throw new Error(`not within ${most} ms: ${what}`);
      const next = Math.min(this.next()?.at ?? end, end);
      await this.advance(Math.max(1, next - this.time));
    }
  }

  /** The timer that is due first, of those that nobody has cleared. */
  private next(): Timer | undefined {
    for (;;) {
      const first = this.heap.first();
      if (!first || this.timers.get(first.order) === first) return first;
      this.heap.pop();
    }
  }
}

/** Runs everything that is ready to run. */
export const settle = async (): Promise<void> => {
  for (let n = 0; n < 2; n++) await new Promise((done) => setImmediate(done));
};

/** One storage of all tabs of an origin. */
export class SharedStorage {
  readonly values = new Map<string, string>();
  readonly tabs = new Set<Tab>();

  write(by: Tab | null, key: string, value: string | null): void {
    const before = this.values.get(key) ?? null;
    if (before === value) return;
    if (value === null) this.values.delete(key);
    else this.values.set(key, value);
    for (const tab of this.tabs)
      if (tab !== by) tab.fire("storage", { key, newValue: value });
  }
}

type Granted = { readonly mode: string; readonly name: string };
interface Request {
  readonly run: () => void;
  readonly fail: (error: Error) => void;
  readonly tab: Tab;
}

/** Locks of an origin, as `navigator.locks` has them. */
export class FakeLocks {
  private readonly held = new Map<string, Request>();
  private readonly waiting = new Map<string, Request[]>();
  most = 0;

  /** Granted after `tab`'s predecessors. */
  request<T>(tab: Tab, name: string, options: LockOptions, run: (lock: Granted | null) => T | Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const request: Request = {
        tab,
        fail: (error) => tab.run(() => reject(error)),
        run: () =>
          tab.run(() => {
            void Promise.resolve()
              .then(() => run({ mode: "exclusive", name }))
              .then(resolve, reject)
              .finally(() => {
                if (this.held.get(name) === request) this.release(name);
              });
          }),
      };
      const abort = (): void => {
        const queue = this.waiting.get(name) ?? [];
        if (!queue.includes(request)) return;
        this.waiting.set(name, queue.filter((other) => other !== request));
        reject(new DOMException("aborted", "AbortError"));
      };
      options.signal?.addEventListener("abort", abort);
      if (options.steal) {
        this.held.get(name)?.fail(new DOMException("stolen", "AbortError"));
        this.grant(name, request);
      } else if (!this.held.has(name)) this.grant(name, request);
      else if (options.ifAvailable) void Promise.resolve(run(null)).then(resolve, reject);
      else this.waiting.set(name, [...(this.waiting.get(name) ?? []), request]);
    });
  }

  holder(part: string): Tab | undefined {
    return [...this.held].find(([name]) => name.includes(part))?.[1].tab;
  }

  /** A tab is gone: its locks are free. */
  close(tab: Tab): void {
    for (const [name, queue] of this.waiting) this.waiting.set(name, queue.filter((request) => request.tab !== tab));
    for (const [name, request] of [...this.held]) if (request.tab === tab) this.release(name);
  }

  private grant(name: string, request: Request): void {
    this.held.set(name, request);
    request.run();
  }

  private release(name: string): void {
    this.held.delete(name);
    const [next, ...rest] = this.waiting.get(name) ?? [];
    this.waiting.set(name, rest);
    if (next) this.grant(name, next);
  }
}

/** Where tabs hear each other. */
export class FakeChannels {
  readonly open = new Set<FakeChannel>();

  constructor(private readonly world: World) {}

  post(from: FakeChannel, data: unknown): void {
    const copy = structuredClone(data);
    for (const other of [...this.open])
      if (other !== from && other.name === from.name)
        this.world.setTimeout(() => {
          other.tab.run(() => {
            if (this.open.has(other)) other.onmessage?.({ data: copy } as MessageEvent);
          });
        }, 1);
  }
}

export class FakeChannel {
  onmessage: ((event: MessageEvent) => void) | null = null;

  constructor(
    private readonly all: FakeChannels,
    readonly tab: Tab,
    readonly name: string,
  ) {
    all.open.add(this);
  }

  postMessage(data: unknown): void {
    if (!this.all.open.has(this)) throw new Error("the channel is closed");
    this.all.post(this, data);
  }

  close(): void {
    this.all.open.delete(this);
  }
}

/** What tabs of one origin share. */
export class Origin {
  readonly storage = new SharedStorage();
  readonly locks = new FakeLocks();
  readonly channels: FakeChannels;

  constructor(readonly world: World) {
    this.channels = new FakeChannels(world);
  }
}

/** A page: what its client takes from its surroundings. */
export class Tab {
  online = true;
  frozen = false;
  closed = false;
  private readonly deferred: (() => void)[] = [];
  visibilityState = "visible";
  readonly sessionValues = new Map<string, string>();
  /** Those of the page's own. */
  readonly timers = new Set<number>();
  private readonly listeners = new Map<string, Set<EventListener>>();

  constructor(
    readonly world: World,
    readonly server: FakeServer,
    readonly origin = new Origin(world),
    readonly href = "https://shop.example/bookings",
  ) {
    origin.storage.tabs.add(this);
  }

  fire(type: string, fields: object = {}): void {
    for (const listener of [...(this.listeners.get(type) ?? [])])
      listener(Object.assign(new Event(type), fields));
  }

  /** How many listeners are left. */
  listening(): number {
    return [...this.listeners.values()].reduce((sum, all) => sum + all.size, 0);
  }

  /** Runs what the page is to run: later while it is frozen, never once it is closed. */
  run(what: () => void): void {
    if (this.closed) return;
    if (this.frozen) this.deferred.push(what);
    else what();
  }

  /** Everything stands still, as in a page that the browser has put to sleep; and goes on. */
  freeze(frozen: boolean): void {
    this.frozen = frozen;
    if (!frozen) for (const what of this.deferred.splice(0)) this.run(what);
  }

  /** The tab is closed: nobody says goodbye. */
  close(): void {
    this.closed = true;
    this.listeners.clear();
    this.timers.clear();
    this.origin.storage.tabs.delete(this);
    this.origin.locks.close(this);
    for (const channel of [...this.origin.channels.open]) if (channel.tab === this) channel.close();
    this.server.disconnect(this);
  }

  platform(): Partial<Platform> {
    const { world, origin } = this;
    const target = {
      addEventListener: (type: string, run: EventListener) => {
        if (!this.listeners.has(type)) this.listeners.set(type, new Set());
        this.listeners.get(type)!.add(run);
      },
      removeEventListener: (type: string, run: EventListener) => void this.listeners.get(type)?.delete(run),
    } as Pick<EventTarget, "addEventListener" | "removeEventListener">;
    const storage = (get: (key: string) => string | null, set: (key: string, value: string | null) => void) => ({
      getItem: get,
      setItem: set,
      removeItem: (key: string) => set(key, null),
    });
    const tab = this;
    return {
      now: world.now,
      random: world.random,
      setTimeout: (run, ms) => {
        if (this.closed) return 0;
        const timer = world.setTimeout(
          () =>
            this.run(() => {
              // It may have been cleared while the page was frozen.
              if (this.timers.delete(timer)) run();
            }),
          ms,
        );
        this.timers.add(timer);
        return timer;
      },
      clearTimeout: (timer) => {
        this.timers.delete(timer as number);
        world.clearTimeout(timer);
      },
      WebSocket: this.server.socketClass(this),
      fetch: this.server.fetchFrom(this),
      events: target,
      document: {
        ...target,
        get visibilityState() {
          return tab.visibilityState;
        },
      },
      location: { href: this.href },
      localStorage: storage(
        (key) => origin.storage.values.get(key) ?? null,
        (key, value) => origin.storage.write(this, key, value),
      ),
      sessionStorage: storage(
        (key) => this.sessionValues.get(key) ?? null,
        (key, value) => void (value === null ? this.sessionValues.delete(key) : this.sessionValues.set(key, value)),
      ),
      locks: {
        request: (name: string, options: LockOptions, run: (lock: Granted | null) => unknown) =>
          origin.locks.request(this, name, options, run),
      } as unknown as LockManager,
      online: () => this.online,
      BroadcastChannel: class extends FakeChannel {
        constructor(name: string) {
          super(tab.origin.channels, tab, name);
        }
      } as unknown as typeof BroadcastChannel,
    };
  }
}
