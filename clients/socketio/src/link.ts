/** The network between a client and an edge: it can be cut, stand still, and lead elsewhere, and it remembers what was asked. */

import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach } from "vitest";

const links: Link[] = [];
afterEach(async () => {
  await Promise.all(links.splice(0).map((link) => link.close()));
});

export class Link {
  /** The first line of each connection's first request. */
  readonly asked: string[] = [];
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #server: Server;
  #target: URL;
  #isUp = true;

  private constructor(target: string) {
    this.#target = new URL(target);
    this.#server = createServer((near) => this.#carry(near));
  }

  /** Opens one that leads to a server, given by its URL. */
  static async to(target: string): Promise<Link> {
    const link = new Link(target);
    await new Promise<void>((resolve) => link.#server.listen(0, "127.0.0.1", resolve));
    links.push(link);
    return link;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** New connections lead there. */
  leadTo(target: string): void {
    this.#target = new URL(target);
  }

  /** Resets what is open. */
  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
  }

  /** Resets what is open, and whatever comes until it is up again. */
  down(): void {
    this.#isUp = false;
    this.cut();
  }

  up(): void {
    this.#isUp = true;
  }

  /** What is open now stays open, and carries nothing more, as a network does that is gone without a word. */
  stall(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.unpipe().pause();
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.down();
    await closed;
  }

  #carry(near: Socket): void {
    if (!this.#isUp) {
      near.resetAndDestroy();
      return;
    }
    const far = connect(Number(this.#target.port), this.#target.hostname);
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    near.once("data", (first) => void this.asked.push(String(first).split("\r\n", 1)[0] ?? ""));
    for (const [one, other] of [pair, [far, near] as const]) {
      one.setNoDelay(true);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        other.destroy();
        this.#pairs.delete(pair);
      });
      one.pipe(other);
    }
  }
}
