"""Reports as tables that fit into 80 columns, and as CSV."""

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from bridge.analytics.figures import Figures
from bridge.analytics.journeys import Journey, Summary
from bridge.analytics.readiness import LeftGroup, Readiness
from bridge.analytics.report import OddClient, Report, Step
from bridge.analytics.workers import Worker
from translators.networks import KNOWN_TOKENS, caip2, v1_network

__all__ = [
    "WIDTH",
    "clients_table",
    "figures_csv",
    "journeys_table",
    "readiness_table",
    "report_table",
    "rows_csv",
    "series_table",
    "when",
    "workers_csv",
    "workers_table",
]

WIDTH = 80
MOST_ROWS = 20

_COUNTS = ("challenged", "attempted", "delivered", "failed", "settled", "payers")
_HEADS = ("402s", "tried", "delivered", "failed", "settled", "payers")
_NUMBER = re.compile(r"[0-9.,]+( %)?|-|[0-9]+ ([0-9]+ %|-)")


def when(at: float) -> str:
    """A moment in UTC, to the minute."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def report_table(report: Report) -> list[str]:
    """The report."""
    lines = [f"{when(report.since)} to {when(report.until)} UTC", *_notes(report), ""]
    lines += _figures_table("protocol", {**report.protocols, "all": report.total})
    lines += [f"{report.unidentified} of the challenges went to clients that never said what they speak."]
    if report.groups and report.by != "protocol":
        lines += ["", *_figures_table(report.by or "", report.groups)]
    lines += ["", *_money("revenue", {**report.protocols, "all": report.total})]
    if report.x402_only.settled:
        only = report.x402_only
        lines += [f"x402 only: {only.settled} payments, {only.payers} payers", *_money("x402 only", {"": only})]
    lines += ["", *_latencies({**report.protocols, "all": report.total}, report.exact)]
    if failures := report.total.failures:
        lines += ["", "failures by reason", *_pairs(failures)]
    return [line[:WIDTH].rstrip() for line in lines]


def _notes(report: Report) -> list[str]:
    notes = []
    if report.recorded_since is None:
        notes.append("Nothing is recorded yet.")
    elif report.recorded_since > report.since:
        notes.append(f"The record begins at {when(report.recorded_since)}.")
    if report.dropped:
        notes.append(f"{report.dropped} events were dropped: the figures lack them.")
    return notes


def _figures_table(head: str, groups: dict[str, Figures]) -> list[str]:
    rows = [[name or "(unknown)", *(str(getattr(f, c)) for c in _COUNTS), _percent(f)] for name, f in groups.items()]
    return _table([head, *_HEADS, "paid"], rows[:MOST_ROWS], len(rows))


def _percent(figures: Figures) -> str:
    return "-" if figures.conversion is None else f"{100 * figures.conversion:.1f} %"


def _money(head: str, groups: dict[str, Figures]) -> list[str]:
    rows = [[name, asset, amount] for name, f in groups.items() for asset, amount in f.revenue.items()]
    return _table([head, "asset", "atomic units"], rows, len(rows)) if rows else []


def _latencies(groups: dict[str, Figures], exact: bool) -> list[str]:
    rows = [
        [name, measure, str(kept.count), *("-" if q is None else f"{q:.1f}" for q in (kept.p50, kept.p95, kept.p99))]
        for name, figures in groups.items()
        for measure, kept in figures.latency.items()
        if kept.count
    ]
    head = "milliseconds" if exact else "milliseconds, +-1 %"
    return _table([head, "of", "count", "p50", "p95", "p99"], rows, len(rows)) if rows else []


def _pairs(counts: dict[str, int]) -> list[str]:
    return [f"  {times:>8}  {what}" for what, times in list(counts.items())[:MOST_ROWS]]


def series_table(steps: Sequence[Step]) -> list[str]:
    """Each protocol's payments, and its share of them, over time."""
    names = list(steps[0].protocols) if steps else []
    rows = []
    for step in steps:
        cells = []
        for name in names:
            share = step.shares[name]
            cells.append(f"{step.protocols[name].settled} {'-' if share is None else f'{100 * share:.0f} %'}")
        rows.append([when(step.since), *cells, str(step.unidentified)])
    return _table(["from", *names, "unidentified"], rows, len(rows))


