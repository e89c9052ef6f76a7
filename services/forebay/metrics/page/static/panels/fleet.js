// The fleet: what each instance is expected to hold over the next seconds, and one of them in words.

import { byId, h, keyed, write } from "../dom.js";
import { ABSENT, count, duration, fine, plural, share } from "../format.js";
import { HeatMap } from "../heat.js";

const CELL_S = 0.5;
const CELL_COUNT = 24;
const STATES = [
  ["ready", "ready", ["ready"]],
  ["starting", "starting", ["provisioning", "loading"]],
  ["draining", "draining", ["draining"]],
  ["lost", "lost", ["lost"]],
];
const LOAD = ["reachable", "running", "waiting", "kv", "leases", "tokens", "cap", "draining"];
const WIDE = new Set(["instance", "state", "engine"]);
const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };

export function fleet() {
  const root = byId("fleet");
  const canvas = h("canvas", { className: "heat" });
  const details = h("div", { className: "details", id: "instance-details" });
  const box = h(
    "div",
    { className: "heat-box", tabIndex: 0, role: "slider", "aria-orientation": "vertical", "aria-label": "Instances; arrow keys choose one", "aria-valuemin": "1" },
    canvas,
  );
  const legend = h("div", { className: "legend" });
  const empty = h("p", { className: "empty" }, "No instances yet. The autoscaler names them as it starts or adopts servers: forebay up starts some, forebay up --triton HOST:PORT adopts one.");
  root.append(box, legend, details, empty);
  const map = new HeatMap(canvas);
  const now = { groups: [] };
  drawLegend(legend);
  new ResizeObserver(() => map.draw()).observe(box);

  function choose(row) {
    map.selected = row ? row.id : null;
    map.draw();
    describe();
  }

  function move(event) {
    const step = STEPS[event.key];
    if (event.key === "Escape") choose(null);
    if (step === undefined) return;
    event.preventDefault();
    const rows = map.rows();
    const at = rows.findIndex((row) => row.id === map.selected);
    choose(rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + step))] ?? null);
  }

  function describe() {
    const rows = map.rows();
    const at = rows.findIndex((row) => row.id === map.selected);
    // Where none is chosen, the fullest is looked at first.
    const row = rows[at] ?? fullest(rows);
    box.setAttribute("aria-valuemax", rows.length);
    box.setAttribute("aria-valuenow", at + 1);
    box.setAttribute("aria-valuetext", at < 0 ? summary(rows) : sentence(row, now.at));
    const hint = at < 0 ? "The fullest one ahead. Point at another, or choose one with the arrow keys." : "Chosen; Escape goes back to the fullest one ahead.";
    if (row) details.replaceChildren(h("p", { className: "sub" }, hint), facts(row, now.at));
  }

  box.addEventListener("keydown", move);
  canvas.addEventListener("click", (event) => choose(map.rowAt(event.offsetX, event.offsetY)));
  canvas.addEventListener("mousemove", (event) => {
    const row = map.rowAt(event.offsetX, event.offsetY);
    if (row && row.id !== map.selected) choose(row);
  });

  return {
    sections: ["instances", "loads", "ahead", "models"],
    update(state, { model }) {
      const rows = state.rows("instances").filter(([, one]) => !model || one.model === model).map(([id, one]) => ({ id, ...one, ...loadOf(state.row("loads", id)), ahead: state.row("ahead", id) ?? null }));
      empty.hidden = rows.length > 0;
      for (const part of [box, legend, details]) part.hidden = !rows.length;
      counts(byId("fleet-counts"), rows);
      if (!rows.length) return;
      now.at = state.at;
      map.set(grouped(rows), CELL_S, CELL_COUNT);
      write(byId("heat-top"), share(map.top));
      describe();
    },
  };
}

function loadOf(load) {
  const named = Object.fromEntries(LOAD.map((name, index) => [name, load?.[index] ?? null]));
  // What an instance that does not answer said last says nothing of now.
  if (named.reachable === 0) return { ...named, running: null, waiting: null, kv: null, now: null, isDraining: named.draining };
  return { ...named, now: named.kv, isDraining: named.draining };
}

