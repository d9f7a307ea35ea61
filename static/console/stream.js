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
