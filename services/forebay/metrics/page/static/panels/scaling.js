// Pools, why they are as large as they are, and the decisions that made them so.

import { byId, h, keyed, Table, write } from "../dom.js";
import { ABSENT, count, duration, measure, time } from "../format.js";
import { open } from "../dialog.js";

export function pools() {
  const root = byId("pools");
  const list = h("ul", { className: "pools" });
  const empty = h("p", { className: "empty" });
  root.append(list, empty);

  function fill(item, one) {
    const [head, bar, why] = item.children;
    write(head.firstChild, one.pool === one.model ? one.model : `${one.model} / ${one.pool}`);
    const moving = [one.starting && `${one.starting} starting`, one.draining && `${one.draining} draining`].filter(Boolean).join(", ");
    write(head.lastChild, `${one.ready} of ${one.wanted} wanted${moving ? `, ${moving}` : ""}`);
    bar.firstChild.style.width = `${Math.min(100, (100 * one.ready) / Math.max(1, one.max, one.ready))}%`;
    bar.lastChild.style.left = `${Math.min(100, (100 * one.wanted) / Math.max(1, one.max, one.ready))}%`;
    bar.title = `${one.ready} ready, ${one.wanted} wanted, bounds ${one.min} to ${one.max}`;
    const lead = one.lead_p50_s ? `A start takes ${duration(one.lead_p50_s)} (p90 ${duration(one.lead_p90_s)}).` : "";
    write(why.children[0], `${sentence(one.reason)}${lead} `);
    write(why.children[1], one.bound_by ? `Held back by: ${one.bound_by}. ` : "");
    write(why.children[2], sentence(one.flip));
  }

  return {
    sections: ["pools", "fleet", "parts"],
    update(state, { model }) {
      const rows = state.rows("pools").map(([key, one]) => ({ key, ...one })).filter((one) => !model || one.model === model);
      keyed(
        list,
        rows,
        (one) => one.key,
        () => h("li", {}, h("p", { className: "pool-head" }, h("strong"), h("span")), h("p", { className: "bar-line" }, h("span", { className: "bar-fill" }), h("span", { className: "bar-mark" })), h("p", { className: "why" }, h("span"), h("span", { className: "bound" }), h("span", { className: "flip" }))),
        fill,
      );
      const head = state.row("fleet", "now");
      empty.hidden = rows.length > 0;
      write(empty, head ? "No pools: nothing is configured to be scaled." : "Not known: the autoscaler does not answer. The fleet stays as it is.");
      write(byId("pools-sub"), head ? `policy ${head.policy}, ${head.mode}` : "");
    },
  };
}

function sentence(text) {
  if (!text) return "";
  const whole = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? `${whole} ` : `${whole}. `;
}

export function scaling() {
  const table = new Table(
    byId("scaling"),
    [
      ["time", "time", (one) => time(one.at)],
      ["pool", "cut", (one) => (one.pool.startsWith(one.model) ? one.pool : `${one.model}/${one.pool}`)],
      ["instances", "nowrap", (one) => `${one.before} → ${one.after}${one.after === one.wanted ? "" : ` (${one.wanted} wanted)`}`],
      ["policy", "wide", (one) => `${one.policy}${one.mode === "active" ? "" : `, ${one.mode}`}`],
      ["reason", "text", (one) => one.reason],
    ],
    { caption: "Decisions of the autoscaler, newest first", empty: "", onOpen: show, stacks: true },
  );

  function show(one) {
    const inputs = Object.entries(one.inputs).map(([name, value]) => measure(name, value)).map(([name, text]) => h("div", {}, h("dt", {}, name), h("dd", {}, text)));
    open(
      `${one.model}: ${one.before} → ${one.after} instances`,
      h("p", { className: "lead" }, one.reason || ABSENT),
      one.flip ? h("p", { className: "flip" }, `What would have changed it: ${one.flip}`) : null,
      h("p", { className: "sub" }, `${time(one.at)} · policy ${one.policy}, ${one.mode} · ${count(one.wanted)} wanted · ${one.key}`),
      h("h3", {}, "What the policy saw"),
      inputs.length ? h("dl", { className: "facts" }, ...inputs) : h("p", { className: "empty" }, "It tells no inputs."),
    );
  }

  return {
    sections: ["scaling", "fleet"],
    update(state, { model }) {
      const rows = state.rows("scaling").map(([key, one]) => ({ key, ...one })).filter((one) => !model || one.model === model);
      rows.sort((one, other) => other.at - one.at);
      table.update(rows, (one) => one.key);
      const head = state.row("fleet", "now");
      write(table.empty, head ? "No decision yet: the fleet has been as large as it should be." : "Not known: the autoscaler does not answer.");
      const warnings = head?.warnings ?? [];
      write(byId("scaling-sub"), warnings.length ? warnings.join(" · ") : rows.length ? "press one to see what the policy saw" : "");
    },
  };
}
