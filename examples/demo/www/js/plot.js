/** The scatter plot: axes, marks, trend lines, and a tooltip for pointer and keyboard. */

import { html, svg } from "./dom.js";
import { COLUMNS, columnName, mark, number } from "./iris.js";

const MARGIN = { top: 30, right: 12, bottom: 44, left: 38 };
const REACH = 28; // pixels around a flower in which the pointer finds it

export class ScatterPlot {
  #svg;
  #tooltip;
  #layers = {};
  #marks = new Map(); // a flower's number -> its element
  #points = []; // flowers with their place in pixels, from left to right
  #active = null;
  #data = null;
  #trend = "off";

  constructor(figure) {
    this.#svg = figure.querySelector("svg");
    this.#tooltip = figure.querySelector(".tooltip");
    for (const name of ["axes", "marks", "trends", "pointer"]) {
      this.#layers[name] = svg("g");
      this.#svg.append(this.#layers[name]);
    }
    new ResizeObserver(() => this.#draw()).observe(figure);
    this.#svg.addEventListener("pointermove", (event) => this.#pointAt(event));
    this.#svg.addEventListener("pointerdown", (event) => this.#pointAt(event));
    this.#svg.addEventListener("pointerleave", () => this.#activate(null));
    this.#svg.addEventListener("blur", () => this.#activate(null));
    this.#svg.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** Shows an answer of the server; `trend` is "off", "each", "all" or "both". */
  show(data, trend) {
    this.#data = data;
    this.#trend = trend;
    this.#draw();
  }

  #draw() {
    const width = this.#svg.clientWidth;
    if (!this.#data || !width) return;
    const height = Math.round(Math.min(Math.max(width * 0.62, 300), 540));
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#svg.style.height = `${height}px`;
    const { x, y, extent } = this.#data;
    const frame = {
      left: MARGIN.left,
      right: width - MARGIN.right,
      top: MARGIN.top,
      bottom: height - MARGIN.bottom,
    };
    const across = scale(extent[x], frame.left, frame.right);
    const up = scale(extent[y], frame.bottom, frame.top);
    this.#drawAxes(frame, across, up);
    this.#drawMarks(frame, across, up);
    this.#drawTrends(across, up);
    this.#activate(null);
    this.#svg.setAttribute(
      "aria-label",
      `${columnName(y)} over ${columnName(x)}, ${this.#data.count} flowers`,
    );
  }

  #drawAxes(frame, across, up) {
    const { left, right, top, bottom } = frame;
    const parts = [];
    for (const value of ticks(across, Math.max((right - left) / 70, 7))) {
      const at = crisp(across.at(value));
      parts.push(
        svg("line", { class: "grid", x1: at, x2: at, y1: top, y2: bottom }),
        svg("text", { class: "tick", x: at, y: bottom + 18, "text-anchor": "middle" }, tickText(value)),
      );
    }
    for (const value of ticks(up, Math.max((bottom - top) / 45, 7))) {
      const at = crisp(up.at(value));
      parts.push(
        svg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
        svg("text", { class: "tick", x: left - 8, y: at + 4, "text-anchor": "end" }, tickText(value)),
      );
    }
    parts.push(
      svg("path", { class: "axis", fill: "none", d: `M${crisp(left)} ${top}V${crisp(bottom)}H${right}` }),
      axisName("↑", columnName(this.#data.y), { x: 2, y: 14 }),
      axisName("→", columnName(this.#data.x), { x: right, y: bottom + 38, "text-anchor": "end" }),
    );
    this.#layers.axes.replaceChildren(...parts);
  }

  #drawMarks(frame, across, up) {
    const { x, y, flowers } = this.#data;
    this.#points = flowers
      .map((flower) => ({ flower, left: across.at(flower[x]), top: up.at(flower[y]) }))
      .sort((a, b) => a.left - b.left || b.top - a.top);
    const gone = new Set(this.#marks.keys());
    for (const { flower, left, top } of this.#points) {
      gone.delete(flower.number);
      const element = this.#marks.get(flower.number) ?? this.#addMark(flower);
      element.style.transform = `translate(${left.toFixed(2)}px, ${top.toFixed(2)}px)`;
    }
    for (const key of gone) {
      this.#marks.get(key).remove();
      this.#marks.delete(key);
    }
    this.#svg.querySelector(".empty")?.remove();
    if (!flowers.length) {
      const middle = { x: (frame.left + frame.right) / 2, y: (frame.top + frame.bottom) / 2 };
      this.#svg.append(svg("text", { class: "empty", ...middle }, "No flower fits these choices."));
    }
  }

  #addMark(flower) {
    const element = mark(flower.species);
    element.classList.add("arriving");
    requestAnimationFrame(() => element.classList.remove("arriving"));
    this.#marks.set(flower.number, element);
    this.#layers.marks.append(element);
    return element;
  }

  #drawTrends(across, up) {
    const wanted = ({ name }) =>
      this.#trend === "both" || (this.#trend !== "off" && (this.#trend === "all") === (name === "all"));
    const parts = this.#data.groups
      .filter((group) => group.line && group.x.max > group.x.min && wanted(group))
      .flatMap(({ name, line, x }) => {
        const end = (value) =>
          `${across.at(value).toFixed(1)} ${up.at(line.slope * value + line.intercept).toFixed(1)}`;
        const d = `M${end(x.min)}L${end(x.max)}`;
        return [svg("path", { class: "trend-halo", d }), svg("path", { class: `trend ${name}`, d })];
      });
    this.#layers.trends.replaceChildren(...parts);
  }

  #pointAt(event) {
    const bounds = this.#svg.getBoundingClientRect();
    const [left, top] = [event.clientX - bounds.left, event.clientY - bounds.top];
    let [nearest, least] = [null, REACH];
    for (const point of this.#points) {
      const distance = Math.hypot(point.left - left, point.top - top);
      if (distance < least) [nearest, least] = [point, distance];
    }
    this.#activate(nearest);
  }

  #walk(event) {
    const spots = this.#points.filter(
      (point, index, all) => !index || !samePlace(point, all[index - 1]),
    );
    const now = spots.findIndex((point) => this.#active && samePlace(point, this.#active));
    const last = spots.length - 1;
    const next = {
      ArrowRight: Math.min(now + 1, last),
      ArrowUp: Math.min(now + 1, last),
      ArrowLeft: now < 0 ? last : Math.max(now - 1, 0),
      ArrowDown: now < 0 ? last : Math.max(now - 1, 0),
      Home: 0,
      End: last,
      Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.#activate(spots[next] ?? null);
  }

  #activate(point) {
    if (point === this.#active) return;
    this.#active = point;
    this.#tooltip.hidden = !point;
    if (!point) {
      this.#layers.pointer.replaceChildren();
      return;
    }
    const { left, top } = point;
    const bottom = this.#svg.clientHeight - MARGIN.bottom;
    this.#layers.pointer.replaceChildren(
      svg("path", { class: "guide", d: `M${MARGIN.left} ${top}H${left}V${bottom}` }),
      svg("circle", { class: "ring", cx: left, cy: top, r: 9 }),
    );
    const here = this.#points.filter((other) => samePlace(other, point)).map((other) => other.flower);
    this.#tooltip.className = `tooltip ${point.flower.species}`;
    this.#tooltip.replaceChildren(...describe(here, this.#data.x, this.#data.y));
    this.#placeTooltip(left, top);
  }

