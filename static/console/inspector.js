// The live tail of the Inspector: rows on top of those that the page came with, at most MOST of them.

import { t } from "./words.js";

const MOST = 500;
const FLASH_MOST = 3; // of one update: more at once can't be followed by eye, and cost the browser all its time

const find = (name) => document.querySelector(`[data-inspector-${name}]`);
const rows = find("rows");
const filters = find("filters");
const blank = find("row").content.firstElementChild;
const reasons = JSON.parse(document.getElementById("reasons").textContent);
const number = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium", timeZone: rows.dataset.zone });

let paused = false;
let waiting = []; // what came while paused
let dropped = 0;
let wasConnected = false;

// --- rows

const STATUS = { stored: t("stored"), held: t("held"), rejected: t("rejected"), duplicate: t("duplicate") };

function makeRow(message) {
  const row = blank.cloneNode(true);
  const put = (cell, text) => { row.querySelector(`[data-cell="${cell}"]`).textContent = text ?? ""; };
  const reason = reasons[message.reason] ?? message.reason;
  row.dataset.status = message.status;
  put("time", clock.format(Date.parse(message.at)));
  put("status", STATUS[message.status] ?? message.status);
  put("device", message.device);
  put("channel", message.channel);
  put("summary", message.value || t("(empty)"));
  put("value", message.value);
  put("more", [message.tag && t("Tag {tag}.", { tag: message.tag }), message.kind && t("From: {source}.", { source: message.kind }), reason, message.detail].filter(Boolean).join(" "));
  const topic = intakeTopic(message);
  const intake = row.querySelector('[data-cell="intake"]');
  intake.hidden = !topic;
  intake.querySelector("a").search = new URLSearchParams({ topic });
  const from = intakeNumber(message);
  const own = row.querySelector('[data-cell="own-intake"]');
  own.hidden = !from;
  own.querySelector("a").pathname = `/intakes/${from}/`;
  row.querySelector(".badge").classList.add(`badge-${message.status}`);
  row.hidden = !matches(row, asked());
  return row;
}

function intakeTopic({ reason, kind }) { // for_intake() of console/rejection_texts.py
  if (!kind?.includes("/") || kind.includes(" ") || kind.startsWith("/")) return "";
  const fits = reason === "UNKNOWN_TOPIC" || (reason === "AUTH_REQUIRED" && !kind.startsWith("TOKEN/"));
  return fits ? kind.replace(/^TOKEN\//, "") : "";
}

function intakeNumber({ kind }) { // of_intake() of console/rejection_texts.py
  return Number(/^intake (\d{1,9})(?:: |$)/.exec(kind ?? "")?.[1] ?? 0);
}

function makeGap() {
  const row = document.createElement("tr");
  const cell = document.createElement("td");
  cell.colSpan = 5;
  cell.className = "small muted";
  cell.textContent = t("The connection was lost for a while: messages that came meanwhile are missing here.");
  row.append(cell);
  row.dataset.gap = "";
  return row;
}

function show(made) {
  if (made.length <= FLASH_MOST) for (const row of made) row.classList.add("flash");
  rows.prepend(...made.reverse());
  while (rows.children.length > MOST) rows.lastElementChild.remove();
  tidy();
}

// --- filters

function asked() {
  const data = new FormData(filters);
  return Object.fromEntries(["status", "device", "text"].map((name) => [name, data.get(name).trim().toLowerCase()]));
}

const has = (row, cells, text) =>
  cells.some((cell) => row.querySelector(`[data-cell="${cell}"]`).textContent.toLowerCase().includes(text));

function matches(row, wanted) {
  return (!wanted.status || row.dataset.status === wanted.status)
    && has(row, ["device"], wanted.device)
    && has(row, ["value", "more"], wanted.text);
}

function filter() {
  const wanted = asked();
  for (const row of rows.children) row.hidden = "gap" in row.dataset ? false : !matches(row, wanted);
  tidy();
}

function tidy() {
  const shown = rows.querySelector("tr:not([hidden])") !== null;
  rows.parentElement.hidden = !shown;
  find("empty").hidden = shown;
  find("nothing").textContent = rows.firstElementChild ? t("Nothing here matches.") : t("Nothing has come yet.");
}

// --- what comes

function come(messages) {
  if (!paused) {
    show(messages.map(makeRow));
    return;
  }
  waiting.push(...messages);
  dropped += Math.max(0, waiting.length - MOST);
  waiting = waiting.slice(-MOST);
  tell();
}

function pause(on) {
  paused = on;
  find("pause").textContent = on ? t("Resume") : t("Pause");
  const messages = waiting;
  waiting = [];
  if (messages.length) show(messages.map(makeRow));
  tell();
}

function tell() {
  find("note").textContent = paused ? t("Paused, {count} new", { count: number.format(waiting.length) }) : "";
  find("dropped").textContent = dropped ? t("{count} more than could be shown", { count: number.format(dropped) }) : "";
}

function clear() {
  rows.replaceChildren();
  waiting = [];
  dropped = 0;
  tell();
  tidy();
}

// --- the page

document.addEventListener("live:update", ({ detail }) => {
  dropped += detail.dropped;
  come(detail.messages);
  tell();
});

document.addEventListener("live:state", ({ detail }) => {
  find("state").hidden = false;
  if (detail === "connected" && wasConnected) show([makeGap()]);
  wasConnected ||= detail === "connected";
});

document.addEventListener("keydown", (event) => {
  if (event.key !== " " || event.target.closest("input, select, textarea, button, summary, a")) return;
  event.preventDefault();
  pause(!paused);
});

rows.addEventListener("click", (event) => {
  const details = event.target.closest("tr")?.querySelector("details");
  if (!details || event.target.closest("details, a") || String(getSelection())) return;
  details.open = !details.open;
});

find("pause").addEventListener("click", () => pause(!paused));
find("clear").addEventListener("click", clear);
filters.addEventListener("input", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.querySelector("button").hidden = true;
find("controls").hidden = false;
filter();
