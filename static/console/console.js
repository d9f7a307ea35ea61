// What every page does beside its HTML: copying, ages of times, the menu, the live mark. All pages work without it.

const ago = (seconds) => {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return seconds >= 5 ? `${seconds} s ago` : "just now";
};

const tell = () => {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    time.textContent = ago(Math.max(0, Math.floor((Date.now() - Date.parse(time.dateTime)) / 1000)));
  }
};
setInterval(tell, 10_000);

const copy = async (button) => {
  const source = document.getElementById(button.dataset.copy);
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(source); // no clipboard without HTTPS: one keystroke is left
    button.textContent = "Press Ctrl-C";
  }
  setTimeout(() => { button.textContent = label; }, 1500);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

const LIVE = { connected: "live", waiting: "connecting", "signed-out": "signed out" };

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
