/** The ranges: a histogram of what is shown and a slider with two thumbs, for each column. */

import { html, svg } from "./dom.js";
import { COLUMNS, SPECIES, columnName, number } from "./iris.js";

const STEP = 0.1; // the measurements have one decimal place
const BINS = 18; // about as many as fit

export class Ranges {
  #parts = new Map(); // column -> its elements and extent
  #changed;

  /** `changed(ranges)` is called while a thumb moves, with `{column: [low, high]}`. */
  constructor(container, extent, changed) {
    this.#changed = changed;
    for (const column of COLUMNS) {
      const part = this.#build(column, extent[column]);
      this.#parts.set(column, part);
      container.append(part.group);
    }
  }

  /** The ranges that leave something out. */
  get values() {
    const values = {};
    for (const [column, { low, high, extent }] of this.#parts) {
      const range = [low.valueAsNumber, high.valueAsNumber];
      if (range[0] > extent[0] || range[1] < extent[1]) values[column] = range;
    }
    return values;
  }

  set values(values) {
    for (const [column, part] of this.#parts) {
      const [low, high] = values[column] ?? part.extent;
      part.low.value = low ?? part.extent[0];
      part.high.value = high ?? part.extent[1];
      paint(part);
    }
  }

  /** Draws how the flowers spread over each column. */
  show(flowers) {
    for (const [column, part] of this.#parts) {
      part.histogram.replaceChildren(...bars(flowers, column, part.extent));
    }
  }

  #build(column, extent) {
    const name = columnName(column);
    const thumb = (end, value) =>
      html("input", {
        type: "range",
        min: extent[0],
        max: extent[1],
        step: STEP,
        value,
        "aria-label": `${end} ${name}, cm`,
      });
    const low = thumb("least", extent[0]);
    const high = thumb("greatest", extent[1]);
    const output = html("output");
    const histogram = svg("svg", { class: "histogram", "aria-hidden": "true" });
    const slider = html("div", { class: "slider" }, low, high);
    const group = html(
      "div",
      { class: "range", role: "group", "aria-label": name },
      html("span", {}, name),
      output,
      histogram,
      slider,
    );
    const part = { group, low, high, output, slider, histogram, extent };
    low.addEventListener("input", () => {
      low.valueAsNumber = Math.min(low.valueAsNumber, high.valueAsNumber);
      this.#moved(part);
    });
    high.addEventListener("input", () => {
      high.valueAsNumber = Math.max(low.valueAsNumber, high.valueAsNumber);
      this.#moved(part);
    });
    paint(part);
    return part;
  }

  #moved(part) {
    paint(part);
    this.#changed(this.values);
  }
}

function paint({ low, high, output, slider, extent: [from, to] }) {
  const percent = (input) => `${((input.valueAsNumber - from) / (to - from)) * 100}%`;
  slider.style.setProperty("--from", percent(low));
  slider.style.setProperty("--to", percent(high));
  output.textContent = `${number(low.valueAsNumber, 1)} – ${number(high.valueAsNumber, 1)} cm`;
  // With both thumbs at the far end, only the lower one still has somewhere to go.
  low.style.zIndex = low.valueAsNumber > (from + to) / 2 ? 1 : 0;
}

/** Stacked bars, a colour for each species. */
function bars(flowers, column, [from, to]) {
  const steps = (value) => Math.round((value - from) / STEP); // exact, which the values are not
  const size = Math.max(1, Math.round(steps(to) / BINS));
  const bins = Array.from({ length: Math.floor(steps(to) / size) + 1 }, () => ({}));
  for (const { species, [column]: value } of flowers) {
    const bin = bins[Math.floor(steps(value) / size)];
    bin[species] = (bin[species] ?? 0) + 1;
  }
  const totals = bins.map((bin) => Object.values(bin).reduce((sum, count) => sum + count, 0));
  const unit = 100 / Math.max(...totals, 1);
  const at = (step) => (step / steps(to)) * 100;
  return bins.flatMap((bin, index) => {
    const start = at(index * size - 0.5); // a value stands for the half step on either side of it
    const end = at(Math.min((index + 1) * size, steps(to) + 1) - 0.5);
    let top = 100;
    return SPECIES.filter((name) => bin[name]).map((name) => {
      top -= bin[name] * unit;
      const height = `${bin[name] * unit}%`;
      return svg("rect", { class: name, x: `${start}%`, width: `${end - start}%`, y: `${top}%`, height });
    });
  });
}
