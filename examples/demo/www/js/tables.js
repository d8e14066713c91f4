/** The summary, a row with box plots for each group, and the flowers one by one. */

import { html, svg } from "./dom.js";
import { COLUMNS, columnName, icon, number } from "./iris.js";

export function fillSummary(table, { x, y, extent, groups }) {
  const head = html(
    "tr",
    {},
    html("th", { scope: "col" }, "Species"),
    html("th", { scope: "col" }, "Flowers"),
    ...[x, y].map((column) => html("th", { scope: "col", class: "wide" }, ruler(column, extent[column]))),
    html("th", { scope: "col" }, "Correlation"),
  );
  const rows = groups.map((group) =>
    html(
      "tr",
      { class: group.name },
      groupName(group.name),
      html("td", { class: "count" }, String(group.count)),
      spread(x, group.x, extent[x]),
      spread(y, group.y, extent[y]),
      correlation(group),
    ),
  );
  table.replaceChildren(html("thead", {}, head), html("tbody", {}, ...rows));
}

/** The head of a group's row. */
export function groupName(name) {
  if (name === "all") return html("th", { scope: "row" }, "All together");
  return html("th", { scope: "row" }, icon(name), html("span", { class: "species" }, name));
}

function ruler(column, [from, to]) {
  const name = html("span", {}, html("strong", {}, columnName(column)), " cm");
  return html("div", { class: "scale" }, html("span", {}, number(from, 1)), name, html("span", {}, number(to, 1)));
}

function spread(column, values, extent) {
  const label = { "data-label": `${columnName(column)}, cm` };
  if (!values) return html("td", label, html("div", { class: "figures" }, "–"));
  const middle = `median ${number(values.median)}`;
  const half = `(${number(values.q1)} – ${number(values.q3)})`;
  return html(
    "td",
    label,
    boxPlot(values, extent),
    html(
      "div",
      { class: "figures" },
      html("span", {}, `${number(values.mean)} ± ${number(values.sd)}`),
      html("span", {}, middle, " ", html("small", {}, half)),
    ),
  );
}

function boxPlot({ min, q1, median, q3, max, mean }, [from, to]) {
  const at = (value) => `${((value - from) / (to - from)) * 100}%`;
  const upright = (value, reach, name) =>
    svg("line", { class: name, x1: at(value), x2: at(value), y1: 11 - reach, y2: 11 + reach });
  return svg(
    "svg",
    { class: "box", "aria-hidden": "true" },
    svg("line", { x1: at(min), x2: at(q1), y1: 11, y2: 11 }),
    svg("line", { x1: at(q3), x2: at(max), y1: 11, y2: 11 }),
    upright(min, 4),
    upright(max, 4),
    svg("rect", { x: at(q1), width: at(q3 - q1 + from), y: 4, height: 14, rx: 2 }),
    upright(median, 7, "median"),
    svg("circle", { cx: at(mean), cy: 11, r: 3 }),
  );
}

function correlation({ correlation: r, line }) {
  const cell = html("td", { "data-label": "correlation" });
  cell.append(html("div", {}, html("i", {}, "r"), ` = ${number(r)}`));
  if (r == null) return cell;
  const start = Math.min(r, 0);
  cell.append(
    svg(
      "svg",
      { class: "correlation", "aria-hidden": "true" },
      svg("rect", { class: "track", width: "100%", height: 6, rx: 3 }),
      svg("rect", { class: "value", x: `${50 + start * 50}%`, width: `${Math.abs(r) * 50}%`, height: 6 }),
      svg("line", { x1: "50%", x2: "50%", y1: -2, y2: 8 }),
    ),
  );
  if (line) {
    const sign = line.intercept < 0 ? "\u2212" : "+";
    const rest = `${sign} ${number(Math.abs(line.intercept))}`;
    const [x, y] = ["x", "y"].map((name) => html("i", {}, name));
    cell.append(html("small", {}, y, ` = ${number(line.slope)} `, x, ` ${rest}`));
  }
  return cell;
}

export function fillRows(table, flowers) {
  const names = ["No.", "Species", ...COLUMNS.map(columnName)];
  const head = html("tr", {}, ...names.map((name) => html("th", { scope: "col" }, name)));
  const rows = flowers.map((flower) =>
    html(
      "tr",
      {},
      html("td", {}, String(flower.number)),
      html("td", {}, html("span", { class: "species" }, flower.species)),
      ...COLUMNS.map((column) => html("td", {}, number(flower[column], 1))),
    ),
  );
  table.replaceChildren(html("thead", {}, head), html("tbody", {}, ...rows));
}
