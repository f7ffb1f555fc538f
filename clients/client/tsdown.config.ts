import { defineConfig } from "tsdown";

export default defineConfig({
  entry: { index: "src/index.ts", shared: "src/shared.ts" },
  format: ["esm", "cjs"],
  platform: "neutral",
  target: "es2022",
  dts: true,
  minify: true,
  fixedExtension: true,
});