function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row.model)) groups.set(row.model, []);
    groups.get(row.model).push(row);
  }
  return [...groups.entries()].sort(([one], [other]) => (one < other ? -1 : 1)).map(([title, members]) => {
    members.sort((one, other) => one.id.localeCompare(other.id, "en", { numeric: true }));
    const peaks = members.filter((row) => row.ahead).map((row) => Math.max(...row.ahead));
    const peak = peaks.length ? `, at most ${fine(Math.max(...peaks) / 1000)} ahead` : "";
    return { title, note: `${plural(members.length, "instance")}${peak}`, rows: members };
  });
}

function counts(element, rows) {
  const items = STATES.map(([kind, name, states]) => ({ kind, name, number: rows.filter((row) => states.includes(row.state)).length }));
  const silent = rows.filter((row) => row.reachable === 0 && row.state !== "lost").length;
  if (silent) items.push({ kind: "lost", name: "not reachable", number: silent });
  keyed(
    element,
    items.filter((item) => item.number),
    (item) => item.name,
    (item) => h("span", { className: "chip" }, h("span", { className: `swatch ${item.kind}`, "aria-hidden": "true" }), h("span")),
    (chip, item) => write(chip.lastChild, `${count(item.number)} ${item.name}`),
  );
}

function peakOf(row) {
  if (!row.ahead) return null;
  const peak = Math.max(...row.ahead);
  return { share: peak / 1000, at: row.ahead.indexOf(peak) * CELL_S };
}

function fullest(rows) {
  return rows.filter((row) => row.ahead).sort((one, other) => peakOf(other).share - peakOf(one).share)[0] ?? rows[0];
}

function summary(rows) {
  const first = fullest(rows);
  const peak = first && peakOf(first);
  if (!peak) return plural(rows.length, "instance");
  return `${plural(rows.length, "instance")}; fullest ahead ${first.id} with ${fine(peak.share)} of its cache in ${peak.at} seconds`;
}

function sentence(row, at) {
  return factsOf(row, at).map(([name, value]) => `${name} ${value}`).join(", ");
}

function factsOf(row, at) {
  const peak = peakOf(row);
  return [
    ["instance", row.id],
    ["state", `${row.isDraining && row.state === "ready" ? "ready, drain asked for" : row.state}${row.reachable === 0 ? ", not reachable" : ""} for ${duration(Math.max(0, (at - row.since) / 1000))}${row.why ? `: ${row.why}` : ""}`],
    ["running", row.running === null ? ABSENT : `${count(row.running)} of ${row.running_max ? count(row.running_max) : "?"}`],
    ["waiting in it", count(row.waiting)],
    ["placed", row.leases === null ? ABSENT : `${plural(row.leases, "request")}${row.cap ? `, limit ${count(row.cap)}` : ""}`],
    ["still to come", row.tokens === null ? ABSENT : plural(row.tokens, "token")],
    ["cache now", row.now === null ? ABSENT : fine(row.now / 1000)],
    ["cache ahead", peak ? (peak.share ? `at most ${fine(peak.share)}, in ${peak.at} s` : "empty") : ABSENT],
    ["engine", [row.profile, row.kv_max ? `${count(row.kv_max)} KV tokens` : "", row.pool !== row.model ? `pool ${row.pool}` : "", row.region !== "local" ? row.region : ""].filter(Boolean).join(" · ") || ABSENT],
    ["address", row.address],
  ];
}

function facts(row, at) {
  return h("dl", { className: "facts" }, ...factsOf(row, at).map(([name, value]) => h("div", { className: WIDE.has(name) ? "double" : "" }, h("dt", {}, name), h("dd", {}, value))));
}

function drawLegend(element) {
  const ramp = h("span", { className: "ramp", "aria-hidden": "true" });
  element.append(
    h("span", {}, "share of the KV cache"),
    h("span", { className: "scale" }, "0", ramp, h("span", { id: "heat-top" })),
    h("span", { className: "scale" }, h("span", { className: "swatch over", "aria-hidden": "true" }), "does not fit"),
    h("span", { className: "note" }, "now: measured; ahead: what is placed, by predicted lengths, each instance at its own pace"),
  );
}
