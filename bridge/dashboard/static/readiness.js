// Whether a protocol can be switched off, and who would be lost.

import { PROTOCOLS, bar, figure, h, panel, protocol, table } from "./dom.js";
import { count, minute, percent, plural, short, sums } from "./words.js";

const WINDOWS = { "7d": "7 days", "14d": "14 days", "30d": "30 days", "90d": "90 days" };
// What stands between backticks is a word of ours.
const coded = (text) => text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
const chosen = { protocol: "x402-v1", window: "14d" };

export async function readiness({ ask, about, state, again, asked }) {
  if (state.protocol) chosen.protocol = state.protocol;
  // A span that was chosen by its days is taken; else the window, which ends now or where the record does.
  const edges = state.range === "own" || state.range === "all" ? (Object.keys(asked).length ? asked : await recorded(ask)) : { window: chosen.window };
  const [found, journeys] = await Promise.all([
    ask("readiness", { ...edges, protocol: chosen.protocol, limit: 50 }),
    ask("journeys", { ...edges, limit: 1 }),
  ]);
  return [
    choice(state, again),
    verdict(found, about),
    h("div", { class: "columns" }, groups("Routes", "Route", found.routes, about), groups("Client products", "Client", found.clients, about)),
    left(found, about),
    moves(journeys.summary),
  ];
}

async function recorded(ask) {
  const span = await ask("recorded");
  return span ? { since: span.since, until: span.until } : { window: chosen.window };
}

function choice(state, again) {
  const pick = (name, label, options, fixed) => h("label", {}, h("span", {}, label),
    h("select", { id: `ready-${name}`, disabled: fixed, onchange: (event) => { chosen[name] = event.target.value; again(event.target.id); } },
      options.map(([value, text]) => h("option", { value, selected: value === chosen[name] }, text))));
  const fixed = state.range === "own" || state.range === "all";
  return h("div", { class: "choice", role: "group", "aria-label": "What would be switched off" },
    pick("protocol", "Protocol", PROTOCOLS.map((name) => [name, name]), Boolean(state.protocol)),
    fixed ? h("p", { class: "note" }, "Over the time that is chosen above.") : pick("window", "By the last", Object.entries(WINDOWS)),
    state.route || state.network || state.product ? h("p", { class: "note" }, "Route, network and client filters do not narrow this: who is lost is lost on every route.") : null);
}

function verdict(found, about) {
  const money = sums(found.revenue_per_day, about.tokens);
  const known = found.gaps.length ? "As far as the record goes: " : "";
  return panel(`Switching ${found.protocol} off today`,
    found.gaps.length ? h("p", { class: "verdict warn" }, h("strong", {}, "The record does not cover this window. "), found.gaps.map((gap) => h("span", { class: "line" }, coded(gap.detail)))) : null,
    h("p", { class: `verdict ${found.gaps.length || (found.payments && found.stage !== "refused") ? "warn" : "good"}` }, known, said(found, money)),
    h("dl", { class: "figures" },
      figure("Payers left", count(found.payers), `${percent(found.share_of_payers)} of ${count(found.all_payers)}`),
      figure("Moved already", count(found.moved), "have paid in another protocol too"),
      figure("Payments", count(found.payments), `${percent(found.share_of_payments)} of ${count(found.all_payments)}`),
      figure("Refused", count(found.refused), found.stage ? `by levers; it is ${found.stage} on every route` : "by levers"),
      figure("Revenue a day", money.length ? money.map((line) => h("span", { class: "line" }, line)) : "none")),
    h("h4", {}, "What to do next"), h("ul", { class: "steps" }, found.next.slice(found.gaps.length).map((step) => h("li", {}, coded(step)))));
}

function said(found, money) {
  const strong = (text) => h("strong", {}, text);
  const time = `from ${minute(found.since)} to ${minute(found.until)} UTC`;
  if (!found.payments) return `Switching ${found.protocol} off today loses nobody who paid ${time}.`;
  const loss = [strong(plural(found.payers, "payer")), money.length ? [" and ", strong(`${money.join(" + ")} a day`)] : ""];
  const also = found.moved ? ` ${count(found.moved)} of them ${found.moved === 1 ? "has" : "have"} already paid in another protocol.` : " None of them has paid in another protocol yet.";
  if (found.stage === "refused") return [`${found.protocol} is switched off already. Before that, ${time}, it had `, loss, ".", also];
  return [`Switching ${found.protocol} off today loses `, loss, ".", also];
}

function groups(title, heading, rows, about) {
  const most = Math.max(0, ...rows.map((row) => row.payments));
  return panel(title, table(`${title} that would lose payments`, [[heading], ["Payers", "number"], ["Payments", "number"], ["Revenue", "number"], ["", "wide"]],
    rows.slice(0, 50).map((row) => [row.name || "not known", count(row.payers), count(row.payments),
      sums(row.revenue, about.tokens).map((line) => h("span", { class: "line" }, line)), bar(row.payments, most, "warn")]), { shown: false, empty: "None." }));
}

function left(found, about) {
  return panel("Who is left",
    found.payers > found.left.length ? h("p", { class: "note" }, `The ${found.left.length} with the most payments, of ${plural(found.payers, "payer")}.`) : null,
    table(`Payers who still pay in ${found.protocol}`, [["Payer"], ["Payments", "number"], ["Revenue", "number"], ["Last (UTC)"], ["Has also paid in"]],
      found.left.map((one) => [h("code", { title: one.payer }, short(one.payer)), count(one.payments), sums(one.revenue, about.tokens).map((line) => h("span", { class: "line" }, line)),
        minute(one.last_at), one.also.length ? one.also.map((name) => h("span", { class: "line" }, protocol(name))) : "nothing else"]),
      { shown: false, empty: `Nobody paid in ${found.protocol} in this time.` }),
    found.unnamed_payments ? h("p", { class: "note" }, `${plural(found.unnamed_payments, "payment")} had no payer that is known.`) : null);
}

function moves(summary) {
  const says = { single: "One protocol only", dual: "Several, side by side", switched: "Switched to a newer one", "fell-back": "Fell back to an older one" };
  const most = Math.max(0, ...Object.values(summary.paths));
  return panel("How payers move",
    h("p", { class: "note" }, `All ${plural(summary.payers, "payer")} of this time, by everything that is known of them.`),
    h("div", { class: "columns" },
      table("Which way payers took", [["Way"], ["Payers", "number"], ["", "wide"]], Object.entries(summary.paths).map(([path, payers]) => [says[path] ?? path, count(payers), bar(payers, most)])),
      table("Where payers were first, and are now", [["Protocol"], ["First seen", "number"], ["Ever paid in it", "number"], ["Now", "number"]],
        PROTOCOLS.map((name) => [protocol(name), count(summary.first_seen[name]), count(summary.seen[name]), count(summary.now[name])]))));
}
