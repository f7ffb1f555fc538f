import type { TokenRequest } from "@rowcast/client";
import { expect, it, vi } from "vitest";
import { Tokens, type Fetch } from "./tokens";

function request(reason: TokenRequest["reason"]): TokenRequest {
  return { reason, previous: null, signal: new AbortController().signal };
}

function numbered() {
  let count = 0;
  return vi.fn<Fetch>(async (_, ttl) => ({ token: `token-${++count}-${ttl}`, expires_at: "" }));
}

it("the client is given a new token each time it asks", async () => {
  const tokens = new Tokens("salon-anna", numbered());
  expect(await tokens.source(request("connect"))).toBe("token-1-3600");
  expect(await tokens.source(request("expiring"))).toBe("token-2-3600");
  expect(await tokens.source(request("refused"))).toBe("token-3-3600");
});

it("a token that is to end soon is not renewed ahead, and replaced when it was refused", async () => {
  const tokens = new Tokens("salon-anna", numbered());
  tokens.endSoon(5);
  expect(await tokens.source(request("connect"))).toBe("token-1-5");
  expect(await tokens.source(request("expiring"))).toBeNull();
  expect(await tokens.source(request("refused"))).toBe("token-2-3600");
  expect(await tokens.source(request("expiring"))).toBe("token-3-3600");
});

it("requests use the client's token, and another where there is none or it was refused", async () => {
  const fetch = numbered();
  const tokens = new Tokens("salon-anna", fetch);
  const { signal } = new AbortController();
  expect(await tokens.forRequest(signal)).toBe("token-1-3600");
  await tokens.source(request("connect"));
  expect(await tokens.forRequest(signal)).toBe("token-2-3600");
  expect(await tokens.forRequest(signal, "token-2-3600")).toBe("token-3-3600");
});
