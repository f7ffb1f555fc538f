import { createRequire } from "node:module";
import { dirname } from "node:path";
import { defineConfig } from "vitest/config";

const require = createRequire(import.meta.url);
const folderOf = (name: string): string => dirname(require.resolve(`${name}/package.json`));

/** The tests of `../react`, and everything that they import, with this package's React. */
export default defineConfig({
  resolve: { alias: { react: folderOf("react"), "react-dom": folderOf("react-dom") } },
  test: {
    dir: "../react/test",
    environment: "jsdom",
    // Only what goes through Vite sees the alias.
    server: { deps: { inline: [/@testing-library/, /@rowcast/, /react-dom/] } },
  },
});
