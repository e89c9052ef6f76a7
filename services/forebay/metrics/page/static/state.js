// The state of the page: sections of rows by key, brought up to date by changes (delta.py makes them).

export class State {
  constructor() {
    this.at = 0;
    this.sections = {};
  }

  /** The rows of a section, [key, row], in the order of their keys' arrival. */
  rows(name) {
    return Object.entries(this.sections[name] ?? {});
  }

  /** The row of a key, or undefined. */
  row(name, key) {
    return this.sections[name]?.[key];
  }

  /** Takes a message; `isWhole` forgets what was before. Gives the names of the sections that changed. */
  take({ at, change }, isWhole) {
    const changed = new Set(Object.keys(change));
    if (isWhole) {
      for (const name of Object.keys(this.sections)) changed.add(name);
      this.sections = {};
    }
    this.at = at;
    for (const [name, { set = {}, gone = [] }] of Object.entries(change)) {
      const rows = (this.sections[name] ??= {});
      for (const key of gone) delete rows[key];
      Object.assign(rows, set);
    }
    return changed;
  }
}

/** The numbers that stand behind a name in keys like "model|1700000000", oldest first: [second, row]. */
export function seriesOf(state, section) {
  const series = new Map();
  for (const [key, row] of state.rows(section)) {
    const cut = key.lastIndexOf("|");
    const name = key.slice(0, cut);
    if (!series.has(name)) series.set(name, []);
    series.get(name).push([Number(key.slice(cut + 1)), row]);
  }
  for (const points of series.values()) points.sort((one, other) => one[0] - other[0]);
  return series;
}
