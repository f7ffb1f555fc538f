/** The fixture page: built once, and served on the balancer's own origin, so that the client is used as applications use it. */

import { readFile } from "node:fs/promises";
import { extname, join } from "node:path";
import type { BrowserContext } from "playwright-core";
import { build } from "vite";
import { inject } from "vitest";

/** Where the page is, under the balancer's origin. */
export const FIXTURE_PATH = "/fixture/";

const TYPES: Readonly<Record<string, string>> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };

/** Builds it, and says where. */
export async function buildFixture(): Promise<string> {
  const root = join(import.meta.dirname, "../fixture");
  await build({ configFile: join(root, "vite.config.ts") });
  return join(root, "../dist/fixture");
}

/** Serves it in a context; all other requests go to the running system. */
export async function serveFixture(context: BrowserContext, origin: string): Promise<void> {
  const folder = inject("fixtureFolder");
  await context.route(`${origin}${FIXTURE_PATH}**`, async (route) => {
    const path = new URL(route.request().url()).pathname.slice(FIXTURE_PATH.length) || "index.html";
    const body = await readFile(join(folder, path));
    await route.fulfill({ body, contentType: TYPES[extname(path)] ?? "application/octet-stream" });
  });
}
