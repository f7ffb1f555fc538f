/** A whole Rowcast on this machine for the contract's tests: `rowcast dev`, its tokens, its database. */

import { createHmac, randomUUID } from "node:crypto";
import pg from "pg";
import { WebSocket as NodeSocket } from "ws";
import { readDev, startDev, type DevFile } from "../../testing/dev";
import { until as untilWithin } from "../../testing/until";
import { createClient } from "../src/index";
import type { AnyEvent, EventMap, Platform, RowcastClient, RowcastOptions } from "../src/index";

export interface Rowcast {
  /** What runs at this moment. */
  installation(): DevFile;
  readonly database: pg.Client;
  token(room: string | readonly string[], seconds: number, subject?: string): string;
  /** A committed row of the room, and its note. */
  insert(room: string, note: string): Promise<void>;
  stop(): Promise<void>;
}

/** Waits until something is so. */
export async function until(what: string, check: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  await untilWithin(what, ms, check);
}

export async function startRowcast(...options: string[]): Promise<Rowcast> {
  const dev = await startDev("--no-demo", ...options);
  const installation = (): DevFile => readDev(dev.folder);
  let database: pg.Client;
  try {
    database = await watchedTable(installation().database_url);
  } catch (error) {
    await dev.stop();
    throw error;
  }
  return {
    installation,
    database,
    token: (room, seconds, subject = "tester") => sign(installation().jwt_secret, room, seconds, subject),
    async insert(room, note) {
      await database.query("INSERT INTO public.contract_notes (room, note) VALUES ($1, $2)", [room, note]);
    },
    async stop() {
      await database.end();
      await dev.stop();
    },
  };
}

async function watchedTable(url: string): Promise<pg.Client> {
  const database = new pg.Client(url);
  await database.connect();
  await database.query(
    "CREATE TABLE IF NOT EXISTS public.contract_notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room text, note text)",
  );
  await database.query("SELECT rowcast.watch('public.contract_notes', 'room', type => 'note')");
  return database;
}

function sign(secret: string, room: string | readonly string[], seconds: number, subject: string): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: subject, merchantId: room, iat: now, exp: now + seconds, jti: randomUUID() })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
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
