// The page of an intake: its last messages are asked for again when something has come, and every few seconds while
// somebody looks. What was opened stays open.

const LEAST = 1_500; // milliseconds between two requests; messages are noted half a second after they came
const EVERY = 5_000;
const list = () => document.getElementById("messages");
let due = null;

function ask() {
  due ??= setTimeout(() => {
    due = null;
    if (!document.hidden) list().dispatchEvent(new Event("refresh"));
  }, LEAST);
}

document.addEventListener("live:update", ask);
document.addEventListener("visibilitychange", ask);
setInterval(ask, EVERY);

let opened = [];
let state = "";
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (detail.target !== list()) return;
  opened = [...list().querySelectorAll("details[open]")].map((each) => each.id);
  state = list().querySelector("[data-live-state]").dataset.state;
});
document.addEventListener("htmx:afterSettle", () => {
  for (const id of opened.splice(0)) document.getElementById(id)?.setAttribute("open", "");
  if (state) {
    const mark = list().querySelector("[data-live-state]");
    mark.hidden = false;
    mark.dataset.state = state;
    state = "";
  }
});
