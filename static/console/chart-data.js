// What a chart shows, as plain data: a series is {key, tag, label, unit, t: [ms], v: [number or null]}, ordered
// by time; null is a pause. Nothing here knows the page.

import { t } from "./words.js";

const FEW = 60;

export const nameOf = (series) => (series.tag === null ? series.label : `${series.label} · ${series.tag}`);

// One group for each unit, or for each panel that the series say they belong to, in the order of their first series.
export function grouped(series) {
  const groups = new Map();
  series.forEach((each, index) => {
    const name = each.panel ?? each.unit;
    if (!groups.has(name)) groups.set(name, []);
    const place = each.panel ? groups.get(name).length : index; // each panel has its first colours first
    groups.get(name).push({ ...each, index: place });
  });
  return [...groups.values()].map((members) => ({
    unit: members[0].unit, title: members[0].title ?? titleOf(members[0].unit, members), series: members,
  }));
}

function titleOf(unit, series) {
  const labels = new Set(series.map((each) => each.label));
  if (labels.size > 1) return unit;
  const [label] = labels;
  return unit ? `${label} (${unit})` : label;
}

// The columns that uPlot draws: all times, then one for each series, undefined where it has nothing to say.
export function columns(series) {
  const times = Float64Array.from(new Set(series.flatMap((each) => each.t))).sort();
  const place = new Map();
  times.forEach((ms, index) => place.set(ms, index));
  const values = series.map((each) => {
    const column = new Array(times.length);
    each.t.forEach((ms, index) => { column[place.get(ms)] = each.v[index]; });
    return widen(column);
  });
  return [Array.from(times), ...values];
}

// A pause lasts until the numbers on either side, also where other series have numbers meanwhile.
function widen(column) {
  for (let index = 0; index < column.length; index += 1) {
    if (column[index] !== null) continue;
    for (let left = index - 1; left >= 0 && column[left] === undefined; left -= 1) column[left] = null;
    while (index + 1 < column.length && column[index + 1] === undefined) column[index += 1] = null;
  }
  return column;
}

// Where a column has a number between two pauses: no line would show it.
export function alone(column) {
  const found = [];
  let before = null;
  let candidate = -1;
  column.forEach((value, index) => {
    if (value === undefined) return;
    if (value === null && candidate >= 0) found.push(candidate);
    candidate = value !== null && before === null ? index : -1;
    before = value;
  });
  if (candidate >= 0) found.push(candidate);
  return found;
}

// Whether a column has so few numbers that each gets a dot: close to each other they make no line to be seen.
export const few = (column) => column.reduce((count, value) => count + (value != null), 0) < FEW;

// The nearest place with a number, for a column with holes.
export function nearest(times, column, index) {
  let left = index;
  let right = index;
  while (left >= 0 && column[left] == null) left -= 1;
  while (right < column.length && column[right] == null) right += 1;
  if (left < 0) return right < column.length ? right : null;
  if (right >= column.length) return left;
  return times[index] - times[left] <= times[right] - times[index] ? left : right;
}

// Whether it is on or off, as true and false are: then it is drawn in steps.
export const isSwitch = (series) => series.v.some((value) => value !== null)
  && series.v.every((value) => value === null || value === 0 || value === 1);

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) return value.toExponential(3).replace(/\.?0+e/, "e");
  return value.toLocaleString("en", { maximumSignificantDigits: Math.max(6, Math.ceil(Math.log10(size + 1)) + 2) });
}

// What the picture says, for those who don't see it.
export function describe(series) {
  return series.map((each) => {
    let [low, high, latest] = [Infinity, -Infinity, null];
    for (const value of each.v) {
      if (value === null) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
      latest = value;
    }
    if (latest === null) return t("{name}: nothing", { name: nameOf(each) });
    return t("{name}: {low} to {high}, latest {latest}", {
      name: nameOf(each), low: number(low), high: number(high), latest: number(latest),
    });
  }).join("; ");
}
