// The list of devices: last seen as it happens, and "select all". Without it the list works by reloading.

import { t } from "./words.js";

const FLASH_MOST = 3; // of one update: each animation costs the browser, and more can't be followed by eye

const heard = (row, flash) => {
  const seen = row.querySelector("[data-seen]");
  const time = document.createElement("time");
  time.dateTime = new Date().toISOString();
  time.dataset.ago = "";
  time.className = "nowrap";
  time.textContent = t("just now");
  seen.replaceChildren(time);
  seen.classList.remove("flash");
  if (!flash) return;
  void seen.offsetWidth; // so that the next line starts it anew
  seen.classList.add("flash");
};

document.addEventListener("live:update", ({ detail }) => {
  const devices = new Set(detail.devices);
  const rows = [...document.querySelectorAll("[data-device]")].filter((row) => devices.has(row.dataset.device));
  for (const row of rows) heard(row, rows.length <= FLASH_MOST);
});

const boxes = () => [...document.querySelectorAll("input[name=pk]")];

const show = () => {
  const all = document.querySelector("[data-select-all]");
  if (!all) return;
  const checked = boxes().filter((box) => box.checked).length;
  all.hidden = false;
  all.checked = checked > 0 && checked === boxes().length;
  all.indeterminate = checked > 0 && !all.checked;
};

document.addEventListener("change", ({ target }) => {
  if (target.matches("[data-select-all]")) {
    for (const box of boxes()) box.checked = target.checked;
  }
  show();
});
document.addEventListener("htmx:afterSwap", show);
show();
