// Runs before the first paint, so that a chosen theme does not flash: no module, and nothing else is here.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("wxproxy.theme");
  } catch {
    // Storage is off: the system's theme.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
