// Charts of a channel. Enhances
//   <div class="charts" data-src="/channels/7/chart.json" data-start="" data-end="" data-zone="Europe/Berlin"
//        data-channel="7" data-live="true"></div>
// An empty data-end is now; then, with data-live, it follows the `live:update` events of the document. `data-tag`
// restricts those to one tag. Dragging over a chart shows that part, a double click goes back; either dispatches
// `chart:range` with {start, end} in milliseconds since 1970 UTC.

import { append, byUnit, trim } from "./chart-data.js";
import { Plot } from "./chart-plot.js";

const MIN_ZOOM = 10; // milliseconds
const REFETCH = 10_000; // milliseconds between answers to series that are new

const charts = new Set();

class Charts {
  constructor(element) {
    this.element = element;
    this.zone = element.dataset.zone || "UTC";
    this.ranges = []; // zoomed into, the innermost last
    this.plots = [];
    this.arrived = [];
    this.fetched = 0;
    this.build();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(element);
    this.load();
  }

  build() {
    this.time = make("p", "charts-time");
    this.back = make("button", "button button-small", "Zoom out");
    this.back.type = "button";
    this.back.hidden = true;
    this.back.addEventListener("click", () => this.zoomOut());
    const head = make("div", "charts-head");
    head.append(this.time, this.back);
    this.message = make("p", "charts-message");
    this.message.setAttribute("role", "status");
    this.body = make("div", "charts-body");
    this.element.replaceChildren(head, this.message, this.body);
  }

  get width() {
    return Math.max(Math.floor(this.body.clientWidth), 200);
  }

  get follows() {
    return this.element.dataset.live === "true" && !this.element.dataset.end && !this.ranges.length;
  }

  // What to ask for: the innermost zoom, else the range of the page, moved on if it follows the present.
  get range() {
    const zoom = this.ranges.at(-1);
    if (zoom) return { start: new Date(zoom.start).toISOString(), end: new Date(zoom.end).toISOString() };
    const { start = "", end = "" } = this.element.dataset;
    return { start: this.moved ? new Date(this.start).toISOString() : start, end };
  }

  async load() {
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    this.fetched = Date.now();
    this.pixels = this.width;
    const url = new URL(this.element.dataset.src, document.baseURI);
    for (const [name, value] of Object.entries({ ...this.range, pixels: this.pixels })) {
      if (value !== "") url.searchParams.set(name, value);
    }
    this.element.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(url, { signal: request.signal, headers: { Accept: "application/json" } });
      if (!response.ok) throw new Error(await reason(response));
      this.show(await response.json());
    } catch (error) {
      if (request.signal.aborted) return;
      this.fail(error instanceof TypeError ? "The server can't be reached." : error.message);
    }
    this.element.removeAttribute("aria-busy");
  }

  show({ start, end, series, left_out: leftOut }) {
    Object.assign(this, { start, end, series, leftOut });
    const groups = byUnit(series);
    const same = groups.map(({ title, series: members }) => [title, members.map(({ key, tag }) => [key, tag])]);
    if (JSON.stringify(same) !== this.shown) {
      this.clear();
      this.shown = JSON.stringify(same);
      this.plots = groups.map((group) => new Plot(this, group));
    } else {
      this.plots.forEach((plot, index) => plot.use(groups[index].series));
    }
    this.message.textContent = !series.length ? "No numbers in this range."
      : leftOut ? `${leftOut} more series are not shown.` : "";
    this.back.hidden = !this.ranges.length;
  }

  fail(message) {
    this.clear();
    const again = make("button", "button button-small", "Try again");
    again.type = "button";
    again.addEventListener("click", () => this.load());
    this.message.replaceChildren(`No chart: ${message} `, again);
  }

  clear() {
    this.plots.forEach((plot) => plot.destroy());
    this.plots = [];
    this.shown = null;
    this.body.replaceChildren();
  }

  zoom(start, end) {
    if (end - start < MIN_ZOOM) return;
    if (!this.ranges.length) this.whole = { start: this.start, end: this.end };
    this.ranges.push({ start: Math.floor(start), end: Math.ceil(end) });
    this.changed();
  }

  zoomOut() {
    if (this.ranges.pop()) this.changed();
  }

  changed() {
    const detail = { ...(this.ranges.at(-1) ?? this.whole) };
    this.element.dispatchEvent(new CustomEvent("chart:range", { bubbles: true, detail }));
    this.load();
  }

  resize() {
    this.plots.forEach((plot) => plot.resize());
    if (this.series && this.width > this.pixels * 1.5) this.load();
  }

  redraw() {
    this.plots.forEach((plot) => plot.restyle());
  }

  // Live values: taken in once a frame.
  receive(latest) {
    const { channel, tag } = this.element.dataset;
    if (!this.follows || !this.series) return;
    const mine = latest.filter((each) => String(each.channel) === channel && (!tag || each.tag === tag));
    if (!mine.length) return;
    if (!this.arrived.length) requestAnimationFrame(() => this.take());
    this.arrived.push(...mine);
  }

  take() {
    const arrived = this.arrived.splice(0);
    if (!this.follows || !this.element.isConnected) return;
    let known = true;
    for (const { tag, at, value } of arrived) {
      known = append(this.series, tag, Date.parse(at), value) && known;
    }
    this.move();
    const most = Math.max(0, ...this.series.map(({ t }) => t.length));
    const due = Date.now() - this.fetched > REFETCH;
    if (due && (most > 4 * this.pixels || (!known && !this.leftOut))) this.load();
    else this.plots.forEach((plot) => plot.update());
  }

  move() {
    const last = Math.max(Date.now(), ...this.series.map(({ t }) => t.at(-1) ?? 0));
    const by = last - this.end;
    if (by <= 0) return;
    this.end += by;
    if (!this.element.dataset.start) return;
    this.moved = true;
    this.start += by;
    trim(this.series, this.start);
  }

  destroy() {
    this.request?.abort();
    this.observer.disconnect();
    this.clear();
  }
}

async function reason(response) {
  try {
    const { detail, error } = await response.json();
    return detail || error || `status ${response.status}.`;
  } catch {
    return `the server answered with status ${response.status}.`;
  }
}

function make(name, className, text = "") {
  const element = document.createElement(name);
  element.className = className;
  element.textContent = text;
  return element;
}

function each(action) {
  for (const chart of charts) {
    if (chart.element.isConnected) action(chart);
    else {
      chart.destroy();
      charts.delete(chart);
    }
  }
}

export function enhance(root = document) {
  each(() => {});
  const known = new Set([...charts].map(({ element }) => element));
  for (const element of root.querySelectorAll(".charts[data-src]")) {
    if (!known.has(element)) charts.add(new Charts(element));
  }
}

enhance();
document.addEventListener("htmx:load", () => enhance());
document.addEventListener("live:update", ({ detail }) => each((chart) => chart.receive(detail.latest ?? [])));
const restyle = () => each((chart) => chart.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
new MutationObserver(restyle).observe(document.documentElement, { attributeFilter: ["data-theme"] });
