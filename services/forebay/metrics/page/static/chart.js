// uPlot as the page uses it: colours from the style sheet, width from the parent, a readout instead of a legend.

const uPlot = globalThis.uPlot;
const FONT = "11px system-ui, sans-serif";

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The same colour, see-through; the style sheet has them as #rrggbb. */
export function faded(name, opacity) {
  return colour(name) + Math.round(255 * opacity).toString(16).padStart(2, "0");
}

export function axis(options = {}) {
  return {
    stroke: () => colour("muted"),
    font: FONT,
    labelFont: FONT,
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { stroke: () => colour("line"), width: 1, size: 4 },
    size: 34,
    gap: 4,
    ...options,
  };
}

/** An axis of times of day, 24 hours. */
export function clockAxis() {
  const text = (second) => new Date(second * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return axis({ space: 70, size: 26, incrs: [60, 120, 300, 600, 1800], values: (_, ticks) => ticks.map(text) });
}

export class Chart {
  constructor(parent, options, label) {
    this.parent = parent;
    this.options = options;
    parent.classList.add("chart");
    parent.setAttribute("role", "img");
    parent.setAttribute("aria-label", label);
    this.plot = null;
    this.data = null;
    new ResizeObserver(() => this.resize()).observe(parent);
    document.documentElement.addEventListener("themechange", () => this.plot?.redraw(false));
  }

  set(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.resize();
  }

  describe(text) {
    if (this.parent.getAttribute("aria-label") !== text) this.parent.setAttribute("aria-label", text);
  }

  resize() {
    const width = Math.floor(this.parent.clientWidth);
    if (!width || !this.data) return;
    if (this.plot) {
      if (this.plot.width !== width) this.plot.setSize({ width, height: this.options.height });
      return;
    }
    this.plot = new uPlot({ legend: { show: false }, ...this.options, width }, this.data, this.parent);
  }
}

/** Draws an upright line with a word at an x value. */
export function marker(xOf, text) {
  return (plot) => {
    const x = plot.valToPos(xOf(), "x", true);
    if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
    const { ctx } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("muted");
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, plot.bbox.top);
    ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
    ctx.stroke();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.fillText(text, x + 4 * devicePixelRatio, plot.bbox.top + 11 * devicePixelRatio);
    ctx.restore();
  };
}
