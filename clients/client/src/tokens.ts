/**
 * Tokens: where they come from, when they are to be replaced, and that one at a time is asked for.
 *
 * A token is read, never verified: what it says about its times is compared with the server's clock.
 */

import type { After, Cancel } from "./platform";
import type { Platform, RowcastOptions, TokenRequest } from "./types";

type Reason = TokenRequest["reason"];

/** A source that does not answer for so long is given up. */
const PATIENCE = 30_000;
const HOUR = 3_600_000;

export interface Claims {
  readonly exp?: unknown;
  readonly iat?: unknown;
  readonly sub?: unknown;
}

/** What a token says, unverified; nothing if it is not a JSON Web Token. */
export function claimsOf(token: string): Claims {
  try {
    const claims: unknown = JSON.parse(atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/")));
    return claims && typeof claims === "object" ? claims : {};
  } catch {
    return {};
  }
}

export interface Tokens {
  /** A token to connect or poll with; null: none is there yet. */
  get(): Promise<string | null>;
  /** The server has refused this one. */
  refuse(token: string): void;
  /** The server takes the current one until then, in milliseconds: it is replaced in time. */
  until(expiresAt: number): void;
  /** Now. */
  renew(): void;
  /** The one that was given out last. */
  current(): string | null;
  stop(): void;
}

export function tokensOf(env: {
  readonly p: Platform;
  readonly options: () => RowcastOptions;
  readonly after: After;
  /** The server's time, as soon as it is known. */
  readonly serverNow: () => number | undefined;
  readonly count: (ok: boolean) => void;
  /** A newer token is there before the old one ends. */
  readonly renewed: (token: string) => void;
  readonly failed: (message: string) => void;
}): Tokens {
  let current: string | null = null;
  let refused: string | null = null;
  let flight: Promise<string | null> | null = null;
  let timer: Cancel | undefined;
  let ends = 0;
  let life = new AbortController();

  const isOver = (token: string): boolean => {
    const now = env.serverNow();
    const { exp } = claimsOf(token);
    return now !== undefined && typeof exp === "number" && exp * 1000 <= now;
  };

  /** One tab at a time. */
  const alone = <T>(run: () => Promise<T>): Promise<T> => {
    const { token, url } = env.options();
    const name = `rowcast:token:${typeof token === "object" ? token.key : url}`;
    return env.p.locks ? (env.p.locks.request(name, { signal: life.signal }, run) as Promise<T>) : run();
  };

  const patiently = async (
    run: (request: TokenRequest) => ReturnType<Extract<RowcastOptions["token"], (request: TokenRequest) => unknown>>,
    reason: Reason,
    previous: string | null,
  ): Promise<string | null> => {
    const abort = new AbortController();
    const { signal } = life;
    let give = (): void => {};
    const end = new Promise<never>((_, reject) => {
      give = () => {
        reject(new Error("the token source does not answer"));
        abort.abort();
      };
    });
    const cancel = env.after(PATIENCE, give);
    signal.addEventListener("abort", give);
    try {
      return (await Promise.race([run({ reason, previous, signal: abort.signal }), end])) || null;
    } finally {
      cancel();
      signal.removeEventListener("abort", give);
    }
  };

  const find = async (reason: Reason): Promise<string | null> => {
    const source = env.options().token;
    if (typeof source === "string") return source;
    if (typeof source === "function") {
      if (reason === "connect") {
        const token = await patiently(source, reason, current);
        if (!token || !isOver(token)) return token;
        reason = "expiring";
      }
      const why = reason;
      return alone(() => patiently(source, why, current));
    }
    const read = (): string | null => env.p[`${source.storage}Storage`]?.getItem(source.key) || null;
    const old = read();
    const isOld = (token: string | null): boolean =>
      token === refused || token === old || (reason === "expiring" && token === current);
    const { refresh } = source;
    if (!old || (old !== refused && !isOver(old) && (reason !== "expiring" || old !== current))) return old;
    if (!refresh) return null;
    return alone(async () => {
      // Another tab may have been first.
      const there = read();
      if (there && !isOld(there) && !isOver(there)) return there;
      const token = await patiently(refresh, reason === "connect" ? "expiring" : reason, old);
      if (token && token !== read()) env.p[`${source.storage}Storage`]?.setItem(source.key, token);
      return token;
    });
  };

  const ask = async (reason: Reason): Promise<string | null> => {
    const before = current;
    let token: string | null = null;
    try {
      token = await find(reason);
      if (token === refused) token = null;
    } catch (error) {
      env.failed(String(error));
    }
    if (reason !== "connect") env.count(!!token && token !== before);
    if (token) {
      current = token;
      refused = null;
    }
    return token;
  };

  const get = (reason: Reason): Promise<string | null> => {
    if (flight) return flight;
    const mine = ask(reason).finally(() => {
      if (flight === mine) flight = null;
    });
    return (flight = mine);
  };

  const renew = async (): Promise<void> => {
    timer?.();
    if (typeof env.options().token === "string") return;
    const { signal } = life;
    const before = current;
    const token = await get("expiring");
    if (signal.aborted) return;
    if (token && token !== before) return env.renewed(token);
    const left = ends - (env.serverNow() ?? env.p.now());
    if (left > 0) renewIn(Math.max(1_000, left / 4));
  };

  const renewIn = (ms: number): void => {
    timer?.();
    timer = env.after(ms, () => void renew());
  };

  return {
    get: () => get(refused === null ? "connect" : "refused"),
    refuse(token) {
      refused = token;
      timer?.();
    },
    until(expiresAt) {
      if (!(expiresAt > 0)) return;
      ends = expiresAt;
      const now = env.serverNow() ?? env.p.now();
      const { iat } = claimsOf(current ?? "");
      const from = typeof iat === "number" && iat * 1000 < expiresAt ? iat * 1000 : now;
      const due = Math.max(expiresAt - (env.options().refreshAhead ?? HOUR), from + (expiresAt - from) * 0.8);
      // Tokens that all end at one moment would otherwise be replaced without pause.
      renewIn(Math.max(due - now, (expiresAt - now) / 4, 1_000));
    },
    renew: () => void renew(),
    current: () => current,
    stop() {
      timer?.();
      life.abort();
      life = new AbortController();
      flight = null;
    },
  };
}
