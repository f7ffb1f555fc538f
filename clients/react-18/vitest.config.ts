import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { defineConfig } from "vitest/config";

const require = createRequire(import.meta.url);
const folderOf = (name: string): string => dirname(require.resolve(`${name}/package.json`));

/** The tests of `../react`, and everything that they import, with this package's React. */
export default defineConfig({
  resolve: {
    alias: {
      react: folderOf("react"),
      "react-dom": folderOf("react-dom"),
      // Its CommonJS form would find the other React by itself.
      "@testing-library/react": join(folderOf("@testing-library/react"), "dist/@testing-library/react.esm.js"),
    },
  },
  test: {
    dir: "../react/test",
    // What React 18 does not have.
    exclude: ["**/react-19/**"],
    environment: "jsdom",
    testTimeout: 60_000,
    // Only what goes through Vite sees the alias.
    server: { deps: { inline: [/@testing-library/] } },
  },
});
