/** Pages over HTTP, with the same cursors: when sockets fail or are switched off. */

import type { After, Cancel } from "./platform";
import type { Platform, RowcastOptions } from "./types";
import type { Page, Refusal } from "./wire";

export type Poller = [
  /** Polls now and from time to time. */
  start: () => void,
  running: () => boolean,
  /** Gives up what is under way, and asks for nothing more. */
  stop: () => void,
];

/**
 * `seen`: where the reception stands. `failed` says how long to wait before the next request, in milliseconds, undefined
 * the usual time; status 401 without a token: none was there. `planned`: when the next is due.
 */
export function poller(
  p: Platform,
  after: After,
  base: () => string,
  options: () => RowcastOptions,
  getToken: () => Promise<string | null>,
  seen: () => Record<string, string>,
  took: (page: Page, sent: Record<string, string>) => void,
  failed: (status: number, refusal: Refusal, token: string | null) => number | undefined,
  planned: (at: number) => void,
): Poller {
  let abort: AbortController | null = null;
  let cancel: Cancel = () => {};

  const poll = async (): Promise<void> => {
    const mine = (abort = new AbortController());
    const { polling, types, connectTimeout = 10_000 } = options();
    const { interval = 60_000, wait = 0 } = polling || {};
    const usual = Math.max(interval, wait ? 0 : 1_000);
    planned(Infinity);
    const token = await getToken();
    if (mine !== abort) return;
    const sent = seen();
    let status = token === null ? 401 : 0;
    let body: unknown = {};
    let pause = 0;
    if (token !== null) {
      const from = form(sent);
      // A first page tells where rooms stand: it is not to be waited for.
      const query = form({ after: from, wait: from && wait ? String(wait) : "", types: types?.join() ?? "" });
      cancel = after(connectTimeout + wait * 1000, () => mine.abort());
      try {
        const answer = await p.fetch!(`${base()}/v1/events?${query}`, {
          headers: { authorization: `Bearer ${token}` },
          cache: "no-store",
          signal: mine.signal,
        });
        ({ status } = answer);
        pause = Number(answer.headers.get("retry-after")) * 1000 || 0;
        body = await answer.json();
      } catch {
        // Not reached, or no JSON: the status says which.
      }
      if (mine !== abort) return;
      cancel();
    }
    // Anything between here and the edge may answer 200 with something of its own.
    const page = status === 200 && (body as Partial<Page>).rooms ? (body as Page) : null;
    let delay: number | undefined;
    if (page) {
      took(page, sent);
      if (page.more) delay = 0;
    } else delay = failed(status, body as Refusal, token);
    // Whoever heard of it may have ended the polling.
    if (mine !== abort) return;
    delay = Math.max(delay ?? usual, pause);
    planned(p.now() + delay);
    cancel = after(delay, () => void poll());
  };

  const stop = (): void => {
    cancel();
    abort?.abort();
    abort = null;
    planned(Infinity);
  };
  return [
    () => {
      stop();
      void poll();
    },
    () => !!abort,
    stop,
  ];
}

const form = (fields: Record<string, string>): string =>
  new URLSearchParams(Object.entries(fields).filter(([, value]) => value)).toString();
