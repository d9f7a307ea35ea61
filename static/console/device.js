// The page of a device: its messages as they land, and the token in the commands. Without it: reload.

import { t } from "./words.js";

const ROWS = 50;
const FLASH_MOST = 3; // of one update: each animation costs the browser, and more can't be followed by eye
const list = document.getElementById("messages");
const id = list.dataset.device;
const clock = new Intl.DateTimeFormat("sv-SE", { // which writes 2026-01-31 13:45:30
  timeZone: list.dataset.zone, dateStyle: "short", timeStyle: "medium",
});

const row = (message) => {
  const made = document.getElementById("message").content.cloneNode(true);
  const time = made.querySelector("time");
  time.dateTime = message.at;
  time.textContent = clock.format(new Date(message.at));
  made.querySelector("[data-tag]").textContent = message.tag ?? "";
  made.querySelector("code").textContent = message.value;
  mark(made.querySelector(".badge"), message);
  return made;
};

const STATUS = { held: t("held"), rejected: t("rejected"), duplicate: t("duplicate"), state: t("state") };

const mark = (badge, { status, kind, reason }) => {
  const word = status === "stored" && kind === "state" ? "state" : status;
  badge.hidden = word === "stored";
  badge.textContent = STATUS[word] ?? word;
  badge.title = reason ?? "";
  badge.classList.toggle("badge-warn", word === "held");
  badge.classList.toggle("badge-bad", word === "rejected");
};

const seen = (count) => {
  const stats = document.querySelector(".stats");
  const messages = stats.querySelector("[data-count]");
  messages.dataset.count = Number(messages.dataset.count) + count;
  messages.textContent = Number(messages.dataset.count).toLocaleString("en");
  const time = document.createElement("time");
  time.dateTime = new Date().toISOString();
  time.dataset.ago = "";
  time.textContent = t("just now");
  stats.querySelector("[data-seen]").replaceChildren(time);
};

document.addEventListener("live:update", ({ detail }) => {
  const messages = detail.messages.filter((message) => message.device === id);
  if (!messages.length) return;
  seen(messages.length);
  list.querySelector("table").hidden = false;
  list.querySelector(".empty")?.remove();
  const body = list.querySelector("tbody");
  const made = messages.slice(-ROWS).map(row);
  if (made.length > FLASH_MOST) for (const each of made) each.firstElementChild.classList.remove("flash");
  body.prepend(...made.reverse());
  while (body.rows.length > ROWS) body.lastElementChild.remove();
});

const reveal = document.querySelector("[data-reveal]");
reveal.hidden = false;
reveal.addEventListener("click", () => {
  const shown = reveal.getAttribute("aria-pressed") !== "true";
  reveal.setAttribute("aria-pressed", String(shown));
  reveal.textContent = shown ? t("Hide the token") : t("Show the token");
  for (const text of document.querySelectorAll("#send [data-masked]")) text.hidden = shown;
  for (const text of document.querySelectorAll("#send [data-full]")) text.hidden = !shown;
});
