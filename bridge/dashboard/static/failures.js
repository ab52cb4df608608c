// What fails, for whom, and why.

import { bar, h, panel, protocol, table } from "./dom.js";
import { count, percent, plural } from "./words.js";

export async function failures({ ask, asked, filters }) {
  const [byClient, odd] = await Promise.all([ask("report", { ...asked, ...filters, by: "client" }), ask("clients", { ...asked, ...filters })]);
  const { total, protocols } = byClient;
  if (!total.failed && !odd.length) {
    return [h("p", { class: "empty" }, total.attempted ? `None of ${plural(total.attempted, "attempt")} failed in this time.` : "Nobody tried to pay in this time.")];
  }
  return [reasons(total, protocols), clients(byClient.groups), stuck(odd)];
}

function reasons(total, protocols) {
  const most = Math.max(0, ...Object.values(total.failures));
  return panel("By reason",
    h("p", { class: "note" }, `${plural(total.failed, "failure")} of ${plural(total.attempted, "attempt")}.`),
    table("Failures by reason", [["Reason"], ["Failures", "number"], ["Of all", "number"], ...Object.keys(protocols).map((name) => [name, "number"]), ["", "wide"]],
      Object.entries(total.failures).map(([reason, times]) => [h("code", {}, reason || "not said"), count(times), percent(times / total.failed),
        ...Object.values(protocols).map((own) => count(own.failures[reason] ?? 0)), bar(times, most, "bad")]),
      { shown: false, empty: "No failures in this time." }));
}

function clients(groups) {
  const rows = Object.entries(groups).filter(([, own]) => own.failed).sort((a, b) => b[1].failed - a[1].failed);
  const most = Math.max(0, ...rows.map(([, own]) => own.failed));
  return panel("By client",
    table("Failures by client product and version", [["Client"], ["Failures", "number"], ["Of its attempts", "number"], ["Most often"], ["", "wide"]],
      rows.slice(0, 100).map(([name, own]) => [name || "not known", count(own.failed), own.attempted ? percent(own.failed / own.attempted) : "–",
        list(own.failures), bar(own.failed, most, "bad")]),
      { shown: false, empty: "No client failed in this time." }));
}

function stuck(odd) {
  const says = { "never-pays": "asks again and again, and never pays", "keeps-failing": "keeps failing" };
  return panel("Clients that get nowhere",
    h("p", { class: "note" }, "Asked for payment ten times or more without ever trying, or failed that often in at least half of what they tried."),
    table("Clients that get nowhere", [["Client"], ["What it does"], ["Challenged", "number"], ["Tried", "number"], ["Failed", "number"], ["Why"], ["In"]],
      odd.map((one) => [one.version ? `${one.product}/${one.version}` : one.product || "not known", says[one.problem] ?? one.problem, count(one.challenged), count(one.attempted),
        count(one.failed), list(one.failures), one.protocols.map((name) => h("span", { class: "line" }, protocol(name)))]),
      { shown: false, empty: "None in this time." }));
}

const list = (failures_) => Object.entries(failures_).slice(0, 3).map(([reason, times]) => h("span", { class: "line" }, h("code", {}, reason || "not said"), ` ${count(times)}`));
