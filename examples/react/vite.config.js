import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Where server.py is while `npm run dev` runs; its --port tells the same to the other side.
const server = `http://localhost:${process.env.API_PORT || 8080}`;

export default defineConfig({
  plugins: [react()],
  base: "./", // the build works under any path, for instance behind a proxy
  build: { outDir: "build" },
  server: {
    // As an object: the short form would replace the Host field, by which server.py sees that a
    // request comes from its own page.
    proxy: { "/api": { target: server } },
  },
});
