/** The running system: rows, tokens, edges that are killed, edges with settings of their own, and orders to all of them. */

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, inject } from "vitest";
import { joinRowcast, type Rowcast } from "../../testing/rowcast";
import { Listener, type Options, type Stock } from "./stock";
import { until } from "./until";

/** The namespace of applications of the stack that is replaced. */
export const NAMESPACE = "/notifications";

const binary = (name: string): string => join(process.env["ROWCAST_BIN_DIR"] ?? resolve(import.meta.dirname, "../../../target/debug"), name);

/** Call it once in a file, outside of tests. */
export function system(): System {
  const here = new System();
  beforeAll(() => here.join());
  afterAll(() => here.leave());
  return here;
}

export class System {
  #rowcast: Rowcast | undefined;

  async join(): Promise<void> {
    this.#rowcast = await joinRowcast(inject("devFolder"));
    await this.whole();
  }

  async leave(): Promise<void> {
    await this.#rowcast?.stop();
  }

  get rowcast(): Rowcast {
    if (this.#rowcast === undefined) throw new Error("before the tests");
    return this.#rowcast;
  }

  /** The balancer, unless an edge's number is given. */
  url(edge?: 0 | 1): string {
    const { url, edges } = this.rowcast.installation();
    return edge === undefined ? url : (edges[edge]?.url ?? "");
  }

  /** A room that nobody else has. */
  room(name: string): string {
    return `${name}-${randomUUID().slice(0, 8)}`;
  }

  token(room: string | readonly string[], seconds = 3600): string {
    return this.rowcast.token(room, seconds);
  }

  /** A client that listens to a room, as its token allows; it fetches what it is told to fetch. */
  listen(stock: Stock, room: string, options: Options = {}, url = this.url()): Listener {
    return new Listener(stock, `${url}${NAMESPACE}`, { auth: { token: this.token(room) }, ...options }, () => this.notes(room));
  }

  insert(room: string, note: string): Promise<void> {
    return this.rowcast.insert(room, note);
  }

  /** The notes that are committed. */
  async notes(room: string): Promise<string[]> {
    const text = "SELECT note FROM public.contract_notes WHERE room = $1 ORDER BY id";
    const { rows } = await this.rowcast.database.query<{ note: string }>(text, [room]);
    return rows.map(({ note }) => note);
  }

  /** Rows of a room, one after the other, until it is stopped. */
  write(room: string): Writer {
    return new Writer((note) => this.insert(room, note));
  }

  /** How many clients of Socket.IO an edge carries. */
  async carried(edge: 0 | 1): Promise<number> {
    const admin = this.rowcast.installation().edges[edge]?.admin ?? "";
    const text = await (await fetch(`${admin}/metrics`)).text();
    return Number(/^rowcast_edge_connections\{transport="socketio"\} (\d+)$/m.exec(text)?.[1] ?? 0);
  }

  /** Kills every edge, so that no client is spared. They are started again. */
  async killEdges(): Promise<void> {
    const before = this.rowcast.installation().edges;
    for (const { pid } of before) process.kill(pid, "SIGKILL");
    await until("the killed edges have successors", () => {
      const { edges } = this.rowcast.installation();
      return edges.every(({ pid }) => before.every((edge) => edge.pid !== pid));
    });
  }

  /** Waits until all edges are ready. */
  async whole(): Promise<void> {
    for (const { admin } of this.rowcast.installation().edges) await ready(admin);
  }

  /** Runs `rowcast` with these arguments, on this system's database. */
  async command(...args: string[]): Promise<void> {
    await promisify(execFile)(binary("rowcast"), [...args, "--dev", inject("devFolder")]);
  }

  /** An edge beside the two, with these settings, given by the names of their variables after `ROWCAST_EDGE__`. */
  async startEdge(settings: Readonly<Record<string, string>>): Promise<OwnEdge> {
    const { redis_url, jwt_secret } = this.rowcast.installation();
    const named = Object.entries(settings).map(([name, value]) => [`ROWCAST_EDGE__${name}`, value]);
    return OwnEdge.start({
      ROWCAST_REDIS__URL: redis_url,
      ROWCAST_AUTH__HS256_SECRET: jwt_secret,
      ROWCAST_ADMIN__LISTEN: "127.0.0.1:0",
      ROWCAST_EDGE__LISTEN: "127.0.0.1:0",
      ...Object.fromEntries(named),
    });
  }
}

/** How long a writer rests between two rows, in milliseconds. */
const PACE = 5;

/** Writes rows whose notes are numbers. */
export class Writer {
  readonly sent: string[] = [];
  #isWriting = true;
  readonly #writing: Promise<void>;

  constructor(private readonly insert: (note: string) => Promise<void>) {
    this.#writing = this.#write();
    // It is awaited by `stop`; until then its failure must not end the process.
    this.#writing.catch(() => undefined);
  }

  /** Waits until so many more are committed. */
  async more(rows: number): Promise<void> {
    const goal = this.sent.length + rows;
    await until(`${goal} rows are committed`, () => this.sent.length >= goal);
  }

  /** Ends it, and says what was committed. */
  async stop(): Promise<readonly string[]> {
    this.#isWriting = false;
    await this.#writing;
    return this.sent;
  }

  async #write(): Promise<void> {
    for (let number = 0; this.#isWriting; number += 1) {
      await this.insert(String(number));
      this.sent.push(String(number));
      await new Promise((resolve) => setTimeout(resolve, PACE));
    }
  }
}

export class OwnEdge {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly folder: string,
  ) {}

  static async start(environment: Readonly<Record<string, string>>): Promise<OwnEdge> {
    const folder = await mkdtemp(join(tmpdir(), "rowcast-edge-"));
    const file = join(folder, "ports.json");
    // The tests' own settings are none of an edge's.
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("ROWCAST_"));
    const child = spawn(binary("rowcast-edge"), ["--ports-file", file], {
      env: { ...Object.fromEntries(inherited), ...environment },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (text) => (said += String(text)));
    let ports: { listen: string; admin: string } | undefined;
    await until("the edge has ports", async () => {
      if (child.exitCode !== null) throw new Error(`the edge ended by itself:\n${said}`);
      ports = await readFile(file, "utf8").then(
        (text) => JSON.parse(text) as typeof ports,
        () => undefined,
      );
      return ports !== undefined;
    });
    await ready(`http://${ports?.admin}`);
    return new OwnEdge(`http://${ports?.listen}`, child, folder);
  }

  /** Tells it to end, as at a roll-out: it says so to its clients first. */
  tellToEnd(): void {
    this.child.kill("SIGTERM");
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = new Promise((resolve) => this.child.once("exit", resolve));
      this.child.kill("SIGKILL");
      await gone;
    }
    await rm(this.folder, { recursive: true, force: true });
  }
}

async function ready(admin: string): Promise<void> {
  await until(`${admin} is ready`, async () => {
    const answered = await fetch(`${admin}/ready`).catch(() => undefined);
    return answered?.status === 200;
  });
}
