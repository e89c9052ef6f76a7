// The newest decisions of the scheduler with what came of them; one opens with everything that led to it.

import { byId, h, Table, write } from "../dom.js";
import { open } from "../dialog.js";
import { ABSENT, amount, className, count, duration, measure, plural, shortId, time } from "../format.js";

const SHOWN_MAX = 40;
const CANDIDATES_SHOWN = 12;
const INPUTS_SHOWN = 7;
const FIRST = ["predicted_tokens", "in_flight_count", "prompt_tokens_in_flight", "kv_utilization", "running_count", "waiting_count"];

export function decisions() {
  const root = byId("decisions");
  const table = new Table(
    root,
    [
      ["time", "time", (one) => time(one.at)],
      ["model", "wide cut", (one) => one.model],
      ["instance", "cut", (one) => (one.instance ? shortId(one.instance, one.model) : ABSENT)],
      ["class", "wide", (one) => className(one.class)],
      ["predicted", "number", (one) => (one.predicted ? `${count(one.predicted[1])}` : ABSENT)],
      ["p10–p90", "number wide", (one) => (one.predicted ? `${count(one.predicted[0])}–${count(one.predicted[2])}` : "")],
      ["tokens", "number", (one) => count(one.tokens)],
      ["first token", "number", (one) => (one.ttft_ms === null ? ABSENT : duration(one.ttft_ms / 1000))],
      ["whole", "number wide", (one) => duration(one.whole_ms / 1000)],
      ["outcome", "", outcome],
    ],
    { caption: "Decisions of the scheduler, newest first", empty: "No request has ended yet. Send some: forebay load --duration 30", onOpen: show },
  );
  let isHeld = false;
  let again = null;
  // Rows that move away under a pointer or a focus cannot be read or pressed.
  const hold = () => {
    isHeld = root.matches(":hover") || root.contains(document.activeElement) || byId("dialog").open;
    if (!isHeld && again) again();
  };
  for (const event of ["mouseenter", "mouseleave", "focusin", "focusout"]) root.addEventListener(event, () => setTimeout(hold));
  byId("dialog").addEventListener("close", () => setTimeout(hold));

  return {
    sections: ["decisions"],
    update(state, { model }) {
      const draw = () => {
        again = null;
        const rows = state.rows("decisions").map(([key, one]) => ({ key, ...one })).filter((one) => !model || one.model === model);
        rows.sort((one, other) => other.at - one.at || Number(other.key) - Number(one.key));
        table.update(rows.slice(0, SHOWN_MAX), (one) => one.key);
        write(byId("decisions-sub"), rows.length ? "newest first; press one to see why" : "");
      };
      if (isHeld && table.body.children.length) {
        again = draw;
        write(byId("decisions-sub"), "held still while you look");
      } else {
        draw();
      }
    },
  };
}

function outcome(one) {
  const kind = one.status === "ok" ? "good" : one.status === "cancelled" ? "plain" : "bad";
  const text = one.status === "ok" ? (one.tries > 1 ? `ok, ${one.tries} tries` : "ok") : one.why ? `${one.status}: ${one.why}` : one.status;
  return h("span", { className: `outcome ${kind}` }, text);
}

async function show(one) {
  const title = one.instance ? `Why ${one.instance}` : `Why not: ${one.status}`;
  const facts = h("p", { className: "sub" }, `${time(one.at)} · ${one.model} · ${className(one.class)} · held ${duration(one.held_ms / 1000)} · ${plural(one.tokens, "token")} generated`);
  if (!one.id) {
    open(title, facts, h("p", { className: "empty" }, "The gateway placed this request itself, by least outstanding, since no scheduler answered: there is no record."));
    return;
  }
  open(title, facts, h("p", { className: "empty" }, "asking the scheduler …"));
  const answer = await fetch(`decisions/${encodeURIComponent(one.id)}`).catch(() => null);
  const body = answer ? await answer.json().catch(() => null) : null;
  if (!answer?.ok) open(title, facts, h("p", { className: "empty" }, body?.message ?? "The metrics service does not answer."));
  else open(title, facts, ...record(body));
}

function record(decision) {
  const names = columnsOf(decision.candidates);
  const flip = decision.flip;
  return [
    h("p", { className: "lead" }, decision.reason),
    flip ? h("p", { className: "flip" }, flipped(flip)) : null,
    h("h3", {}, `Candidates, best first${decision.candidate_count > CANDIDATES_SHOWN ? ` (${CANDIDATES_SHOWN} of ${count(decision.candidate_count)})` : ""}`),
    decision.candidates.length ? candidates(decision, names) : h("p", { className: "empty" }, "There was none."),
    h("h3", {}, "The request"),
    h("dl", { className: "facts" }, ...requestFacts(decision)),
  ];
}

function columnsOf(all) {
  const names = [...new Set(all.flatMap((one) => Object.keys(one.inputs)))];
  const place = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  names.sort((one, other) => place(one) - place(other) || (one < other ? -1 : 1));
  // What is nothing everywhere tells nothing.
  return names.filter((name) => FIRST.indexOf(name) === 0 || all.some((one) => one.inputs[name])).slice(0, INPUTS_SHOWN);
}

function candidates(decision, names) {
  const head = ["instance", "score", ...names.map((name) => measure(name, 0)[0]), ""].map((name, index) => h("th", { scope: "col", className: index && name ? "number" : "" }, name));
  const rows = decision.candidates.slice(0, CANDIDATES_SHOWN).map((one) =>
    h(
      "tr",
      { className: one.instance_id === decision.instance_id ? "winner" : one.eligible ? "" : "out" },
      h("td", {}, one.instance_id),
      h("td", { className: "number" }, one.eligible ? amount(one.score) : ABSENT),
      ...names.map((name) => h("td", { className: "number" }, measure(name, one.inputs[name])[1])),
      h("td", {}, one.instance_id === decision.instance_id ? "chosen" : one.eligible ? "" : one.reason),
    ),
  );
  return h("div", { className: "scroll" }, h("table", {}, h("caption", { className: "hidden" }, "Candidates"), h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...rows)));
}

function requestFacts(decision) {
  const predicted = decision.predicted_length;
  const facts = [
    ...Object.entries(decision.policies).map(([kind, policy]) => [kind, policy]),
    ...(predicted ? [["predicted", `${predicted.p50_tokens} tokens (p10 ${predicted.p10_tokens}, p90 ${predicted.p90_tokens}, p97 ${predicted.p97_tokens})`]] : []),
    ["predicted by", decision.predicted_by || ABSENT],
    ...Object.entries(decision.inputs).filter(([name]) => name !== "slo_class").map(([name, value]) => measure(name, value)),
    ...Object.entries(decision.shadows).map(([name, instance]) => [`shadow ${name}`, instance || "would have held it"]),
    ["record", decision.decision_id],
  ];
  return facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

function flipped(flip) {
  const [name, to] = measure(flip.input, flip.to);
  return `With ${name} at ${to} instead of ${measure(flip.input, flip.from)[1]}, ${flip.instance_id} would have won.`;
}
