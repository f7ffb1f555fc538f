/** A running `rowcast dev`, for the contract's tests and the browser's: started, read and stopped. What is done to it is theirs. */

import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { until } from "./until";

/** dev.json, as far as it is used here. */
export interface DevFile {
  readonly database_url: string;
  readonly redis_url: string;
  readonly url: string;
  readonly jwt_secret: string;
  readonly edges: readonly { readonly url: string; readonly admin: string; readonly pid: number }[];
  readonly listeners: readonly { readonly admin: string; readonly pid: number }[];
}

export interface Dev {
  readonly folder: string;
  readonly stop: () => Promise<void>;
}

const READY = 60_000;
const STOPPED = 20_000;

/** Starts one with these options in a folder of its own; resolves when its dev.json is there. */
export async function startDev(...options: string[]): Promise<Dev> {
  const binary = join(process.env["ROWCAST_BIN_DIR"] ?? resolve(import.meta.dirname, "../../target/debug"), "rowcast");
  await access(binary).catch(() => {
    throw new Error(`${binary} is not there: cargo build --workspace --bins, or set ROWCAST_BIN_DIR`);
  });
  const folder = await mkdtemp(join(tmpdir(), "rowcast-clients-"));
  const log = join(folder, "dev.log");
  const child = spawn(binary, ["dev", "--dir", folder, ...options], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const output = createWriteStream(log);
  child.stdout.pipe(output);
  child.stderr.pipe(output);
  const stop = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until(`rowcast dev is ready (its output: ${log})`, READY, async () => {
      if (child.exitCode !== null) throw new Error(`rowcast dev ended by itself:\n${await readFile(log, "utf8")}`);
      try {
        return Boolean(readDev(folder));
      } catch {
        return false;
      }
    });
  } catch (error) {
    await end(child);
    throw error;
  }
  return { folder, stop };
}

/** Its dev.json as it is now: a process that was started again has another pid. */
export function readDev(folder: string): DevFile {
  return JSON.parse(readFileSync(join(folder, "dev.json"), "utf8")) as DevFile;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGINT");
  const timer = setTimeout(() => child.kill("SIGKILL"), STOPPED);
  await gone;
  clearTimeout(timer);
}
