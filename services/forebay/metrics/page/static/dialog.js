// One dialog for everything that is looked at closely; Escape closes it, and focus goes back to where it was.

import { byId, h } from "./dom.js";

export function open(title, ...content) {
  const dialog = byId("dialog");
  const close = h("button", { type: "button", className: "tool close", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
  dialog.replaceChildren(h("div", { className: "dialog-head" }, h("h2", { id: "dialog-title" }, title), close), h("div", { className: "dialog-body" }, ...content.filter(Boolean)));
  if (!dialog.open) dialog.showModal();
  dialog.onclick = (event) => {
    if (event.target === dialog) dialog.close();
  };
}
