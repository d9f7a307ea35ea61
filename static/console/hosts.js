// Pages of hosts follow what their hosts send: parts with data-follow are taken from the page as it is now. Without it
// they work by reloading.

const LEAST = 3_000; // milliseconds between two answers,
const SHARE = 10; // or so many times as long as the last one took
let waiting = null;
let earliest = 0;

const parts = () => [...document.querySelectorAll("[data-follow]")];
const isInUse = (part) => part.contains(document.activeElement)
  || (!getSelection().isCollapsed && getSelection().containsNode(part, true));

async function follow() {
  const begun = performance.now();
  const asked = location.href;
  const response = await fetch(asked, { headers: { Accept: "text/html" }, cache: "no-store" });
  const now = new DOMParser().parseFromString(await response.text(), "text/html");
  earliest = performance.now() + Math.max(LEAST, SHARE * (performance.now() - begun));
  if (!response.ok || response.redirected || asked !== location.href) return;
  for (const shown of parts()) {
    const fresh = now.getElementById(shown.id);
    if (!fresh || shown.innerHTML === fresh.innerHTML || isInUse(shown)) continue;
    shown.replaceWith(fresh);
    window.htmx?.process(fresh);
  }
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
  const shown = [...document.querySelectorAll("[data-host]")];
  if (!heard || shown.some((row) => heard.has(row.dataset.host))) soon();
});
