// @vitest-environment node
/** The pages' blocks of TypeScript compile, as modules beside each other, against the built packages. */

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, "../../..");

/** What the pages say belongs to the application, and a library that is none of this workspace's. */
const APPLICATION: Readonly<Record<string, string>> = {
  "events.ts": `
    export interface Booking { id: number; merchantId: string; customerName: string }
    export interface Events { "booking.created": Booking; "booking.updated": Booking; "booking.deleted": Booking }`,
  "api.ts": `
    export type { Booking } from "./events";
    export declare function fetchBookings(merchant: string, signal?: AbortSignal): Promise<import("./events").Booking[]>;
    export declare function renewToken(signal?: AbortSignal): Promise<string | null>;`,
  "app.ts": `
    export * from "./api";
    export declare function show(rows: readonly import("./events").Booking[]): void;
    export declare function apply(event: import("@rowcast/client").RowcastEvent): void;`,
  "socket.d.ts": `
    declare module "socket.io-client" {
      export interface Socket {
        on<Argument>(name: string, handler: (argument: Argument) => void): void;
        connect(): void;
        disconnect(): void;
      }
      export function io(url: string, options: { auth: (give: (auth: object) => void) => void }): Socket;
    }`,
};

/** Files of the libraries and packages, parsed once for all pages: their settings are the same. */
const parsed = new Map<string, ts.SourceFile | undefined>();

/** A page's blocks by the name of their file: the one that stands behind the language, or their line. */
function blocksOf(page: string): Map<string, string> {
  const blocks = new Map<string, string>();
  const text = readFileSync(join(ROOT, page), "utf8");
  for (const { 1: language, 2: name, 3: code, index } of text.matchAll(/^```(tsx?)(?: (\S+))?\n([\s\S]*?)^```$/gm))
    blocks.set(name ?? `line-${text.slice(0, index).split("\n").length}.${language}`, code ?? "");
  return blocks;
}

/** What the compiler says of these files, as if they lay in a folder here. */
function complaints(files: ReadonlyMap<string, string>): string[] {
  const folder = join(HERE, "page");
  const sources = new Map([...Object.entries(APPLICATION), ...files].map(([name, code]) => [join(folder, name), code]));
  const { config } = ts.readConfigFile(join(HERE, "../tsconfig.json"), ts.sys.readFile) as { config: object };
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, join(HERE, ".."));
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile, directoryExists } = host;
  host.fileExists = (path) => sources.has(path) || fileExists(path);
  host.readFile = (path) => sources.get(path) ?? readFile(path);
  host.directoryExists = (path) => path.startsWith(folder) || (directoryExists?.(path) ?? true);
  host.getSourceFile = (path, version, ...rest) => {
    const code = sources.get(path);
    if (code !== undefined) return ts.createSourceFile(path, code, version);
    if (!parsed.has(path)) parsed.set(path, getSourceFile(path, version, ...rest));
    return parsed.get(path);
  };
  const program = ts.createProgram([...sources.keys()], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file && start !== undefined ? ts.getLineAndCharacterOfPosition(file, start).line + 1 : 0;
    return `${file?.fileName.slice(folder.length + 1) ?? ""}:${line} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
}

test.each([
  ["docs/clients.md", 5],
  ["docs/migrating-the-hook.md", 5],
  ["clients/client/README.md", 1],
  ["clients/react/README.md", 1],
])("%s: its code compiles", (page, blocks) => {
  const files = blocksOf(page);
  expect(files.size).toBe(blocks);
  expect(complaints(files)).toEqual([]);
});

test("a block that is wrong is found", () => {
  const wrong = `
    import { useRowcastEvent } from "@rowcast/react";
    declare module "@rowcast/react" { interface Register { events: import("./events").Events } }
    useRowcastEvent("booking.created", ({ data }) => data.nothing);
    useRowcastEvent("booking.gone", () => {});
    useRowcastEvent("booking.*", (event) => event.type === "invoice.created");`;
  expect(complaints(new Map([["wrong.ts", wrong]]))).toEqual([
    expect.stringContaining("wrong.ts:4 Property 'nothing' does not exist"),
    expect.stringContaining("wrong.ts:5 No overload matches this call"),
    expect.stringContaining("wrong.ts:6 This comparison appears to be unintentional"),
  ]);
});
