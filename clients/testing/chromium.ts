/** Chromium for the tests that need a real browser. */

import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { chromium, type Browser } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome"];

/** The browser that `CHROMIUM` names, or the first one on the path. */
async function executable(): Promise<string> {
  const given = process.env["CHROMIUM"];
  if (given !== undefined) return given;
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    for (const name of NAMES) {
      const path = join(folder, name);
      const runs = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (runs) return path;
    }
  }
  throw new Error(`no ${NAMES.join(", ")} on the path: apt-get install chromium, or set CHROMIUM`);
}

/**
 * Pages are handed to the browser by the tests, so that their documents have no network address; without this flag Chromium
 * takes them for pages of the public Internet and forbids them to reach the loopback interface.
 */
const FLAGS = ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"];

export async function launch(): Promise<Browser> {
  const root = process.getuid?.() === 0;
  return chromium.launch({ executablePath: await executable(), headless: true, args: root ? [...FLAGS, "--no-sandbox"] : FLAGS });
}
