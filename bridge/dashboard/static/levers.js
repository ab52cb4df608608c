// Where each lever stands, and how it got there.

import { h, panel, protocol, table } from "./dom.js";
import { second } from "./words.js";

export async function levers({ ask, asked, state }) {
  const [view, marks] = await Promise.all([ask("levers"), ask("marks", asked)]);
  const changed = marks.filter((mark) => mark.event === "lever.changed" && matches(mark, state)).reverse();
  return [now(view, state), told(changed), view.source === "events" ? null : changes(view)];
}

const matches = (one, state) => (!state.protocol || one.protocol === state.protocol) && (!state.route || one.route === "*" || one.route === state.route);
const stage = (name) => h("span", { class: `stage s-${/^[a-z]+$/.test(name) ? name : "none"}` }, name);
const where = (route) => (route === "*" ? "every route" : route);

function now(view, state) {
  const rows = view.stages.filter((one) => matches(one, state));
  return panel("Stages now",
    view.problem ? h("p", { class: "trouble", role: "alert" }, `The levers cannot be read: ${view.problem}`) : null,
    h("p", { class: "note" }, view.source === "events" ? "As the servers told it last; every other protocol is on. Start the dashboard with --levers to read the levers themselves." : `From ${view.source}.`,
      view.migration ? ` Clients are sent to ${view.migration}.` : ""),
    table("Stage of each protocol on each route", [["Route"], ["Protocol"], ["Stage"], ["For whom"], ["Next"]],
      rows.map((one) => [where(one.route), protocol(one.protocol), stage(one.stage),
        [one.share, one.header ? `who sends ${one.header}` : null].filter(Boolean).join(", ") || "everybody",
        one.next ? [stage(one.next.stage), ` from ${one.next.at.replace("T", " ").replace("Z", " UTC")}`] : "–"]),
      { shown: false, empty: view.problem ? "Not known." : "No lever was ever moved: every protocol is on everywhere." }));
}

function told(marks) {
  return panel("History",
    h("p", { class: "note" }, "As the servers saw it in the time that is chosen: these are the marks on the charts."),
    table("History of every lever", [["When (UTC)"], ["Route"], ["Protocol"], ["From"], ["To"], ["By"]],
      marks.map((mark) => [second(mark.at), where(mark.route), protocol(mark.protocol), mark.detail.before ? stage(mark.detail.before) : "–",
        [stage(mark.stage), mark.detail.share ? ` ${mark.detail.share} %` : ""], mark.by || { plan: "the plan's date", edit: "the file, edited by hand" }[mark.detail.source] || "not said"]),
      { shown: false, empty: "No lever was moved in this time." }));
}

function changes(view) {
  return panel("Changes as they were written",
    table("Changes as they were written, the latest first", [["When (UTC)"], ["By"], ["What"]],
      view.changes.map((change) => [second(change.at), change.by || "not said", change.undo ? "took the change before back" : h("code", {}, written(change.said))]),
      { shown: false, empty: "No change is written there: what stands in it counts since it was made." }));
}

function written(said) {
  const levers_ = Object.entries(said.levers ?? {}).flatMap(([route, own]) => Object.entries(own).map(([name, lever]) =>
    `${where(route)}: ${name} ${typeof lever === "string" ? lever : Object.entries({ stage: "on", ...lever }).map(([key, value]) => (key === "stage" ? value : `${key} ${typeof value === "object" ? JSON.stringify(value) : value}`)).join(", ")}`));
  return [...levers_, ...Object.keys(said).filter((key) => key !== "levers")].join("; ");
}
