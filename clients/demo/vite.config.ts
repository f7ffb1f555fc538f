import { defineConfig } from "vite";

/** While the page is worked on: the address of a running `rowcast dev`, whose API and edges it then uses. */
const system = process.env["ROWCAST_URL"];

export default defineConfig({
  base: "./",
  build: { target: "es2022", reportCompressedSize: true },
  ...(system === undefined
    ? {}
    : { server: { proxy: { "/demo": system, "/v1": system, "/ws": { target: system, ws: true } } } }),
});
