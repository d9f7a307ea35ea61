// One uPlot chart, of the series of one unit, with its title, its legend and its events. `uPlot` is the page's: its
// minified form is a script, not a module.

import { alone, columns, describe, few, isSwitch, nameOf, nearest, number } from "./chart-data.js";
import { Bell } from "./chart-bell.js";
import { SEVERITIES, describeMarks, drawLines, drawSpans, linesOf, marksOf, reach, told } from "./chart-marks.js";
import { exact, ticks } from "./chart-time.js";
import { t } from "./words.js";

const COLOURS = 8;
const SEVERITY = { info: t("info"), warning: t("warning"), critical: t("critical") };
const HINT = t("Drag over a chart to zoom in, double-click to go back.");
const STEPS = window.uPlot.paths.stepped({ align: 1 });
const LINE = window.uPlot.paths.linear();
const DASHES = [[], [8, 4], [2, 3]]; // once the colours are used up

export class Plot {
  constructor(charts, { title, series }) {
    this.charts = charts;
    this.series = series;
    this.title = title;
    this.element = document.createElement("section");
    this.element.className = "card chart";
    const heading = document.createElement("h2");
    heading.textContent = title;
    heading.hidden = !title;
    this.head = document.createElement("div");
    this.head.className = "chart-head";
    this.head.append(heading);
    this.legend = document.createElement("ul");
    this.legend.className = "chart-legend";
    this.events = document.createElement("ul");
    this.events.className = "chart-events";
    this.place = document.createElement("div");
    this.place.className = "chart-plot";
    this.element.append(this.head, this.place, this.legend, this.events);
    charts.body.append(this.element);
    this.readings = series.map((each, index) => this.entry(each, index));
    this.colours();
    this.mark();
    this.uplot = new window.uPlot(this.options(), columns(series), this.place);
    this.series.forEach((each, index) => this.switch(index, this.isShown(each)));
    this.uplot.ctx.canvas.setAttribute("role", "img");
    if (charts.element.dataset.eventNew) this.bell = new Bell(this, charts.element.dataset);
    this.describe();
  }

  options() {
    const { charts } = this;
    const { zone } = charts;
    const font = `12px ${getComputedStyle(this.element).fontFamily}`;
    const lines = { stroke: () => this.line, width: 1 };
    const axis = { stroke: () => this.muted, font, grid: lines, ticks: { ...lines, size: 4 } };
    return {
      ...this.size(),
      ms: 1,
      padding: [10, 8, 0, 0],
      tzDate: (ms) => window.uPlot.tzDate(new Date(ms), zone),
      legend: { show: false },
      scales: {
        x: { time: true, range: () => [charts.start, Math.max(charts.end, charts.start + 1)] },
        y: { range: (u, low, high) => this.heights(low, high) },
      },
      axes: [
        { ...axis, size: 40, space: 70, values: (_, marks, _axis, _space, step) => ticks(marks, step, zone) },
        { ...axis, size: (u, values) => 18 + 7 * Math.max(6, ...(values ?? []).map((text) => text.length)),
          values: (_, marks) => marks.map(number) },
      ],
      series: [{}, ...this.series.map((each, index) => this.stroke(each, index))],
      cursor: {
        sync: { key: `charts-${charts.element.dataset.src}`, scales: ["x", null] },
        points: { size: 7 },
        drag: { x: true, y: false, setScale: false },
        dataIdx: (u, index, hovered) => (index ? nearest(u.data[0], u.data[index], hovered) : hovered),
        bind: { dblclick: () => () => charts.zoomOut() },
      },
      hooks: {
        setSelect: [(u) => this.select(u)],
        setCursor: [(u) => this.read(u)],
        drawClear: [(u) => drawSpans(u, this.marks.spans, this.severities, charts.start, charts.end)],
        draw: [(u) => drawLines(u, this.lines, this.severities, font, this.ground)],
      },
    };
  }

  heights(low, high) {
    if (low == null) return [null, null];
    return window.uPlot.rangeNum(...reach(low, high, this.lines), 0.1, true);
  }

  size() {
    const width = Math.max(this.place.clientWidth, 200);
    return { width, height: width < 500 ? 200 : 260 };
  }

