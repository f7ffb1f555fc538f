import { defineConfig } from "vite";

/** While the page is worked on: the address of a running `rowcast dev`, whose API and edges it then uses. */
const system = process.env["ROWCAST_URL"];
/** Its API takes requests from its own origin alone, so these come from there. */
const api = system === undefined ? undefined : { target: system, changeOrigin: true, headers: { origin: system } };

export default defineConfig({
  base: "./",
  build: { target: "es2022", reportCompressedSize: true },
  ...(api === undefined ? {} : { server: { proxy: { "/demo": api, "/v1": api, "/ws": { ...api, ws: true } } } }),
});
