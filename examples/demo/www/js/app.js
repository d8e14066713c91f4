/**
 * One view is one query: the address of the page holds it, the server answers it, and the rest
 * of the page shows the answer. Every control changes the query and asks again.
 */

import { Certainty } from "./certainty.js";
import { Ranges } from "./controls.js";
import { html } from "./dom.js";
import { COLUMNS, SPECIES, ask, columnName, icon, number } from "./iris.js";
import { ScatterPlot } from "./plot.js";
import { fillRows, fillSummary } from "./tables.js";

const byId = (id) => document.getElementById(id);
const TRENDS = ["off", "each", "all", "both"];

const axes = byId("axes").elements;
const problem = byId("problem");
const rows = byId("rows");
const plot = new ScatterPlot(byId("plot"));
const certainty = new Certainty(byId("certainty"));
const chips = new Map(SPECIES.map((name) => [name, chip(name)]));

let view = new URLSearchParams(location.search); // what api/iris understands, and `trend`
let ranges = null; // needs the extent of the data, so the first answer makes it
let answer = null;
let asking = new AbortController();

function chip(name) {
  const box = html("input", { type: "checkbox", checked: true });
  const count = html("b");
  const word = html("i", { class: "species" }, name);
  byId("species").append(html("label", { class: name }, box, icon(name), word, count));
  return { box, count };
}

/** The part of the view that the server answers. */
function query() {
  const wanted = new URLSearchParams(view);
  wanted.delete("trend");
  return wanted;
}

/** The part of the view that says which flowers are shown. */
function choice() {
  const wanted = query();
  wanted.delete("x");
  wanted.delete("y");
  return wanted;
}

function trend() {
  return TRENDS.includes(view.get("trend")) ? view.get("trend") : "each";
}

/** Changes the view (null takes a parameter out of it) and shows it. */
function change(parameters) {
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null) view.delete(name);
    else view.set(name, value);
  }
  const search = view.toString().replaceAll("%2C", ",");
  history.replaceState(null, "", search ? `?${search}` : location.pathname);
  return refresh();
}

async function refresh() {
  asking.abort(); // an older question: its answer no longer matters
  asking = new AbortController();
  const { signal } = asking;
  try {
    answer = await ask(query(), signal);
  } catch (error) {
    if (signal.aborted) return;
    problem.hidden = false;
    problem.firstElementChild.textContent = error.message;
    return;
  }
  problem.hidden = true;
  byId("main").hidden = false;
  render();
}

function render() {
  const { x, y, count, total, extent, groups, flowers } = answer;
  ranges ??= new Ranges(byId("ranges"), extent, (values) => change(limits(values)));
  ranges.values = Object.fromEntries(
    COLUMNS.map((column) => [column, [view.get(`min_${column}`), view.get(`max_${column}`)]]),
  );
  ranges.show(flowers);
  axes.x.value = x;
  axes.y.value = y;
  axes.trend.value = trend();
  for (const [name, { box, count: shown }] of chips) {
    const group = groups.find((each) => each.name === name);
    box.checked = group !== undefined;
    shown.textContent = group ? group.count : "";
  }
  plot.show(answer, trend());
  fillSummary(byId("summary"), answer);
  certainty.show(choice().toString());
  if (rows.open) fillRows(rows.querySelector("table"), flowers);
  const together = groups[0].correlation;
  byId("status").textContent =
    `${count} of ${total} flowers` + (together === null ? "" : `, r = ${number(together)}`);
  byId("as-json").search = query();
}

/** Parameters for ranges; a side that leaves nothing out has none. */
function limits(values) {
  const parameters = {};
  for (const column of COLUMNS) {
    const [low, high] = values[column] ?? answer.extent[column];
    const [from, to] = answer.extent[column];
    parameters[`min_${column}`] = low > from ? low : null;
    parameters[`max_${column}`] = high < to ? high : null;
  }
  return parameters;
}

for (const select of [axes.x, axes.y]) {
  select.append(...COLUMNS.map((column) => html("option", { value: column }, columnName(column))));
}
// Choosing the other axis' column swaps the two: a column over itself shows nothing.
axes.x.addEventListener("change", ({ target: { value: x } }) =>
  change({ x, y: x === answer.y ? answer.x : answer.y }),
);
axes.y.addEventListener("change", ({ target: { value: y } }) =>
  change({ y, x: y === answer.x ? answer.y : answer.x }),
);
byId("swap").addEventListener("click", () => change({ x: answer.y, y: answer.x }));
byId("axes").addEventListener("change", ({ target }) => {
  if (target.name === "trend") change({ trend: target.value });
});
byId("axes").addEventListener("submit", (event) => event.preventDefault());
byId("species").addEventListener("change", () => {
  const shown = SPECIES.filter((name) => chips.get(name).box.checked);
  change({ species: shown.length === SPECIES.length ? null : shown.join(",") });
});
byId("reset").addEventListener("click", () => change(limits({})));
problem.querySelector("button").addEventListener("click", () => {
  view = new URLSearchParams();
  change({});
});
rows.addEventListener("toggle", () => {
  if (rows.open) fillRows(rows.querySelector("table"), answer.flowers);
});

refresh();
