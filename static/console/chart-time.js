// Times of a chart in the user's zone. All times are milliseconds since 1970 UTC.

import { t } from "./words.js";

const DAY = 86_400_000;
const formats = new Map();
const LOCALE = document.documentElement.lang === "ja" ? "ja" : "en-GB";
const date = (p) => t("{day} {month} {year}", p);
const dayOf = (p) => t("{day} {month}", p);

function parts(ms, zone) {
  if (!formats.has(zone)) {
    formats.set(zone, new Intl.DateTimeFormat(LOCALE, {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "short", day: "numeric",
      hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "shortOffset",
    }));
  }
  return Object.fromEntries(formats.get(zone).formatToParts(ms).map(({ type, value }) => [type, value]));
}

const milliseconds = (ms) => String(((ms % 1000) + 1000) % 1000).padStart(3, "0");

// "22 Nov 2026, 09:46:10.250 GMT+1": nothing is left to guess, also in the hour that comes twice.
export function exact(ms, zone) {
  const p = parts(ms, zone);
  const fraction = ms % 1000 ? `.${milliseconds(ms)}` : "";
  return `${date(p)}, ${p.hour}:${p.minute}:${p.second}${fraction} ${p.timeZoneName}`;
}

// "09:46:10", of today
export function clock(ms, zone) {
  const p = parts(ms, zone);
  return `${p.hour}:${p.minute}:${p.second}`;
}

// The text at each mark of the time axis; the day or the year below where it changes.
export function ticks(marks, step, zone) {
  let before = "";
  return marks.map((ms) => {
    const [text, below] = tick(ms, step, parts(ms, zone));
    const changed = below !== before;
    before = below;
    return changed && below ? `${text}\n${below}` : text;
  });
}

function tick(ms, step, p) {
  if (step >= 365 * DAY) return [p.year, ""];
  if (step >= 28 * DAY) return [p.month, p.year];
  if (step >= DAY) return [dayOf(p), p.year];
  const day = dayOf(p);
  if (step >= 60_000) return [`${p.hour}:${p.minute}`, day];
  if (step >= 1000) return [`${p.hour}:${p.minute}:${p.second}`, day];
  return [`${p.second}.${milliseconds(ms)}`, `${p.hour}:${p.minute}`];
}
