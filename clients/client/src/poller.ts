/** Pages over HTTP, with the same cursors: when sockets fail or are switched off. */

import type { After, Cancel } from "./platform";
import type { Platform, RowcastError, RowcastOptions } from "./types";
import type { Page, Refusal } from "./wire";

/** What became of a request that brought no page. */
export interface Failure {
  readonly status: number;
  readonly refusal: Refusal;
  readonly token: string | null;
}

export interface Poller {
  /** Polls now and from time to time. */
  start(): void;
  running(): boolean;
  /** Gives up what is under way, and asks for nothing more. */
  stop(): void;
}

/** Asks an edge, and reads what it says whatever its status. Status 0: it was not reached. */
export async function request(
  p: Platform,
  after: After,
  url: string,
  token: string | null,
  timeout: number,
  abort: AbortController,
): Promise<{ status: number; body: unknown; retryAfter: number }> {
  const cancel = after(timeout, () => abort.abort());
  try {
    const answer = await p.fetch!(url, {
      headers: { accept: "application/json", ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
      cache: "no-store",
      signal: abort.signal,
    });
    const retryAfter = Number(answer.headers.get("retry-after")) * 1000 || 0;
    return { status: answer.status, body: await answer.json().catch(() => ({})), retryAfter };
  } catch {
    return { status: 0, body: {}, retryAfter: 0 };
  } finally {
    cancel();
  }
}

/** What an application can mend about an answer, if it can. */
export function faultOf(base: string, status: number, { error, message, base_path }: Refusal): RowcastError | null {
  if (status === 403)
    return { code: error === "origin" ? "origin" : "forbidden", message: message ?? `${base} refuses` };
  if (status === 400) return { code: "malformed", message: message ?? `${base} does not understand` };
  if (status !== 404) return null;
  const right = base_path === undefined ? "" : `: the right url is ${new URL(base).origin}${base_path}`;
  return { code: "path", message: `no Rowcast at ${base}${right}` };
}

export function poller(env: {
  readonly p: Platform;
  readonly after: After;
  readonly base: () => string;
  readonly options: () => RowcastOptions;
  readonly token: () => Promise<string | null>;
  /** Where the reception stands. */
  readonly seen: () => Record<string, string>;
  readonly page: (page: Page, sent: Record<string, string>) => void;
  /** How long to wait before the next request, in milliseconds; undefined: the usual time. */
  readonly failed: (failure: Failure) => number | undefined;
  /** The next is due then. */
  readonly planned: (at: number | null) => void;
}): Poller {
  let abort: AbortController | undefined;
  let cancel: Cancel | undefined;

  const plan = (ms: number): void => {
    env.planned(env.p.now() + ms);
    cancel = env.after(ms, () => void poll());
  };

  const poll = async (): Promise<void> => {
    const mine = (abort = new AbortController());
    const { polling, types, connectTimeout = 10_000 } = env.options();
    const { interval = 60_000, wait = 0 } = polling || {};
    const usual = Math.max(interval, wait ? 0 : 1_000);
    const over = (): boolean => mine !== abort;
    env.planned(null);
    const token = await env.token();
    if (over()) return;
    if (token === null) return plan(env.failed({ status: 401, refusal: {}, token }) ?? usual);
    const sent = env.seen();
    const after = form(sent);
    const query = form({
      ...(after ? { after } : {}),
      ...(wait ? { wait: String(wait) } : {}),
      ...(types ? { types: types.join() } : {}),
    });
    const url = `${env.base()}/v1/events${query ? `?${query}` : ""}`;
    const { status, body, retryAfter } = await request(env.p, env.after, url, token, connectTimeout + wait * 1000, mine);
    if (over()) return;
    // Anything between here and the edge may answer 200 with something of its own.
    const page = status === 200 && (body as Partial<Page>).rooms ? (body as Page) : null;
    let delay: number | undefined = page?.more ? 0 : usual;
    if (page) env.page(page, sent);
    else delay = env.failed({ status, refusal: body as Refusal, token });
    // Whoever heard of it may have ended the polling.
    if (!over()) plan(Math.max(delay ?? usual, retryAfter));
  };

  const stop = (): void => {
    cancel?.();
    abort?.abort();
    abort = undefined;
  };
  return {
    start() {
      stop();
      void poll();
    },
    running: () => !!abort,
    stop,
  };
}

const form = (fields: Record<string, string>): string =>
  Object.entries(fields)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join("&");
