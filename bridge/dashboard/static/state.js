// What is shown: the section, the span and the filters, all in the part of the URL behind the #, so that it can be sent.

export const RANGES = { "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", all: "All", own: "From … to …" };
export const FILTERS = ["protocol", "route", "network", "product"];

const DEFAULTS = { range: "30d", since: "", until: "", protocol: "", route: "", network: "", product: "" };

/** The section and the rest, as the URL says. */
export function read() {
  const [name, query] = location.hash.slice(1).split("?");
  const asked = new URLSearchParams(query ?? "");
  const state = Object.fromEntries(Object.entries(DEFAULTS).map(([key, value]) => [key, asked.get(key) ?? value]));
  if (!(state.range in RANGES)) state.range = DEFAULTS.range;
  return { section: name, ...state };
}

/** The part of a URL behind the # that leads there. */
export function address(section, state) {
  const said = Object.entries(DEFAULTS).filter(([key, value]) => state[key] && state[key] !== value).map(([key]) => [key, state[key]]);
  const query = new URLSearchParams(said).toString();
  return `#${section}${query ? `?${query}` : ""}`;
}

/** The span as the questions take it. */
export function span(state) {
  if (state.range === "all") return {};
  if (state.range === "own") {
    const asked = {};
    if (state.since) asked.since = state.since;
    // Until the end of that day.
    if (state.until) asked.until = new Date(Date.parse(`${state.until}T00:00:00Z`) + 86_400_000).toISOString().slice(0, 10);
    return asked;
  }
  return { window: state.range };
}

/** The filters as the questions take them. */
export const filters = (state) => Object.fromEntries(FILTERS.filter((name) => state[name]).map((name) => [name, state[name]]));
