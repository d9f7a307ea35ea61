// The last hour on Home goes on: what comes is added to the newest bar, and as minutes pass all bars move on.
// Geometry as in console/minute_bars_svg.py.

const HEIGHT = 120;
const KINDS = ["stored", "held", "rejected"];
const MINUTE = 60_000;

const svg = document.querySelector("[data-hour]");
const bars = [...svg.querySelectorAll("g")];
let minutes = bars.map((bar) => ({
  at: Date.parse(bar.dataset.minute),
  counts: KINDS.map((kind) => Number(bar.querySelector(`.hour-${kind}`).dataset.count)),
}));
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: svg.dataset.zone });
const number = new Intl.NumberFormat("en");
const sum = (values) => values.reduce((total, value) => total + value, 0);

function moveOn() {
  const last = minutes.at(-1).at;
  const passed = Math.max(0, Math.floor((Date.now() - last) / MINUTE));
  const come = Array.from({ length: passed }, (_, place) => ({
    at: last + (place + 1) * MINUTE, counts: KINDS.map(() => 0),
  }));
  minutes = [...minutes, ...come].slice(-bars.length);
  return passed > 0;
}

function draw() {
  const most = Math.max(...minutes.map((minute) => sum(minute.counts)));
  bars.forEach((bar, place) => drawBar(bar, minutes[place], HEIGHT / Math.max(1, most)));
  KINDS.forEach((kind, place) => tell(`sum-${kind}`, number.format(sum(minutes.map((minute) => minute.counts[place])))));
  tell("most", number.format(most));
  tell("since", clock.format(minutes[0].at));
}

function drawBar(bar, { at, counts }, unit) {
  let top = HEIGHT;
  bar.querySelector("title").textContent = `${clock.format(at)}: ${number.format(sum(counts))}`;
  KINDS.forEach((kind, place) => {
    const part = bar.querySelector(`.hour-${kind}`);
    top -= counts[place] * unit;
    part.setAttribute("y", top);
    part.setAttribute("height", counts[place] * unit);
  });
}

function tell(name, text) {
  document.querySelector(`[data-hour-${name}]`).textContent = text;
}

document.addEventListener("live:update", ({ detail }) => {
  moveOn();
  KINDS.forEach((kind, place) => { minutes.at(-1).counts[place] += detail.counts[kind]; });
  draw();
});

setInterval(() => { if (moveOn()) draw(); }, 5_000);
