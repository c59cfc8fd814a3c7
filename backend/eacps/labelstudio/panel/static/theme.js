// Light or dark: as the browser says, or as somebody chose here.

const KEY = "eacps-panel-theme";
const THEMES = ["auto", "light", "dark"];

/** Applies what was chosen before, if the browser lets us remember it. */
export function restoreTheme() {
  apply(stored());
}

/** Takes the next theme; returns its name. */
export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length];
  apply(next);
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // A browser may forbid that to framed pages.
  }
  return next;
}

/** The theme in use. */
export function current() {
  return document.documentElement.dataset.theme ?? "auto";
}

function apply(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function stored() {
  try {
    const found = localStorage.getItem(KEY);
    return THEMES.includes(found) ? found : "auto";
  } catch {
    return "auto";
  }
}
