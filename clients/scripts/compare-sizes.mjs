/**
 * How large the client is beside others that do part of its work: each one's main entry, bundled and minified by esbuild and gzipped,
 * with all that it imports. It installs them into a folder of its own and removes that.
 *
 *     npm run build && npm run compare-sizes
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");

/** What a page imports of each. */
const CLIENTS = {
  "@rowcast/client": "export { createClient } from '@rowcast/client'",
  "socket.io-client@4.8.4": "export { io } from 'socket.io-client'",
  "@supabase/realtime-js@2.119.1": "export { RealtimeClient } from '@supabase/realtime-js'",
  "centrifuge@5.8.0": "export { Centrifuge } from 'centrifuge'",
};

const folder = mkdtempSync(join(tmpdir(), "rowcast-sizes-"));
try {
  const others = Object.keys(CLIENTS).filter((name) => !name.startsWith("@rowcast/"));
  writeFileSync(join(folder, "package.json"), '{"private":true,"type":"module"}');
  run("npm", ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "esbuild@0.28.2", join(ROOT, "client"), ...others]);
  for (const [name, text] of Object.entries(CLIENTS)) {
    writeFileSync(join(folder, "entry.js"), text);
    run("node", ["node_modules/esbuild/bin/esbuild", "entry.js", "--bundle", "--minify", "--format=esm", "--platform=browser", "--outfile=out.js", "--allow-overwrite", "--log-level=error"]);
    const size = gzipSync(run("cat", ["out.js"]), { level: 9 }).length;
    console.log(`${(size / 1_000).toFixed(1).padStart(5)} kB  ${name}`);
  }
} finally {
  rmSync(folder, { recursive: true });
}

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: folder, encoding: "utf8", maxBuffer: 1e8 });
  if (status !== 0) throw error ?? new Error(`${command} ${args[0]} ended with ${status}: ${stderr}`);
  return stdout;
}
