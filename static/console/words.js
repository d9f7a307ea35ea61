// The texts of scripts in the language of the page. English ones are the keys; words-ja.js, which a page in Japanese
// loads before all others, has the rest. `make translations` writes it.

export const t = (text, values = {}) => (globalThis.words?.[text] ?? text)
  .replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
