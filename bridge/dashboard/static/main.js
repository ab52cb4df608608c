// The frame around the sections: where we are, what is chosen, and what went wrong.

import { Trouble, ask } from "./ask.js";
import { PROTOCOLS, h } from "./dom.js";
import { failures } from "./failures.js";
import { health } from "./health.js";
import { levers } from "./levers.js";
import { live } from "./live.js";
import { overview } from "./overview.js";
import { readiness } from "./readiness.js";
import { FILTERS, RANGES, address, filters, read, span } from "./state.js";
import { label, plural } from "./words.js";

const SECTIONS = {
  overview: ["Overview", overview], failures: ["Failures", failures], readiness: ["Readiness", readiness],
  levers: ["Levers", levers], live: ["Live", live], health: ["Health", health],
};
const LABELS = { protocol: "Protocol", route: "Route", network: "Network", product: "Client" };
const main = document.getElementById("main");
const status = document.getElementById("status");

let state = read();
let about = null;
let names = null;
let leaving = new AbortController();
let turn = 0;

const failed = (error) => (error instanceof Trouble ? error.message : `This page has a fault: ${error}`);

function go(change) {
  const next = { ...state, ...change };
  const target = address(next.section, next);
  if (location.hash === target) show();
  else location.hash = target;
}

function drawSections() {
  document.getElementById("sections").replaceChildren(...Object.entries(SECTIONS).map(([name, [title]]) =>
    h("li", {}, h("a", { href: address(name, state), "aria-current": name === state.section ? "page" : null }, title))));
}

function drawFilters() {
  const kept = document.activeElement?.id;
  const range = h("label", {}, h("span", {}, "Time"), h("select", { id: "range", onchange: (event) => go({ range: event.target.value }) },
    Object.entries(RANGES).map(([value, text]) => h("option", { value, selected: value === state.range }, text))));
  const days = state.range !== "own" ? [] : ["since", "until"].map((name) => h("label", {}, h("span", {}, name === "since" ? "From (UTC)" : "To (UTC)"),
    h("input", { type: "date", id: name, value: state[name], onchange: (event) => go({ [name]: event.target.value }) })));
  const values = { protocol: PROTOCOLS, route: names?.route ?? [], network: names?.network ?? [], product: names?.product ?? [] };
  const choices = FILTERS.map((name) => {
    const options = [...new Set([...values[name], ...(state[name] ? [state[name]] : [])])];
    return h("label", {}, h("span", {}, LABELS[name]), h("select", { id: name, class: state[name] ? "set" : null, onchange: (event) => go({ [name]: event.target.value }) },
      h("option", { value: "" }, "All"), options.map((value) => h("option", { value, selected: value === state[name] }, networkName(name, value)))));
  });
  const some = FILTERS.some((name) => state[name]);
  const form = document.getElementById("filters");
  form.replaceChildren(range, ...days, ...choices,
    h("button", { type: "button", id: "clear", hidden: !some, onclick: () => go(Object.fromEntries(FILTERS.map((name) => [name, ""]))) }, "Clear filters"),
    h("button", { type: "button", id: "refresh", onclick: () => show() }, "Refresh"));
  if (kept) document.getElementById(kept)?.focus();
}

function networkName(name, value) {
  if (name !== "network") return value;
  const known = about?.tokens.find((token) => token.network === value)?.network_name;
  return known ? `${known} (${value})` : value;
}

async function show(focus) {
  leaving.abort();
  leaving = new AbortController();
  const mine = ++turn;
  state = read();
  if (!(state.section in SECTIONS)) state.section = "overview";
  const [title, draw] = SECTIONS[state.section];
  document.title = `${title} · Payments`;
  drawSections();
  main.setAttribute("aria-busy", "true");
  status.textContent = "Loading…";
  let parts;
  try {
    about ??= await ask("about");
    names ??= await ask("names");
    label(about.tokens, names.asset);
    drawFilters();
    const asked = span(state);
    // Every answer with figures says how many events they lack.
    let dropped = 0;
    const noting = async (...question) => {
      const answer = await ask(...question);
      dropped = Math.max(dropped, answer?.dropped ?? 0);
      return answer;
    };
    [parts, names] = await Promise.all([
      draw({ ask: noting, about, state, asked, filters: filters(state), signal: leaving.signal, failed, again: show, go }), ask("names")]);
    // Somebody new may be among them.
    label(about.tokens, names.asset);
    if (mine === turn) drawFilters();
    if (dropped && state.section !== "health") parts = [warning(dropped), ...parts];
    if (mine === turn) status.textContent = `As of ${new Date().toISOString().slice(11, 19)} UTC`;
  } catch (error) {
    if (!(error instanceof Trouble)) console.error(error);
    drawFilters();
    parts = [h("div", { class: "trouble", role: "alert" }, h("p", {}, failed(error)), h("button", { type: "button", onclick: () => show() }, "Try again"))];
    if (mine === turn) status.textContent = "";
  }
  // Somebody has gone on meanwhile.
  if (mine !== turn) return;
  main.replaceChildren(h("h2", {}, title), ...parts.filter(Boolean));
  main.dataset.shown = `${state.section} ${turn}`;
  main.removeAttribute("aria-busy");
  if (focus) document.getElementById(focus)?.focus();
}

function warning(dropped) {
  return h("p", { class: "warning", role: "note" }, `${plural(dropped, "event")} of this time ${dropped === 1 ? "was" : "were"} dropped: the figures lack them. `,
    h("a", { href: address("health", state) }, "More under Health"));
}

function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const tell = () => { button.textContent = now() === "dark" ? "Light" : "Dark"; button.setAttribute("aria-label", `Switch to ${now() === "dark" ? "light" : "dark"} colours`); };
  button.addEventListener("click", () => {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser may refuse */ }
    tell();
    show();
  });
  dark.addEventListener("change", () => { tell(); show(); });
  tell();
}

document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", () => show());
theme();
show().then(() => { if (about) document.getElementById("foot").textContent = `x402-mpp-bridge ${about.version}. Times are UTC; sums are exact.`; });
