// The bell of a chart leads to the form of an event, with a height of the chart filled in. By mouse and finger it first
// asks for that height: the next click into the chart. By keyboard it leads on at once, with the latest value.

import { isSwitch, nearest } from "./chart-data.js";
import { plainKey, rounded } from "./chart-marks.js";
import { t } from "./words.js";

const SIDES = { ">": t("above"), "<": t("below"), "=": t("is") };
const ASK = t("Click at the height at which you want to be told. Escape: not now.");

export class Bell {
  constructor(plot, { eventNew, icons, channel }) {
    Object.assign(this, { plot, eventNew, channel, armed: false });
    this.link = document.createElement("a");
    this.link.className = "button button-small button-quiet chart-bell";
    this.link.title = t("Make an event at a height of this chart");
    this.link.append(icon(`${icons}#alerts`), t("Notify me"));
    this.ask = document.createElement("p");
    this.ask.className = "chart-ask";
    this.ask.setAttribute("aria-live", "polite");
    plot.head.append(this.link);
    plot.head.after(this.ask);
    this.link.addEventListener("click", (event) => {
      const isPlain = event.detail && !event.ctrlKey && !event.metaKey && !event.shiftKey;
      if (!isPlain || !this.plot.series.length) return;
      event.preventDefault();
      if (this.armed) this.disarm();
      else this.arm();
    });
    this.onKey = (event) => { if (event.key === "Escape") this.disarm(); };
    const { over } = plot.uplot;
    over.addEventListener("mousemove", (event) => { if (this.armed) this.ask.textContent = this.words(event); });
    over.addEventListener("mouseleave", () => { if (this.armed) this.ask.textContent = ASK; });
    over.addEventListener("click", (event) => { if (this.armed) location.assign(this.address(this.at(event))); });
  }

  arm() {
    for (const other of this.plot.charts.plots) other.bell?.disarm();
    this.armed = true;
    this.plot.element.classList.add("chart-armed");
    this.ask.textContent = ASK;
    document.addEventListener("keydown", this.onKey);
  }

  disarm() {
    this.armed = false;
    this.plot.element.classList.remove("chart-armed");
    this.ask.textContent = "";
    document.removeEventListener("keydown", this.onKey);
  }

  // The series that is nearest to the click, and the height.
  at(event) {
    const { uplot } = this.plot;
    const { left, top, height } = uplot.over.getBoundingClientRect();
    const value = uplot.posToVal(event.clientY - top, "y");
    const index = uplot.posToIdx(event.clientX - left);
    const away = (place) => {
      const column = uplot.data[place + 1];
      const found = nearest(uplot.data[0], column, index);
      return found === null ? Infinity : Math.abs(column[found] - value);
    };
    const shown = this.plot.series.map((_, place) => place).filter((place) => uplot.series[place + 1].show);
    const places = shown.length ? shown : [0];
    const nearestOne = places.reduce((best, place) => (away(place) < away(best) ? place : best));
    const { min, max } = uplot.scales.y;
    const series = this.plot.series[nearestOne];
    return { series, text: isSwitch(series) ? String(Number(value >= 0.5)) : rounded(value, (max - min) / height) };
  }

  words(event) {
    const { series, text } = this.at(event);
    return `${series.label} ${SIDES[operatorFor(series, text)]} ${text}${series.unit && ` ${series.unit}`}`;
  }

  address({ series, text }) {
    const url = new URL(this.eventNew, document.baseURI);
    url.search = new URLSearchParams({
      channel: this.channel, source: plainKey(series.key), operator: operatorFor(series, text), threshold: text,
    });
    return url;
  }

  // The latest value stands in the link itself, for those who don't click at a height.
  update() {
    const [series] = this.plot.series;
    const text = isSwitch(series) ? 1 - latest(series) : latest(series) ?? "";
    this.link.href = this.address({ series, text: String(text) });
  }
}

const latest = (series) => series.v.findLast((value) => value !== null);

// Where it is not yet.
const operatorFor = (series, text) => (isSwitch(series) ? "=" : Number(text) < (latest(series) ?? -Infinity) ? "<" : ">");

function icon(href) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", href);
  svg.append(use);
  return svg;
}
