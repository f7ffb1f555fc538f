// How large the bundles are, minified and compressed, against their budgets: the main entry, and what sharing adds.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url);
const read = (file) => readFileSync(new URL(file, dist), "utf8");
const size = (text) => gzipSync(text, { level: 9 }).length;

const index = read("index.mjs");
const chunks = [...index.matchAll(/from"\.\/([^"]+)"/g)].map(([, file]) => read(file));
const sizes = [
  ["main", size([index, ...chunks].join("")), 6_000],
  ["shared, on top", size(read("shared.mjs")), 2_000],
];
for (const [name, bytes, budget] of sizes) {
  console.log(`${name}: ${bytes} of ${budget} bytes`);
  if (bytes > budget) process.exitCode = 1;
}
