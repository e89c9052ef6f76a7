// Elements in few words. Text is always text: nothing that the system tells is ever read as HTML.

export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

/** Writes text only where it differs: the browser then has nothing to lay out anew. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const known = new WeakMap();

/** Children by key, made once, kept in order and brought up to date: focus and selection stay where they are. */
export function keyed(parent, items, keyOf, make, update) {
  if (!known.has(parent)) known.set(parent, new Map());
  const elements = known.get(parent);
  const seen = new Set();
  let previous = null;
  for (const item of items) {
    const key = keyOf(item);
    seen.add(key);
    let element = elements.get(key);
    if (!element) {
      element = make(item);
      elements.set(key, element);
    }
    update(element, item);
    const place = previous ? previous.nextSibling : parent.firstChild;
    if (place !== element) parent.insertBefore(element, place);
    previous = element;
  }
  for (const [key, element] of elements) {
    if (seen.has(key)) continue;
    element.remove();
    elements.delete(key);
  }
}

/** A table: columns are [title, class, cell(item) → text or node]. */
export class Table {
  constructor(parent, columns, { caption, empty, onOpen, stacks }) {
    this.columns = columns;
    this.onOpen = onOpen;
    const titles = columns.map(([title, kind]) => h("th", { scope: "col", className: kind }, title));
    this.body = h("tbody", onOpen ? { onkeydown: (event) => this.move(event) } : {});
    this.table = h("table", { className: stacks ? "stacks" : "" }, h("caption", { className: "hidden" }, caption), h("thead", {}, h("tr", {}, ...titles)), this.body);
    this.empty = h("p", { className: "empty" }, empty);
    parent.append(this.table, this.empty);
  }

  update(items, keyOf) {
    this.table.hidden = !items.length;
    this.empty.hidden = Boolean(items.length);
    keyed(this.body, items, keyOf, () => this.make(), (row, item) => this.fill(row, item));
  }

  make() {
    const cells = this.columns.map(([, kind]) => h("td", { className: kind }));
    const row = h("tr", {}, ...cells);
    if (this.onOpen) {
      row.className = "opens";
      row.button = h("button", { type: "button", className: "open" });
      cells[0].append(row.button);
      row.addEventListener("click", () => this.onOpen(row.item));
    }
    return row;
  }

  fill(row, item) {
    row.item = item;
    this.columns.forEach(([, , cell], index) => {
      const value = cell(item);
      const place = row.button && index === 0 ? row.button : row.children[index];
      if (value instanceof Node) place.replaceChildren(value);
      else write(place, value);
    });
  }

  /** Arrow keys go from row to row. */
  move(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const row = step && event.target.closest("tr")?.[step];
    if (row) {
      event.preventDefault();
      row.button.focus();
    }
  }
}
