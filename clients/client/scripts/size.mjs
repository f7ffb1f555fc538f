// How large the bundles are, minified and compressed, against their budgets.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const size = (file) => gzipSync(readFileSync(new URL(file, dist)), { level: 9 }).length;
const budgets = { "index.mjs": 6_000 };
for (const [file, budget] of Object.entries(budgets)) {
  const bytes = size(file);
  console.log(`${file}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
