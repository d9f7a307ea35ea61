// Publish: the search adds to the list of device ids, and the payload is looked at while it is typed.

import { t } from "./words.js";

const search = document.querySelector("[data-publish-find]");
const found = search.querySelector("input");
const list = document.querySelector("[name=devices]");
const payload = document.querySelector("[name=payload]");
const note = document.querySelector("[data-publish-json]");
const PAIRS = /^\s*([0-9a-f]{2}\s*)*$/i;

// A choice from the list comes as a whole id at once; Enter takes what was typed.
function take() {
  const id = found.value.trim();
  if (!id) return;
  const ids = list.value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!ids.includes(id)) ids.push(id);
  list.value = ids.join("\n");
  found.value = "";
}

function isOffered() {
  return [...search.querySelectorAll("option")].some((option) => option.value === found.value);
}

function look() {
  const format = document.querySelector("[name=format]:checked")?.value;
  if (!payload.value.trim()) {
    note.textContent = t("The payload is empty.");
  } else if (format === "hex") {
    note.textContent = PAIRS.test(payload.value) ? "" : t("Hex digits come in pairs, such as 0a ff 10.");
  } else {
    note.textContent = isJson(payload.value) ? t("The payload is valid JSON.") : t("The payload is not JSON: it is sent as it is.");
  }
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

found.addEventListener("input", (event) => {
  if (event.inputType !== "insertText" && isOffered()) take();
});
found.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  take();
});
payload.form.addEventListener("input", look);
search.hidden = false;
look();
