// What arrived, beside what was expected to: a chart a model.

import { axis, Chart, clockAxis, colour, faded, marker } from "../chart.js";
import { byId, h, keyed, write } from "../dom.js";
import { amount, count } from "../format.js";
import { seriesOf } from "../state.js";

const STEP_S = 10;
const PAST_S = 1200;
const AHEAD_S = 600;
const MODELS_MAX = 4;
const UNITS = [
  ["requests", "requests/s"],
  ["tokens", "tokens/s"],
];
const uPlot = globalThis.uPlot;

export function traffic() {
  const root = byId("traffic");
  const list = h("div", { className: "charts" });
  const legend = h("p", { className: "legend" }, h("span", { className: "key actual" }, "arrived, by 10 s"), h("span", { className: "key mean" }, "arrived, by forecast window"), h("span", { className: "key band" }, "forecast p10–p90"), h("span", { className: "key median" }, "forecast median"));
  const empty = h("p", { className: "empty" }, "No traffic and no forecast yet. What arrives is counted when it ends.");
  const more = h("p", { className: "sub" });
  root.append(list, legend, more, empty);
  let unit = 0;
  let latest = () => {};
  byId("traffic-unit").append(
    ...UNITS.map(([, name], index) => h("label", {}, h("input", { type: "radio", name: "unit", value: name, checked: index === 0, onchange: () => { unit = index; latest(); } }), h("span", {}, name))),
  );

  return {
    sections: ["traffic", "bands", "at"],
    update(state, { model }) {
      latest = () => {
        const arrived = seriesOf(state, "traffic");
        const bands = seriesOf(state, "bands");
        const names = [...new Set([...arrived.keys(), ...bands.keys()])].filter((name) => !model || name === model).sort();
        const shown = names.slice(0, MODELS_MAX);
        const now = state.at / 1000;
        empty.hidden = names.length > 0;
        legend.hidden = !names.length;
        write(more, names.length > shown.length ? `${count(names.length - shown.length)} more: choose a model above` : "");
        const height = shown.length > 2 ? 112 : shown.length > 1 ? 124 : 248;
        keyed(list, shown.map((name) => ({ name, key: `${name}|${height}` })), (one) => one.key, (one) => make(one.name, height), (item, one) => {
          const data = columns(arrived.get(one.name) ?? [], bands.get(one.name) ?? [], now, unit);
          item.now = now;
          item.chart.set(data);
          const last = data[1].findLast((value) => value !== null);
          const next = data[4].find((value, index) => value !== null && data[0][index] > now);
          const text = `${amount(last ?? 0)} ${UNITS[unit][1]} now${next === undefined ? ", no forecast" : `, ${amount(next)} expected`}`;
          write(item.firstChild.lastChild, text);
          item.chart.describe(`${one.name}: ${text}`);
        });
      };
      latest();
    },
  };
}

function make(name, height) {
  const box = h("div");
  const item = h("div", { className: "one" }, h("p", { className: "chart-title" }, h("strong", {}, name), h("span", { className: "sub" })), box);
  const stepped = uPlot.paths.stepped({ align: 1 });
  const none = { stroke: null, width: 0, points: { show: false }, paths: stepped };
  item.chart = new Chart(
    box,
    {
      height,
      cursor: { sync: { key: "traffic" }, points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, 0.1) * 1.08] } },
      axes: [clockAxis(), axis({ size: 44, values: (_, ticks) => ticks.map((tick) => amount(tick)) })],
      bands: [{ series: [3, 2], fill: () => faded("accent", 0.18) }],
      series: [
        {},
        { label: "arrived, by 10 s", stroke: () => faded("ink", 0.35), width: 1, paths: stepped, points: { show: false } },
        { ...none, label: "p10" },
        { ...none, label: "p90" },
        { label: "median", stroke: () => colour("accent"), width: 1.5, dash: [5, 3], paths: stepped, points: { show: false } },
        { label: "arrived, by window", stroke: () => colour("ink"), width: 2, paths: stepped, points: { show: false } },
      ],
      hooks: { draw: [marker(() => item.now, "now")] },
    },
    name,
  );
  return item;
}

/** On one grid of times: arrived, p10, p90, median, arrived by window. `unit`: 0 requests, 1 tokens. */
function columns(arrived, bands, now, unit) {
  const first = Math.floor((now - PAST_S) / STEP_S) * STEP_S;
  const length = (PAST_S + AHEAD_S) / STEP_S;
  const times = Array.from({ length }, (_, index) => first + index * STEP_S);
  const data = [times, ...Array.from({ length: 5 }, () => new Array(length).fill(null))];
  const place = (at) => Math.round((at - first) / STEP_S);
  for (const [at, values] of arrived) {
    if (data[1][place(at)] !== undefined) data[1][place(at)] = values[unit];
  }
  for (const [start, band] of bands) {
    const [window, ...quantiles] = band;
    const [p10, p50, p90] = quantiles[unit];
    const [from, to] = [Math.max(0, place(start)), Math.min(length, place(start + window))];
    const inside = data[1].slice(from, to);
    const isWhole = inside.length > 0 && to - from >= window / STEP_S && inside.every((value) => value !== null);
    const mean = isWhole ? inside.reduce((sum, value) => sum + value, 0) / inside.length : null;
    for (let index = from; index < to; index += 1) {
      [data[2][index], data[3][index], data[4][index], data[5][index]] = [p10, p90, p50, mean];
    }
  }
  return data;
}
