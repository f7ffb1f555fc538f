/**
 * A merchant's tokens, as an application's sign-in would hand them out: asked for by the client whenever it needs one.
 * On demand a token ends early, and nobody renews it before that: what happens to whoever left the page open for a week.
 */

import type { TokenRequest } from "@rowcast/client";
import type { Token } from "./api";

/** An hour, in seconds. */
const LIFE = 3_600;

export type Fetch = (merchant: string, ttl: number, signal?: AbortSignal) => Promise<Token>;

export class Tokens {
  private current: string | null = null;
  /** The life of the next token, in seconds, where it is to be a short one. */
  private short: number | null = null;
  private letItEnd = false;

  constructor(
    private readonly merchant: string,
    private readonly fetch: Fetch,
  ) {}

  /** For the client's `token` option. */
  readonly source = async ({ reason, signal }: TokenRequest): Promise<string | null> => {
    if (reason === "expiring" && this.letItEnd) return null;
    const life = this.short ?? LIFE;
    const { token } = await this.fetch(this.merchant, life, signal);
    this.letItEnd = life !== LIFE;
    this.short = null;
    this.current = token;
    return token;
  };

  /** For the application's own requests: the client's token, or one of their own before there is any, or after it was refused. */
  async forRequest(signal: AbortSignal, refused: string | null = null): Promise<string> {
    if (this.current !== null && this.current !== refused) return this.current;
    return (await this.fetch(this.merchant, LIFE, signal)).token;
  }

  /** The next token lives this many seconds and is not renewed ahead of its end. */
  endSoon(seconds: number): void {
    this.short = seconds;
  }
}
