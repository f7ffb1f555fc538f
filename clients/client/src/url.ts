/** From the `url` option to the base of all addresses. */

import type { RowcastError } from "./types";

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/** The base without a slash at its end, as `https://example.com/realtime`; or an error's code and message. */
export function resolveUrl(url: string, page: string | undefined): [code: RowcastError["code"] | "", text: string] {
  let at: URL | undefined;
  try {
    at = new URL(url, page);
  } catch {
    // Said below, like what is of another kind.
  }
  const scheme = at ? at.protocol.replace("ws", "http") : "";
  if (!at || !/^https?:$/.test(scheme)) return ["url", `"${url}" is no absolute http(s) or ws(s) URL`];
  const base = `//${at.host}${at.pathname.replace(/\/+$/, "")}`;
  if (page?.startsWith("https:") && scheme === "http:" && !LOOPBACK.test(at.hostname))
    return ["mixed_content", `${url} from a page over https: use https:${base}`];
  return ["", scheme + base];
}
