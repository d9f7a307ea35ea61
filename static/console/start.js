// The first datapoint: what came is asked for again when something has come of the device that is waited for, once a
// second at most.

const LEAST = 1_000; // milliseconds between two requests
const panel = document.querySelector("[data-waits-for]");
let asked = -LEAST;
let due = null;

function ask() {
  due ??= setTimeout(() => {
    due = null;
    asked = performance.now();
    panel.dispatchEvent(new Event("arrived"));
  }, Math.max(0, asked + LEAST - performance.now()));
}

document.addEventListener("live:update", ({ detail }) => {
  if (!detail.devices || detail.devices.includes(panel.dataset.waitsFor)) ask();
});
document.addEventListener("live:state", ({ detail }) => { if (detail === "connected") ask(); });
