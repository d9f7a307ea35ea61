// What fires: asked for again while somebody looks. Nothing moves under a hand: not while a choice is open, nor
// while the server says that nothing has changed. htmx gives the focus back to the element with the same id.

const PERIOD = 5_000;

setInterval(() => {
  const state = document.getElementById("alerts");
  if (!state || document.hidden || state.querySelector("details[open]")) return;
  htmx.trigger(state, "refresh");
}, PERIOD);

const mark = (stale) => {
  for (const note of document.querySelectorAll("[data-stale]")) note.hidden = !stale;
};

// A question that nobody asked needs no error of its own at the top of the page.
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig?.verb !== "get") return;
  event.stopImmediatePropagation();
  mark(true);
}, true);
document.addEventListener("htmx:afterOnLoad", () => mark(false));
