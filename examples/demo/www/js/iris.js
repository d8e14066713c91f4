/** What the page knows about the data: names, signs, numbers, and how to ask for it. */

import { svg } from "./dom.js";

export const COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
export const SPECIES = ["setosa", "versicolor", "virginica"];

// Shapes of about the same area, so that no species needs its colour to be told apart.
const SHAPES = {
  setosa: "M4.7 0A4.7 4.7 0 1 1-4.7 0A4.7 4.7 0 1 1 4.7 0Z",
  versicolor: "M0-6L6 0L0 6L-6 0Z",
  virginica: "M0-6.4L5.9 4.2H-5.9Z",
};

/** A column's name for people. */
export function columnName(column) {
  return column.replace("_", " ");
}

/** The sign of a species, around the origin. */
export function mark(species) {
  return svg("path", { class: `mark ${species}`, d: SHAPES[species] });
}

/** The sign of a species as an icon of its own. */
export function icon(species) {
  return svg("svg", { viewBox: "-9 -9 18 18", "aria-hidden": "true" }, mark(species));
}

/** A number with a true minus sign; a dash for none. */
export function number(value, digits = 2) {
  return value == null ? "–" : value.toFixed(digits).replace("-", "\u2212");
}

/**
 * The answer of `api/iris` to a query.
 *
 * @param {URLSearchParams} query
 * @param {AbortSignal} signal ends the request when its answer is no longer wanted
 * @throws {Error} with the server's own words when it refuses the query
 */
export async function ask(query, signal) {
  const response = await fetch(`api/iris?${query}`, {
    signal,
    headers: { Accept: "application/json" },
  });
  if (response.ok) return response.json();
  const refusal = await response.json().catch(() => ({}));
  throw new Error(refusal.message ?? `The server answered ${response.status}.`);
}
