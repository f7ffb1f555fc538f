import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{tests,hook,browser,guide}/*.test.{ts,tsx}"],
    globalSetup: "src/setup.ts",
    // One running system, whose edges the tests kill: one at a time.
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
