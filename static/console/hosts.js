// The list of hosts is shown anew as they send. Without it the list works by reloading.

const LEAST = 3_000; // milliseconds between two answers,
const SHARE = 10; // or so many times as long as the last one took

const place = document.getElementById("hosts");
let waiting = null;
let earliest = 0;

const isInUse = () => place.contains(document.activeElement)
  || (!getSelection().isCollapsed && getSelection().containsNode(place, true));

async function follow() {
  const begun = performance.now();
  const headers = { "HX-Request": "true", Accept: "text/html" };
  const asked = location.href;
  const response = await fetch(asked, { headers, cache: "no-store" });
  const text = await response.text();
  earliest = performance.now() + Math.max(LEAST, SHARE * (performance.now() - begun));
  if (!response.ok || response.redirected || asked !== location.href || isInUse()) return;
  place.innerHTML = text;
  window.htmx?.process(place);
}

function soon() {
  if (waiting || document.hidden) return;
  waiting = setTimeout(async () => {
    try {
      await follow();
    } catch {
      earliest = performance.now() + LEAST; // the server is away: the next message comes once it is back
    }
    waiting = null;
  }, Math.max(0, earliest - performance.now()));
}

document.addEventListener("live:update", ({ detail }) => {
  const heard = detail.devices && new Set(detail.devices);
  const shown = [...place?.querySelectorAll("[data-host]") ?? []];
  if (!heard || shown.some((row) => heard.has(row.dataset.host))) soon();
});
