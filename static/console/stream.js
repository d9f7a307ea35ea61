// The stream page's form follows the charts: who zooms in sees the range in the boxes.

const form = document.getElementById("range");
const zone = document.querySelector(".charts").dataset.zone;
const parts = new Intl.DateTimeFormat("sv-SE", {
  timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit",
  hour: "2-digit", minute: "2-digit", second: "2-digit",
});

const local = (milliseconds) => parts.format(new Date(milliseconds)).replace(" ", "T");

document.addEventListener("chart:range", ({ detail }) => {
  form.elements.start.value = local(detail.start);
  form.elements.end.value = local(detail.end);
});

const source = document.getElementById("source");
source.addEventListener("focus", () => source.select());
source.addEventListener("change", () => source.form.requestSubmit());

// What the chart has just shown anew stands in the table and the totals, too: they are taken from the page as it is
// now. Not while somebody reads an older page, or has marked or reached something in the table.
const LEAST = 2_000; // milliseconds between two
let waiting = null;

const isInUse = (part) => part.contains(document.activeElement)
  || (!getSelection().isCollapsed && getSelection().containsNode(part, true));

async function follow() {
  const response = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
  if (!response.ok || response.redirected) return; // the chart says why
  const now = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ["totals", "data"]) {
    const [shown, fresh] = [document.getElementById(id), now.getElementById(id)];
    if (shown && fresh && shown.innerHTML !== fresh.innerHTML && !isInUse(shown)) shown.replaceWith(fresh);
  }
}

document.addEventListener("chart:refreshed", () => {
  if (waiting || new URLSearchParams(location.search).has("before")) return;
  waiting = setTimeout(async () => {
    try {
      await follow();
    } catch {
      // the chart says that the server is away
    }
    waiting = null;
  }, LEAST);
});
