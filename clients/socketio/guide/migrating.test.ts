/**
 * docs/migrating-from-socketio.md can be carried out as it stands: its blocks are run in their order, on real servers, and what
 * it says comes of them comes of them.
 *
 * - `sql` runs as the application's role, `sql admin` as the administrator; `sh` is one shell's from beginning to end.
 * - `sh setup` names the variables that the reader sets; the test gives them values of its own.
 * - `js` and `cfg` are files, by the names behind them.
 * - `text` is what the block before it printed; `…` stands for anything.
 */

import { spawn } from "node:child_process";
import { access, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import pg from "pg";
import { expect, inject, it } from "vitest";
import { readDev } from "../../testing/dev";

const ROOT = resolve(import.meta.dirname, "../../..");
const PAGE = join(ROOT, "docs/migrating-from-socketio.md");
const BINARIES = process.env["ROWCAST_BIN_DIR"] ?? join(ROOT, "target/debug");
/** Where programs lie that are not on every path: HAProxy on Debian, psql where Homebrew brought it. */
const PLACES = ["/usr/sbin", "/opt/homebrew/opt/postgresql@17/bin", "/usr/local/opt/postgresql@17/bin"];
/** Far more than it takes. */
const PATIENCE = 90_000;

interface Block {
  readonly kind: string;
  /** What stands behind the language: a file, or which kind of it. */
  readonly name: string;
  readonly text: string;
  readonly line: number;
}

function blocksOf(page: string): Block[] {
  const found = page.matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm);
  return [...found].map(({ 1: kind, 2: name, 3: text, index }) => ({
    kind: kind ?? "",
    name: name ?? "",
    text: text ?? "",
    line: page.slice(0, index).split("\n").length,
  }));
}

