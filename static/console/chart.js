// Charts of a channel. Enhances
//   <div class="charts" data-src="/channels/7/chart.json" data-zone="Europe/Berlin" data-channel="7" data-live></div>
// With data-live the charts show what a page that is loaded now would show: nothing is added to them here, they ask
// the server again, which answers 304 where nothing has changed. `live:update` of the document says when to ask; in
// case nothing is said (no socket, a lost message, a deletion), they ask every QUIET.
// With data-event-new, the address of a form, and data-icons each chart has a bell, by which an event is made at a height.
// Dragging over a chart shows that part, a double click goes back; either dispatches `chart:range` with
// {start, end} in milliseconds since 1970 UTC. `chart:refreshed` says that something has changed without it.

import { grouped } from "./chart-data.js";
import { Plot } from "./chart-plot.js";
import { clock } from "./chart-time.js";
import { t } from "./words.js";

const MIN_ZOOM = 10; // milliseconds
const QUIET = 10_000; // milliseconds between two requests of a chart that is told nothing
const LEAST = 1_000; // and of one that is told much,
const SHARE = 5; // or so many times as long as the last answer took
const LIMIT = 60_000; // milliseconds for an answer
const NO_MARKS = { events: [], incidents: [] };

const charts = new Set();

class Charts {
  constructor(element) {
    this.element = element;
    element.chart = this;
    this.zone = element.dataset.zone || "UTC";
    this.follows = "live" in element.dataset;
    this.ranges = []; // zoomed into, the innermost last
    this.plots = [];
    this.hidden = new Set(); // series that are switched off, by name
    this.build();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(element);
    this.load();
  }

  build() {
    this.time = make("p", "charts-time");
    this.back = make("button", "button button-small", t("Zoom out"));
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

  // What is asked for: the innermost zoom, else the range of the page.
  get url() {
    const url = new URL(this.element.dataset.src, document.baseURI);
    const zoom = this.ranges.at(-1);
    if (zoom) {
      url.searchParams.set("start", new Date(zoom.start).toISOString());
      url.searchParams.set("end", new Date(zoom.end).toISOString());
    }
    url.searchParams.set("pixels", this.width);
    return url;
  }

  // Something else is to be shown: at once, and whatever was on its way is not wanted any more.
  async load() {
    this.request?.abort();
    this.kept = false;
    this.version = null;
    this.element.setAttribute("aria-busy", "true");
    const request = await this.ask();
    if (!request.signal.aborted) this.element.removeAttribute("aria-busy");
  }

  // The same once more, soon: what has come while an answer was on its way may not be in it.
  refresh() {
    if (!this.follows) return;
    if (this.request || document.hidden) {
      this.stale = true;
      return;
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), Math.max(0, this.earliest - performance.now()));
  }

  async ask() {
    clearTimeout(this.timer);
    const request = new AbortController();
    this.request = request;
    this.stale = false;
    this.pixels = this.width;
    const begun = performance.now();
    const headers = { Accept: "application/json" };
    if (this.version) headers["If-None-Match"] = this.version;
    try {
      const signal = AbortSignal.any([request.signal, AbortSignal.timeout(LIMIT)]);
      const response = await fetch(this.url, { signal, headers, cache: "no-store" });
      if (response.status === 304) this.say();
      else if (response.ok && isJson(response)) this.take(await response.json(), response.headers.get("ETag"));
      else await this.refuse(response);
    } catch (error) {
      if (request.signal.aborted) return request;
      this.fail(error.name === "TimeoutError" ? t("The server takes too long.") : t("The server can't be reached."));
    }
    if (request.signal.aborted) return request;
    this.earliest = begun + Math.max(LEAST, SHARE * (performance.now() - begun));
    this.request = null;
    if (this.stale) this.refresh();
    else if (this.follows) this.timer = setTimeout(() => this.refresh(), QUIET);
    return request;
  }

  take(answer, version) {
    const again = this.kept;
    this.kept = true;
    this.version = version;
    this.show(answer);
    if (again) this.element.dispatchEvent(new CustomEvent("chart:refreshed", { bubbles: true }));
  }

  show({ start, end, series, left_out: leftOut, marks = NO_MARKS }) {
    Object.assign(this, { start, end, series, leftOut, marks });
    const groups = grouped(series);
    const same = groups.map(({ title, series: members }) => [title, members.map(({ key, tag }) => [key, tag])]);
    if (JSON.stringify(same) !== this.shown) {
      this.clear();
      this.shown = JSON.stringify(same);
      this.plots = groups.map((group) => new Plot(this, group));
    } else {
      this.plots.forEach((plot, index) => plot.use(groups[index].series));
    }
    this.back.hidden = !this.ranges.length;
    this.say();
  }

  say() {
    this.message.textContent = !this.series.length ? t("No numbers in this range.")
      : this.leftOut ? t("{count} more series are not shown.", { count: this.leftOut }) : "";
    this.current = Date.now();
  }

  async refuse(response) {
    if (response.status === 401) {
      this.follows = false;
      this.fail(`${t("You are signed out.")} `, signIn());
    } else {
      const gone = response.status === 404;
      if (gone) this.kept = false;
      this.fail(gone ? t("This channel or tag is not there any more.") : await reason(response));
    }
  }

  // What is shown stays while it is of the range that is wanted; then it says until when it is true.
  fail(message, action = this.again()) {
    if (!this.kept) this.clear();
    const begin = this.kept ? `${t("Not up to date since {time}:", { time: clock(this.current, this.zone) })} ` : `${t("No chart:")} `;
    this.message.replaceChildren(`${begin}${message} `, action);
  }

  again() {
    const again = make("button", "button button-small", t("Try again"));
    again.type = "button";
    again.addEventListener("click", () => this.load());
    return again;
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

  // An update that names no channels may be about any.
  hear(channels) {
    if (!channels || channels.includes(Number(this.element.dataset.channel))) this.refresh();
  }

  destroy() {
    this.follows = false;
    this.request?.abort();
    clearTimeout(this.timer);
    this.observer.disconnect();
    this.clear();
  }
}

const isJson = (response) => (response.headers.get("Content-Type") ?? "").includes("json");

async function reason(response) {
  try {
    const { detail, error } = await response.json();
    return detail || error || t("status {status}.", { status: response.status });
  } catch {
    return t("the server answered with status {status}.", { status: response.status });
  }
}

function signIn() {
  const link = make("a", "", t("Sign in"));
  link.href = `/signin/?next=${encodeURIComponent(location.pathname + location.search)}`;
  return link;
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
document.addEventListener("live:update", ({ detail }) => each((chart) => chart.hear(detail.channels)));
document.addEventListener("live:state", ({ detail }) => { if (detail === "connected") each((chart) => chart.refresh()); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) each((chart) => chart.refresh()); });
const restyle = () => each((chart) => chart.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
new MutationObserver(restyle).observe(document.documentElement, { attributeFilter: ["data-theme"] });