  #placeTooltip(left, top) {
    const { offsetWidth: width, offsetHeight: height } = this.#tooltip;
    const room = this.#svg.clientWidth;
    const beside = left + 18 + width <= room ? left + 18 : left - 18 - width;
    const x = Math.min(Math.max(beside, 0), Math.max(room - width, 0));
    const y = beside === x ? Math.max(top - height / 2, 0) : top > height + 18 ? top - height - 18 : top + 18;
    this.#tooltip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }
}

function describe(flowers, x, y) {
  const kinds = [...new Set(flowers.map((flower) => flower.species))];
  const title = html("div", {}, html("span", { class: "species" }, kinds.join(", ")));
  const numbers = flowers.map((flower) => flower.number).join(", ");
  const single = flowers.length === 1;
  title.append(single ? ` no. ${numbers}` : ` ${flowers.length} flowers`);
  const shown = single ? COLUMNS : [...new Set([x, y])];
  const rows = shown.map((column) =>
    html(
      "tr",
      { class: single && (column === x || column === y) ? "shown" : null },
      html("th", { scope: "row" }, columnName(column)),
      html("td", {}, `${number(flowers[0][column], 1)} cm`),
    ),
  );
  const parts = [title, html("table", {}, ...rows)];
  if (!single) parts.push(html("div", { class: "hint" }, `no. ${numbers}`));
  return parts;
}

function axisName(arrow, name, place) {
  const unit = svg("tspan", { class: "unit" }, ` cm ${arrow}`);
  return svg("text", { class: "axis-name", ...place }, name, unit);
}

/** A linear scale from `[low, high]`, widened a little, to pixels. */
function scale([low, high], from, to) {
  const margin = (high - low) * 0.05;
  const [start, end] = [low - margin, high + margin];
  return { start, end, at: (value) => from + ((value - start) / (end - start)) * (to - from) };
}

/** Round values inside a scale, at most about `count` of them. */
function ticks({ start, end }, count) {
  const step = [0.1, 0.2, 0.5, 1, 2].find((size) => (end - start) / size <= count) ?? 2;
  const first = Math.ceil(start / step);
  const last = Math.floor(end / step);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

const tickText = (value) => value.toFixed(1);
const crisp = (pixel) => Math.round(pixel) + 0.5;
const samePlace = (one, other) => one.left === other.left && one.top === other.top;
