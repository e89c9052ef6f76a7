// What the browser's test asks the live page; each gives plain values.
({
  ready: () => Number(document.documentElement?.dataset.updates) > 2 && document.querySelectorAll("#decisions tbody tr").length > 5,

  titles: () => [...document.querySelectorAll("main .card h2")].map((one) => one.textContent),

  named: () => {
    const isNamed = (one) => one.getAttribute("aria-label") || document.getElementById(one.getAttribute("aria-labelledby"));
    return [...document.querySelectorAll("main section")].every(isNamed);
  },

  // Something is painted: not every pixel of the heat map has the same colour.
  painted: () => {
    const canvas = document.querySelector(".heat");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const seen = new Set();
    for (let at = 0; at < data.length; at += 400) seen.add(data[at] * 65536 + data[at + 1] * 256 + data[at + 2]);
    return seen.size > 8;
  },

  widest: () => Math.max(...[...document.querySelectorAll("main .card")].map((one) => one.getBoundingClientRect().right)),

  choose: (model) => {
    const chooser = document.querySelector("#model");
    chooser.value = model;
    chooser.dispatchEvent(new Event("change"));
  },

  formats: async () => {
    const f = await import("/static/format.js");
    return [
      ...[0.042, 3.04, 90, 7300].map(f.duration),
      ...[0, 0.416, 27.4, 1240, 18300].map(f.amount),
      ...[0.9999, 1].map(f.kept),
      f.shortId("local-3/llama", "llama"),
      f.measure("held_us", 350000).join(" "),
      f.measure("kv_utilization", 0.5).join(" "),
    ].map((one) => one.replaceAll("\u202f", " "));
  },

  changes: async () => {
    const { State } = await import("/static/state.js");
    const state = new State();
    state.take({ at: 1, change: { a: { set: { x: 1, y: 2 } }, b: { set: { z: 3 } } } }, true);
    const changed = state.take({ at: 2, change: { a: { set: { x: 4 }, gone: ["y"] } } }, false);
    const between = structuredClone(state.sections);
    const whole = state.take({ at: 3, change: { c: { set: { w: 5 } } } }, true);
    return [[...changed], between, [...whole].sort(), state.sections];
  },

  places: async () => {
    const { layout, topOf } = await import("/static/heat.js");
    const rows = (count) => Array.from({ length: count }, (_, index) => ({ id: index }));
    const groups = [
      { title: "m", rows: rows(100) },
      { title: "n", rows: rows(100) },
    ];
    const [wide, small] = [layout(groups, 1000, 500), layout(groups, 360, 500)];
    const few = layout([{ title: "m", rows: rows(2) }], 1000, 500);
    const tops = [topOf(0.03, 1), topOf(0.3, 0.5), topOf(1.2, 0.1)];
    return [wide.columns, wide.places.length, wide.height < 700, small.columns, few.rowHeight, ...tops];
  },

  // How well a text is told apart from what it stands on, by the measure of WCAG.
  contrast: (ink) => {
    const value = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
    const channel = (one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    const light = (hex) => [1, 3, 5].map((at) => channel(Number.parseInt(hex.slice(at, at + 2), 16) / 255)).reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
    const [low, high] = [light(value(ink)), light(value("card"))].sort((one, other) => one - other);
    return (high + 0.05) / (low + 0.05);
  },
})
