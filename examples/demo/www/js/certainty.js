/** How sure the means are: the server draws the flowers shown again and again, which takes a while. */

import { html, svg } from "./dom.js";
import { COLUMNS, columnName, number } from "./iris.js";
import { groupName } from "./tables.js";
import { Worker } from "./worker.mjs";

const JOB = "bootstrap"; // the name that <quick-progress> looks for

export class Certainty {
  #work = new Worker();
  #controls;
  #status;
  #table;
  #view = null; // which flowers are shown, as a query

  constructor(section) {
    const form = section.querySelector("form");
    this.#controls = form.elements;
    this.#status = section.querySelector("[role=status]");
    this.#table = section.querySelector("table");
    this.#controls.column.append(
      ...COLUMNS.map((column) => html("option", { value: column }, columnName(column))),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#estimate();
    });
  }

  /** Tells which flowers are shown; what was estimated for others is shown no longer. */
  show(view) {
    if (view === this.#view) return;
    this.#view = view;
    this.#work.cancel(JOB);
    this.#clear("");
  }

  async #estimate() {
    const view = this.#view;
    const payload = {
      column: this.#controls.column.value,
      draws: Number(this.#controls.draws.value),
      view: Object.fromEntries(new URLSearchParams(view)),
    };
    const began = performance.now();
    this.#clear("");
    try {
      const data = await this.#work.run(JOB, "api/bootstrap", payload);
      this.#fill(data, (performance.now() - began) / 1000);
    } catch (error) {
      if (error.name !== "AbortError") this.#clear(error.message);
      else if (view === this.#view && this.#work.active === 0) this.#clear("Cancelled.");
    }
  }

  #clear(text) {
    this.#table.replaceChildren();
    this.#table.hidden = true;
    this.#status.textContent = text;
  }

  #fill({ column, draws, seconds, groups }, waited) {
    if (groups.every((group) => group.count === 0)) {
      this.#clear("No flower fits these choices.");
      return;
    }
    const computed = `computed in ${duration(seconds)}`;
    const known = waited < seconds / 2 ? `, and this time known after ${duration(waited)}` : "";
    this.#status.textContent =
      `The mean ${columnName(column)}, from ${draws.toLocaleString("en")} draws: ${computed}${known}.`;
    const reach = Math.max(...groups.map(reachOf), 0);
    const texts = ["Species", "Flowers", "Mean, cm", "95 % interval"];
    const head = html(
      "tr",
      {},
      ...texts.map((text) => html("th", { scope: "col" }, text)),
      html("th", { scope: "col", class: "wide" }, ruler(reach)),
    );
    const rows = groups.map((group) =>
      html(
        "tr",
        { class: group.name },
        groupName(group.name),
        html("td", { class: "count" }, String(group.count)),
        html("td", { "data-label": "mean, cm" }, html("div", {}, number(group.mean, 3))),
        html("td", { "data-label": "95 % interval" }, html("div", {}, interval(group))),
        html("td", {}, shape(group, reach)),
      ),
    );
    this.#table.replaceChildren(html("thead", {}, head), html("tbody", {}, ...rows));
    this.#table.hidden = false;
  }
}

function duration(seconds) {
  return seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`;
}

function interval({ low, high }) {
  return low === null ? "–" : `${number(low, 3)} – ${number(high, 3)}`;
}

/** How far the draws of a group are from its mean. */
function reachOf({ mean, histogram }) {
  if (histogram === null) return 0;
  const end = histogram.start + histogram.width * histogram.counts.length;
  return Math.max(mean - histogram.start, end - mean);
}

function ruler(reach) {
  const ends = reach > 0 ? [number(-reach), `+${number(reach)}`] : ["", ""];
  const [left, right] = ends.map((text) => html("span", {}, text));
  return html("div", { class: "scale" }, left, html("span", {}, "draws around the mean, cm"), right);
}

/** The draws as a histogram around the mean, by the same scale for all groups. */
function shape({ mean, low, high, histogram }, reach) {
  if (histogram === null) return "";
  const { start, width, counts } = histogram;
  const most = Math.max(...counts);
  const at = (value) => 50 + ((value - mean) / reach) * 50;
  const bars = counts.map((count, index) => {
    const middle = start + (index + 0.5) * width;
    return svg("rect", {
      class: middle >= low && middle <= high ? "within" : null,
      x: `${at(middle - width / 2)}%`,
      width: `${at(width + mean) - 50}%`,
      y: `${100 - (count / most) * 100}%`,
      height: `${(count / most) * 100}%`,
    });
  });
  const line = svg("line", { x1: "50%", x2: "50%", y1: 0, y2: "100%" });
  return svg("svg", { class: "draws", "aria-hidden": "true" }, ...bars, line);
}
