// What every page does beside its HTML: copying, ages of times, the menu, the live mark. All pages work without it.

import { t } from "./words.js";

const NOW = 5; // seconds

const ago = (seconds) => {
  for (const [size, unit] of [[86400, t("d")], [3600, t("h")], [60, t("min")], [1, t("s")]]) {
    if (Math.abs(seconds) < Math.max(size, NOW)) continue;
    const count = Math.floor(Math.abs(seconds) / size);
    return seconds > 0 ? t("{count} {unit} ago", { count, unit }) : t("in {count} {unit}", { count, unit });
  }
  return t("just now");
};

const tell = () => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    time.textContent = ago(Math.trunc((Date.now() - Date.parse(time.dateTime)) / 1000));
  }
};
setInterval(tell, 10_000);

const copy = async (button) => {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = t("Copied");
  } catch {
    getSelection().selectAllChildren(source); // no clipboard without HTTPS: one keystroke is left
    button.textContent = t("Press Ctrl-C");
  }
  setTimeout(() => { button.textContent = label; }, 1500);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

// On a phone the menu is wider than the screen: the page that is shown is in sight.
const current = document.querySelector(".nav [aria-current]");
const menu = current?.closest("nav");
if (menu) menu.scrollLeft = current.offsetLeft - (menu.clientWidth - current.offsetWidth) / 2;

// htmx has no word for an answer that is none.
const complain = (text, place) => {
  const list = document.querySelector(".messages") ?? document.createElement("ul");
  list.className = "messages";
  list.setAttribute("aria-live", "polite");
  const item = document.createElement("li");
  item.className = "note note-bad";
  item.textContent = text;
  if (place) {
    const link = document.createElement("a");
    link.href = place;
    link.textContent = t("Sign in");
    item.append(" ", link);
  }
  list.replaceChildren(item);
  document.querySelector("main").prepend(list);
};

const signIn = () => `/signin/?next=${encodeURIComponent(location.pathname + location.search)}`;
document.addEventListener("htmx:responseError", ({ detail }) => {
  if (detail.xhr.status === 401) complain(t("You are signed out. What you have typed is still here: sign in in another tab, then go on."), signIn());
  else complain(t("The server answered with status {status}. Try again.", { status: detail.xhr.status }));
});
document.addEventListener("htmx:sendError", () => complain(t("The server can't be reached. Try again.")));

const LIVE = { connected: t("live"), waiting: t("connecting"), "signed-out": t("signed out") };

document.addEventListener("live:state", (event) => {
  for (const mark of document.querySelectorAll("[data-live-state]")) {
    mark.hidden = false;
    mark.dataset.state = event.detail;
    mark.textContent = LIVE[event.detail];
  }
});

// Pages that must ask before a button does its work without a page of its own in between.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
