// What a chart shows of events, drawn on uPlot's canvas: a threshold is a line with its value, the time of an incident
// a shaded span. A severity is told by colour, by the pattern of the edge above the span, and in words below the chart.

import { number } from "./chart-data.js";
import { t } from "./words.js";

const EDGE = 6; // pixels, of a span
const DASH = { info: [2, 4], warning: [8, 4], critical: [] };
const FAR = 1; // times the height of the data that a line may be away and still be in view
const SIGNS = { "<": "<", ">": ">", "<=": "≤", ">=": "≥", "=": "=", "!=": "≠" };
export const SEVERITIES = ["info", "warning", "critical"]; // the worst is drawn last

// Of the events, those about one of these series; of the incidents, those of what these series show.
export function marksOf({ events, incidents }, series) {
  const about = events.map(({ key, panel }) => series.filter((each) => (
    each.panel ? panel === each.panel : key === "" || plainKey(each.key) === key)));
  return {
    events: events.filter((_, place) => about[place].length),
    spans: incidents.filter(({ event, tag }) => about[event].some((each) => (
      each.panel || (each.tag ?? "") === tag || events[event].key === "")))
      .map((each) => ({ ...each, event: events[each.event] })),
  };
}

// A colon inside a key has a backslash before it in a chart, but not in an event.
export const plainKey = (key) => key.replace(/\\(.)/g, "$1");

export const linesOf = (events) => events.flatMap((event) => [
  ...event.clear.map((value) => ({ event, value, text: "", clear: true })),
  ...event.lines.map((value, place) => ({ event, value, text: `${sign(event, place)} ${number(value)}`, clear: false })),
]);

const sign = ({ kind, operator }, place) => (kind === "range" ? "<>"[place] : SIGNS[operator] ?? "");

// The range of the vertical axis, so that lines near the data are in view, and far ones don't make it flat.
export function reach(low, high, lines) {
  const far = FAR * (high - low || Math.abs(high) || 1);
  const near = lines.map(({ value }) => value).filter((value) => value >= low - far && value <= high + far);
  return [Math.min(low, ...near), Math.max(high, ...near)];
}

// Spans of one severity as one shape: two that overlap are not darker.
export function union(spans, start, end) {
  const joined = [];
  for (const [from, to] of spans.map((span) => [Math.max(span.start, start), Math.min(span.end ?? end, end)])
    .filter(([from, to]) => from <= to).sort(([a], [b]) => a - b)) {
    const last = joined.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

export function drawSpans(u, spans, colours, start, end) {
  const { ctx, bbox } = u;
  const ratio = window.devicePixelRatio;
  ctx.save();
  for (const severity of SEVERITIES) {
    for (const [from, to] of union(spans.filter((span) => span.severity === severity), start, end)) {
      const left = u.valToPos(from, "x", true);
      const width = Math.max(u.valToPos(to, "x", true) - left, 2 * ratio);
      ctx.fillStyle = colours[severity];
      ctx.globalAlpha = 0.13;
      ctx.fillRect(left, bbox.top, width, bbox.height);
      ctx.globalAlpha = 1;
      ctx.strokeStyle = colours[severity];
      ctx.lineWidth = EDGE * ratio;
      ctx.setLineDash(DASH[severity].map((length) => length * ratio));
      ctx.beginPath();
      ctx.moveTo(left, bbox.top + EDGE * ratio / 2);
      ctx.lineTo(left + width, bbox.top + EDGE * ratio / 2);
      ctx.stroke();
    }
  }
  ctx.restore();
}

// A line that is out of view has its text, with an arrow, at the edge behind which it is.
export function drawLines(u, lines, colours, font, ground) {
  const { ctx, bbox } = u;
  const ratio = window.devicePixelRatio;
  const { min, max } = u.scales.y;
  if (min == null) return;
  const taken = [];
  ctx.save();
  ctx.font = font.replace(/^[\d.]+px/, `${11 * ratio}px`);
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  for (const { event, value, text, clear } of lines) {
    const [above, below] = [value > max, value < min];
    if (clear && (above || below)) continue;
    const y = above ? bbox.top : below ? bbox.top + bbox.height : Math.round(u.valToPos(value, "y", true));
    ctx.strokeStyle = colours[event.severity];
    if (!above && !below) {
      ctx.globalAlpha = clear ? 0.6 : 1;
      ctx.lineWidth = (clear ? 1 : 1.5) * ratio;
      ctx.setLineDash((clear ? [2, 4] : [10, 4]).map((length) => length * ratio));
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
      ctx.globalAlpha = 1;
    }
    if (!text) continue;
    const words = above ? `↑ ${text}` : below ? `↓ ${text}` : text;
    const width = ctx.measureText(words).width + 8 * ratio;
    const height = 15 * ratio;
    const top = Math.min(Math.max(y - height / 2, bbox.top), bbox.top + bbox.height - height);
    let right = bbox.left + bbox.width - 4 * ratio;
    while (taken.some((other) => Math.abs(other.top - top) < height && other.left < right && right - width < other.right)) {
      right -= width / 4;
    }
    taken.push({ top, left: right - width, right });
    ctx.fillStyle = ground;
    ctx.setLineDash([]);
    ctx.lineWidth = ratio;
    ctx.beginPath();
    ctx.roundRect(right - width, top, width, height, 3 * ratio);
    ctx.fill();
    ctx.stroke();
    ctx.fillStyle = colours[event.severity];
    ctx.fillText(words, right - 4 * ratio, top + height / 2 + ratio / 2);
  }
  ctx.restore();
}

// For those who don't see the picture.
export function describeMarks({ events, spans }) {
  return events.map((event) => {
    const own = spans.filter((span) => span.event === event);
    return `${event.name}: ${told(own)}`;
  }).join("; ");
}

export function told(spans) {
  if (!spans.length) return t("did not fire in this range");
  const times = spans.length === 1 ? t("fired once") : t("fired {count} times", { count: spans.length });
  return spans.some(({ end }) => end === null) 
    ? t("fires now, {times} in this range", { times })
    : t("{times} in this range", { times });
}

// A height as a person would write it: to a pixel, with as few digits as that needs.
export function rounded(value, perPixel) {
  const size = 10 ** Math.floor(Math.log10(perPixel));
  const step = [1, 2, 5, 10].map((times) => times * size).find((each) => each >= perPixel * 0.999);
  return String(Number((Math.round(value / step) * step).toPrecision(12)));
}