def journeys_table(summary: Summary, journeys: Sequence[Journey]) -> list[str]:
    """How payers move, and the latest of them."""
    lines = [f"{summary.payers} payers; as known today:", ""]
    lines += _table(["way", "payers"], [[path, str(times)] for path, times in summary.paths.items()], 0)
    names = list(summary.seen)
    lines += ["", *_table(
        ["protocol", "first seen in", "ever paid in", "pay in now"],
        [[name, *(str(counts[name]) for counts in (summary.first_seen, summary.seen, summary.now))] for name in names],
        0,
    )]  # fmt: skip
    if journeys:
        rows = [
            [_short(j.payer), j.path.value, *(when(j.stays[n].first_at)[:10] if n in j.stays else "-" for n in names)]
            for j in journeys
        ]
        lines += ["", *_table(["payer", "way", *(f"first {name}" for name in names)], rows, 0)]
    return lines


def clients_table(clients: Sequence[OddClient]) -> list[str]:
    """Clients that get nowhere."""
    rows = [
        [
            f"{client.product}/{client.version}" if client.version else client.product,
            client.problem,
            str(client.challenged),
            str(client.failed),
            _tail(next(iter(client.failures), "-"), 28),
        ]
        for client in clients
    ]
    if not rows:
        return ["No client loops on 402 or keeps failing."]
    return _table(["client", "problem", "402s", "failed", "most often for"], rows[:MOST_ROWS], len(rows))


def workers_table(workers: Sequence[Worker], now: float) -> list[str]:
    """How each serving process does, and as of when."""
    if not workers:
        return ["No server has noted how it does."]
    lines = []
    for worker in workers:
        heard = f"{max(0, round(now - worker.at))} s ago"
        lines.append(f"{worker.name}  {f'not heard of: {heard}' if worker.is_silent(now) else f'as of {heard}'}")
        for part in worker.parts:
            since = f" since {when(part.since)}" if part.state != "ok" and part.since is not None else ""
            figures = ", ".join(f"{name} {value}" for name, value in part.figures.items())
            what = "; ".join(word for word in (part.detail if part.state != "ok" else "", figures) if word)
            lines.append(f"  {part.name:<9} {part.state}{since}{f': {what}' if what else ''}"[:WIDTH])
    return lines


def workers_csv(workers: Sequence[Worker], now: float) -> str:
    """The same as CSV, a row for each part."""
    rows = [
        [worker.name, when(worker.at), worker.is_silent(now), part.name, part.state, when(part.since), part.detail]
        for worker in workers
        for part in worker.parts
        if part.since is not None
    ]
    return rows_csv(["server", "at", "silent", "part", "state", "since", "detail"], rows)


def readiness_table(readiness: Readiness, *, limit: float | None) -> list[str]:
    """Whom switching a protocol off would lose, and what to do next."""
    r = readiness
    money = [_amount(asset, amount) for asset, amount in r.revenue_per_day.items()] or ["nothing"]
    lines = [
        f"{r.protocol}, {when(r.since)} to {when(r.until)} UTC",
        "",
        *_lacking(r),
        (
            f"It is switched off. Before that, it was paid in by {r.payers} of {r.all_payers} payers,"
            if r.stage == "refused"
            else f"Switching it off today loses {r.payers} of {r.all_payers} payers,"
        ),
        *(f"{each} a day," for each in money),
        f"{r.payments} of {r.all_payments} payments in {r.days:.1f} days.",
        f"Of these {r.payers} payers, {r.moved} have already paid in another protocol.",
    ]
    if r.stage:
        lines.append(f"Its lever stood at {r.stage}; {r.refused} payments in it were refused in the window.")
    if r.unnamed_payments:
        lines.append(f"The payer of {r.unnamed_payments} payments is not known.")
    for head, groups in (("route", r.routes), ("client", r.clients)):
        if groups:
            lines += ["", *_groups_table(head, groups)]
    if r.left:
        rows = [[_short(p.payer), str(p.payments), when(p.last_at), ", ".join(p.also) or "-"] for p in r.left]
        lines += ["", *_table(["who is left", "payments", "last", "also pays in"], rows, r.payers)]
    lines += [
        "",
        f"Share of payers {100 * r.share_of_payers:.2f} %, of payments {100 * r.share_of_payments:.2f} %.",
    ]
    if limit is not None:
        verdict = "over" if r.share > limit else "within"
        lines.append(f"The larger, {100 * r.share:.2f} %, is {verdict} the limit of {100 * limit:g} %.")
        if r.gaps and r.share <= limit:
            lines.append("That holds for what is recorded only.")
        if r.dropped:
            lines.append(f"Were all that was dropped lost, the share is {100 * r.share_at_most:.2f} %.")
    lines += ["", "Next:", *(line for step in r.next[len(r.gaps) :] for line in _wrapped(step))]
    return [line[:WIDTH].rstrip() for line in lines]


