// Before anything is drawn, so that the page does not flash in the other look.
try {
  const chosen = localStorage.getItem("mlxserve.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is switched off: the system's look.
}
