/** Tokens beside the page: one that the demo gives, as at sign-in, and one of one's own making, as expired ones cannot be asked for. */

import { createHmac } from "node:crypto";
import { dev } from "./system";

export async function tokenFor(merchant: string, ttl: number): Promise<string> {
  const { url } = await dev();
  const response = await fetch(`${url}/demo/token`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ merchant, ttl }),
  });
  if (!response.ok) throw new Error(`/demo/token: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { token: string }).token;
}

export function signedToken(secret: string, claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
