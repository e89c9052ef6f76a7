// Puts the page together: one state, one stream, and panels that draw themselves when something of theirs changes.

import { byId, h, keyed, write } from "./dom.js";
import { Feed } from "./feed.js";
import { time } from "./format.js";
import { State } from "./state.js";
import { decisions } from "./panels/decisions.js";
import { figures } from "./panels/figures.js";
import { fleet } from "./panels/fleet.js";
import { lengths } from "./panels/lengths.js";
import { parts } from "./panels/parts.js";
import { pools, scaling } from "./panels/scaling.js";
import { queues } from "./panels/queues.js";
import { shadows } from "./panels/shadows.js";
import { slo } from "./panels/slo.js";
import { traffic } from "./panels/traffic.js";

const state = new State();
const view = { model: "", updates: 0, updateMs: 0 };
const panels = [parts, figures, fleet, queues, pools, traffic, slo, lengths, decisions, scaling, shadows].map((make) => make());
const chooser = byId("model");
let waiting = new Set();
let scheduled = false;
let connected = true;

function models() {
  const names = new Set(Object.keys(state.sections.models ?? {}));
  for (const [, one] of state.rows("instances")) names.add(one.model);
  for (const [, one] of state.rows("pools")) names.add(one.model);
  return [...names].sort();
}

function offerModels() {
  const names = models();
  if (view.model && !names.includes(view.model)) names.push(view.model);
  keyed(chooser, ["", ...names], (name) => name, (name) => h("option", { value: name }, name || "all"), () => {});
  chooser.value = view.model;
  chooser.parentElement.hidden = names.length < 2;
}

/** A panel that fails must not keep the others from being drawn. */
function drawOne(panel) {
  try {
    panel.update(state, view);
  } catch (error) {
    console.error(error);
  }
}

function draw() {
  scheduled = false;
  const changed = waiting;
  waiting = new Set();
  const begin = performance.now();
  for (const panel of panels) {
    if (panel.sections.some((name) => changed.has(name))) drawOne(panel);
  }
  view.updates += 1;
  view.updateMs = performance.now() - begin;
  // Benchmarks and tests read what an update costs from here.
  document.documentElement.dataset.updates = view.updates;
  document.documentElement.dataset.updateMs = view.updateMs.toFixed(2);
}

function schedule(changed) {
  for (const name of changed) waiting.add(name);
  if (scheduled) return;
  scheduled = true;
  // A hidden page is drawn once it is seen.
  requestAnimationFrame(draw);
}

function onMessage(message, isWhole) {
  const changed = state.take(message, isWhole);
  changed.add("at");
  write(byId("clock"), time(state.at));
  if (changed.has("models") || changed.has("instances") || changed.has("pools")) offerModels();
  schedule(changed);
}

function onStatus(isConnected) {
  if (connected === isConnected) return;
  connected = isConnected;
  document.body.classList.toggle("stale", !isConnected);
  if (!isConnected) write(byId("clock"), state.at ? `no connection since ${time(state.at)}` : "no connection");
}

chooser.addEventListener("change", () => {
  view.model = chooser.value;
  schedule(new Set(["at", ...Object.keys(state.sections)]));
});
new Feed(onMessage, onStatus);
