// The heat map: instances by seconds ahead, as one canvas, since thousands of cells change every second.

import { colour } from "./chart.js";
import { fine, shortId } from "./format.js";

const TOP = 22;
const GROUP = 20;
const BETWEEN = 22;
const LABEL_ROW = 15;
const STATE_WIDTH = 6;
const STATES = { ready: "ready", provisioning: "starting", loading: "starting", draining: "draining", lost: "lost", stopped: "stopped" };

/**
 * Where everything is, from the rows and the room there is: places [{x, y, height, row | title}], the width of a column
 * and the height of all. Many rows on a wide page stand in two columns.
 */
export function layout(groups, width, room) {
  const entries = groups.flatMap((group) => [{ title: group.title, note: group.note }, ...group.rows.map((row) => ({ row }))]);
  const rows = entries.filter((entry) => entry.row).length;
  const columns = rows > 60 && width >= 720 ? 2 : 1;
  const titles = Math.ceil(groups.length / columns);
  const rowHeight = Math.max(4, Math.min(24, Math.floor((room - TOP - titles * GROUP) / Math.ceil(Math.max(1, rows) / columns))));
  const heightOf = (entry) => (entry.row ? rowHeight : GROUP);
  const all = entries.reduce((total, entry) => total + heightOf(entry), 0);
  const columnWidth = (width - (columns - 1) * BETWEEN) / columns;
  const places = [];
  let [column, y, bottom] = [0, TOP, TOP];
  for (const entry of entries) {
    // A title must not be the last of its column.
    const end = y + heightOf(entry) + (entry.row ? 0 : rowHeight);
    if (column + 1 < columns && end > TOP + all / columns + rowHeight) [column, y] = [column + 1, TOP];
    places.push({ ...entry, x: column * (columnWidth + BETWEEN), y, height: heightOf(entry) });
    y += heightOf(entry);
    bottom = Math.max(bottom, y);
  }
  return { places, columns, columnWidth, rowHeight, height: bottom + 4 };
}

const TOPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

/** The share that the darkest colour stands for: what is nearly empty can be told apart, too. It does not go down for
    every dip: what was seen a moment ago would change its colour. */
export function topOf(share, before) {
  const top = TOPS.find((one) => share <= one) ?? 1;
  return top < before && share > before / 4 ? before : top;
}

/** The colour of a share of a cache, 0 to `top`; above 1 nothing fits any more, which has a colour of its own. */
export function scale(top) {
  const stops = [0, 1, 2, 3, 4].map((index) => rgb(colour(`heat-${index}`)));
  const over = colour("over");
  const colours = Array.from({ length: 101 }, (_, percent) => {
    const place = (percent / 100) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    const mixed = stops[low].map((value, channel) => Math.round(value + (stops[low + 1][channel] - value) * (place - low)));
    return `rgb(${mixed.join(",")})`;
  });
  return (share) => (share > 1 ? over : colours[Math.max(0, Math.min(100, Math.round((100 * share) / top)))]);
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
    this.top = TOPS[0];
    document.documentElement.addEventListener("themechange", () => this.draw());
  }

  /** `groups`: [{title, note, rows: [{id, model, state, now, ahead}]}]; `cellS`: seconds of a cell. */
  set(groups, cellS, cellCount) {
    const most = Math.max(0, ...groups.flatMap((group) => group.rows.map((row) => Math.max(row.now ?? 0, ...(row.ahead ?? [])))));
    Object.assign(this, { groups, cellS, cellCount, top: topOf(most / 1000, this.top) });
    this.draw();
  }

  rowAt(x, y) {
    const inside = (place) => place.row && y >= place.y && y < place.y + place.height && x >= place.x && x < place.x + this.columnWidth;
    return this.places.find(inside)?.row ?? null;
  }

  rows() {
    return this.places.filter((place) => place.row).map((place) => place.row);
  }

  draw() {
    const width = Math.floor(this.canvas.parentElement.clientWidth);
    if (!width || !this.groups.length) return;
    const { places, columns, columnWidth, height, rowHeight } = layout(this.groups, width, 500);
    Object.assign(this, { places, columnWidth });
    this.resize(width, height);
    const { context } = this;
    context.clearRect(0, 0, width, height);
    const hasLabels = rowHeight >= LABEL_ROW;
    const gutter = hasLabels ? Math.min(150, Math.round(columnWidth * 0.26)) : 0;
    const geometry = { left: gutter + STATE_WIDTH + 4, now: hasLabels ? 46 : 26, width: columnWidth, gutter };
    const fill = scale(this.top);
    const tints = Object.fromEntries(Object.entries(STATES).map(([state, name]) => [state, colour(name)]));
    const ink = { text: colour("ink"), muted: colour("muted"), empty: colour("heat-0"), full: colour("heat-ink") };
    for (let column = 0; column < columns; column += 1) {
      this.at(column * (columnWidth + BETWEEN), () => this.drawAxis(geometry, ink));
    }
    for (const place of places) {
      this.at(place.x, () => (place.row ? this.drawRow(place, geometry, fill, tints, ink) : this.drawTitle(place, columnWidth, ink)));
    }
    const chosen = places.find((place) => place.row && place.row.id === this.selected);
    if (chosen) this.at(chosen.x, () => this.drawSelection(chosen, geometry, ink));
  }

  resize(width, height) {
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** Draws with x counted from a column's left. */
  at(x, drawing) {
    this.context.translate(x, 0);
    drawing();
    this.context.translate(-x, 0);
  }

  cells({ left, now, width }) {
    const begin = left + now + 8;
    return { begin, size: (width - begin - 1) / this.cellCount };
  }

  drawAxis(geometry, ink) {
    const { context } = this;
    const { begin, size } = this.cells(geometry);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = ink.muted;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText("now", geometry.left, 10);
    const every = [2, 4, 6].find((seconds) => size * (seconds / this.cellS) > 46) ?? 12;
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
    const text = row.now === null ? "–" : fine(row.now / 1000);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = row.now !== null && row.now > 550 * this.top ? ink.full : ink.text;
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

  drawSelection(place, geometry, ink) {
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
