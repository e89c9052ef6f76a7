// The figures that are looked at first.

import { byId, h, write } from "../dom.js";
import { ABSENT, amount, count, duration, kept, plural } from "../format.js";

const KEPT_SPAN_S = 300;

export function figures() {
  const root = byId("figures");
  const tiles = new Map();

  function tile(title, value, note) {
    let one = tiles.get(title);
    if (!one) {
      one = h("div", { className: "figure" }, h("h2", {}, title), h("p", { className: "value" }), h("p", { className: "sub" }));
      tiles.set(title, one);
      root.append(one);
    }
    write(one.children[1], value);
    write(one.children[2], note);
  }

  function promises(state, model) {
    let [good, all] = [0, 0];
    for (const [key, [met, total]] of state.rows("slo")) {
      if (Number(key.slice(key.lastIndexOf("|") + 1)) * 1000 < state.at - KEPT_SPAN_S * 1000) continue;
      good += met;
      all += total;
    }
    tile("Promises kept", all ? kept(good / all) : ABSENT, all ? `of ${plural(all, "request")} in 5 min${model ? ", all models" : ""}` : "nothing ended in 5 min");
  }

  return {
    sections: ["models", "instances", "slo", "at"],
    update(state, { model }) {
      const rows = state.rows("models").filter(([name]) => !model || name === model).map(([, one]) => one);
      const sum = (field) => rows.reduce((total, one) => total + one[field], 0);
      const instances = state.rows("instances").filter(([, one]) => !model || one.model === model);
      const ready = instances.filter(([, one]) => one.state === "ready").length;
      const ended = sum("ended");
      const failed = sum("failed");
      const busiest = rows.filter((one) => one.ended).sort((one, other) => other.ttft_p99_s - one.ttft_p99_s)[0];
      tile("Instances ready", count(ready), !instances.length ? "there are none yet" : instances.length === ready ? "all of them" : `of ${count(instances.length)}`);
      tile("Requests", `${amount(ended / 60)}/s`, failed ? `ended; ${plural(failed, "failure")} in 60 s` : "ended, over 60 s");
      tile("Tokens", `${amount(sum("response_tokens") / 60)}/s`, `generated; ${amount(sum("prompt_tokens") / 60)}/s read`);
      tile("In flight", count(sum("in_flight")), sum("held") ? `and ${count(sum("held"))} held` : "and none held");
      tile("First token", busiest ? duration(weighted(rows, "ttft_p50_s")) : ABSENT, busiest ? `median; ${rows.length > 1 ? "slowest p99" : "p99"} ${duration(busiest.ttft_p99_s)}` : "no answer in 60 s");
      promises(state, model);
    },
  };
}

/** The mean over models by their requests: medians of several do not add up, and this says about as much. */
function weighted(rows, field) {
  const ended = rows.reduce((total, one) => total + one.ended, 0);
  return rows.reduce((total, one) => total + one[field] * one.ended, 0) / (ended || 1);
}
