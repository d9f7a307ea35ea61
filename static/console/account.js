// Passwords that can be shown, and the browser's time zone as the one to begin with. Forms work without it.

import { t } from "./words.js";

for (const input of document.querySelectorAll("input[data-show]")) {
  const row = document.createElement("div");
  row.className = "with-button";
  input.replaceWith(row);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.textContent = t("Show");
  button.setAttribute("aria-label", t("Show the password"));
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.textContent = shown ? t("Hide") : t("Show");
    button.setAttribute("aria-pressed", String(shown));
  });
  input.form?.addEventListener("submit", () => { input.type = "password"; });
  row.append(input, button);
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const select of document.querySelectorAll("select[data-browser-zone]")) {
  if ([...select.options].some((option) => option.value === zone)) select.value = zone;
}
