import { useEffect, useRef, useState } from "react";
import "./worker.js"; // server.py puts it here

const WORKER = new window.quick_server.Worker();
WORKER.infoTitle = true;

const IDLE = { state: "idle", progress: null, result: null, problem: null };

/**
 * A job on the server, by its name and URL: `{ state, progress, result, problem, start, cancel }`.
 *
 * `state` is idle, running, done, cancelled or failed; then `problem` says why. The result stays until
 * there is another. Starting again replaces a job that runs.
 */
export function useJob(name, url) {
  const [job, setJob] = useState(IDLE);
  const latest = useRef(null);

  useEffect(() => () => WORKER.cancel(name), [name]);

  async function start(payload) {
    const mine = (latest.current = {});
    const note = (news) => {
      if (latest.current === mine) setJob((before) => ({ ...before, ...news }));
    };
    note({ state: "running", progress: null, problem: null });
    try {
      const onProgress = (progress) => note({ progress });
      const result = await WORKER.run(name, url, payload, { onProgress });
      note({ state: "done", result });
    } catch (error) {
      if (error.name === "AbortError") note({ state: "cancelled" });
      else note({ state: "failed", problem: error.message });
    }
  }

  return { ...job, start, cancel: () => WORKER.cancel(name) };
}
