/** A whole Rowcast for tests of clients: what runs, its tokens, and a watched table for rows of any room. */

import { createHmac, randomUUID } from "node:crypto";
import pg from "pg";
import { readDev, startDev, type DevFile } from "./dev";

export interface Rowcast {
  /** What runs at this moment. */
  installation(): DevFile;
  readonly database: pg.Client;
  token(room: string | readonly string[], seconds: number, subject?: string): string;
  /** A committed row of the room, and its note. */
  insert(room: string, note: string): Promise<void>;
  stop(): Promise<void>;
}

/** Starts one, which ends with it. */
export async function startRowcast(...options: string[]): Promise<Rowcast> {
  const dev = await startDev("--no-demo", ...options);
  try {
    return await joinRowcast(dev.folder, dev.stop);
  } catch (error) {
    await dev.stop();
    throw error;
  }
}

/** One that runs already, in this folder. It goes on unless `stop` ends it. */
export async function joinRowcast(folder: string, stop: () => Promise<void> = async () => {}): Promise<Rowcast> {
  const installation = (): DevFile => readDev(folder);
  const database = await watchedTable(installation().database_url);
  return {
    installation,
    database,
    token: (room, seconds, subject = "tester") => sign(installation().jwt_secret, room, seconds, subject),
    async insert(room, note) {
      await database.query("INSERT INTO public.contract_notes (room, note) VALUES ($1, $2)", [room, note]);
    },
    async stop() {
      await database.end();
      await stop();
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
