// One uPlot chart, of the series of one unit, with its title and its legend. `uPlot` is the page's: its minified
// form is a script, not a module.

import { alone, columns, describe, few, isSwitch, nameOf, nearest, number } from "./chart-data.js";
import { exact, ticks } from "./chart-time.js";

const COLOURS = 8;
const HINT = "Drag over a chart to zoom in, double-click to go back.";
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
    this.legend = document.createElement("ul");
    this.legend.className = "chart-legend";
    this.place = document.createElement("div");
    this.place.className = "chart-plot";
    this.element.append(heading, this.place, this.legend);
    charts.body.append(this.element);
    this.readings = series.map((each, index) => this.entry(each, index));
    this.colours();
    this.uplot = new window.uPlot(this.options(), columns(series), this.place);
    this.series.forEach((each, index) => this.switch(index, !charts.hidden.has(nameOf(each))));
    this.uplot.ctx.canvas.setAttribute("role", "img");
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
      scales: { x: { time: true, range: () => [charts.start, Math.max(charts.end, charts.start + 1)] } },
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
      hooks: { setSelect: [(u) => this.select(u)], setCursor: [(u) => this.read(u)] },
    };
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
    if (this.uplot.series[index + 1].show !== shown) this.uplot.setSeries(index + 1, { show: shown });
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
    this.strokes = this.series.map(({ index }) => resolve(`series-${(index % COLOURS) + 1}`));
    probe.remove();
  }

  restyle() {
    this.colours();
    this.uplot.redraw(false, true);
  }

  use(series) {
    this.series = series;
    this.update();
  }

  update() {
    this.uplot.setData(columns(this.series));
    this.describe();
  }

  describe() {
    const { start, end, zone } = this.charts;
    const range = `${exact(start, zone)} to ${exact(end, zone)}`;
    this.uplot.ctx.canvas.setAttribute("aria-label", `${this.title} ${range}. ${describe(this.series)}`.trim());
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
    if (width < 3) return;
    const [start, end] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.charts.zoom(start, end);
  }

  resize() {
    const size = this.size();
    if (size.width !== this.uplot.width) this.uplot.setSize(size);
  }

  destroy() {
    this.uplot.destroy();
  }
}
