/** From the `url` option to the base of all addresses. */

import type { Platform, RowcastError } from "./types";

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/** The base without a slash at its end, as `https://example.com/realtime`; or what is wrong. */
export function resolveUrl(url: string, p: Platform): string | RowcastError {
  const page = p.location?.href;
  let at: URL;
  try {
    at = new URL(url, page);
  } catch {
    return { code: "url", message: `"${url}" is no URL${page ? "" : "; outside of pages it must be absolute"}` };
  }
  const scheme = /^(?:http|ws)(s?):$/.exec(at.protocol);
  if (!scheme) return { code: "url", message: `${url}: use http(s) or ws(s)` };
  const base = at.host + at.pathname.replace(/\/+$/, "");
  if (page && /^https:/.test(page) && !scheme[1] && !LOOPBACK.test(at.hostname))
    return { code: "mixed_content", message: `a page over https cannot reach ${url}: use https://${base}` };
  return `http${scheme[1]}://${base}`;
}
