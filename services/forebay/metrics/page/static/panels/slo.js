// What was promised and kept, by class over time.

import { axis, Chart, clockAxis, colour } from "../chart.js";
import { byId, h, keyed, write } from "../dom.js";
import { ABSENT, className, count, duration, kept } from "../format.js";
import { seriesOf } from "../state.js";

const CLASSES = ["interactive_fast", "interactive_normal", "deferred"];
const DASHES = { interactive_fast: [], interactive_normal: [6, 3], deferred: [2, 3] };
const STEP_S = 10;
const ROLL = 6;
const SPAN_S = 900;

export function slo() {
  const root = byId("slo");
  const box = h("div");
  const table = h("ul", { className: "keys" });
  root.append(box, table);
  const chart = new Chart(
    box,
    {
      height: 190,
      cursor: { points: { size: 6 } },
      scales: { x: { time: true }, y: { range: (_, low) => [low === null ? 0 : Math.max(0, Math.min(90, Math.floor(low / 10) * 10)), 100.4] } },
      axes: [clockAxis(), axis({ size: 44, incrs: [0.5, 1, 2, 5, 10, 20, 50], values: (_, ticks) => ticks.map((tick) => (tick <= 100 ? `${tick} %` : "")) })],
      series: [{}, ...CLASSES.map((name) => ({ label: className(name), stroke: () => colour(`class-${name}`), width: 2, dash: DASHES[name], spanGaps: false, points: { size: 4 } }))],
    },
    "Promises kept by class",
  );

  return {
    sections: ["slo", "promises", "at"],
    update(state) {
      const series = seriesOf(state, "slo");
      const end = Math.floor(state.at / 1000 / STEP_S) * STEP_S;
      const times = Array.from({ length: SPAN_S / STEP_S }, (_, index) => end - SPAN_S + index * STEP_S);
      chart.set([times, ...CLASSES.map((name) => rolled(times, new Map(series.get(name))))]);
      const totals = CLASSES.map((name) => ({ name, promise: state.row("promises", name), ...total(series.get(name) ?? []) }));
      keyed(table, totals, (one) => one.name, (one) => h("li", { className: one.name }, h("span", { className: "stroke" }), h("strong"), h("span"), h("span", { className: "sub" })), fill);
      chart.describe(`Promises kept in the last 15 minutes: ${totals.map((one) => `${className(one.name)} ${one.all ? kept(one.met / one.all) : "no requests"}`).join(", ")}`);
    },
  };
}

/** For each time the share kept over the minute that ends there, in percent; null where nothing ended. */
function rolled(times, points) {
  return times.map((at) => {
    let [met, all] = [0, 0];
    for (let back = 0; back < ROLL; back += 1) {
      const point = points.get(at - back * STEP_S);
      if (point) [met, all] = [met + point[0], all + point[1]];
    }
    return all ? (100 * met) / all : null;
  });
}

function total(points) {
  return points.reduce((sum, [, [met, all]]) => ({ met: sum.met + met, all: sum.all + all }), { met: 0, all: 0 });
}

function fill(item, one) {
  write(item.children[1], className(one.name));
  write(item.children[2], one.all ? kept(one.met / one.all) : ABSENT);
  const counted = one.all ? `of ${count(one.all)} in 15 min` : "none ended in 15 min";
  write(item.children[3], `${counted} · ${promised(one.promise)}`);
}

function promised(promise) {
  if (!promise) return "";
  const words = [];
  if (promise.ttft_s) words.push(`first token in ${duration(promise.ttft_s)}`);
  if (promise.tpot_ms) words.push(`${Math.round(promise.tpot_ms)} ms a token`);
  if (promise.answer_s) words.push(`answer in ${duration(promise.answer_s)}`);
  return words.join(", ");
}
