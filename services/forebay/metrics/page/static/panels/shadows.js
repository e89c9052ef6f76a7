// Policies and length models that are asked beside the active ones.

import { byId, h, Table, write } from "../dom.js";
import { amount, count, plural, share } from "../format.js";

export function shadows() {
  const root = byId("shadows");
  const policies = h("div");
  const models = h("div");
  root.append(policies, h("h3", {}, "Length models"), models);
  const table = new Table(
    policies,
    [
      ["shadow", "cut", (one) => one.name],
      ["policy", "", (one) => `${one.kind} ${one.policy}`],
      ["model", "wide cut", (one) => one.model],
      ["differs", "number", (one) => (one.compared ? `${share(one.different / one.compared)}` : "–")],
      ["of", "number wide", (one) => count(one.compared)],
      ["would cost", "text", cost],
    ],
    { caption: "Shadow policies", empty: "", stacks: true },
  );
  const trials = new Table(
    models,
    [
      ["model", "cut", (one) => one.key],
      ["", "", (one) => (one.active ? "answers" : "shadow")],
      ["loss", "number", (one) => (one.active || !one.outcomes ? "–" : `${amount(one.shadow_loss)} tokens`)],
      ["active one's", "number", (one) => (one.active || !one.outcomes ? "–" : `${amount(one.active_loss)} tokens`)],
      ["answers", "number wide", (one) => (one.active ? "–" : count(one.outcomes))],
    ],
    { caption: "Length models, active and shadow", empty: "" },
  );

  return {
    sections: ["shadows", "trials", "parts"],
    update(state, { model }) {
      const away = (kind) => state.rows("parts").filter(([, one]) => one.kind === kind).every(([, one]) => !one.up);
      table.update(state.rows("shadows").map(([key, one]) => ({ key, ...one })).filter((one) => !model || one.model === model), (one) => one.key);
      trials.update(state.rows("trials").map(([key, one]) => ({ key, ...one })), (one) => one.key);
      write(table.empty, away("scheduler") ? "Not known: no scheduler answers." : "No shadow policy: name one under [scheduler.shadows] to see what it would do.");
      write(trials.empty, away("predictor") ? "Not known: the predictor does not answer." : "The predictor names none.");
    },
  };
}

function cost(one) {
  const found = Object.entries(one.costs).map(([name, [mean, unit]]) => `${mean > 0 ? "+" : mean < 0 ? "−" : ""}${amount(Math.abs(mean))} ${unit} ${name}`);
  return found.length ? `${found.slice(0, 2).join("; ")} a decision` : plural(one.compared, "decision");
}
