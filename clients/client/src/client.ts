/** The client: the transition table's driver, and what holds sockets, polls, tokens and rooms together. */

import { counters } from "./counters";
import { emitter } from "./emitter";
import { heartbeat, type Heartbeat } from "./heartbeat";
import { guarded, platformOf, timers, type Cancel } from "./platform";
import { poller } from "./poller";
import { roomsOf } from "./rooms";
import { openSocket, type Socket } from "./socket";
import { names, step, type Action, type Letter, type Signal } from "./table";
import { claimsOf, tokensOf } from "./tokens";
import type { EventMap, RowcastClient, RowcastError, RowcastOptions, Status } from "./types";
import { resolveUrl } from "./url";
import type { Frame, Page, Refusal, Welcome } from "./wire";

const SWITCH = "rowcast:transport";
/** A connection that was lost sooner counts as a failed attempt. */
const STEADY = 5_000;
/** So often a storage is looked at for a token that is not there yet. */
const LOOK = 1_000;

/** Makes a client; it does nothing before it is started. */
export function createClient<Events extends object = EventMap>(given: RowcastOptions): RowcastClient<Events> {
  let opts = given;
  const options = (): RowcastOptions => opts;
  const p = platformOf(given.platform);
  const { now } = p;
  const after = timers(p);
  const [on, emit] = emitter();
  const [countState, countRefresh, countAge, report, reportArrived] = counters(now);
  const listeners = new Set<() => void>();

  let running = false;
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
  let connectedAt = 0;
  let quiet: number;
  let refreshing = false;
  let switched = false;
  let freshPage = false;
  let subject: unknown;
  /** The server's clock less this one's. */
  let skew = NaN;

  // What the status is made of.
  let state: Letter = "I";
  let why = "connecting";
  let live = true;
  let serverReason: string | undefined;
  let silent = false;
  let failing = false;
  let error: RowcastError | null = null;
  let nextConnect = Infinity;
  let nextPoll = Infinity;
  let status = {} as Status;

  const log = (what: unknown): void => {
    const to = opts.debug ?? debugging;
    if (to) guarded(() => (to === true ? console.debug : to)(`rowcast: ${what}`));
  };

  function show(): void {
    const connected = state === "C";
    const degraded = state === "D";
    const remote = live ? "" : serverReason || "server";
    const own = silent ? "silent" : failing ? "snapshot" : "";
    const reason = connected ? remote || own : error?.code || (degraded && remote) || why;
    const light = degraded ? "delayed" : !connected ? "reconnecting" : reason ? "delayed" : "live";
    const nextAt = Math.min(nextConnect, nextPoll);
    const next: Status = {
      state: names[state],
      light,
      reason,
      since: names[state] === status.state && light === status.light ? status.since : now(),
      transport: connected ? "websocket" : isPolling() ? "polling" : null,
      nextAttemptAt: nextAt < Infinity ? nextAt : null,
      error,
    };
    if (JSON.stringify(next) === JSON.stringify(status)) return;
    status = next;
    for (const listener of [...listeners]) guarded(listener);
  }

  const longest = (): number => opts.backoff?.max ?? 30_000;
  /** Full jitter. */
  const backoff = (n: number, max = longest(), min = opts.backoff?.min ?? 500): number =>
    p.random() * Math.min(max, min * 2 ** n);

  const learn = (frame: { readonly now?: string; readonly expires_at: string }): void => {
    if (frame.now) skew = Date.parse(frame.now) - now();
    keepToken(Date.parse(frame.expires_at));
  };

  const [getToken, currentToken, refuseToken, keepToken, renewToken, stopTokens] = tokensOf(
    p,
    options,
    after,
    () => now() + skew,
    countRefresh,
    (token) => {
      if (state !== "C") return;
      // In place another subject's token is refused.
      if (claimsOf(token).sub !== subject) return reconnect();
      refreshing = true;
      socket?.send({ op: "refresh", token });
    },
    log,
  );

  const [loadCursors, storedCursors, seenCursors, rewindRooms, welcomeRooms, takeFrame, resyncRoom, stopRooms] = roomsOf(
    options,
    after,
    backoff,
    (event) => {
      const age = now() + skew - Date.parse(event.at);
      if (age === age) countAge(age);
      emit(event);
    },
    () => {
      if (isPolling()) startPolling();
      else ended(0, true);
    },
    (is) => {
      failing = is;
      show();
    },
  );

  const [restartPolling, isPolling, stopPolling] = poller(p, after, () => base, options, getToken, seenCursors, takePage, pollFailed, (at) => {
    nextPoll = at;
    // Who ends the polling shows what comes instead.
    if (at < Infinity) show();
  });

  // ---- The machine

  const actions: Record<Action, () => void> = {
    none() {},
    connect,
    backoff: () => schedule(backoff(failures)),
    await: () => schedule(tokenDelay()),
    settle() {
      stopPolling();
      waits = 0;
      error = null;
    },
    probe: () => beat?.probe(),
    degrade() {
      if (!isPolling()) startPolling();
      schedule(longest() * (0.5 + p.random() / 2));
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
      halt();
      why = "offline";
      schedule(longest());
    },
    halt,
  };

  function signal(name: Signal): void {
    const [next, action] = step(state, name);
    log(`${names[state]}: ${name} → ${names[next]}, ${action}`);
    if (next !== state) countState(names[(state = next)]);
    actions[action]();
    show();
  }

  /** What the application has to mend; `final`: nothing but a button, other options or a new start helps. Returns it. */
  function refuse(code: RowcastError["code"], message: string, final = true): boolean {
    log(message);
    // What is wrong in the application's code or configuration gets the one line on the console.
    if (final && !/^[tf]/.test(code) && error?.message !== message) console.error(`rowcast: ${message}`);
    error = { code, message };
    if (final) {
      surroundings("removeEventListener");
      signal("refused");
    }
    return final;
  }

  function teardown(): void {
    generation++;
    socket?.close();
    beat?.stop();
    socket = beat = null;
    cancelAttempt();
    attempting = silent = refreshing = false;
    connectedAt = 0;
    nextConnect = Infinity;
  }

  function halt(): void {
    teardown();
    stopPolling();
  }

  function startPolling(): void {
    if (opts.polling === false) return;
    rewindRooms();
    freshPage = live = true;
    restartPolling();
  }

  function schedule(ms: number): void {
    cancelAttempt();
    nextConnect = now() + ms;
    cancelAttempt = after(ms, connect);
  }

  const tokenDelay = (): number => backoff(waits++, typeof opts.token === "object" ? LOOK : undefined);

  const wantsPolling = (): boolean =>
    switched || opts.transport === "polling" || p.localStorage?.getItem(SWITCH) === "polling";

  // ---- Sockets

  function connect(): void {
    if (attempting) return;
    if (wantsPolling()) return signal("switched");
    if (!p.WebSocket)
      return void refuse("platform", "no WebSocket here: pass platform: { WebSocket }");
    cancelAttempt();
    nextConnect = Infinity;
    attempting = true;
    const mine = generation;
    void getToken().then((token) => {
      if (mine === generation) open(token);
    });
  }

  function open(token: string | null): void {
    if (token === null) {
      attempting = false;
      why = "token";
      return signal("untokened");
    }
    let sent: Record<string, string> = {};
    try {
      socket = openSocket(
        p.WebSocket!,
        `ws${base.slice(4)}/ws`,
        after,
        opts.connectTimeout ?? 10_000,
        () => {
          // Two ways in at a time would hand events on twice.
          stopPolling();
          sent = storedCursors();
          return { op: "auth", token, resume: sent, types: opts.types, report: report() };
        },
        (welcome) => {
          subject = claimsOf(token).sub;
          welcomed(welcome, sent);
        },
        take,
        ended,
      );
    } catch (thrown) {
      refuse("url", String(thrown));
    }
  }

  function welcomed(welcome: Welcome, sent: Record<string, string>): void {
    attempting = false;
    connectedAt = now();
    reportArrived();
    learn(welcome);
    quiet = welcome.heartbeat * 1000 || 25_000;
    live = welcome.live;
    serverReason = "";
    const rhythm = opts.heartbeat ?? {};
    if (rhythm)
      beat = heartbeat(
        now,
        after,
        () => (p.document?.visibilityState === "visible" ? (rhythm.interval ?? 4_000) : quiet),
        rhythm.timeout ?? 1_000,
        () => socket?.send({ op: "ping" }),
        (is) => {
          silent = is;
          show();
        },
        () => ended(0, true),
      );
    const mine = generation;
    signal("welcomed");
    if (mine !== generation) return;
    welcomeRooms(welcome.rooms, sent, true);
  }

  function take(frame: Frame): void {
    beat?.heard();
    if (frame.op === "event" || frame.op === "cursor") takeFrame(frame);
    if (frame.op === "resync") resyncRoom(frame);
    if (frame.op === "status") {
      live = frame.live;
      serverReason = frame.reason;
      show();
    }
    // While a newer one is on its way to the server, it is the old one's end that it speaks of.
    if (frame.op === "token_expiring" && !refreshing) renewToken();
    if (frame.op === "refreshed") {
      refreshing = false;
      learn(frame);
      welcomeRooms(frame.rooms, seenCursors(), false);
    }
    if (frame.op === "mode") switched = frame.transport === "polling";
  }

  function ended(code: number, opened: boolean, delay?: number): void {
    log(`socket ended: ${code}`);
    const lasted = connectedAt && now() - connectedAt;
    const renewing = refreshing;
    teardown();
    why = "network";
    if (code === 4410) switched = true;
    if (switched) return signal("switched");
    if (code === 4403 && !renewing) return void refuse("forbidden", "the token names no usable room");
    if (code === 4400 || code === 1009) return void refuse("malformed", `closed with ${code}`);
    if (code === 4401 && tokenRefused(currentToken())) return;
    if (!p.online()) return signal("offline");
    if (!opened && !failures) look().catch(log);
    if (lasted >= STEADY) failures = 0;
    else if (delay === undefined) failures++;
    signal(failures < (opts.attempts ?? 5) ? "dropped" : "tripped");
    if (delay === undefined || state !== "R") return;
    schedule(delay);
    show();
  }

  /** Whether that is the end: nobody will give another. */
  function tokenRefused(token: string | null): boolean {
    why = "token";
    refuseToken(token);
    return refuse("token", "the server refuses the token", typeof opts.token === "string");
  }

  /** A handshake that fails says nothing about why; a request without a token does. */
  async function look(): Promise<void> {
    const mine = base;
    const answer = await p.fetch!(`${base}/v1/events`);
    const refusal = (await answer.json()) as Refusal;
    if (answer.status === 401 || !running || mine !== base || state === "C") return;
    fault(answer.status, refusal);
    show();
  }

  /** An answer that is no page. What the application can mend about it is final. */
  function fault(code: number, { error: what, message, base_path }: Refusal): void {
    const right = base_path === undefined ? "" : `: use ${new URL(base).origin}${base_path}`;
    const kind =
      what === "origin" ? what : code === 403 ? "forbidden" : code === 400 ? "malformed" : code === 404 ? "path" : "network";
    refuse(
      kind,
      `${base}: ${message ?? (code || "not reached, or not from this origin")}${right}`,
      code === 404 ? !!right : kind !== "network",
    );
  }

  // ---- Pages

  function takePage(page: Page, sent: Record<string, string>): void {
    const mine = generation;
    error = null;
    waits = 0;
    learn(page);
    live = page.live;
    serverReason = page.reason;
    welcomeRooms(page.rooms, sent, freshPage);
    freshPage = false;
    for (const frame of page.resync) resyncRoom(frame);
    for (const frame of page.events) if (mine === generation) takeFrame(frame);
    if (mine !== generation) return;
    for (const [room, { cursor }] of Object.entries(page.rooms)) takeFrame({ op: "cursor", room, cursor });
    const was = switched;
    switched = page.transport === "polling";
    show();
    if (was && !wantsPolling()) signal("unswitched");
  }

  function pollFailed(code: number, refusal: Refusal, token: string | null): number | undefined {
    if (code === 401) {
      if (token === null) why = "token";
      else tokenRefused(token);
      return tokenDelay();
    }
    fault(code, refusal);
    return;
  }

  // ---- Surroundings

  const woken = (): void => {
    if (p.online() && p.document?.visibilityState !== "hidden") signal("woken");
  };
  const offline = (): void => signal("offline");
  const stored = (event: Event): void => {
    const { key } = event as StorageEvent;
    if (key === SWITCH || key === null) signal(wantsPolling() ? "switched" : "unswitched");
    if (typeof opts.token !== "object" || (key !== opts.token.key && key !== null)) return;
    // It may come when the token that was stored has long been found there, by whoever waited for another tab's refresh.
    if (p.localStorage?.getItem(opts.token.key) === currentToken()) return;
    if (state === "C") return renewToken();
    if (isPolling()) restartPolling();
    connect();
  };
  function surroundings(how: "addEventListener" | "removeEventListener"): void {
    const { events, document } = p;
    events?.[how]("storage", stored);
    events?.[how]("offline", offline);
    events?.[how]("online", woken);
    events?.[how]("pageshow", woken);
    document?.[how]("visibilitychange", woken);
    document?.[how]("resume", woken);
  }

  // ---- What the application calls

  function begin(name: "start" | "retry"): void {
    switched = false;
    failures = waits = 0;
    why = "connecting";
    error = null;
    surroundings("addEventListener");
    const [code, text] = resolveUrl(opts.url, p.location?.href);
    if (code) return void refuse(code, text);
    base = text;
    signal(p.online() ? name : "offline");
  }

  function reconnect(): void {
    if (!running) return;
    halt();
    begin("retry");
  }

  async function load(): Promise<void> {
    const mine = generation;
    try {
      loadCursors((await opts.cursors?.load()) ?? {});
    } catch (thrown) {
      log(thrown);
    }
    if (mine === generation) begin("start");
  }

  /** What cannot be changed without connecting anew. */
  const kind = ({ url, token, types, transport }: RowcastOptions): string =>
    String([url, typeof token === "object" ? token.storage + token.key : typeof token, types, transport]);

  show();
  return {
    start() {
      if (running) return;
      running = true;
      debugging = !!p.localStorage?.getItem("rowcast:debug");
      countState(names[state]);
      void load();
    },
    stop() {
      if (!running) return;
      running = false;
      surroundings("removeEventListener");
      stopRooms();
      stopTokens();
      why = "connecting";
      error = null;
      signal("stop");
      countState(null);
    },
    reconnect,
    setOptions(next) {
      const before = opts;
      opts = next;
      if (!running) return;
      if (kind(next) !== kind(before)) reconnect();
      else if (typeof next.token === "string" && next.token !== before.token) {
        if (state !== "C") reconnect();
        else renewToken();
      }
    },
    getStatus: () => status,
    subscribe(listener) {
      // The same function may subscribe more than once.
      const entry = (): void => listener();
      listeners.add(entry);
      return () => void listeners.delete(entry);
    },
    on,
    report,
  } as RowcastClient<Events>;
}
