// Whether a payment could be taken now, and whether the figures are whole.

import { figure, h, panel } from "./dom.js";
import { ago, count, minute, plural, second } from "./words.js";

const NAMES = { settler: "Settler", store: "Payment store", events: "Event store", recorder: "Recorder" };
const STATES = { ok: "answers", low: "answers, and runs low", away: "does not answer", unknown: "not known here" };

export async function health({ ask, asked }) {
  const [{ parts, workers, now }, recorded, report, tail] = await Promise.all([ask("health"), ask("recorded"), ask("report", asked), ask("tail", { limit: 500 })]);
  const settled = tail.filter(({ fact }) => fact.kind === "payment.settled").pop();
  return [
    panel("Parts", h("ul", { class: "parts" }, parts.map((part) => h("li", { class: `part ${part.state}` }, told(part, now))))),
    panel("Servers", servers(workers, now)),
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

/** How one part does. */
function told(part, now) {
  return [
    h("h4", {}, h("span", { class: "light", "aria-hidden": "true" }), NAMES[part.name] ?? part.name, ": ", STATES[part.state] ?? part.state,
      part.state !== "ok" && part.since ? h("small", {}, ` since ${minute(part.since)} UTC, ${ago(part.since, now)}`) : null),
    part.detail ? h("p", {}, part.detail) : null,
    Object.keys(part.figures).length ? h("dl", { class: "small" }, Object.entries(part.figures).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, count(value))))) : null,
  ];
}

/** Each serving process, as it noted in the event store; those that need somebody first. */
function servers(workers, now) {
  if (!workers.length) return h("p", { class: "empty" }, "No server has noted here how it does. Each does so when it starts, unless health_seconds is 0.");
  const need = (worker) => (worker.silent ? 2 : worker.parts.some((part) => part.state === "away") ? 3 : worker.parts.some((part) => part.state !== "ok") ? 1 : 0);
  return h("ul", { class: "workers" }, [...workers].sort((one, other) => need(other) - need(one) || (one.name < other.name ? -1 : 1)).map((worker) => h("li", { class: `worker${worker.silent ? " silent" : ""}` },
    h("h4", {}, worker.name),
    h("p", { class: "note" }, worker.silent
      ? `Not heard of since ${second(worker.at)} UTC, ${ago(worker.at, now)}: it was killed, or does not reach the event store. It said last:`
      : `As of ${second(worker.at)} UTC, ${ago(worker.at, now)}.`),
    h("ul", { class: "parts" }, worker.parts.map((part) => h("li", { class: `part ${worker.silent ? "unknown" : part.state}` }, told(part, now)))))));
}