  stroke({ index }, place) {
    return {
      label: nameOf(this.series[place]),
      stroke: () => this.strokes[place],
      width: 1.5,
      paths: (...drawing) => (isSwitch(this.series[place]) ? STEPS : LINE)(...drawing),
      dash: DASHES[Math.floor(index / COLOURS) % DASHES.length],
      points: {
        size: 7,
        fill: () => this.strokes[place],
        show: (u, column) => few(u.data[column]),
        filter: (u, column, shown) => (shown ? null : alone(u.data[column])),
      },
    };
  }

  // A button that shows and hides the series, and its number under the cursor.
  entry(series, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = document.createElement("span");
    swatch.className = "chart-swatch";
    swatch.style.setProperty("background", `var(--series-${(series.index % COLOURS) + 1})`);
    const reading = document.createElement("span");
    reading.className = "chart-reading";
    button.append(swatch, nameOf(series), reading);
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      this.charts.hidden[shown ? "delete" : "add"](nameOf(series));
      this.switch(index, shown);
    });
    const item = document.createElement("li");
    item.append(button);
    this.legend.append(item);
    return reading;
  }

  switch(index, shown) {
    this.legend.children[index].firstElementChild.setAttribute("aria-pressed", String(shown));
    if (this.uplot.series[index + 1].show === shown) return;
    this.mark();
    this.uplot.setSeries(index + 1, { show: shown });
  }

  isShown(series) {
    return !this.charts.hidden.has(nameOf(series));
  }

  // What is known of the events of the series that are shown.
  mark() {
    this.marks = marksOf(this.charts.marks, this.series.filter((each) => this.isShown(each)));
    this.lines = linesOf(this.marks.events);
    this.events.replaceChildren(...this.marks.events.map((event) => this.eventEntry(event)));
  }

  eventEntry(event) {
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = `chart-severity chart-severity-${event.severity}`;
    const link = document.createElement("a");
    link.href = event.url;
    link.textContent = event.name;
    const own = this.marks.spans.filter((span) => span.event === event);
    item.append(swatch, link, ` · ${SEVERITY[event.severity]}, ${told(own)}`);
    return item;
  }

  // Colours as the page has them now: a canvas knows neither var() nor light-dark().
  colours() {
    const probe = document.createElement("span");
    this.element.append(probe);
    const resolve = (name) => {
      probe.style.setProperty("color", `var(--${name})`);
      return getComputedStyle(probe).color;
    };
    this.muted = resolve("muted");
    this.line = resolve("line");
    this.ground = resolve("surface");
    this.severities = Object.fromEntries(SEVERITIES.map((name) => [name, resolve(`severity-${name}`)]));
    this.strokes = this.series.map(({ index }) => resolve(`series-${(index % COLOURS) + 1}`));
    probe.remove();
  }

  restyle() {
    this.colours();
    this.uplot.redraw(false, true);
  }

  use(series) {
    this.series = series;
    this.mark();
    this.update();
  }

  update() {
    this.uplot.setData(columns(this.series));
    this.describe();
  }

  describe() {
    const { start, end, zone } = this.charts;
    const range = t("{start} to {end}", { start: exact(start, zone), end: exact(end, zone) });
    const said = [describe(this.series), describeMarks(this.marks)].filter(Boolean).join(". ");
    this.uplot.ctx.canvas.setAttribute("aria-label", `${this.title} ${range}. ${said}`.trim());
    this.bell?.update();
    this.read(this.uplot);
  }

  // Below the cursor, else the latest.
  read(u) {
    const { idx, idxs } = u.cursor;
    this.readings.forEach((reading, index) => {
      const place = idx == null ? nearest(u.data[0], u.data[index + 1], u.data[0].length - 1) : idxs[index + 1];
      reading.textContent = number(place == null ? null : u.data[index + 1][place]);
    });
    this.charts.time.textContent = idx == null ? HINT : exact(u.data[0][idx], this.charts.zone);
  }

  select(u) {
    const { left, width } = u.select;
    if (width < 3 || this.bell?.armed) return;
    const [start, end] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.charts.zoom(start, end);
  }

  resize() {
    const size = this.size();
    if (size.width !== this.uplot.width) this.uplot.setSize(size);
  }

  destroy() {
    this.bell?.disarm();
    this.uplot.destroy();
  }
}
