/** The client: the transition table's driver, and what holds sockets, polls, tokens and rooms together. */

import { counters } from "./counters";
import { emitter } from "./emitter";
import { heartbeat, type Heartbeat } from "./heartbeat";
import { guarded, platformOf, timers, type Cancel } from "./platform";
import { faultOf, poller, request, type Failure } from "./poller";
import { roomsOf } from "./rooms";
import { openSocket, type End, type Socket } from "./socket";
import { table, type Action, type Signal } from "./table";
import { claimsOf, tokensOf } from "./tokens";
import type { EventMap, Light, RowcastClient, RowcastError, RowcastOptions, State, Status, TokenSource } from "./types";
import { resolveUrl } from "./url";
import type { Frame, Page, Refusal, Welcome } from "./wire";

const SWITCH = "rowcast:transport";
/** A connection that was lost sooner counts as a failed attempt. */
const STEADY = 5_000;
/** So often a storage is looked at for a token that is not there yet. */
const LOOK = 1_000;

/** Makes a client; it does nothing before it is started. */
export function createClient<Events extends EventMap = EventMap>(options: RowcastOptions): RowcastClient<Events> {
  let opts = options;
  const p = platformOf(options.platform);
  const after = timers(p);
  const events = emitter();
  const counts = counters(p.now);
  const listeners = new Set<() => void>();

  let running = false;
  /** Nothing but a button, other options or a new start helps. */
  let halted = false;
  let loaded = false;
  let base = "";
  let debugging = false;

  // The connection. Whatever was begun under an older number is not heard any more.
  let generation = 0;
  let socket: Socket | null = null;
  let beat: Heartbeat | null = null;
  let attempting = false;
  let cancelAttempt: Cancel = () => {};
  let failures = 0;
  let waits = 0;
  let probed = false;
  let connectedAt = 0;
  let quiet = 25_000;
  let refreshing = false;
  let switched = false;
  let freshPage = false;
  let retriedToken = false;
  /** The server's clock less this one's. */
  let skew: number | undefined;

  // What the status is made of.
  let state: State = "INITIALIZING";
  let why = "connecting";
  let live = true;
  let serverReason = "";
  let silent = false;
  let failing = false;
  let error: RowcastError | null = null;
  let nextConnect: number | null = null;
  let nextPoll: number | null = null;
  let status: Status = {
    state,
    light: "reconnecting",
    reason: why,
    since: p.now(),
    transport: null,
    nextAttemptAt: null,
    error,
  };

  const log = (line: string, ...details: unknown[]): void => {
    const to = opts.debug ?? debugging;
    if (typeof to === "function") guarded(() => to(line, ...details));
    else if (to) console.debug(`rowcast: ${line}`, ...details);
  };

  const show = (): void => {
    const own = silent ? "silent" : failing ? "snapshot" : "";
    const delayed = state === "DEGRADED" || !live || own;
    const connected = state === "CONNECTED";
    const light: Light = !connected && state !== "DEGRADED" ? "reconnecting" : delayed ? "delayed" : "live";
    const remote = live ? "" : serverReason || "server";
    const next: Status = {
      state,
      light,
      reason: connected ? remote || own : error ? error.code : state === "DEGRADED" ? remote || why : why,
      since: state === status.state && light === status.light ? status.since : p.now(),
      transport: connected ? "websocket" : poll.running() ? "polling" : null,
      nextAttemptAt: nextConnect && nextPoll ? Math.min(nextConnect, nextPoll) : (nextConnect ?? nextPoll),
      error,
    };
    if ((Object.keys(next) as (keyof Status)[]).every((key) => next[key] === status[key])) return;
    status = next;
    for (const listener of [...listeners]) guarded(listener);
  };

  const backoff = (n: number, min: number, max: number): number => p.random() * Math.min(max, min * 2 ** n);
  const limits = (): [number, number] => [opts.backoff?.min ?? 500, opts.backoff?.max ?? 30_000];

  const learn = ({ now, expires_at }: { readonly now?: string; readonly expires_at: string }): void => {
    if (now) skew = Date.parse(now) - p.now();
    tokens.until(Date.parse(expires_at));
  };

  const tokens = tokensOf({
    p,
    options: () => opts,
    after,
    serverNow: () => (skew === undefined ? undefined : p.now() + skew),
    count: counts.refresh,
    renewed(token) {
      log("token renewed");
      if (state !== "CONNECTED") return;
      // Another subject's token is refused in place.
      if (claimsOf(token).sub !== subject) return reconnect();
      refreshing = true;
      socket?.send({ op: "refresh", token });
    },
    failed(message) {
      log(`token: ${message}`);
    },
  });
  let subject: unknown;

  const rooms = roomsOf({
    options: () => opts,
    after,
    backoff,
    deliver(event) {
      if (skew !== undefined) counts.age(p.now() + skew - Date.parse(event.at));
      events.emit(event);
    },
    overflow() {
      log("too many events wait for a snapshot");
      if (poll.running()) startPolling();
      else ended({ code: 0, opened: true });
    },
    failing(now) {
      failing = now;
      show();
    },
  });

  const poll = poller({
    p,
    after,
    base: () => base,
    options: () => opts,
    token: tokens.get,
    seen: rooms.seen,
    page: takePage,
    failed: pollFailed,
    planned(at) {
      nextPoll = at;
      show();
    },
  });

  // ---- The machine

  const actions: Record<Action, () => void> = {
    none() {},
    connect,
    backoff: () => schedule(backoff(failures, ...limits())),
    await: () => schedule(tokenDelay()),
    settle() {
      poll.stop();
      nextPoll = null;
      waits = 0;
      error = null;
    },
    probe: () => beat?.probe(),
    degrade() {
      if (!poll.running()) startPolling();
      const [, max] = limits();
      schedule(max / 2 + (p.random() * max) / 2);
    },
    poll() {
      teardown();
      why = "switched";
      if (opts.polling !== false) return startPolling();
      // Nothing else would tell that sockets are wanted again.
      switched = false;
      actions.degrade();
    },
    sleep() {
      endAll();
      why = "offline";
      schedule(limits()[1]);
    },
    halt: endAll,
  };

  function signal(name: Signal): void {
    const [next, action] = table[state][name];
    log(`${state}: ${name} → ${next}, ${action}`);
    if (next !== state) {
      state = next;
      counts.state(next);
    }
    actions[action]();
    show();
  }

  function refuse(what: RowcastError): void {
    log(what.message);
    // What is wrong is in the application's code or configuration: the one line that the console gets.
    if (/^(url|path|mixed|platform|origin)/.test(what.code) && error?.message !== what.message)
      console.error(`rowcast: ${what.message}`);
    error = what;
    halted = true;
    signal("refused");
  }

  function teardown(): void {
    generation++;
    socket?.close();
    beat?.stop();
    socket = beat = null;
    cancelAttempt();
    attempting = silent = refreshing = false;
    connectedAt = 0;
    nextConnect = null;
    live = true;
  }

  function endAll(): void {
    teardown();
    poll.stop();
    nextPoll = null;
  }

  function startPolling(): void {
    if (opts.polling === false) return;
    rooms.rewind();
    freshPage = true;
    poll.start();
  }

  function schedule(ms: number): void {
    cancelAttempt();
    nextConnect = p.now() + ms;
    cancelAttempt = after(ms, connect);
  }

  const tokenDelay = (): number => {
    const [min, max] = limits();
    return backoff(waits++, min, typeof opts.token === "object" ? Math.min(LOOK, max) : max);
  };

  const wantsPolling = (): boolean =>
    switched || opts.transport === "polling" || p.localStorage?.getItem(SWITCH) === "polling";

  // ---- Sockets

  function connect(): void {
    if (attempting) return;
    if (wantsPolling()) return signal("switched");
    if (!p.WebSocket)
      return refuse({ code: "platform", message: "no WebSocket here: pass platform: { WebSocket }, as of the package ws" });
    cancelAttempt();
    nextConnect = null;
    attempting = true;
    const mine = generation;
    void tokens.get().then((token) => {
      if (mine === generation) open(token);
    });
    show();
  }

  function open(token: string | null): void {
    if (token === null) {
      attempting = false;
      why = "token";
      return signal("untokened");
    }
    let sent: Record<string, string> = {};
    try {
      socket = openSocket({
        p,
        after,
        url: `${base.replace(/^http/, "ws")}/ws`,
        timeout: opts.connectTimeout ?? 10_000,
        auth() {
          // Two ways in at a time would hand events on twice.
          poll.stop();
          nextPoll = null;
          sent = rooms.stored();
          const { types } = opts;
          return { op: "auth", token, resume: sent, ...(types ? { types } : {}), report: counts.report(true) };
        },
        welcomed(welcome) {
          subject = claimsOf(token).sub;
          welcomed(welcome, sent);
        },
        frame: take,
        ended,
      });
    } catch (thrown) {
      refuse({ code: "url", message: String(thrown) });
    }
  }

  function welcomed(welcome: Welcome, sent: Record<string, string>): void {
    const mine = generation;
    attempting = retriedToken = false;
    connectedAt = p.now();
    counts.sent();
    learn(welcome);
    quiet = welcome.heartbeat * 1000 || quiet;
    live = welcome.live;
    serverReason = "";
    const { heartbeat: rhythm } = opts;
    if (rhythm !== false)
      beat = heartbeat({
        now: p.now,
        after,
        interval: () => (p.document?.visibilityState === "visible" ? (rhythm?.interval ?? 4_000) : quiet),
        timeout: rhythm?.timeout ?? 1_000,
        ping: () => socket?.send({ op: "ping" }),
        silent(now) {
          silent = now;
          show();
        },
        dead: () => ended({ code: 0, opened: true }),
      });
    signal("welcomed");
    if (mine !== generation) return;
    rooms.welcome(welcome.rooms, sent, true);
    rooms.save();
  }

  function take(frame: Frame): void {
    beat?.heard();
    switch (frame.op) {
      case "event":
        rooms.event(frame);
        break;
      case "resync":
        rooms.resync(frame);
        break;
      case "cursor":
        rooms.cursor(frame.room, frame.cursor);
        break;
      case "status":
        live = frame.live;
        serverReason = frame.reason ?? "";
        show();
        break;
      case "token_expiring":
        tokens.renew();
        break;
      case "refreshed":
        refreshing = false;
        learn(frame);
        rooms.refreshed(frame.rooms);
        break;
      case "mode":
        switched = frame.transport === "polling";
    }
    rooms.save();
  }

  function ended({ code, delay, opened }: End): void {
    log(`socket ended: ${code}`);
    const was = connectedAt;
    const renewing = refreshing;
    teardown();
    why = "network";
    if (code === 4410) switched = true;
    if (switched) return signal("switched");
    if (code === 4403 && !renewing) return refuse({ code: "forbidden", message: "the token names no usable room" });
    if (code === 4400 || code === 1009)
      return refuse({ code: "malformed", message: `the server does not understand this client (${code})` });
    if (code === 4401 && tokenRefused(tokens.current())) return;
    if (!p.online()) return signal("offline");
    if (!opened && !probed) void look();
    if (was && p.now() - was >= STEADY) failures = 0;
    else if (delay === undefined) failures++;
    signal(failures >= (opts.attempts ?? 5) ? "tripped" : "dropped");
    // The server says when to come back; a new token is tried at once, the first time.
    if (code === 4401 && !retriedToken) delay = 0;
    if (code === 4401) retriedToken = true;
    if (delay !== undefined && state === "RECONNECTING") {
      schedule(delay);
      show();
    }
  }

  /** Whether that is the end: nobody will give another. */
  function tokenRefused(token: string | null): boolean {
    why = "token";
    if (token !== null) tokens.refuse(token);
    const fault: RowcastError = { code: "token", message: "the server refuses the token" };
    if (typeof opts.token === "string") {
      refuse(fault);
      return true;
    }
    error = fault;
    return false;
  }

  /** A handshake that fails says nothing about why; a request without a token does, once. */
  async function look(): Promise<void> {
    probed = true;
    const mine = base;
    if (!p.fetch) return;
    const { status, body } = await request(p, after, `${base}/v1/events`, null, 10_000, new AbortController());
    if (running && mine === base && !halted && state !== "CONNECTED") fault(status, body as Refusal);
  }

  /** Whether it is the end. */
  function fault(status: number, refusal: Refusal): boolean {
    const what = faultOf(base, status, refusal);
    if (!what) return false;
    if (status !== 404 || refusal.base_path !== undefined) {
      refuse(what);
      return true;
    }
    error = what;
    show();
    return false;
  }

  // ---- Pages

  function takePage(page: Page, sent: Record<string, string>): void {
    const mine = generation;
    retriedToken = false;
    error = null;
    waits = 0;
    learn(page);
    live = page.live;
    serverReason = page.reason ?? "";
    rooms.welcome(page.rooms, sent, freshPage);
    freshPage = false;
    for (const frame of page.resync) rooms.resync(frame);
    for (const frame of page.events) if (mine === generation) rooms.event(frame);
    if (mine !== generation) return;
    for (const [room, { cursor }] of Object.entries(page.rooms)) rooms.cursor(room, cursor);
    rooms.save();
    const was = switched;
    switched = page.transport === "polling";
    show();
    if (was && !wantsPolling()) signal("unswitched");
  }

  function pollFailed({ status, refusal, token }: Failure): number | undefined {
    log(`poll: ${status}`);
    if (status === 401) {
      if (token === null) {
        why = "token";
        return tokenDelay();
      }
      if (tokenRefused(token) || retriedToken) return undefined;
      retriedToken = true;
      return 0;
    }
    if (fault(status, refusal) || status === 404) return undefined;
    error = {
      code: "network",
      message: `${base}/v1/events: ${refusal.message ?? (status || "not reached, or this page's origin is not allowed")}`,
    };
    return undefined;
  }

  // ---- Surroundings

  const woken = (): void => {
    if (!halted && p.online() && p.document?.visibilityState !== "hidden") signal("woken");
  };
  const offline = (): void => {
    if (!halted) signal("offline");
  };
  const stored = (event: Event): void => {
    const { key } = event as StorageEvent;
    const { token } = opts;
    if (halted) return;
    if (key === SWITCH || key === null) reconsider();
    if (typeof token !== "object" || (key !== token.key && key !== null)) return;
    if (state === "CONNECTED") tokens.renew();
    else {
      if (poll.running()) poll.start();
      connect();
    }
  };
  function reconsider(): void {
    const wanted = wantsPolling();
    if (wanted !== (why === "switched" && state === "DEGRADED")) signal(wanted ? "switched" : "unswitched");
  }
  const surroundings = (how: "addEventListener" | "removeEventListener"): void => {
    p.events?.[how]("online", woken);
    p.events?.[how]("pageshow", woken);
    p.events?.[how]("offline", offline);
    p.events?.[how]("storage", stored);
    p.document?.[how]("visibilitychange", woken);
    p.document?.[how]("resume", woken);
  };

  // ---- What the application calls

  function begin(name: "start" | "retry"): void {
    halted = probed = retriedToken = switched = false;
    error = null;
    failures = waits = 0;
    why = "connecting";
    const resolved = resolveUrl(opts.url, p);
    if (typeof resolved !== "string") return refuse(resolved);
    base = resolved;
    signal(p.online() ? name : "offline");
  }

  function reconnect(): void {
    if (!running) return;
    endAll();
    begin("retry");
  }

  async function load(): Promise<void> {
    loaded = true;
    const mine = generation;
    try {
      rooms.load((await opts.cursors?.load()) ?? {});
    } catch (thrown) {
      log("cursors cannot be loaded", thrown);
    }
    if (mine === generation) begin("start");
    else loaded = false;
  }

  const kind = (token: TokenSource): string =>
    typeof token === "object" ? `${token.storage} ${token.key}` : typeof token;

  return {
    start() {
      if (running) return;
      running = true;
      debugging = !!p.localStorage?.getItem("rowcast:debug");
      counts.state(state);
      surroundings("addEventListener");
      if (opts.cursors && !loaded) void load();
      else begin("start");
    },
    stop() {
      if (!running) return;
      running = false;
      surroundings("removeEventListener");
      rooms.stop();
      tokens.stop();
      why = "connecting";
      error = null;
      signal("stop");
      counts.state(null);
    },
    reconnect,
    setOptions(next) {
      const before = opts;
      opts = next;
      if (!running) return;
      if (
        next.url !== before.url ||
        kind(next.token) !== kind(before.token) ||
        String(next.types) !== String(before.types)
      )
        reconnect();
      else if (typeof next.token === "string" && next.token !== before.token) {
        if (state === "CONNECTED") tokens.renew();
        else reconnect();
      } else if (!halted) reconsider();
    },
    getStatus: () => status,
    subscribe(listener) {
      // The same function may subscribe more than once.
      const entry = (): void => listener();
      listeners.add(entry);
      return () => void listeners.delete(entry);
    },
    on: (pattern: string, handler: (event: never) => void) => events.on(pattern, handler as never),
    report: () => counts.report(),
  } as RowcastClient<Events>;
}
