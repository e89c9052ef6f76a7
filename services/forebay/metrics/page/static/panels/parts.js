// The parts of the system: a dot each, and a note for each that is away.

import { byId, h, keyed, write } from "../dom.js";
import { duration, time } from "../format.js";

export function parts() {
  const list = byId("parts");
  const notes = byId("notes");

  function name(one, all) {
    const isAlone = all.filter((other) => other.kind === one.kind).length === 1;
    return isAlone ? one.kind : `${one.kind} ${one.address}`;
  }

  return {
    sections: ["parts", "at"],
    update(state) {
      const rows = state.rows("parts").map(([key, one]) => ({ key, ...one }));
      keyed(
        list,
        rows,
        (one) => one.key,
        () => h("li", {}, h("span", { className: "dot", "aria-hidden": "true" }), h("span")),
        (item, one) => {
          item.className = one.up ? "up" : "away";
          item.title = one.up ? `${one.kind} ${one.address} answers` : `${one.kind} ${one.address}: ${one.note}`;
          write(item.lastChild, `${name(one, rows)}${one.up ? "" : " away"}`);
        },
      );
      const away = rows.filter((one) => !one.up);
      keyed(
        notes,
        away,
        (one) => one.key,
        () => h("p", {}, h("strong"), h("span")),
        (note, one) => {
          write(note.firstChild, `${name(one, rows)} away `);
          const age = (state.at - one.since) / 1000;
          write(note.lastChild, `since ${time(one.since)}${age < 60 ? "" : `, ${duration(age)}`}: ${one.note}.`);
        },
      );
    },
  };
}
