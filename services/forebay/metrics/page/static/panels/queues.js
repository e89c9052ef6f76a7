// What waits, by class and model.

import { byId, Table, write } from "../dom.js";
import { className, count, duration, plural } from "../format.js";

export function queues() {
  const table = new Table(
    byId("queues"),
    [
      ["class", "", (one) => className(one.class)],
      ["model", "cut", (one) => one.model],
      ["held", "number", (one) => count(one.held)],
      ["stored", "number", (one) => count(one.stored)],
      ["oldest", "number", (one) => duration(one.age)],
      ["first due", "number", (one) => (one.left < 0 ? `${duration(-one.left)} ago` : `in ${duration(one.left)}`)],
    ],
    { caption: "What waits by class and model", empty: "Nothing waits: every request has an instance." },
  );
  const order = ["interactive_fast", "interactive_normal", "deferred"];

  return {
    sections: ["queues", "parts", "at"],
    update(state, { model }) {
      const rows = state.rows("queues").map(([key, one]) => ({ key, ...one, age: Math.max(0, (state.at - one.oldest) / 1000), left: (one.due - state.at) / 1000 })).filter((one) => !model || one.model === model);
      rows.sort((one, other) => order.indexOf(one.class) - order.indexOf(other.class) || (one.model < other.model ? -1 : 1));
      table.update(rows, (one) => one.key);
      const schedulers = state.rows("parts").filter(([, one]) => one.kind === "scheduler");
      const isBlind = schedulers.length > 0 && schedulers.every(([, one]) => !one.up);
      write(table.empty, isBlind ? "Not known: no scheduler answers." : "Nothing waits: every request has an instance.");
      const waiting = rows.reduce((total, one) => total + one.held + one.stored, 0);
      write(byId("queues-sub"), waiting ? `${plural(waiting, "request")} ${waiting === 1 ? "waits" : "wait"}` : "");
    },
  };
}
