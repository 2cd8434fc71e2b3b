import { defineConfig } from "vite";

/** Served by the application under /desk/, the page of the flows under /flows/. Nothing is inlined: the content security policy allows files of our own only. */
export default defineConfig({
  base: "/desk/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  build: { target: "es2022", assetsInlineLimit: 0, modulePreload: { polyfill: false }, rollupOptions: { input: ["index.html", "flows.html"] } },
});
