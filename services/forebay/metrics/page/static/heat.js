// The heat map: instances by seconds ahead, as one canvas, since thousands of cells change every second.

import { colour } from "./chart.js";
import { shortId } from "./format.js";

const TOP = 22;
const GROUP = 20;
const LABEL_ROW = 15;
const STATE_WIDTH = 6;
const STATES = { ready: "ready", provisioning: "starting", loading: "starting", draining: "draining", lost: "lost", stopped: "stopped" };

/** Where everything is, from the number of rows and the room there is: [{y, height, row | title}], and the height. */
export function layout(groups, room) {
  const rows = groups.reduce((total, group) => total + group.rows.length, 0);
  const titles = groups.length > 1 || rows > 1 ? groups.length : 0;
  const height = Math.max(4, Math.min(24, Math.floor((room - TOP - titles * GROUP) / Math.max(1, rows))));
  const places = [];
  let y = TOP;
  for (const group of groups) {
    if (titles) {
      places.push({ y, height: GROUP, title: group.title, note: group.note });
      y += GROUP;
    }
    for (const row of group.rows) {
      places.push({ y, height, row });
      y += height;
    }
  }
  return { places, height: y + 4, rowHeight: height };
}

/** The colour of a share of a cache, 0 to 1; above that nothing fits any more, which has a colour of its own. */
export function scale() {
  const stops = [0, 1, 2, 3, 4].map((index) => rgb(colour(`heat-${index}`)));
  const over = colour("over");
  const colours = Array.from({ length: 101 }, (_, percent) => {
    const place = (percent / 100) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const mixed = stops[low].map((value, channel) => Math.round(value + (stops[low + 1][channel] - value) * (place - low)));
    return `rgb(${mixed.join(",")})`;
  });
  return (share) => (share > 1 ? over : colours[Math.max(0, Math.round(100 * share))]);
}

function rgb(hex) {
  return [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

export class HeatMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.groups = [];
    this.places = [];
    this.selected = null;
    document.documentElement.addEventListener("themechange", () => this.draw());
  }

  /** `groups`: [{title, note, rows: [{id, model, state, now, ahead}]}]; `cellS`: seconds of a cell. */
  set(groups, cellS, cellCount) {
    Object.assign(this, { groups, cellS, cellCount });
    this.draw();
  }

  rowAt(y) {
    return this.places.find((place) => place.row && y >= place.y && y < place.y + place.height)?.row ?? null;
  }

  rows() {
    return this.places.filter((place) => place.row).map((place) => place.row);
  }

  draw() {
    const width = Math.floor(this.canvas.parentElement.clientWidth);
    if (!width || !this.groups.length) return;
    const { places, height, rowHeight } = layout(this.groups, width < 600 ? 480 : 600);
    this.places = places;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    const { context } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const gutter = rowHeight >= LABEL_ROW ? Math.min(150, Math.round(width * 0.26)) : 0;
    const geometry = { left: gutter + STATE_WIDTH + 4, now: rowHeight >= LABEL_ROW ? 46 : 26, width, gutter, rowHeight };
    this.drawAxis(geometry);
    const fill = scale();
    const tints = Object.fromEntries(Object.entries(STATES).map(([state, name]) => [state, colour(name)]));
    const ink = { text: colour("ink"), muted: colour("muted"), line: colour("line"), empty: colour("heat-0") };
    for (const place of places) {
      if (place.row) this.drawRow(place, geometry, fill, tints, ink);
      else this.drawTitle(place, width, ink);
    }
    this.drawSelection(geometry, ink);
  }

  cells({ left, now, width }) {
    const begin = left + now + 8;
    return { begin, size: (width - begin - 1) / this.cellCount };
  }

  drawAxis(geometry) {
    const { context } = this;
    const { begin, size } = this.cells(geometry);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("muted");
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("now", geometry.left, 10);
    const every = size * (2 / this.cellS) > 44 ? 2 : 4;
    for (let second = 0; second < this.cellCount * this.cellS; second += every) {
      context.fillText(second ? `+${second} s` : "ahead", begin + (second / this.cellS) * size, 10);
    }
  }

  drawTitle({ y, height, title, note }, width, ink) {
    const { context } = this;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = "600 11px system-ui, sans-serif";
    context.fillStyle = ink.text;
    context.fillText(title, 0, y + height / 2 + 1);
    const titleWidth = context.measureText(title).width;
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = ink.muted;
    context.fillText(note, titleWidth + 8, y + height / 2 + 1, Math.max(0, width - titleWidth - 8));
  }

  drawRow({ y, height, row }, geometry, fill, tints, ink) {
    const { context } = this;
    const gap = height >= 8 ? 1 : height >= 5 ? 0.5 : 0;
    const inner = height - gap;
    context.fillStyle = tints[row.state] ?? ink.muted;
    context.fillRect(geometry.gutter, y, STATE_WIDTH - 2, inner);
    if (geometry.gutter) this.drawLabel(row, y, inner, geometry, ink);
    this.drawNow(row, y, inner, geometry, fill, ink);
    const { begin, size } = this.cells(geometry);
    if (!row.ahead) {
      context.fillStyle = ink.empty;
      context.fillRect(begin, y, size * this.cellCount, inner);
      if (geometry.gutter) this.drawWord(row.state === "ready" ? "nothing anticipated: the size of its cache is not known" : row.state, begin + 6, y + inner / 2, ink);
      return;
    }
    row.ahead.forEach((share, index) => {
      context.fillStyle = fill(share / 1000);
      // Cells meet: a seam of half a pixel would make a pattern of its own.
      context.fillRect(begin + index * size, y, size + 0.6, inner);
    });
  }

  drawLabel(row, y, height, geometry, ink) {
    const { context } = this;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = ink.text;
    context.fillText(cut(context, shortId(row.id, row.model), geometry.gutter - 8), 0, y + height / 2 + 0.5);
  }

  drawNow(row, y, height, geometry, fill, ink) {
    const { context } = this;
    context.fillStyle = row.now === null ? ink.empty : fill(row.now / 1000);
    context.fillRect(geometry.left, y, geometry.now, height);
    if (geometry.now < 40) return;
    const text = row.now === null ? "–" : `${Math.round(row.now / 10)} %`;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = row.now !== null && row.now > 550 ? colour("heat-ink") : ink.text;
    context.fillText(text, geometry.left + geometry.now / 2, y + height / 2 + 0.5);
  }

  drawWord(text, x, y, ink) {
    const { context } = this;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = ink.muted;
    context.fillText(text, x, y + 0.5);
  }

  drawSelection(geometry, ink) {
    const place = this.places.find((one) => one.row && one.row.id === this.selected);
    if (!place) return;
    this.context.strokeStyle = ink.text;
    this.context.lineWidth = 1.5;
    this.context.strokeRect(geometry.gutter - 1, place.y - 1.25, geometry.width - geometry.gutter, Math.max(place.height, 3) + 1.5);
  }
}

function cut(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let short = text;
  while (short.length > 1 && context.measureText(`…${short}`).width > width) short = short.slice(1);
  return `…${short}`;
}
