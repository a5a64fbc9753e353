// Lines over the last hour, as SVG.

import { h, s, show } from "./dom.js";
import { count } from "./format.js";

const HEIGHT = 168;
const LEFT = 44;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 22;
const HOUR = 3600;

/** A number at least `value` that is easy to halve. */
function ceiling(value) {
  if (value <= 4) return 4;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((each) => each * power).find((each) => each >= value);
}

/** Sums of `values` over `size` steps each, so that the line is calm. */
function perMinute(values, step) {
  const size = Math.max(1, Math.round(60 / step));
  return values.map((_, n) => {
    const slice = values.slice(Math.max(0, n - size + 1), n + 1);
    return slice.reduce((sum, each) => sum + each, 0) * (size / slice.length);
  });
}

/**
 * A plot that follows its width. `series`: [name, class, column, smoothed]. The returned element
 * has `draw(steps, step)`.
 */
export function plot(title, unit, series) {
  const canvas = h("div", { class: "canvas" });
  const legend = h("ul", { class: "legend" }, series.length > 1 ? series.map(([name, kind]) => h("li", { class: kind }, name)) : []);
  const element = h("figure", { class: "plot" }, h("figcaption", null, h("span", null, title), h("span", { class: "quiet" }, unit)), canvas, legend);
  let drawn = null;

  function paint() {
    if (!drawn || !canvas.clientWidth) return;
    const [steps, step] = drawn;
    const width = canvas.clientWidth;
    const lines = series.map(([name, kind, column, smoothed]) => ({
      name, kind, values: smoothed ? perMinute(steps[column], step) : steps[column],
    }));
    const known = lines.flatMap((line) => line.values).filter((each) => each !== null);
    const top = ceiling(Math.max(0, ...known));
    const x = (fromEnd) => width - RIGHT - ((width - LEFT - RIGHT) * fromEnd * step) / HOUR;
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const grid = [0, top / 2, top].map((value) => [
      s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, count(value)),
    ]);
    const ticks = (width < 400 ? [60, 30, 0] : [60, 45, 30, 15, 0]).map((minutes) =>
      s("text", { x: x((minutes * 60) / step), y: HEIGHT - 4, "text-anchor": minutes === 60 ? "start" : minutes ? "middle" : "end" },
        minutes ? `−${minutes} min` : "now"));
    const paths = lines.map((line) => s("path", { class: `line ${line.kind}`, d: path(line.values, x, y) }));
    const ends = lines.map((line) => `${line.name}: ${count(Math.round(line.values.at(-1) ?? 0))}`);
    const most = count(Math.round(Math.max(0, ...known)));
    show(canvas, s("svg", {
      viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
      "aria-label": `${title}, ${unit}, over the last hour. Now ${ends.join(", ")}. At most ${most}.`,
    }, grid, ticks, paths));
  }

  new ResizeObserver(paint).observe(canvas);
  element.draw = (steps, step) => {
    drawn = [steps, step];
    paint();
  };
  return element;
}

/** A line through `values`, the last of which is now; it breaks where one is not known. */
function path(values, x, y) {
  let pen = "M";
  const parts = [];
  values.forEach((value, n) => {
    if (value === null) {
      pen = "M";
      return;
    }
    parts.push(`${pen}${x(values.length - 1 - n).toFixed(1)} ${y(value).toFixed(1)}`);
    pen = "L";
  });
  return parts.join("");
}
