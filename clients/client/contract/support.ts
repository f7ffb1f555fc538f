/** The client as the contract's tests use it: what it hears is kept. */

import { WebSocket as NodeSocket } from "ws";
import { until as untilWithin } from "../../testing/until";
import { createClient } from "../src/index";
import type { AnyEvent, EventMap, Platform, RowcastClient, RowcastOptions } from "../src/index";

export { startRowcast, type Rowcast } from "../../testing/rowcast";

/** Waits until something is so. */
export async function until(what: string, check: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  await untilWithin(what, ms, check);
}

export type Note = { id: number; room: string; note: string };
export interface Notes extends EventMap {
  "note.created": Note;
}

/** A client whose events are kept. */
export interface Watcher {
  readonly client: RowcastClient<Notes>;
  readonly notes: string[];
  readonly resyncs: string[];
  readonly states: string[];
}

export const platform: Partial<Platform> = { WebSocket: NodeSocket as unknown as typeof WebSocket };

const watchers: Watcher[] = [];

export function watch(options: RowcastOptions): Watcher {
  const resyncs: string[] = [];
  const client = createClient<Notes>({
    platform,
    backoff: { min: 20, max: 500 },
    onResync: ({ reason }) => void resyncs.push(reason),
    debug: process.env.ROWCAST_DEBUG !== undefined,
    ...options,
  });
  const watcher: Watcher = { client, notes: [], resyncs, states: [] };
  client.on("*", (event: AnyEvent<Notes>) => watcher.notes.push((event.data as Note).note));
  client.subscribe(() => {
    const { state } = client.getStatus();
    if (watcher.states.at(-1) !== state) watcher.states.push(state);
  });
  watchers.push(watcher);
  client.start();
  return watcher;
}

/** Ends all clients of a test. */
export function stopWatching(): void {
  for (const { client } of watchers.splice(0)) client.stop();
}

export const live = (watcher: Watcher): Promise<void> =>
  until("live", () => watcher.client.getStatus().light === "live");
