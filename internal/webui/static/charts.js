// Small line charts in SVG.

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

// draw shows one value of the history; points without it leave a gap.
export function draw(element, points, value, format, label) {
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
      if (run.length === 1) run.push({ ...run[0], Time: run[0].Time + 1 });
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
  labels(element, `${format(most)}`, points.length ? `${Math.max(1, Math.round((last - first) / 60))} min` : "");
  const now = known.length ? format(value(known[known.length - 1])) : "not known yet";
  element.setAttribute("aria-label", `${label}: now ${now}, at most ${known.length ? format(Math.max(...known.map(value))) : "–"}`);
  return now;
}

// labels are not stretched with the chart.
function labels(element, most, span) {
  const ratio = element.clientWidth && element.clientHeight ? (element.clientHeight / height) / (element.clientWidth / width) : 1;
  const text = (x, y, content, anchor) =>
    make(element, "text", { x: x / ratio, y, "text-anchor": anchor, transform: `scale(${ratio} 1)` }, content);
  text(0, top - 4, most, "start");
  text(0, height - 3, span ? `${span} ago` : "", "start");
  text(width, height - 3, span ? "now" : "", "end");
}
