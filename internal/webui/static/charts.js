// Small line charts in SVG.

import { duration } from "./format.js";

const svg = "http://www.w3.org/2000/svg";
const width = 360;
const height = 120;
const top = 14;
const bottom = 16;

function make(parent, name, attributes, text) {
  const element = document.createElementNS(svg, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// niceMaximum is the next of 1, 2 and 5 with zeros.
function niceMaximum(value) {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return unit * [1, 2, 5, 10].find((step) => step * unit >= value);
}

// draw shows one value of the history, which goes on or has ended; points without it leave a
// gap.
export function draw(element, points, value, format, label, ended) {
  element.replaceChildren();
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  element.setAttribute("preserveAspectRatio", "none");
  const known = points.filter((point) => value(point) != null);
  const most = niceMaximum(Math.max(0, ...known.map(value)));
  const first = points.length ? points[0].Time : 0;
  const last = points.length ? points[points.length - 1].Time : 1;
  const x = (point) => ((point.Time - first) / Math.max(1, last - first)) * width;
  const y = (point) => height - bottom - (value(point) / most) * (height - top - bottom);

  for (const part of [0, 0.5, 1]) {
    const at = height - bottom - part * (height - top - bottom);
    make(element, "line", { class: "grid", x1: 0, x2: width, y1: at, y2: at });
  }
  let run = [];
  const finish = () => {
    if (run.length > 0) {
      // A lone point is drawn as a second, of which all is in the chart.
      if (run.length === 1 && run[0].Time === last && first < last) run.unshift({ ...run[0], Time: last - 1 });
      else if (run.length === 1) run.push({ ...run[0], Time: run[0].Time + 1 });
      const line = run.map((point, i) => `${i ? "L" : "M"}${x(point).toFixed(1)},${y(point).toFixed(1)}`).join("");
      const floor = height - bottom;
      make(element, "path", { class: "area", d: `${line}L${x(run[run.length - 1]).toFixed(1)},${floor}L${x(run[0]).toFixed(1)},${floor}Z` });
      make(element, "path", { class: "line", d: line });
    }
    run = [];
  };
  for (const point of points) {
    if (value(point) == null) finish();
    else run.push(point);
  }
  finish();
  const unknown = ended ? "–" : "not known yet";
  const now = known.length ? format(value(known[known.length - 1])) : unknown;
  const text = labels(element);
  if (known.length > 0) text(0, top - 4, format(most), "start");
  else text(width / 2, height / 2, ended ? "nothing was measured" : "nothing yet", "middle");
  if (last > first) {
    text(0, height - 3, `${duration(last - first)} ${ended ? "before" : "ago"}`, "start");
    text(width, height - 3, ended ? "the end" : "now", "end");
  }
  element.setAttribute("aria-label", `${label}: ${ended ? "at the end" : "now"} ${now}, at most ${known.length ? format(Math.max(...known.map(value))) : "–"}`);
  return ended ? "" : now;
}

// labels returns what writes texts that are not stretched with the chart.
function labels(element) {
  const tall = element.clientHeight ? element.clientHeight / height : 1;
  const ratio = element.clientWidth ? tall / (element.clientWidth / width) : 1;
  return (x, y, content, anchor) =>
    make(element, "text", { x: x / ratio, y, "text-anchor": anchor, "font-size": 11 / tall, transform: `scale(${ratio} 1)` }, content);
}
