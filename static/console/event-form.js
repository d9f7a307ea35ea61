// The form of an event: a rhythm that was found is taken over with a click. The form works without it.

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-fill-period]");
  if (!button) return;
  for (const name of ["period", "grace"]) {
    const input = document.querySelector(`[name=${name}]`);
    input.value = button.dataset[`fill${name[0].toUpperCase()}${name.slice(1)}`];
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  document.querySelector("[name=period]").focus();
});
