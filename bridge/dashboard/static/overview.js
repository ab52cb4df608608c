// How much, in which protocol, and how far requests get.

import { stacked } from "./charts.js";
import { PROTOCOLS, bar, figure, h, panel, protocol, table } from "./dom.js";
import { marksOf, marksList } from "./marks.js";
import { assetName, count, day, milliseconds, minute, percent, plural, sum, sums, tokenOf } from "./words.js";

const DAY = 86_400;

export async function overview({ ask, state, about, asked, filters, go }) {
  const report = await ask("report", { ...asked, ...filters });
  const length = report.until - report.since;
  const step = length <= 3 * DAY ? "1h" : length <= 100 * DAY ? "1d" : "7d";
  const edges = { since: report.since, until: report.until };
  const [steps, marks] = await Promise.all([ask("shares", { ...edges, ...filters, step }), ask("marks", edges)]);
  if (!report.total.challenged && !report.total.attempted && !report.total.settled) return [nothing(report, go)];
  const shown = PROTOCOLS.filter((name) => !state.protocol || state.protocol === name);
  const moved = marksOf(marks, state);
  return [
    figures(report, about),
    shares(steps, shown, moved),
    ...await revenue({ ask, steps, shown, marks: moved, report, about, asked: { ...edges, ...filters, step } }),
    funnel(report),
    byProtocol(report, about),
  ];
}

function nothing(report, go) {
  if (report.recorded_since === null) return h("p", { class: "empty" }, "No events are recorded yet. They appear here as soon as a priced route is asked for.");
  return h("div", { class: "empty" },
    h("p", {}, `No events from ${minute(report.since)} to ${minute(report.until)} UTC with these filters. Events are recorded since ${day(report.recorded_since)}.`),
    h("button", { type: "button", onclick: () => go({ range: "all" }) }, "Show all that is recorded"));
}

function figures({ total, unidentified }, about) {
  const money = sums(total.revenue, about.tokens);
  return panel("At a glance", h("dl", { class: "figures" },
    figure("Revenue", money.length ? money.map((line) => h("span", { class: "line" }, line)) : "none"),
    figure("Payments", count(total.settled), "whose money moved"),
    figure("Payers", count(total.payers)),
    figure("Paid of what was asked", percent(total.conversion), `${count(total.delivered)} delivered of ${count(total.challenged)} challenges`),
    figure("Failed", count(total.failed), `of ${plural(total.attempted, "attempt")}`),
    figure("Never said what they are", count(unidentified), "unpaid requests")));
}

function shares(steps, shown, marks) {
  const whole = (place) => shown.reduce((sum_, name) => sum_ + steps[place].protocols[name].settled, 0);
  const series = shown.map((name) => ({
    name, css: `--p-${name}`, dot: `p-${name}`,
    values: steps.map((step, place) => (whole(place) ? step.protocols[name].settled / whole(place) : null)),
  }));
  return panel("Share of each protocol",
    h("p", { class: "note" }, "Of the payments whose money moved."),
    stacked({
      title: "Share of each protocol", steps, series, marks, top: 1, axis: (value) => `${Math.round(100 * value)} %`,
      say: (value, place, one) => `${percent(value)} (${count(steps[place].protocols[one.name].settled)})`,
    }),
    marksList(marks),
    behind("Share of each protocol", [["From (UTC)"], ...shown.flatMap((name) => [[name, "number"], ["share", "number"]])],
      steps.filter((_, place) => whole(place)).map((step) => [minute(step.since),
        ...shown.flatMap((name) => [count(step.protocols[name].settled), percent(step.shares[name])])])));
}

async function revenue({ ask, steps: all, shown, marks, report, about, asked }) {
  const assets = Object.keys(report.total.revenue);
  if (!assets.length) return [panel("Revenue", h("p", { class: "empty" }, "No money moved in this time."))];
  return Promise.all(assets.map(async (key) => {
    // An address that is on several networks stands with its network. A step with one of them alone would not say which.
    const cut = key.lastIndexOf("/");
    const asset = key.slice(cut + 1);
    const steps = cut < 0 ? all : await ask("shares", { ...asked, network: key.slice(0, cut), asset });
    const decimals = tokenOf(key, about.tokens)?.decimals ?? 0;
    const units = (figures_) => figures_.revenue[asset] ?? "0";
    const written = (figures_) => sum(key, units(figures_), about.tokens);
    const title = `Revenue in ${assetName(key, about.tokens)}`;
    return panel(title,
      h("p", { class: "note" }, "In all ", h("strong", {}, sum(key, report.total.revenue[key], about.tokens)),
        tokenOf(key, about.tokens) ? ", exact." : ", exact, in the token's atomic units: its decimals are not known here."),
      stacked({
        title, steps, marks, axis: (value) => compact(value),
        series: shown.map((one) => ({ name: one, css: `--p-${one}`, dot: `p-${one}`, values: steps.map((step) => Number(units(step.protocols[one])) / 10 ** decimals) })),
        say: (_, place, one) => written(steps[place].protocols[one.name]),
      }),
      behind(title, [["From (UTC)"], ...shown.map((one) => [one, "number"]), ["all", "number"]],
        steps.filter((step) => units(step.total) !== "0").map((step) => [minute(step.since), ...shown.map((one) => written(step.protocols[one])), written(step.total)])));
  }));
}

const compact = (value) => new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value);

function funnel({ total }) {
  const stages = [
    ["Challenged", total.challenged, "402 sent, with what to pay"],
    ["Tried to pay", total.attempted, "requests with a credential"],
    ["Paid", total.settled, "payments whose money moved"],
    ["Delivered", total.delivered, "answers that went out whole"],
  ];
  const most = Math.max(...stages.map(([, value]) => value));
  return panel("From challenge to delivery",
    table("From challenge to delivery", [["Stage"], ["How many", "number"], ["Went on", "number"], ["", "wide"]],
      stages.map(([name, value, what], place) => [
        [name, h("small", {}, what)], count(value),
        place && stages[place - 1][1] ? percent(value / stages[place - 1][1]) : "", bar(value, most, `f${place}`)]), { shown: false }),
    h("p", { class: "note" }, `${plural(total.failed, "attempt")} failed, ${count(total.replayed)} got a kept answer again.`,
      total.passed ? ` ${count(total.passed)} were passed on by a gateway that could not judge them.` : ""));
}

function byProtocol(report, about) {
  const rows = Object.entries(report.protocols).map(([name, own]) => [
    protocol(name), count(own.challenged), count(own.attempted), count(own.delivered), count(own.failed), count(own.payers),
    sums(own.revenue, about.tokens).map((line) => h("span", { class: "line" }, line)), ...["verify", "settle", "total"].map((what) => milliseconds(own.latency[what].p95))]);
  return panel("Protocols side by side",
    table("Protocols side by side", [["Protocol"], ["Offered", "number"], ["Tried", "number"], ["Delivered", "number"], ["Failed", "number"], ["Payers", "number"],
      ["Revenue", "number"], ["Verify p95", "number"], ["Settle p95", "number"], ["Total p95", "number"]], rows, { shown: false }));
}

/** A table that stands behind a chart. */
function behind(title, columns, rows) {
  return h("details", { class: "behind" }, h("summary", {}, "The figures as a table"), table(title, columns, rows, { shown: false, empty: "No payments in this time." }));
}
