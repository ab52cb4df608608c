// Whether a payment could be taken now, and whether the figures are whole.

import { figure, h, panel } from "./dom.js";
import { ago, count, minute, plural, second } from "./words.js";

const NAMES = { settler: "Settler", store: "Payment store", events: "Event store", recorder: "Recorder" };
const STATES = { ok: "answers", away: "does not answer", unknown: "not known here" };

export async function health({ ask, asked }) {
  const [{ parts, now }, recorded, report, tail] = await Promise.all([ask("health"), ask("recorded"), ask("report", asked), ask("tail", { limit: 500 })]);
  const settled = tail.filter(({ fact }) => fact.kind === "payment.settled").pop();
  return [
    panel("Parts", h("ul", { class: "parts" }, parts.map((part) => h("li", { class: `part ${part.state}` },
      h("h4", {}, h("span", { class: "light", "aria-hidden": "true" }), NAMES[part.name] ?? part.name, ": ", STATES[part.state] ?? part.state),
      part.detail ? h("p", {}, part.detail) : null,
      Object.keys(part.figures).length ? h("dl", { class: "small" }, Object.entries(part.figures).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, count(value))))) : null)))),
    panel("Are the figures whole?",
      h("p", { class: `verdict ${report.dropped ? "warn" : "good"}` }, report.dropped
        ? `${plural(report.dropped, "event")} of the time that is chosen ${report.dropped === 1 ? "was" : "were"} dropped, because too many came at once or the event store was away. The figures lack them; no payment was lost.`
        : "No event of the time that is chosen was dropped."),
      h("dl", { class: "figures" },
        figure("Dropped events", count(report.dropped)),
        figure("Recorded since", recorded ? `${minute(recorded.since)} UTC` : "nothing recorded"),
        figure("Latest event", tail.length ? `${second(tail[tail.length - 1].fact.at)} UTC` : "none", tail.length ? ago(tail[tail.length - 1].fact.at, now) : ""),
        figure("Latest settlement", settled ? `${second(settled.fact.at)} UTC` : "none of late", settled ? ago(settled.fact.at, now) : "among the latest 500 events"))),
  ];
}
