import { defineConfig } from "tsdown";

export default defineConfig({
  entry: { index: "src/index.ts" },
  format: ["esm", "cjs"],
  platform: "neutral",
  target: "es2021",
  dts: true,
  minify: true,
  fixedExtension: true,
  // The hooks work in the browser: pages of server components import them as they are.
  banner: { js: '"use client";' },
});
