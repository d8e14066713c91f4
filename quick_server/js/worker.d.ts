// Types of worker.js, which sets `window.quick_server`, for TypeScript 5.1 and newer. Those of its twin
// with exports, worker.mjs, are in worker.d.mts and come down to these.

declare namespace quick_server {
  /** How far a job is. */
  interface Progress {
    done: number;
    /** Null while nobody knows. */
    total: number | null;
    text: string;
    /** The number of jobs ahead of it in line; null once it is under way. */
    queue: number | null;
  }

  interface RunOptions {
    onProgress?: (progress: Progress) => void;
    /** Stops the job when it aborts. */
    signal?: AbortSignal;
  }

  /** Gets the number of active jobs whenever that changes, and -1 when a job has failed. */
  type StatusFunction = (active: number) => void;

  /** Why there is no result. */
  class WorkerError extends Error {
    /** The HTTP status that says so; 0 if none does. */
    readonly status: number;
  }

  /** Runs jobs, each under a name; a new job ends the one of the same name. */
  class Worker {
    /** The number of jobs that run. */
    readonly active: number;

    /** Whether the title of the page shows a spinner while jobs run. */
    infoTitle: boolean;

    /** `work.status(fn)` does the same as `work.status = fn`. */
    get status(): (fn: StatusFunction | null) => void;
    set status(fn: StatusFunction | null);

    /** Starts a job. Neither function is called for one that was replaced or cancelled. */
    post<T = any>(
      ref: string | number,
      url: string | URL,
      payload?: object,
      cb?: ((data: T) => void) | null,
      errCb?: ((error: Error) => void) | null,
    ): void;

    /**
     * Starts a job and resolves with its result. Rejects with a WorkerError, with an AbortError if
     * the job was replaced or cancelled, or with the reason of the signal.
     */
    run<T = any>(
      ref: string | number,
      url: string | URL,
      payload?: object,
      options?: RunOptions,
    ): Promise<T>;

    /** Stops the job of that name, if there is one. */
    cancel(ref: string | number): void;
  }

  /** `<quick-progress for="name">` */
  interface QuickProgressElement extends HTMLElement {
    /** The Worker whose jobs are shown; null for all. */
    worker: Worker | null;
  }
}

interface Window {
  quick_server: typeof quick_server;
}

interface HTMLElementTagNameMap {
  "quick-progress": quick_server.QuickProgressElement;
}