/** The names that a block of `export` sets. */
const exported = ({ text }: Block): string[] => [...text.replaceAll(/#.*/g, "").matchAll(/(\w+)=/g)].map(({ 1: name }) => name ?? "");

/** One script of all blocks. What each prints goes to a file of its own. */
function script(blocks: readonly Block[]): string {
  const parts = blocks.flatMap(({ kind, name, text, line }) => {
    const commands = commandsOf(kind, name, text);
    return commands === undefined ? [] : [`echo 'line ${line}' >&2\n{\n${commands}} > out-${line} 2>&1`];
  });
  return ["set -eu", "trap 'kill $(jobs -p) $(cat haproxy.pid) 2>/dev/null || true' EXIT", "trap 'exit 143' TERM", ...parts].join("\n");
}

function commandsOf(kind: string, name: string, text: string): string | undefined {
  if (kind === "sh" && name === "") return text;
  if (kind !== "sql") return undefined;
  const url = name === "admin" ? "ADMIN_URL" : "SHOP_URL";
  return `psql "$${url}" -X -q -v ON_ERROR_STOP=1 <<'END_OF_SQL'\n${text}END_OF_SQL\n`;
}

const plain = (text: string): string => text.trim().split(/\s+/).join(" ");

/** Whether a line is as it was foretold; spaces count as one. */
function fits(expected: string, line: string): boolean {
  const parts = plain(expected).split("…").map((part) => part.trim());
  const pattern = parts.map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join(".*");
  return new RegExp(`^${pattern}$`).test(plain(line));
}

/** What does not fit, line by line; a line of `…` alone stands for any number of lines. */
function misfit(foretold: string, printed: string): string | undefined {
  const lines = printed.split("\n").filter((line) => line.trim() !== "");
  const wanted = foretold.split("\n").filter((line) => line.trim() !== "");
  for (const [index, expected] of wanted.entries()) {
    if (expected.trim() === "…") {
      while (lines.length > 0 && !fits(wanted[index + 1] ?? "", lines[0] ?? "")) lines.shift();
      continue;
    }
    const line = lines.shift();
    if (line === undefined || !fits(expected, line)) return `${expected} was foretold, and ${line} came`;
  }
  return lines.length > 0 ? `${lines[0]} was not foretold` : undefined;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** A database and a role for the reader, in the PostgreSQL of the running system, whose roles have one password. */
async function shop(url: string): Promise<{ admin: string; shop: string; listener: string }> {
  const of = (user: string, database: string): string => {
    const parts = new URL(url);
    parts.username = user;
    parts.pathname = `/${database}`;
    return parts.href;
  };
  const { password } = new URL(url);
  const admin = new pg.Client(of("postgres", "postgres"));
  await admin.connect();
  await admin.query(`CREATE ROLE shop LOGIN PASSWORD '${password}'`);
  await admin.query("CREATE DATABASE shop OWNER shop");
  await admin.end();
  const listener = new URL(of("shop_listener", "shop"));
  listener.password = "secret";
  return { admin: of("postgres", "shop"), shop: of("shop", "shop"), listener: listener.href };
}

/** As a reader has them on the path, and nothing else of that folder. */
async function programs(folder: string): Promise<void> {
  for (const name of ["rowcast", "rowcast-listener", "rowcast-edge"]) {
    await access(join(BINARIES, name));
    await symlink(join(BINARIES, name), join(folder, name));
  }
}

async function run(folder: string, values: Readonly<Record<string, string>>): Promise<number | null> {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(ROWCAST_|PG|REDIS)/.test(name));
  const child = spawn("bash", ["guide.sh"], {
    cwd: folder,
    env: {
      ...Object.fromEntries(inherited),
      ...values,
      NODE_PATH: join(ROOT, "clients/node_modules"),
      PATH: [folder, process.env["PATH"], ...PLACES].join(delimiter),
      // The Redis is the running system's too.
      ROWCAST_INSTALLATION: "shop",
      // What a reader has the time for.
      ROWCAST_EDGE__DRAIN_DELAY: "1s",
      ROWCAST_EDGE__DRAIN_WINDOW: "2s",
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (text) => (said += String(text)));
  const timer = setTimeout(() => child.kill("SIGTERM"), PATIENCE);
  const status = await new Promise<number | null>((ended) => child.once("exit", ended));
  clearTimeout(timer);
  await writeFile(join(folder, "log"), said);
  return status;
}

it("the page can be carried out as it stands", { timeout: PATIENCE + 20_000 }, async () => {
  const blocks = blocksOf(await readFile(PAGE, "utf8"));
  const { database_url, redis_url, jwt_secret } = readDev(inject("devFolder"));
  const urls = await shop(database_url);
  const local = async (): Promise<string> => `127.0.0.1:${await freePort()}`;
  const values = {
    ADMIN_URL: urls.admin,
    SHOP_URL: urls.shop,
    LISTENER_URL: urls.listener,
    ROWCAST_REDIS__URL: redis_url,
    JWT_SECRET: jwt_secret,
    PUBLIC: await local(),
    GATEWAY: await local(),
    EDGE: await local(),
    EDGE_ADMIN_PORT: String(await freePort()),
    LISTENER_ADMIN: await local(),
  };
  const setup = blocks.find(({ kind, name }) => kind === "sh" && name === "setup");
  expect(setup && exported(setup)).toEqual(Object.keys(values));

  const folder = await mkdtemp(join(tmpdir(), "rowcast-guide-"));
  try {
    await programs(folder);
    for (const { kind, name, text } of blocks) if (["js", "cfg"].includes(kind)) await writeFile(join(folder, name), text);
    await writeFile(join(folder, "guide.sh"), script(blocks));
    const status = await run(folder, values);
    const read = (name: string): Promise<string> => readFile(join(folder, name), "utf8").catch(() => "");
    const log = await read("log");
    const last = [...log.matchAll(/^line (\d+)$/gm)].at(-1)?.[1];
    const logs = async (): Promise<string> =>
      (await Promise.all(["log", `out-${last}`, "listener.log", "edge.log", "client.txt", "modern.txt", "board.txt", "haproxy.log"].map(async (name) => `${name}:\n${(await read(name)).slice(-2_000)}`))).join("\n");
    expect(status, status === 0 ? "" : `the block at line ${last} failed:\n${await logs()}`).toBe(0);

    const foretold = blocks.flatMap((block, index) => (block.kind === "text" ? [{ before: blocks[index - 1], block }] : []));
    expect(foretold.length).toBeGreaterThanOrEqual(8);
    for (const { before, block } of foretold) {
      const printed = await read(`out-${before?.line}`);
      const fault = misfit(block.text, printed);
      expect(fault, fault && `line ${block.line}: ${fault}; it printed:\n${printed}`).toBeUndefined();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it("what is foretold is compared", () => {
  expect(misfit("a…c\n", "abc\n")).toBeUndefined();
  expect(misfit("a\n…\nd\n", "a\nb\nc\nd\n")).toBeUndefined();
  expect(misfit("a  b\n", " a b\n")).toBeUndefined();
  for (const [foretold, printed] of [["a…c", "abd"], ["a", "a\nb"], ["a\nb", "a"], ["a.c", "abc"], ["…\nd", "a\nb"]] as const)
    expect(misfit(foretold, printed), foretold).toBeDefined();
});
