/**
 * Jobs on the server, as a page sees them: starts them, waits for their results, stops them.
 *
 *     const work = new quick_server.Worker();
 *     work.post("name", "json_worker", { rows: 10 }, (data) => show(data), (error) => complain(error));
 *     const data = await work.run("name", "json_worker", { rows: 10 }, { onProgress, signal });
 *     <quick-progress for="name"></quick-progress>
 *
 * It works as a classic script and imported for its effect on `window`, without a build; its syntax
 * is that of ES2017, so that no older build stumbles over it. `worker.mjs`, which is served beside it,
 * takes it and exports what it sets.
 *
 * What it owns: the jobs of this page until each is settled, exactly once, and the connections that
 * wait for them. What it must never do: give up a question that may be answered with the result of
 * a wanted job, as the server sends a result once and forgets it; leave a job behind that nobody
 * waits for; hold so many connections that the page gets nothing else from the server.
 */
(function (scope) {
  "use strict";

  // The first copy on a page stays. Two would each hold connections, and see half of the jobs.
  if (scope.quick_server && scope.quick_server.Worker) return;

  const page = typeof document === "undefined" ? null : document;
  const locks = (scope.navigator && scope.navigator.locks) || null; // in secure contexts

  // Times are milliseconds.
  const LONG_WAIT = locks ? 30000 : 5000; // as the protocol allows; less where tabs cannot agree
  const SHORT_WAIT = 150; // where many jobs take turns
  const SPACING = 40; // between two questions for a job, however fast its progress moves
  const OVERDUE = 60000; // later than this an answer does not come any more
  const FIRST_DELAY = 500; // where the server does not wait: the first delay, ...
  const LAST_DELAY = 60000; // ... and the longest
  const FIRST_RETRY = 300; // doubled each time; seven tries take about 19 s
  const RETRIES = 6;
  const LONGEST_RETRY_AFTER = 60000;
  const LINES = 3; // connections that wait; browsers have six for a host, and all tabs share them
  const CARRIERS = 3; // pieces of a long result on their way at the same time
  const SHOWN_AFTER = 150; // of a job's life: what is faster needs no progress bar
  const SPINNER = ["◐", "◓", "◑", "◒"];
  const SPINNER_STEP = 250;

  const never = new AbortController().signal; // of what nobody can abort
  const running = new Set(); // jobs that are not settled, in the order in which they began
  const watchers = new Set(); // elements that show jobs

  /** Why there is no result. `status` is the HTTP status that says so, 0 if none does. */
  class WorkerError extends Error {
    constructor(message, status) {
      super(message);
      this.name = "WorkerError";
      this.status = status || 0;
    }
  }

  const abortError = (message) => new DOMException(message, "AbortError");

  /** Calls a function of the page. Its faults are reported as the page's and never end a job. */
  function call(fun, value) {
    try {
      fun(value);
    } catch (error) {
      setTimeout(() => {
        throw error;
      });
    }
  }

  /** Resolves when the time is over, when the signal aborts, or by `turn.wake()`. */
  function sleep(time, signal, turn) {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, time);
      signal.addEventListener("abort", wake);
      if (turn) turn.wake = wake;
    });
  }

  // ---- questions --------------------------------------------------------------------------------

  /**
   * One POST and its answer. `limit` is the time until the head of the answer (0: any).
   * Throws WorkerError for what the server says, anything else if there was no answer.
   */
  async function send(url, body, signal, limit, keepalive) {
    const control = new AbortController();
    const abort = () => control.abort();
    const timer = limit ? setTimeout(abort, limit) : 0;
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort);
    try {
      const response = await scope.fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/json", Accept: "application/json" },
        body,
        keepalive,
        signal: control.signal,
      });
      clearTimeout(timer);
      if (!response.ok) throw await refusal(response);
      const answer = await response.json();
      if (answer && typeof answer.done === "boolean") return answer;
      throw new WorkerError("the answer is not that of a worker");
    } catch (error) {
      if (error instanceof SyntaxError) throw new WorkerError("the answer is not JSON");
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
    }
  }

  /**
   * An error page as an error; with `pause` if it is worth asking again: a gateway's trouble is, and
   * what says when. The server's own page is not, as it may be what became of the job: read once, gone.
   */
  async function refusal(response) {
    const { status, statusText } = response;
    const after = response.headers.get("Retry-After");
    const content = (await response.json().catch(() => null)) || {};
    const own = content.error === status && typeof content.message === "string";
    const error = new WorkerError((own && content.message) || statusText || `HTTP status ${status}`, status);
    if (status >= 502 && status <= 504 && (after || !own)) error.pause = retryAfter(after);
    return error;
  }

  /** RFC 9110 section 10.2.3: seconds, or a date; 0 without either. */
  function retryAfter(field) {
    if (!field) return 0;
    const time = /^\d+$/.test(field) ? field * 1000 : Date.parse(field) - Date.now();
    return Math.min(Math.max(time || 0, 0), LONGEST_RETRY_AFTER);
  }

  /**
   * The answer to a question, which is asked again while the network or a gateway fails.
   * Once the signal aborts nothing is asked any more; what is on its way is cut off unless `uncut`.
   */
  async function ask(url, body, { signal, limit, uncut, keepalive }) {
    for (let tries = 0; ; tries++) {
      let pause = FIRST_RETRY * Math.pow(2, tries) * (0.75 + Math.random() / 2);
      try {
        return await send(url, body, uncut ? never : signal, limit, keepalive);
      } catch (error) {
        const final = tries === RETRIES || signal.aborted;
        if (error instanceof WorkerError) {
          if (final || error.pause === undefined) throw error;
          pause = Math.max(pause, error.pause);
        } else if (final) {
          throw new WorkerError(`the server cannot be reached: ${error.message}`);
        }
      }
      await sleep(pause, signal);
      if (signal.aborted) throw abortError("the job is not wanted any more");
    }
  }

  /** Asks for the end of a job. Outlives the page; that it fails is nobody's concern. */
  function stop(url, token, leaving) {
    const body = JSON.stringify({ action: "stop", token });
    if (leaving && !("keepalive" in Request.prototype)) {
      navigator.sendBeacon(url, new Blob([body], { type: "application/json" }));
    } else {
      ask(url, body, { signal: never, keepalive: true }).catch(() => {});
    }
  }

  // ---- lines: the connections that wait ---------------------------------------------------------

  /**
   * A question that waits on the server holds a connection, and over HTTP/1.1 a browser has six for
   * all tabs together. So only three may wait at a time, each on a line:
   *
   * - Up to three jobs have a line each, and hear of their end at once.
   * - More take turns, first come, first served, and each time wait only for so long that every job
   *   has its turn once in a round: 0.6 s, or 50 ms for each job if that is more.
   * - Who gets no line for a whole round, as others began long waits before, asks without waiting.
   *
   * So no result is noticed later than a round, and a page asks 20 times a second at most.
   *
   * The three are those of all tabs together, by Web Locks. Without them (they need https or localhost)
   * each tab has its own; then hidden ones never wait, and others not for long.
   */
  const lines = {
    free: LINES,
    turns: [], // of those who wait for a line

    round() {
      return Math.max(600, 50 * running.size);
    },

    wait() {
      if (running.size <= LINES) return LONG_WAIT;
      return Math.max(SHORT_WAIT, (this.round() * LINES) / running.size);
    },

    /** Whether there was a line within a round; it is the caller's until `give`. */
    async take(signal) {
      if (this.free > 0) {
        this.free--;
        return true;
      }
      const turn = { given: false, wake: null };
      this.turns.push(turn);
      await sleep(this.round(), signal, turn);
      if (!turn.given) this.turns.splice(this.turns.indexOf(turn), 1);
      return turn.given;
    },

    give() {
      const turn = this.turns.shift();
      if (turn === undefined) {
        this.free++;
      } else {
        turn.given = true;
        turn.wake();
      }
    },

    /** The result of `use(free)`: whether a line is free in the other tabs as well, which it stays. */
    share(use, number) {
      const alone = () => use(!(page && page.hidden));
      if (!locks) return alone();
      let entered = false;
      const enter = (lock) => {
        entered = true;
        if (lock !== null) return use(true);
        return number + 1 < LINES ? this.share(use, number + 1) : use(false);
      };
      const refused = (error) => {
        if (entered) throw error;
        return alone(); // a sandboxed page may not have locks
      };
      return locks.request(`quick_server line ${number}`, { ifAvailable: true }, enter).catch(refused);
    },
  };

  // ---- jobs -------------------------------------------------------------------------------------

  /** One job, from its start to the moment when it is settled. */
  class Job {
    /** Throws TypeError for a URL that is none and for a payload that is not JSON. */
    constructor(worker, ref, url, payload, { onProgress, resolve, reject }) {
      this.worker = worker;
      this.ref = ref;
      // Resolved now: the address of the page may change while the job runs (history.pushState).
      this.url = new URL(url, page ? page.baseURI : scope.location && scope.location.href).href;
      this.began = performance.now();
      this.progress = null; // as the server told it last
      this.gone = false; // whether the page was left
      this._payload = JSON.stringify(payload === undefined ? {} : payload); // as it is now
      this._onProgress = onProgress;
      this._resolve = resolve;
      this._reject = reject;
      this._control = new AbortController();
      this._signal = this._control.signal;
      this._token = null; // while the server knows the job, and we know that
      this._took = 0; // the time that the last answer took, ...
      this._early = false; // ... and whether that was much less than it might have been
      this._delay = 0; // the pace, with a server that does not wait
      this._unfollow = null;
    }

    /** Ends the job when a signal of the page aborts. */
    follow(signal) {
      const abort = () => this.abandon(signal.reason || abortError("the job was aborted"));
      signal.addEventListener("abort", abort);
      this._unfollow = () => signal.removeEventListener("abort", abort);
    }

    async run() {
      try {
        const data = await this._run();
        this._settle(false, () => this._resolve(data));
      } catch (error) {
        if (!this.gone) this.fail(error);
      }
    }

    fail(error) {
      this._settle(true, () => this._reject(error));
    }

    /** The page does not want the job any more: stops it. */
    abandon(reason) {
      this._stop(false);
      this._settle(false, () => this._reject(reason));
    }

    /** The page is left: stops the job. It is not settled, as that could set the page to work. */
    leave() {
      this.gone = true;
      this._control.abort();
      this._stop(true);
    }

    _settle(failed, settle) {
      if (!running.delete(this)) return;
      this._control.abort(); // pieces that are on their way, if one has failed
      if (this._unfollow) this._unfollow();
      this.worker._ended(this, failed);
      changed();
      settle();
    }

    _stop(leaving) {
      if (this._token !== null) stop(this.url, this._token, leaving);
      this._token = null;
    }

    async _run() {
      let answer = await this._start();
      while (!answer.done && answer.continue) {
        const pause = this._note(answer);
        await sleep(pause, this._signal);
        answer = await this._get();
      }
      this._token = null;
      return this._result(answer);
    }

    /**
     * A start waits for 0.1 s by itself, and must not wait longer: only what has a token can be stopped.
     * For the same reason it is never cut off.
     */
    async _start() {
      const body = `{"action":"start","payload":${this._payload}}`;
      this._payload = null;
      const answer = await this._ask(body, 0, { signal: this._signal, uncut: true });
      if (!answer.done && answer.continue) this._token = answer.token;
      if (this._signal.aborted) this._stop(this.gone);
      return answer;
    }

    async _get() {
      if (!(await lines.take(this._signal))) return this._poll(0);
      const use = async (free) => {
        if (free) return this._poll(lines.wait());
        await sleep(lines.round(), this._signal);
        return this._poll(0);
      };
      try {
        return await lines.share(use, 0);
      } finally {
        lines.give();
      }
    }

    _poll(wait) {
      const body = JSON.stringify({ action: "get", token: this._token, wait });
      return this._ask(body, wait, { signal: this._signal, limit: wait + OVERDUE });
    }

    async _ask(body, wait, options) {
      const asked = performance.now();
      const answer = await ask(this.url, body, options);
      this._took = performance.now() - asked;
      this._early = this._took < wait / 2;
      return answer;
    }

    /**
     * Takes note of the answer for a running job; returns the pause before the next question.
     *
     * A server that waits answers late, or early with news. One that does neither knows nothing of
     * waiting (then it knows nothing of progress either) or does not want to: it is asked at a pace
     * that slows down.
     */
    _note(answer) {
      const { done, total, text } = answer.progress || {};
      const known = answer.progress !== undefined || answer.queue !== undefined;
      const progress = {
        done: typeof done === "number" ? done : 0,
        total: typeof total === "number" ? total : null,
        text: typeof text === "string" ? text : "",
        queue: typeof answer.queue === "number" ? answer.queue : null,
      };
      const news = known && JSON.stringify(progress) !== JSON.stringify(this.progress);
      if (news) {
        this.progress = progress;
        changed();
        if (this._onProgress) call(this._onProgress, Object.assign({}, progress));
      }
      if (known && (news || !this._early)) {
        this._delay = 0;
        return Math.max(0, SPACING - this._took);
      }
      const slower = Math.max(this._delay * 1.01, this._delay + 10);
      this._delay = this._delay === 0 ? FIRST_DELAY : Math.min(slower, LAST_DELAY);
      return this._delay;
    }

    async _result({ done, result, continue: more }) {
      if (!done) throw new WorkerError("the server does not know the job (any more)");
      if (result === null) throw new WorkerError("the job was stopped");
      const text = more ? await this._carry(result) : result;
      try {
        return JSON.parse(text);
      } catch (error) {
        throw new WorkerError(`the result is not JSON: ${error.message}`);
      }
    }

    /** A result in pieces, each of which is sent once. */
    async _carry(tokens) {
      const pieces = [];
      let next = 0;
      const carry = async () => {
        while (next < tokens.length) {
          const number = next++;
          const body = JSON.stringify({ action: "cargo", token: tokens[number] });
          pieces[number] = (await ask(this.url, body, { signal: this._signal })).result;
        }
      };
      await Promise.all(Array.from({ length: CARRIERS }, carry));
      return pieces.join("");
    }
  }

  /** Something about the jobs has changed: shows it. */
  function changed() {
    watchers.forEach((watcher) => watcher.update());
    title.update();
  }

  // ---- what pages use ---------------------------------------------------------------------------

  /** Runs jobs, each under a name; a new job ends the one of the same name. */
  class Worker {
    constructor() {
      this._jobs = new Map();
      this._status = null;
      this._infoTitle = false;
    }

    /** The number of jobs that run. */
    get active() {
      return this._jobs.size;
    }

    /**
     * `work.status(fn)` or `work.status = fn`: `fn` gets the number of active jobs whenever that
     * changes, and -1 when a job has failed.
     */
    get status() {
      return (fn) => {
        this.status = fn;
      };
    }

    set status(fn) {
      this._status = fn || null;
    }

    /** Whether the title of the page shows a spinner while jobs run. */
    get infoTitle() {
      return this._infoTitle;
    }

    set infoTitle(on) {
      this._infoTitle = Boolean(on);
      title.update();
    }

    /**
     * Starts a job: `cb(data)` gets its result, `errCb(error)` the reason why there is none.
     * Neither is called for a job that was replaced or cancelled.
     */
    post(ref, url, payload, cb, errCb) {
      this.run(ref, url, payload).then(cb, (error) => {
        if (error.name === "AbortError") return;
        if (errCb) errCb(error);
        else console.error(error);
      });
    }

    /**
     * Starts a job; resolves with its result. `onProgress` gets `{ done, total, text, queue }`, where
     * `total` may be null, and `queue` is the number of jobs ahead, or null once the job is under way.
     * Rejects with a WorkerError; with an AbortError if the job was replaced or cancelled, and with
     * the signal's reason (which is an AbortError, as a rule) if `signal` has aborted.
     */
    run(ref, url, payload, options) {
      const { onProgress, signal } = options || {};
      return new Promise((resolve, reject) => {
        if (signal && signal.aborted) throw signal.reason || abortError("the job was aborted");
        const name = String(ref);
        const job = new Job(this, name, url, payload, { onProgress, resolve, reject });
        const old = this._jobs.get(name);
        this._jobs.set(name, job);
        running.add(job);
        if (signal) job.follow(signal);
        if (old) old.abandon(abortError("a newer job has taken its name"));
        else this._tell(this.active);
        job.run();
        changed();
      });
    }

    /** Stops the job of that name, if there is one. */
    cancel(ref) {
      const job = this._jobs.get(String(ref));
      if (job) job.abandon(abortError("the job was cancelled"));
    }

    _ended(job, failed) {
      if (this._jobs.get(job.ref) === job) this._jobs.delete(job.ref);
      this._tell(failed ? -1 : this.active);
    }

    _tell(number) {
      if (this._status) call(this._status, number);
    }
  }

  // ---- leaving the page -------------------------------------------------------------------------

  // `pagehide` and not `unload`: it comes on telephones too, and does not keep a page out of the
  // back/forward cache. A page that comes back from there finds its jobs failed.
  if (page) {
    scope.addEventListener("pagehide", () => {
      running.forEach((job) => job.leave());
      title.update();
    });
    scope.addEventListener("pageshow", () => {
      running.forEach((job) => {
        if (job.gone) job.fail(new WorkerError("the page was left while the job ran"));
      });
    });
  }

  // ---- the title --------------------------------------------------------------------------------

  /** A spinner before the page's title, which stays the page's: it may change meanwhile. */
  const title = {
    timer: null,
    step: 0,
    own: "", // the title without spinner
    shown: null, // as it was set here; null while it is the page's

    update() {
      const busy = Array.from(running).some((job) => job.worker.infoTitle && !job.gone);
      if (page === null || busy === (this.timer !== null)) return;
      if (busy) {
        this.timer = setInterval(() => this.turn(), SPINNER_STEP);
        return;
      }
      clearInterval(this.timer);
      this.timer = null;
      if (page.title === this.shown) page.title = this.own;
      this.shown = null;
    },

    turn() {
      if (page.title !== this.shown) this.own = page.title;
      this.step = (this.step + 1) % SPINNER.length;
      this.shown = `${SPINNER[this.step]} ${this.own}`.trim();
      page.title = this.shown;
    },
  };

  // ---- <quick-progress for="name"> --------------------------------------------------------------

  const STYLE = `
    :host { display: flex; flex-wrap: wrap; align-items: center; gap: 0.25em 0.75em; }
    :host(:not([running])) { display: none !important; }
    [part="text"] { flex: 1 0 100%; }
    [part="bar"] {
      flex: 1 1 6em;
      min-inline-size: 4em;
      block-size: var(--quick-progress-height, 1em);
      accent-color: var(--quick-progress-color, auto);
    }
    [part="percent"] { min-inline-size: 3.5ch; text-align: end; font-variant-numeric: tabular-nums; }
    [part="cancel"] {
      padding: 0.2em 0.8em;
      border: 1px solid;
      border-radius: 0.3em;
      background: none;
      color: inherit;
      font: inherit;
      cursor: pointer;
    }
  `;

  function part(name, tag, attributes) {
    const element = page.createElement(tag);
    element.setAttribute("part", name);
    Object.keys(attributes).forEach((key) => element.setAttribute(key, attributes[key]));
    return element;
  }

  /** A style that needs no permission of a Content-Security-Policy, where the browser has those. */
  function dress(root) {
    if ("adoptedStyleSheets" in root) {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      root.adoptedStyleSheets = [sheet];
    } else {
      root.appendChild(page.createElement("style")).textContent = STYLE;
    }
  }

  /** "reading", "2 jobs ahead", or what the element's `label` says. */
  function describe({ text, queue }, label) {
    if (queue === null) return text || label;
    if (queue === 0) return "next in line";
    return queue === 1 ? "1 job ahead" : `${queue} jobs ahead`;
  }

  function define() {
    /**
     * The progress of the job with the name `for`, and a button that cancels it.
     *
     * The job may be that of any Worker on the page; `element.worker = work` looks at one only. The
     * attribute `running` is set while there is one, and the element is not displayed without it.
     */
    class QuickProgress extends HTMLElement {
      static get observedAttributes() {
        return ["for", "label"];
      }

      constructor() {
        super();
        const root = this.attachShadow({ mode: "open" });
        this._text = part("text", "span", { id: "text" });
        this._bar = part("bar", "progress", { "aria-labelledby": "text" });
        this._percent = part("percent", "span", { "aria-hidden": "true" });
        this._cancel = part("cancel", "button", { type: "button", "aria-describedby": "text" });
        const caption = page.createElement("slot");
        caption.name = "cancel";
        caption.textContent = "Cancel";
        this._cancel.appendChild(caption);
        [this._text, this._bar, this._percent, this._cancel].forEach((each) => root.appendChild(each));
        dress(root);
        this._worker = null;
        this._timer = 0;
        this._cancel.addEventListener("click", () => {
          const job = this._job();
          if (job) job.worker.cancel(job.ref);
        });
      }

      get worker() {
        return this._worker;
      }

      set worker(worker) {
        this._worker = worker || null;
        this.update();
      }

      connectedCallback() {
        if (Object.prototype.hasOwnProperty.call(this, "worker")) {
          const { worker } = this; // set before the element was defined
          delete this.worker;
          this.worker = worker;
        }
        watchers.add(this);
        this.update();
      }

      disconnectedCallback() {
        watchers.delete(this);
        clearTimeout(this._timer);
      }

      attributeChangedCallback() {
        this.update();
      }

      /** The youngest job that fits. */
      _job() {
        const fits = ({ ref, worker, gone }) =>
          ref === this.getAttribute("for") && !gone && (!this._worker || worker === this._worker);
        return Array.from(running).filter(fits).pop();
      }

      update() {
        if (!this.isConnected) return;
        clearTimeout(this._timer);
        const job = this._job();
        const early = job ? SHOWN_AFTER - (performance.now() - job.began) : 0;
        if (job && early > 0) this._timer = setTimeout(() => this.update(), early);
        this.toggleAttribute("running", Boolean(job) && early <= 0);
        if (job) this._show(job.progress || { done: 0, total: null, text: "", queue: null });
      }

      _show(progress) {
        const { done, total } = progress;
        this._text.textContent = describe(progress, this.getAttribute("label") || "Working");
        const share = total > 0 ? Math.min(Math.max(done / total, 0), 1) : null;
        if (share === null) this._bar.removeAttribute("value");
        else this._bar.value = share;
        this._percent.textContent = share === null ? "" : `${Math.floor(share * 100)}%`;
      }
    }
    customElements.define("quick-progress", QuickProgress);
  }

  scope.quick_server = Object.assign(scope.quick_server || {}, { Worker, WorkerError });
  if (page && scope.customElements && !customElements.get("quick-progress")) define();
})(typeof window === "undefined" ? globalThis : window);
