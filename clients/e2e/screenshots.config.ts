import { defineConfig } from "vitest/config";

/** Writes the pictures of docs/images: the demo page in each of its three states. */
export default defineConfig({
  test: { include: ["screenshots/**/*.shot.ts"], globalSetup: "src/setup.ts", fileParallelism: false, testTimeout: 120_000, hookTimeout: 60_000 },
});
