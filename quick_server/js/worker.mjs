/**
 * `worker.js` with exports. It takes the script that is served beside it, which has the name of this
 * file but for the extension, whatever name that is; so a page that uses both has one of everything.
 */
await import(import.meta.url.replace(/\.mjs(?=$|[?#])/, ".js"));

export const { Worker, WorkerError } = globalThis.quick_server;
