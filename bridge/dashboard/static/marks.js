// Levers that were moved, as marks on charts and as a list below them.

import { h } from "./dom.js";
import { minute } from "./words.js";

/** What happened to a lever, in words. */
export function moved(mark) {
  const { before, share } = mark.detail;
  const where = mark.route === "*" ? "on every route" : `on ${mark.route}`;
  return `${mark.protocol} ${before ? `${before} → ` : ""}${mark.stage}${share ? ` ${share} %` : ""} ${where}`;
}

/** The marks of levers that concern what is shown, numbered. */
export function marksOf(marks, state) {
  return marks
    .filter((mark) => mark.event === "lever.changed")
    .filter((mark) => (!state.protocol || mark.protocol === state.protocol) && (!state.route || mark.route === "*" || mark.route === state.route))
    .map((mark, place) => ({ at: mark.at, number: String(place + 1), label: moved(mark) }));
}

export function marksList(marks) {
  if (!marks.length) return null;
  return h("details", { class: "behind" }, h("summary", {}, `${marks.length === 1 ? "One lever was" : `${marks.length} levers were`} moved in this time`),
    h("ol", { class: "marks" }, marks.map((mark) => h("li", {}, h("time", {}, `${minute(mark.at)} UTC`), ` ${mark.label}`))));
}
