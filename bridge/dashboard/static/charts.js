/* global uPlot */
// Bars over time, stacked, with marks where a lever was moved. Behind each chart stands a table with its figures.

import { h } from "./dom.js";
import { day, minute } from "./words.js";

const HEIGHT = 240;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart of `steps` ({since, until}), with `series` ({name, css, values}) stacked in their order, the first one lowest.
 * `say(value, place)` writes a value; `marks` ({at, label}) become lines.
 */
export function stacked({ title, steps, series, say, axis, top, marks = [] }) {
  const box = h("div", { class: "plot" });
  const readout = h("p", { class: "readout", "aria-live": "polite" }, "Move over the bars, or focus the chart and use the arrow keys.");
  const holder = h("figure", { class: "chart" },
    h("ul", { class: "legend", "aria-label": "Colours" }, series.map((one) => h("li", {}, h("span", { class: `dot ${one.dot}`, "aria-hidden": "true" }), one.name))),
    h("div", { tabindex: "0", role: "group", "aria-label": `${title}: chart. Left and right arrow keys read it step by step.`, class: "keys", onkeydown: (event) => keys(event) }, box),
    readout);

  const sums = new Array(steps.length).fill(0);
  const stackedValues = series.map((one) => one.values.map((value, place) => (value === null ? null : (sums[place] += value))));
  const x = steps.map((step) => step.since);
  // What is drawn later covers what is lower: the whole stack first, the lowest series last.
  const order = series.map((_, place) => place).reverse();
  let plot = null;
  let place = -1;

  const hours = steps.length > 0 && steps[0].until - steps[0].since < 86_400;
  const date = (seconds) => (hours && seconds % 86_400 ? minute(seconds).slice(11) : `${new Date(seconds * 1000).getUTCDate()} ${MONTHS[new Date(seconds * 1000).getUTCMonth()]}`);
  const when = (step) => (step.until - step.since < 86_400 ? `${minute(step.since)} UTC` : step.until - step.since > 86_400 ? `${day(step.since)} to ${day(step.until - 1)}` : day(step.since));

  function read(at) {
    if (at < 0 || at >= steps.length) return;
    place = at;
    const parts = series.map((one) => `${one.name} ${one.values[at] === null ? "–" : say(one.values[at], at, one)}`);
    const marked = marks.filter((mark) => mark.at >= steps[at].since && mark.at < steps[at].until).map((mark) => ` · ${mark.label}`);
    readout.textContent = `${when(steps[at])}: ${parts.join(", ")}${marked.join("")}`;
  }

  function keys(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -steps.length, End: steps.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const from = place < 0 ? (event.key === "ArrowLeft" ? steps.length : -1) : place;
    read(Math.min(steps.length - 1, Math.max(0, from + moves[event.key])));
    plot?.setCursor({ left: plot.valToPos((steps[place].since + steps[place].until) / 2, "x"), top: 10 }, false);
  }

  function draw() {
    plot?.destroy();
    const width = box.clientWidth;
    if (!width || !steps.length) return;
    const ink = colour("--soft"), line = colour("--line");
    plot = new uPlot({
      width, height: HEIGHT, pxAlign: 1,
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { time: true, range: [steps[0].since, steps[steps.length - 1].until] },
        y: { range: (_, __, most) => [0, top ?? (most > 0 ? most * 1.08 : 1)] },
      },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      axes: [
        { stroke: ink, grid: { show: false }, ticks: { stroke: line, width: 1, size: 4 }, font: FONT, space: 64, size: 30, values: (_, values) => values.map(date) },
        { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: FONT, size: 56, values: (_, values) => values.map(axis) },
      ],
      series: [{}, ...order.map((one) => ({
        label: series[one].name,
        fill: colour(series[one].css), stroke: colour("--paper"), width: steps.length > 45 ? 0 : 1,
        paths: uPlot.paths.bars({ size: [1, Infinity], align: 1 }), points: { show: false },
      }))],
      hooks: {
        setCursor: [(self) => { if (self.cursor.event) at(self); }],
        draw: [(self) => lines(self, marks)],
      },
    }, [x, ...order.map((one) => stackedValues[one])], box);
  }

  function at(self) {
    const seconds = self.posToVal(self.cursor.left, "x");
    if (self.cursor.left >= 0) read(steps.findIndex((step) => seconds >= step.since && seconds < step.until));
  }

  // Drawn when it is in the page, and again when its width is another one.
  let wide = 0;
  new ResizeObserver(() => {
    if (box.clientWidth === wide) return;
    wide = box.clientWidth;
    draw();
  }).observe(box);
  return holder;
}

const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
const FONT = "12px system-ui, sans-serif";

function lines(plot, marks) {
  const { ctx, bbox } = plot;
  const scale = devicePixelRatio;
  const ink = colour("--ink"), paper = colour("--panel");
  const shown = marks
    .map((mark) => ({ ...mark, left: Math.round(plot.valToPos(mark.at, "x", true)) }))
    .filter(({ left }) => left >= bbox.left && left <= bbox.left + bbox.width);
  ctx.save();
  let last = -Infinity;
  for (const mark of shown) {
    // Of many at a time the first has a line, and the others a tick: else they would hide what they stand on.
    const isFirst = mark.left - last >= 12 * scale;
    if (isFirst) last = mark.left;
    // Light below dark, so that it is seen on every colour.
    for (const [style, width, dash] of [[paper, 3, []], [ink, 1.25, isFirst ? [5 * scale, 3 * scale] : []]]) {
      ctx.strokeStyle = style;
      ctx.lineWidth = width * scale;
      ctx.setLineDash(dash);
      ctx.beginPath();
      ctx.moveTo(mark.left, bbox.top);
      ctx.lineTo(mark.left, bbox.top + (isFirst ? bbox.height : 15 * scale));
      ctx.stroke();
    }
  }
  ctx.font = `600 ${11 * scale}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  last = -Infinity;
  for (const mark of shown) {
    // Numbers that would lie on each other are left to the list below.
    if (mark.left - last < 24 * scale) continue;
    last = mark.left;
    const wide = ctx.measureText(mark.number).width + 8 * scale;
    ctx.fillStyle = ink;
    ctx.fillRect(mark.left - wide / 2, bbox.top, wide, 15 * scale);
    ctx.fillStyle = paper;
    ctx.fillText(mark.number, mark.left, bbox.top + 11.5 * scale);
  }
  ctx.restore();
}
