/**
 * Tokens: where they come from, when they are to be replaced, and that one at a time is asked for.
 *
 * A token is read, never verified: what it says about its times is compared with the server's clock.
 */

import type { After, Cancel } from "./platform";
import type { Platform, RowcastOptions, TokenRequest, TokenSource } from "./types";

type Reason = TokenRequest["reason"];

/** A source that does not answer for so long is given up. */
const PATIENCE = 30_000;
const HOUR = 3_600_000;
/** What one tab stores, others read some milliseconds later (measured in Chromium: two, where nothing else is busy). */
const SEEN = 100;

export interface Claims {
  readonly exp?: unknown;
  readonly iat?: unknown;
  readonly sub?: unknown;
}

/** What a token says, unverified; nothing if it is not a JSON Web Token. */
export function claimsOf(token: string | null): Claims {
  try {
    return Object(JSON.parse(atob(token!.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")))) as Claims;
  } catch {
    return {};
  }
}

type Ask = (request: TokenRequest) => string | null | undefined | Promise<string | null | undefined>;

/** How a source is looked at, how it is made to give another token, and where that is kept. */
function waysOf(source: TokenSource, p: Platform): [look: Ask, refresh?: Ask, store?: (token: string) => void] {
  if (typeof source === "string") return [() => source];
  if (typeof source === "function") return [source, source];
  const storage = p[`${source.storage}Storage`];
  const { key, refresh } = source;
  const look = () => storage?.getItem(key);
  return refresh ? [look, refresh, (token) => storage?.setItem(key, token)] : [look];
}

export type Tokens = [
  /** A token to connect or poll with; null: none is there yet. */
  get: () => Promise<string | null>,
  /** The one that was given out last. */
  current: () => string | null,
  /** The server has refused this one. */
  refuse: (token: string | null) => void,
  /** The server takes the current one until then, in milliseconds: it is replaced in time. */
  until: (expiresAt: number) => void,
  /** Replaces the current one now. */
  renew: () => void,
  stop: () => void,
];

export function tokensOf(
  p: Platform,
  options: () => RowcastOptions,
  after: After,
  /** The server's time; NaN as long as it is not known. */
  serverNow: () => number,
  count: (ok: boolean) => void,
  /** A newer token is there before the old one ends. */
  renewed: (token: string) => void,
  failed: (error: unknown) => void,
): Tokens {
  let current: string | null = null;
  let refused: string | null = null;
  let flight: Promise<string | null> | null = null;
  let asking: AbortController | undefined;
  let cancel: Cancel = () => {};
  let ends = 0;

  const find = async (reason: Reason, signal: AbortSignal): Promise<string | null | undefined> => {
    const { token: source, url } = options();
    const request: TokenRequest = { reason, previous: current, signal };
    const usable = (token: string | null | undefined): boolean =>
      !!token &&
      token !== refused &&
      !(Number(claimsOf(token).exp) * 1000 <= serverNow()) &&
      (reason !== "expiring" || token !== current);
    const [look, refresh, store] = waysOf(source, p);

    if (look !== refresh || reason === "connect") {
      const token = await look(request);
      if (usable(token)) return token;
      // Without any nobody has signed in: there is nothing to refresh.
      if (!token || !refresh) return null;
      current ??= token;
      if (reason === "connect") return find("expiring", signal);
    }
    const renewal = async (): Promise<string | null | undefined> => {
      // Another tab may have been first.
      let token = store && (await look(request));
      if (usable(token)) return token;
      token = await refresh(request);
      if (token && store) {
        store(token);
        // The lock is held until the others see it: who got it sooner would refresh again.
        await new Promise<void>((seen) => after(SEEN, seen));
      }
      return token;
    };
    // One tab at a time.
    return p.locks?.request(`rowcast:token:${typeof source === "object" ? source.key : url}`, { signal }, renewal) ?? renewal();
  };

  const ask = async (reason: Reason): Promise<string | null> => {
    const abort = (asking = new AbortController());
    const { signal } = abort;
    const before = current;
    let token: string | null | undefined;
    const giveUp = after(PATIENCE, () => abort.abort());
    try {
      token = await Promise.race([
        find(reason, signal),
        new Promise<never>((_, reject) => {
          signal.onabort = reject;
        }),
      ]);
    } catch (error) {
      failed(error);
    }
    giveUp();
    if (!token || token === refused) token = null;
    else {
      current = token;
      refused = null;
    }
    if (reason !== "connect") count(!!token && token !== before);
    return token;
  };

  const get = (reason: Reason): Promise<string | null> => {
    const mine = (flight ??= ask(reason).finally(() => {
      if (flight === mine) flight = null;
    }));
    return mine;
  };

  const renew = async (): Promise<void> => {
    cancel();
    const before = current;
    const token = await get("expiring");
    if (token && token !== before) return renewed(token);
    const left = ends - (serverNow() || p.now());
    if (left > 0) renewIn(left / 4);
  };

  const renewIn = (ms: number): void => {
    cancel();
    cancel = after(Math.max(ms, 1_000), () => void renew());
  };

  return [
    () => get(refused === null ? "connect" : "refused"),
    () => current,
    (token) => {
      refused = token;
      cancel();
    },
    (expiresAt) => {
      const { token, refreshAhead = HOUR } = options();
      if (typeof token === "string" || !expiresAt) return;
      ends = expiresAt;
      const now = serverNow() || p.now();
      const from = Number(claimsOf(current).iat) * 1000 || now;
      const due = Math.max(ends - refreshAhead, from + (ends - from) * 0.8);
      // Tokens that all end at one moment would otherwise be replaced without pause.
      renewIn(Math.max(due - now, (ends - now) / 4));
    },
    () => void renew(),
    () => {
      cancel();
      ends = 0;
      asking?.abort();
      flight = null;
    },
  ];
}