def _lacking(r: Readiness) -> list[str]:
    if not r.gaps:
        return []
    details = [line for gap in r.gaps for line in _wrapped(gap.detail)]
    return ["The record does not cover this window:", *details, "", "As far as it goes:"]


_TOKENS = {token.address: token for token in KNOWN_TOKENS}


def _amount(asset: str, units: str) -> str:
    """An amount in the unit of its token, exact, where that is known; else in atomic units."""
    network, _, address = asset.rpartition("/")
    token = _TOKENS.get(address)
    if token is None or network not in ("", caip2(token.chain_id)):
        return f"{units} atomic units of {asset}"
    padded = units.rjust(token.decimals + 1, "0")
    whole, fraction = padded[: -token.decimals], padded[-token.decimals :].rstrip("0")
    place = v1_network(token.chain_id) or caip2(token.chain_id)
    return f"{whole}.{fraction:0<2} {token.symbol or token.name} on {place}"


def _groups_table(head: str, groups: Sequence[LeftGroup]) -> list[str]:
    rows = [[group.name or "(unknown)", str(group.payers), str(group.payments)] for group in groups]
    return _table([head, "payers", "payments"], rows[:MOST_ROWS], len(rows))


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH - 2, initial_indent="- ", subsequent_indent="  ")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> list[str]:
    """Columns as wide as they must be; numbers to the right, and the first column gives way where it is too much."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    gaps = 2 * (len(head) - 1)
    widths[0] = max(8, min(widths[0], WIDTH - gaps - sum(widths[1:])))
    right = [all(_NUMBER.fullmatch(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(
            _cut(cell, width).rjust(width) if to_right else _cut(cell, width).ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [head, *rows]
    ]
    return [*lines, f"... and {total - len(rows)} more"] if total > len(rows) else lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def _tail(text: str, width: int) -> str:
    """Reasons differ at their end."""
    return text if len(text) <= width else f"..{text[2 - width :]}"


def _short(text: str) -> str:
    return f"{text[:8]}..{text[-6:]}" if len(text) > 18 else (text or "(unknown)")


def figures_csv(groups: Iterable[tuple[Sequence[str], Figures]], names: Sequence[str]) -> str:
    """Figures as CSV: `names` head what each group is called by; revenue has a row for each asset."""
    head = [*names, *_COUNTS, "replayed", "conversion", "success"]
    head += [f"{measure}_{q}_ms" for measure in ("verify", "settle", "total") for q in ("p50", "p95", "p99")]
    rows = []
    for keys, figures in groups:
        row = [*keys, *(getattr(figures, c) for c in (*_COUNTS, "replayed", "conversion", "success"))]
        row += [getattr(figures.latency[m], q) for m in ("verify", "settle", "total") for q in ("p50", "p95", "p99")]
        rows += [[*row, asset, amount] for asset, amount in figures.revenue.items()] or [[*row, "", "0"]]
    return rows_csv([*head, "asset", "revenue"], rows)


def rows_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV with a head (RFC 4180). A cell that a spreadsheet would take for a formula is kept from that."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(head)
    for row in rows:
        writer.writerow(["" if cell is None else _harmless(cell) for cell in row])
    return out.getvalue()


def _harmless(cell: object) -> object:
    # Products and routes are text that clients and owners chose.
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
