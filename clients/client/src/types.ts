/** What applications see of the client: options, status, events. No behaviour lives here. */

/** Event types and their data, as `rowcast types` writes them; any type with any data unless given. */
export type EventMap = Record<string, unknown>;

/** One committed change, or an event that the application published. */
export interface RowcastEvent<Type extends string = string, Data = unknown> {
  readonly room: string;
  readonly cursor: string;
  readonly id: string;
  readonly type: Type;
  /** When it was committed: RFC 3339, UTC, with microseconds. */
  readonly at: string;
  readonly data: Data;
  /** In `.updated` alone: the columns that changed. */
  readonly changed?: readonly string[];
  /** The row was too large: `data` holds its key alone. */
  readonly truncated?: boolean;
}

/** Any event of a map. A map is an `interface` as well, which is no `EventMap`. */
export type AnyEvent<Events extends object> = {
  [Type in keyof Events & string]: RowcastEvent<Type, Events[Type]>;
}[keyof Events & string];

/** The events of a map whose types a pattern matches. */
export type EventsMatching<Events extends object, Pattern extends `${string}*`> = string extends keyof Events
  ? AnyEvent<Events>
  : Extract<AnyEvent<Events>, { readonly type: Pattern extends `${infer Prefix}*` ? `${Prefix}${string}` : never }>;

/** The states of the connection. */
export type State = "INITIALIZING" | "CONNECTED" | "RECONNECTING" | "DEGRADED";

/** What users are shown. */
export type Light = "live" | "reconnecting" | "delayed";

/** Something that the application has to mend: a wrong URL, a token that is refused. */
export interface RowcastError {
  readonly code: "url" | "path" | "mixed_content" | "platform" | "token" | "forbidden" | "origin" | "malformed" | "network";
  /** What is wrong and what to do. */
  readonly message: string;
}

/** A snapshot of the connection; the same object until something in it changes. */
export interface Status {
  readonly state: State;
  readonly light: Light;
  /**
   * Why the light is not `live`, in a word; empty when it is. Of the client: `connecting`, `network`, `offline`, `token`, `switched`
   * (polling is wanted), `silent` (no answer to a ping), `snapshot`, or the error's code. Of the server: `redis`, `listener`, `lag`, `heartbeat`, ….
   */
  readonly reason: string;
  /** When `state` or `light` changed last, in milliseconds since 1970, on this machine's clock. */
  readonly since: number;
  readonly transport: "websocket" | "polling" | null;
  /** When the next attempt or poll is due, in milliseconds since 1970; null when none is. */
  readonly nextAttemptAt: number | null;
  readonly error: RowcastError | null;
}

/** Why a token is asked for. */
export interface TokenRequest {
  readonly reason: "connect" | "expiring" | "refused";
  /** The token that is to be replaced, if there was one: whoever shares tokens between tabs returns another's newer one. */
  readonly previous: string | null;
  readonly signal: AbortSignal;
}

/** Where tokens come from. Asked anew at every attempt; `null` means: not there yet. */
export type TokenSource =
  | string
  | { readonly storage: "local" | "session"; readonly key: string; readonly refresh?: (request: TokenRequest) => Promise<string | null> }
  | ((request: TokenRequest) => string | null | undefined | Promise<string | null | undefined>);

/** History does not reach back, or there is none yet: a snapshot is to be fetched, from the primary. */
export interface Resync {
  readonly room: string;
  readonly cursor: string;
  readonly reason: string;
  /** Aborted when a newer resync makes this one's snapshot useless. */
  readonly signal: AbortSignal;
}

/** Keeps cursors over reloads; without one they live as long as the client. */
export interface CursorStore {
  load(): Record<string, string> | Promise<Record<string, string>>;
  save(cursors: Record<string, string>): void;
}

/** What the client counts since its last connection, and reports with its next. */
export interface Report {
  readonly states: Partial<Record<State, number>>;
  readonly reconnects: readonly number[];
  readonly refreshes: { readonly ok: number; readonly failed: number };
  readonly ages: readonly number[];
}

