/** From the `url` option to the base of all addresses. */

import type { RowcastError } from "./types";

const LOOPBACK = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/;

/** The base without a slash at its end, as `https://example.com/realtime`; or an error's code and message. */
export function resolveUrl(url: string, page: string | undefined): [code: RowcastError["code"] | "", text: string] {
  let at: URL;
  try {
    at = new URL(url, page);
  } catch {
    return ["url", `"${url}" is no absolute URL, and there is no page`];
  }
  const [, scheme] = /^(?:http|ws)(s?):$/.exec(at.protocol) ?? [];
  const base = at.host + at.pathname.replace(/\/+$/, "");
  if (scheme === undefined) return ["url", `${url} is not http(s) or ws(s)`];
  if (page?.startsWith("https:") && !scheme && !LOOPBACK.test(at.hostname))
    return ["mixed_content", `${url} from a page over https: use https://${base}`];
  return ["", `http${scheme}://${base}`];
}
