// Elements from values. Every text goes in as text: what clients call themselves is theirs to choose.

/** An element; children are nodes, texts, lists of them, or nothing. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A table with a caption; columns are [heading, "number"?], a row is a list of cells, the first of which names it. */
export function table(caption, columns, rows, { shown = true, empty = "Nothing." } = {}) {
  if (!rows.length) return h("p", { class: "empty" }, empty);
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: shown ? null : "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, place) => place === 0
        ? h("th", { scope: "row" }, cell)
        : h("td", { class: columns[place][1] }, cell)))))));
}

/** A part of a page with a heading. */
export function panel(title, ...children) {
  const id = `h-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h3", { id }, title), ...children);
}

/** One figure with its name; sums need more room. */
export function figure(name, value, note) {
  return h("div", { class: `figure${Array.isArray(value) ? " broad" : ""}` }, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, note) : null));
}

/** A bar as wide as its share of the most. */
export function bar(value, most, kind) {
  const fill = h("span", { class: `fill ${kind ?? ""}` });
  fill.style.width = `${most > 0 ? Math.max(value > 0 ? 1 : 0, (100 * value) / most) : 0}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, fill);
}

/** A protocol's name with its colour. */
export function protocol(name) {
  if (!name) return "not said";
  return h("span", { class: "protocol" }, h("span", { class: `dot p-${PROTOCOLS.includes(name) ? name : "none"}`, "aria-hidden": "true" }), name);
}

export const PROTOCOLS = ["x402-v1", "x402-v2", "mpp"];