/** What the client takes from its surroundings; each can be replaced, in tests or in odd places. */
export interface Platform {
  now(): number;
  random(): number;
  setTimeout(run: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  readonly WebSocket: typeof WebSocket | undefined;
  readonly fetch: typeof fetch | undefined;
  /** `window`, or a worker's global scope: `online`, `offline`, `storage`, `pageshow`. */
  readonly events: Pick<EventTarget, "addEventListener" | "removeEventListener"> | undefined;
  readonly document: (Pick<EventTarget, "addEventListener" | "removeEventListener"> & { readonly visibilityState: string }) | undefined;
  readonly location: { readonly href: string } | undefined;
  readonly localStorage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  readonly sessionStorage: Pick<Storage, "getItem" | "setItem" | "removeItem"> | undefined;
  readonly locks: Pick<LockManager, "request"> | undefined;
  readonly online: () => boolean;
  /** Of `@rowcast/client/shared` alone. */
  readonly BroadcastChannel: typeof BroadcastChannel | undefined;
}

/** All options but `url` and `token` have defaults. */
export interface RowcastOptions {
  /** Where the edges are: `http(s)` or `ws(s)`, with the base path if they have one, such as `https://example.com/realtime`; or a path, on the page's own origin. */
  readonly url: string;
  readonly token: TokenSource;
  /** Only these types: exact names, or prefixes as `booking.*`. All unless given. */
  readonly types?: readonly string[];
  /** Fetches a snapshot. Cursors are stored when it has resolved. */
  readonly onResync?: (resync: Resync) => void | Promise<void>;
  readonly cursors?: CursorStore;
  /** Failed attempts in a row before the circuit opens and the client polls; 5. */
  readonly attempts?: number;
  /** Full jitter between 0 and min(max, min × 2^n) milliseconds; 500 and 30,000. */
  readonly backoff?: { readonly min?: number; readonly max?: number };
  /** How long a connection may take to be welcomed, in milliseconds; 10,000. */
  readonly connectTimeout?: number;
  /** Of visible pages: a ping so often, and Delayed without an answer for so long, in milliseconds; 4,000 and 1,000. `false`: none. */
  readonly heartbeat?: { readonly interval?: number; readonly timeout?: number } | false;
  /** Polls so often while DEGRADED, in milliseconds, 60,000; `wait` is how long the server may hold a poll, in seconds, 0. `false`: none. */
  readonly polling?: { readonly interval?: number; readonly wait?: number } | false;
  /** How long before its end a token is refreshed, in milliseconds: an hour; at 80 % of its life if that is later. */
  readonly refreshAhead?: number;
  /** `polling` opens no socket. `localStorage["rowcast:transport"] = "polling"` does the same. */
  readonly transport?: "auto" | "polling";
  /** Where debug lines go: `true` is the console. `localStorage["rowcast:debug"]` turns it on as well. */
  readonly debug?: boolean | ((line: string) => void);
  readonly platform?: Partial<Platform>;
}

/** A client. It does nothing before `start`, and can be started again after `stop`, with its cursors kept. */
export interface RowcastClient<Events extends object = EventMap> {
  start(): void;
  stop(): void;
  /** Tries at once, whatever the state: for a button. */
  reconnect(): void;
  /** Takes other options; only another `url`, other `types`, or a token of another kind make it connect anew. */
  setOptions(options: RowcastOptions): void;
  getStatus(): Status;
  /** Called after each change of the status. Returns its own end. */
  subscribe(listener: () => void): () => void;
  /** `booking.created`, `booking.*` or `*`. Returns its own end. */
  on<Pattern extends `${string}*`>(pattern: Pattern, handler: (event: EventsMatching<Events, Pattern>) => void): () => void;
  on<Type extends keyof Events & string>(type: Type, handler: (event: RowcastEvent<Type, Events[Type]>) => void): () => void;
  /** What was counted since the last connection. */
  report(): Report;
}
