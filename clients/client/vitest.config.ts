import { defineConfig } from "vitest/config";

// Their clock is their own; a machine that has much else to do may take its time for thousands of its steps.
export default defineConfig({ test: { include: ["test/*.test.ts"], testTimeout: 60_000 } });
