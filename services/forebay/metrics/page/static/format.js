// Numbers, times and names as a reader wants them: units with a thin space, no more digits than are known.

export const ABSENT = "–";
const THIN = "\u202f";

export function count(value) {
  return value === null || value === undefined ? ABSENT : Math.round(value).toLocaleString("en");
}

/** About three digits: 0.42, 3.1, 27, 1,240, 18.3 k. */
export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return ABSENT;
  const size = Math.abs(value);
  if (size >= 1e6) return `${(value / 1e6).toFixed(size >= 1e7 ? 0 : 1)}${THIN}M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(size >= 1e5 ? 0 : 1)}${THIN}k`;
  if (size >= 100) return Math.round(value).toLocaleString("en");
  if (size >= 10) return value.toFixed(0);
  return String(Number(value.toFixed(size >= 1 ? 1 : 2)));
}

/** A share of something large: one digit where it is small. */
export function fine(value) {
  return share(value, value > 0 && value < 0.095 ? 1 : 0);
}

export function share(value, digits = 0) {
  return value === null || value === undefined ? ABSENT : `${(100 * value).toFixed(digits)}${THIN}%`;
}

/** A share that must not be rounded up to all. */
export function kept(value) {
  if (value === null || value === undefined) return ABSENT;
  if (value === 1) return `100${THIN}%`;
  return `${(Math.floor(value * 1000) / 10).toFixed(1)}${THIN}%`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return ABSENT;
  const size = Math.abs(seconds);
  if (size < 0.0005) return `0${THIN}ms`;
  if (size < 1) return `${Math.round(seconds * 1000)}${THIN}ms`;
  if (size < 9.95) return `${Number(seconds.toFixed(1))}${THIN}s`;
  if (size < 120) return `${Math.round(seconds)}${THIN}s`;
  if (size < 7200) return `${Math.round(seconds / 60)}${THIN}min`;
  if (size < 172800) return `${Math.round(seconds / 3600)}${THIN}h`;
  return `${Math.round(seconds / 86400)}${THIN}d`;
}

export function time(ms) {
  return ms ? new Date(ms).toLocaleTimeString("en-GB") : ABSENT;
}

export function words(name) {
  return name.replaceAll("_", " ");
}

/** A figure that a policy names: what its name says of its unit becomes the unit, [name, text]. */
export function measure(name, value) {
  if (value === null || value === undefined) return [words(name), ABSENT];
  const scales = { _us: 1e-6, _ms: 1e-3, _s: 1 };
  const ending = Object.keys(scales).find((one) => name.endsWith(one) && !name.endsWith(`_per${one}`));
  if (ending) return [words(name.slice(0, -ending.length)), duration(value * scales[ending])];
  if (name.endsWith("_share") || name.endsWith("_utilization")) return [words(name), share(value, 1)];
  if (name.endsWith("_per_s")) return [words(name.slice(0, -6)), `${amount(value)}/s`];
  return [COUNTS[name] ?? words(name.endsWith("_count") ? name.slice(0, -6) : name), amount(value)];
}

const COUNTS = { held_count: "requests held", lease_count: "leases" };

export function className(name) {
  return { interactive_fast: "fast", interactive_normal: "normal", deferred: "deferred" }[name] ?? words(name);
}

/** An instance's name without what its group says already: "local-3/llama" of llama is "local-3". */
export function shortId(id, model) {
  return id.endsWith(`/${model}`) ? id.slice(0, -model.length - 1) : id;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
