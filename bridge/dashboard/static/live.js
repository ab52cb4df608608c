// What happens now: asked for every two seconds, while somebody looks.

import { h, panel, protocol } from "./dom.js";
import { day, milliseconds, second, short, sum } from "./words.js";

const EVERY = 2000;
const MOST = 100;
const WORDS = {
  "payment.challenged": "asked to pay", "payment.verified": "verified", "payment.settled": "settled", "payment.delivered": "delivered", "payment.rejected": "refused",
  "payment.replayed": "answered again", "payment.reconciled": "cleared up", "payment.undelivered": "not delivered", "payment.unknown": "outcome unknown",
  "payment.passed": "passed on", "shadow.compared": "compared", "shadow.disagreed": "disagreed",
};
const BAD = new Set(["payment.rejected", "payment.undelivered", "payment.unknown", "shadow.disagreed"]);
let challenges = false;

export async function live({ ask, about, state, signal, failed }) {
  let last = 0;
  let paused = false;
  let rows = [];
  // Roles, because on a phone the rows are laid out as lines, and no browser takes those for a table.
  const body = h("tbody", { role: "rowgroup" });
  const note = h("p", { class: "note", role: "status" });
  const empty = h("p", { class: "empty" }, "Nothing yet. Payments appear here as they are recorded.");
  const grid = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Live tail of payments" }, h("table", { class: "tail", role: "table" },
    h("caption", { class: "unseen" }, "The latest events, the newest first"),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ["When (UTC)", "What", "Protocol", "Route", "Amount", "Payer", "Client", "Why", "Took"].map((name) => h("th", { scope: "col", role: "columnheader", class: ["Amount", "Took"].includes(name) ? "number" : null }, name)))), body));
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => { paused = !paused; pause.setAttribute("aria-pressed", String(paused)); pause.textContent = paused ? "Go on" : "Pause"; tell(); } }, "Pause");
  const all = h("label", { class: "check" }, h("input", { type: "checkbox", id: "challenges", checked: challenges, onchange: (event) => { challenges = event.target.checked; draw(); } }), " Show challenges too");

  const matches = ({ kind, dimensions }) => (challenges || kind !== "payment.challenged")
    && ["protocol", "route", "network", "product"].every((name) => !state[name] || dimensions[name] === state[name]);

  function draw() {
    const shown = rows.filter(({ fact }) => matches(fact)).slice(0, MOST);
    body.replaceChildren(...shown.map(({ fact }) => row(fact, about)));
    grid.hidden = !shown.length;
    empty.hidden = Boolean(shown.length);
  }
  const tell = () => { note.textContent = paused ? "Paused." : "Follows by itself."; };

  async function more() {
    const found = await ask("tail", last ? { after: last, limit: 500 } : { limit: 500 });
    if (!found.length) return;
    last = found[found.length - 1].id;
    rows = [...found.reverse(), ...rows].slice(0, 1000);
    draw();
  }

  async function follow() {
    while (!signal.aborted) {
      await new Promise((done) => { setTimeout(done, EVERY); });
      if (paused || document.hidden || signal.aborted) continue;
      try {
        await more();
        tell();
      } catch (error) {
        note.textContent = `${failed(error)} Trying again.`;
      }
    }
  }

  await more();
  draw();
  tell();
  follow();
  return [panel("Live tail", h("div", { class: "choice" }, pause, all, note), empty, grid)];
}

function row(fact, about) {
  const { dimensions: own, kind } = fact;
  const client = own.version ? `${own.product}/${own.version}` : own.product;
  const asset = own.asset && (own.asset.includes("/") ? own.asset : `${own.network}/${own.asset}`);
  const cell = (kind_, child) => h("td", { role: "cell", class: [kind_, child === "–" && "none"].filter(Boolean).join(" ") || null }, child);
  return h("tr", { role: "row", class: BAD.has(kind) ? "bad" : null },
    h("th", { scope: "row", role: "rowheader" }, second(fact.at).slice(11), h("small", {}, day(fact.at))),
    cell(null, h("span", { class: `what ${BAD.has(kind) ? "bad" : ""}` }, WORDS[kind] ?? kind)),
    cell(null, protocol(own.protocol)), cell(null, own.route || "–"),
    cell("number", own.asset && fact.amount !== "0" ? sum(asset, fact.amount, about.tokens) : "–"),
    cell(null, fact.payer ? h("code", { title: fact.payer }, short(fact.payer)) : "–"), cell(null, client || "–"),
    cell(null, fact.reason ? h("code", {}, fact.reason) : fact.outcome || "–"), cell("number", milliseconds(fact.milliseconds)));
}
