// Answers beside their predictions: a dot an answer, on logarithmic scales.

import { axis, Chart, colour, faded } from "../chart.js";
import { byId, h, keyed, write } from "../dom.js";
import { amount, count, plural, share } from "../format.js";

const GOAL = 0.9;

export function lengths() {
  const root = byId("lengths");
  const box = h("div");
  const legend = h("p", { className: "legend" }, h("span", { className: "key within" }, "within the 90 % bound"), h("span", { className: "key beyond" }, "longer"), h("span", { className: "key equal" }, "as predicted"));
  const table = h("ul", { className: "keys accuracy" });
  const empty = h("p", { className: "empty" }, "No answer with a prediction yet.");
  root.append(box, legend, table, empty);
  const dots = (name, size) => ({ paths: () => null, points: { show: true, size, width: 0, fill: () => faded(name, 0.55), stroke: () => "transparent" } });
  const logarithmic = { distr: 3, log: 10, range: (_, low, high) => [Math.max(1, 10 ** Math.floor(Math.log10(Math.max(1, low ?? 1)))), 10 ** Math.ceil(Math.log10(Math.max(10, high ?? 10)))] };
  const ticks = (_, values) => values.map((value) => (value === null || !Number.isInteger(Math.log10(value)) ? "" : count(value)));
  const chart = new Chart(
    box,
    {
      height: 250,
      cursor: { show: false },
      scales: { x: { time: false, ...logarithmic }, y: logarithmic },
      axes: [axis({ values: ticks, label: "predicted median, tokens", labelSize: 16, size: 30 }), axis({ values: ticks, label: "generated, tokens", labelSize: 16, size: 44 })],
      series: [{}, { stroke: () => colour("muted"), width: 1, dash: [4, 4], points: { show: false } }, dots("accent", 6), dots("over", 7)],
    },
    "Predicted and generated tokens",
  );

  return {
    sections: ["lengths", "accuracy"],
    update(state, { model }) {
      const rows = state.rows("lengths").map(([, row]) => row).filter(([name]) => !model || name === model);
      for (const part of [box, legend]) part.hidden = !rows.length;
      empty.hidden = rows.length > 0;
      const within = rows.filter(([, , , p90, tokens]) => tokens <= p90).length;
      write(byId("lengths-sub"), rows.length ? `${share(within / rows.length)} of the last ${count(rows.length)} within their 90 % bound` : "");
      if (rows.length) {
        chart.set(columns(rows));
        chart.describe(`Predicted and generated tokens of ${plural(rows.length, "answer")}: ${share(within / rows.length)} within their 90 % bound`);
      }
      const told = state.rows("accuracy").map(([key, one]) => ({ key, ...one })).filter((one) => !model || one.model === model).sort((one, other) => other.count - one.count).slice(0, 4);
      keyed(table, told, (one) => one.key, () => h("li", {}, h("strong"), h("span"), h("span", { className: "sub" })), fill);
    },
  };
}

/** Sorted by prediction: x, the diagonal, answers within their bound, answers beyond it. */
function columns(rows) {
  const known = rows.filter(([, , p50, , tokens]) => p50 > 0 && tokens > 0).sort((one, other) => one[2] - other[2]);
  const x = known.map((row) => row[2]);
  return [x, x, known.map((row) => (row[4] <= row[3] ? row[4] : null)), known.map((row) => (row[4] > row[3] ? row[4] : null))];
}

function fill(item, one) {
  write(item.children[0], one.predictor);
  const isFine = one.within_p90 === null || one.within_p90 >= GOAL - 0.03;
  item.className = one.drifting || !isFine ? "warn" : "";
  write(item.children[1], one.within_p90 === null ? "" : `${share(one.within_p90)} within p90`);
  write(item.children[2], `${one.model}: error ${amount(one.mae_tokens)} tokens on average, of ${count(one.count)}${one.drifting ? "; drifting" : ""}`);
}
