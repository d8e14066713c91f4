import { useEffect, useState } from "react";
import Plot from "./Plot.jsx";
import Progress from "./Progress.jsx";
import { useJob } from "./useJob.js";

// Relative to the page, wherever that is: no slash in front.
const POINTS = "api/points";
const CLUSTERS = "api/clusters";

export default function App() {
  const [scene, problem] = useScene();
  const [clusters, setClusters] = useState(7);
  const [runs, setRuns] = useState(400);
  const job = useJob("clusters", CLUSTERS);
  const running = job.state === "running";

  function submit(event) {
    event.preventDefault();
    job.start({ clusters, runs });
  }

  return (
    <main>
      <header>
        <h1>Clusters</h1>
        <p>
          k-means starts from random points and often ends in a poor division. So Python starts it many
          times and keeps the one that spreads least; meanwhile this page shows how far it is.
        </p>
      </header>

      <form onSubmit={submit}>
        <label>
          <span>
            Clusters <b aria-hidden="true">{clusters}</b>
          </span>
          <input
            type="range"
            min="2"
            max="8"
            value={clusters}
            onChange={(event) => setClusters(event.target.valueAsNumber)}
          />
        </label>
        <label>
          <span>Runs</span>
          <input
            type="number"
            min="1"
            max="5000"
            required
            value={Number.isNaN(runs) ? "" : runs}
            onChange={(event) => setRuns(event.target.valueAsNumber)}
          />
        </label>
        <button>{running ? "Start again" : "Start"}</button>
        <button type="button" className="plain" aria-disabled={!running} onClick={job.cancel}>
          Cancel
        </button>
      </form>

      <section className="job" aria-label="Computation">
        <p role="status">{describe(job)}</p>
        {running && <Progress {...job.progress} />}
      </section>
      {(problem || job.problem) && <p role="alert">{problem || job.problem}</p>}

      {scene && <Plot {...scene} result={job.result} />}
    </main>
  );
}

/** What there is to draw, once it is loaded; or why it could not be. */
function useScene() {
  const [scene, setScene] = useState(null);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    const control = new AbortController();
    fetch(POINTS, { signal: control.signal })
      .then((response) => {
        if (!response.ok) throw new Error(`HTTP status ${response.status}`);
        return response.json();
      })
      .then(setScene)
      .catch((error) => {
        if (!control.signal.aborted) setProblem(`No points: ${error.message}. Is server.py running?`);
      });
    return () => control.abort();
  }, []);
  return [scene, problem];
}

function describe({ state, result }) {
  switch (state) {
    case "running":
      return "Computing …";
    case "done":
      return `The least spread is ${result.spread.toFixed(2)}; ${share(result)}.`;
    case "cancelled":
      return "Cancelled.";
    case "failed":
      return "The computation failed.";
    default:
      return "Ready.";
  }
}

function share({ as_good: number, runs }) {
  if (runs === 1) return "there was one run";
  return number === runs ? `all ${runs} runs found it` : `${number} of ${runs} runs found it`;
}
