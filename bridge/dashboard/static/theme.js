// Before anything is drawn, so that nothing flashes. Kept in this browser only.
"use strict";
(() => {
  const root = document.documentElement;
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* a browser may refuse */ }
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
})();
