/**
 * Packs `@rowcast/client` and `@rowcast/react` as they would be published, and checks the tarballs: publint, whether the types
 * are right for every way to import them, what is in them, and how large the main entry is, minified as shipped and gzipped.
 * And that every workspace can be built, and that a package brings nothing of anybody else's with it.
 *
 *     npm run build && npm run package-check
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Bytes of the main entry that a page loads; a kB has 1,000. */
const BUDGETS = { client: 6_000, react: 1_500 };
/** Of `@rowcast/client/shared`, on top of the main entry. */
const SHARED_BUDGET = 2_000;

const RELATIVE_IMPORT = /(?:from|import)\s*["'](\.[^"']+)["']/g;

let failed = 0;

checkWorkspaces();
for (const [name, budget] of Object.entries(BUDGETS)) {
  const folder = mkdtempSync(join(tmpdir(), `rowcast-${name}-`));
  try {
    checkPackage(name, budget, folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
console.log(failed === 0 ? "packages: all checks passed" : `packages: ${failed} checks failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** `npm run build --workspaces` ends with an error at the first workspace that has none. */
function checkWorkspaces() {
  const { workspaces } = manifest(".");
  const lacking = workspaces.filter((name) => !manifest(name).scripts?.build);
  report("every workspace has a build", lacking.length === 0, `none: ${lacking.join(", ")}`);
}

function manifest(folder) {
  return JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8"));
}

/** A licence or a hole of somebody else's would come with it: what is added here is looked at first. */
function checkDependencies(name) {
  const { license, dependencies = {}, optionalDependencies = {}, bundleDependencies = [] } = manifest(name);
  const all = [...Object.keys(dependencies), ...Object.keys(optionalDependencies), ...bundleDependencies];
  const strangers = all.filter((other) => !other.startsWith("@rowcast/"));
  report(`${name}: depends on nobody else's packages`, strangers.length === 0, strangers.join(", "));
  report(`${name}: is licensed as all of Rowcast is`, license === "MIT OR Apache-2.0", license);
}

function checkPackage(name, budget, folder) {
  checkDependencies(name);
  if (!existsSync(join(ROOT, name, "dist"))) return report(`${name}: built`, false, "run `npm run build` first");
  const packed = run("npm", ["pack", "--json", "--workspace", name, "--pack-destination", folder]);
  if (packed.status !== 0) return report(`${name}: npm pack`, false, packed.output);
  const [{ filename, files }] = JSON.parse(packed.stdout);
  const tarball = join(folder, filename.replace("@", "").replace("/", "-"));

  const lint = run("npx", ["--no", "publint", "run", tarball, "--strict"]);
  report(`${name}: publint`, lint.status === 0, lint.output);
  // The profile leaves out the resolution that knows no `exports`, of TypeScript before 4.7.
  const types = run("npx", ["--no", "attw", tarball, "--profile", "node16", "--no-emoji"]);
  report(`${name}: are the types wrong`, types.status === 0, types.output);

  const paths = files.map(({ path }) => path);
  const strangers = paths.filter((path) => !/^(dist\/|package\.json$|README\.md$|LICENSE-(MIT|APACHE)$)/.test(path));
  report(`${name}: nothing but what belongs there`, strangers.length === 0, strangers.join("\n"));
  const missing = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"].filter((path) => !paths.includes(path));
  report(`${name}: readme and licences`, missing.length === 0, `missing: ${missing.join(", ")}`);

  const unpacked = run("tar", ["-xzf", tarball, "-C", folder]);
  if (unpacked.status !== 0) return report(`${name}: tar`, false, unpacked.output);
  const main = loaded(join(folder, "package", "dist", "index.mjs"));
  weigh(name, main, budget);
  if (name === "client") weigh("client/shared", without(main, loaded(join(folder, "package", "dist", "shared.mjs"))), SHARED_BUDGET);
}

function weigh(name, paths, budget) {
  const size = gzipSync(Buffer.concat(paths.map((path) => readFileSync(path))), { level: 9 }).length;
  report(`${name}: ${kilobytes(size)} of ${kilobytes(budget)} min+gzip`, size <= budget, "over its budget");
}

function without(some, all) {
  return all.filter((path) => !some.includes(path));
}

/** What a page loads for this entry: it, and the chunks that it imports, without other packages. */
function loaded(entry) {
  const seen = new Set([entry]);
  for (const path of seen)
    for (const [, to] of readFileSync(path, "utf8").matchAll(RELATIVE_IMPORT)) seen.add(join(dirname(path), to));
  return [...seen];
}

function run(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: ROOT, encoding: "utf8" });
  return { status, stdout, output: error ? String(error) : `${stdout}${stderr}` };
}

function report(what, holds, otherwise) {
  console.log(`${holds ? "ok    " : "FAILED"} ${what}`);
  if (holds) return;
  failed++;
  console.log(otherwise);
}

function kilobytes(bytes) {
  return `${(bytes / 1_000).toFixed(2)} kB`;
}
