"""The dashboard in real Chromium, clicked through: what it shows is what the reports say."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, get
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from selenium.webdriver.common.keys import Keys

from bridge.analytics import Events, EventStore, Filters, Part, Worker, open_events
from bridge.analytics.database import open_database
from bridge.analytics.writer import Writer
from bridge.dashboard import Dashboard
from bridge.litestar import DashboardConfig, PaymentConfig, PaymentPlugin
from bridge.payers import read_402, sign
from bridge.serving import listen, serve
from bridge.stores import MemoryStore
from bridge.testing import FakeSettler, FixedClock
from tests.bridge.analytics.conftest import write
from tests.bridge.analytics.samples import DAY, START, challenged, paid, rejected
from tests.bridge.dashboard.browser import Browser, chromium
from tests.bridge.dashboard.market import BASE, LEVERS, NOW, TEST
from tests.bridge.harness import PAYER, RECIPIENT, envelope
from translators.networks import KNOWN_TOKENS
from translators.payment import Protocol

SECTIONS = ["Overview", "Failures", "Readiness", "Levers", "Live", "Health"]
PROTOCOLS = ["x402-v1", "x402-v2", "mpp"]
EVIL = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


class Serving:
    """Dashboards on a socket, in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.stops: list[asyncio.Event] = []
        self.served: list[Any] = []

    def serve(self, app: Any, **settings: Any) -> str:
        sock = listen("127.0.0.1", 0)
        stop = asyncio.Event()

        async def run() -> None:
            async with serve(app, sock, **settings):
                await stop.wait()

        self.stops.append(stop)
        self.served.append(asyncio.run_coroutine_threadsafe(run(), self.loop))
        return f"http://127.0.0.1:{sock.getsockname()[1]}/"

    def close(self) -> None:
        for stop in self.stops:
            self.loop.call_soon_threadsafe(stop.set)
        for served in self.served:
            served.result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    opened = Serving()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def browser(serving: Serving, market: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser on the market's dashboard: at the end it has had nothing to complain of, and has asked nobody else."""
    if chromium() is None:
        if os.environ.get("CI"):
            pytest.fail("there is no chromium: make browser")
        pytest.skip("there is no chromium: make browser")
    url = serving.serve(Dashboard(market, token=None, clock=FixedClock(NOW)))
    opened = Browser(url, tmp_path_factory.mktemp("chromium"))
    try:
        yield opened
        opened.read_logs()
        assert opened.complaints == []
        assert {host.partition(":")[0] for host in opened.hosts} == {"127.0.0.1"}
        assert opened.answers <= {200, 304}
    finally:
        opened.close()


@pytest.fixture(scope="module")
def events(market: str) -> Iterator[Events]:
    with open_events(market) as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Browser:
    """The dashboard at a desk, as it opens."""
    browser.wide(1280)
    browser.open()
    return browser


def money(revenue: dict[str, str], join: str = " + ") -> str:
    """Sums as people read them: told apart from the page's own way of writing them."""
    names = {BASE["asset"]: "USDC (base)", TEST["asset"]: "USDC (base-sepolia)"}
    assert all(token.decimals == 6 for token in KNOWN_TOKENS)
    parts = []
    for asset, units in revenue.items():
        whole, part = divmod(int(units), 10**6)
        parts.append(f"{whole:,}.{f'{part:06}'.rstrip('0').ljust(2, '0')} {names[asset]}")
    return join.join(parts)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def test_overview(page: Browser, events: Events) -> None:
    """Figures, shares, revenue and funnel are the report's; each chart is drawn, and each has its table."""
    report = events.report(since=NOW - 30 * DAY, until=NOW)
    total = report.total
    shown = page.figures()
    assert shown["Revenue"] == money(total.revenue)
    assert shown["Payments"] == f"{total.settled:,}"
    assert shown["Payers"] == str(total.payers)
    assert shown["Failed"] == str(total.failed)
    assert shown["Never said what they are"] == f"{report.unidentified:,}"
    steps = events.series(since=report.since, until=report.until)
    rows = page.table("Share of each protocol")
    assert [row[1:] for row in rows] == [
        [cell for name in PROTOCOLS for cell in (str(step.protocols[name].settled), percent(step.shares[name] or 0.0))]
        for step in steps
        if step.total.settled
    ]
    for asset, name in ((BASE["asset"], "USDC (base)"), (TEST["asset"], "USDC (base-sepolia)")):
        rows = page.table(f"Revenue in {name}")
        assert [row[-1] for row in rows] == [
            money({asset: step.total.revenue[asset]}) for step in steps if asset in step.total.revenue
        ]
    assert [row[1] for row in page.table("From challenge to delivery")] == [
        f"{number:,}" for number in (total.challenged, total.attempted, total.settled, total.delivered)
    ]
    for name, row in zip(PROTOCOLS, page.table("Protocols side by side"), strict=True):
        own = report.protocols[name]
        assert row[:7] == [
            name,
            *(f"{n:,}" for n in (own.challenged, own.attempted, own.delivered, own.failed, own.payers)),
            money(own.revenue, " "),
        ]
    page.until(lambda: page.look("drawn") == 3, "a chart is not drawn")
    assert "3 levers were moved in this time" in page.text("#main")


def test_every_section(page: Browser) -> None:
    """Each is reached by its link and kept in the address; going back goes back, and loading anew stays.

    For who does not see it: headings go down step by step, tables have captions and headers, what can be set has a
    name, ids are unique. For who sees little: texts stand out.
    """
    for title in SECTIONS:
        page.section(title)
        assert page.text("#main h2") == title
        assert page.one("nav a[aria-current=page]").text == title
        assert page.run("return location.hash") == f"#{title.lower()}"
        assert page.all("#main .panel")
        assert page.look("unsaid") == [], title
        assert page.look("faint") == [], title
    page.acts(page.driver.back)
    assert page.text("#main h2") == "Live"
    page.acts(page.driver.refresh)
    assert page.text("#main h2") == "Live"


def test_failures(page: Browser, events: Events) -> None:
    """By reason and by client, and who gets nowhere."""
    page.section("Failures")
    span = {"since": NOW - 30 * DAY, "until": NOW}
    report = events.report(**span, by="client")
    reasons = page.table("Failures by reason")
    assert {row[0]: row[1] for row in reasons} == {why: str(times) for why, times in report.total.failures.items()}
    for row in reasons:
        assert row[3:6] == [str(report.protocols[name].failures.get(row[0], 0)) for name in PROTOCOLS]
    clients = page.table("Failures by client product")
    assert {row[0]: row[1] for row in clients} == {
        name: str(own.failed) for name, own in report.groups.items() if own.failed
    }
    assert [row[0] for row in page.table("Clients that get nowhere")] == [
        f"{odd.product}/{odd.version}" for odd in events.clients(**span)
    ]


def test_readiness(page: Browser, events: Events) -> None:
    """Whom switching a protocol off would lose, by name, for each protocol and window."""
    page.section("Readiness")
    for protocol, days in (("x402-v1", 14), ("x402-v2", 14), ("x402-v2", 7), ("mpp", 30)):
        if page.one("#ready-protocol").get_attribute("value") != protocol:
            page.choose("ready-protocol", protocol)
        if page.one("#ready-window").get_attribute("value") != f"{days}d":
            page.choose("ready-window", f"{days}d")
            assert page.run("return document.activeElement.id") == "ready-window"
        found = events.readiness(protocol, since=NOW - days * DAY, until=NOW, limit=50)
        assert found.payers > 3
        said = page.text(".verdict")
        assert f"Switching {protocol} off today loses {found.payers} payers" in said
        assert f"{money(found.revenue_per_day)} a day" in said
        rows = page.table(f"Payers who still pay in {protocol}")
        assert [row[1] for row in rows] == [str(left.payments) for left in found.left]
        assert rows[0][0] == f"{found.left[0].payer[:8]}…{found.left[0].payer[-4:]}"
        assert [row[4] for row in rows] == [" ".join(left.also) or "nothing else" for left in found.left]
        for caption, groups in (("Routes", found.routes), ("Client products", found.clients)):
            assert [row[:4] for row in page.table(f"{caption} that would lose")] == [
                [group.name, str(group.payers), str(group.payments), money(group.revenue, " ")] for group in groups
            ]
        assert [step.text for step in page.all(".steps li")] == [step.replace("`", "") for step in found.next]


def test_levers(page: Browser) -> None:
    """Where each stands, and how it got there: all of it, or what was in the time that is chosen."""
    page.section("Levers")
    assert [row[:3] for row in page.table("Stage of each")] == [
        ["every route", "mpp", "preferred"],
        ["every route", "x402-v1", "deprecated"],
        ["GET /prices", "x402-v1", "deprecated"],
    ]
    page.choose("range", "all")
    history = page.table("History of every lever")
    assert [row[2:6] for row in history] == [
        [protocol, before, after, by or "the plan's date"] for _, protocol, before, after, _, by, _ in LEVERS[::-1]
    ]
    page.choose("range", "7d")
    assert "No lever was moved in this time." in page.text("#main")


def test_filters(page: Browser, events: Events) -> None:
    """Each narrows what is shown, all of them together too; they stay from section to section, and can be cleared."""
    wanted: dict[str, str] = {}
    span = {"since": NOW - 30 * DAY, "until": NOW}
    for name, value in (
        ("protocol", "x402-v2"),
        ("route", "GET /weather/{city}"),
        ("network", BASE["network"]),
        ("product", "x402-fetch"),
    ):
        page.choose(name, value)
        wanted[name] = value
        total = events.report(**span, filters=Filters(**wanted)).total
        assert total.settled
        assert page.figures()["Payments"] == str(total.settled)
        assert page.figures()["Revenue"] == money(total.revenue)
        assert page.run("return document.activeElement.id") == name
    page.section("Failures")
    total = events.report(**span, filters=Filters(**wanted)).total
    assert {row[0]: row[1] for row in page.table("Failures by reason")} == {
        k: str(v) for k, v in total.failures.items()
    }
    page.section("Live")
    assert {row[2] for row in page.table("The latest events")} <= {"x402-v2"}
    page.section("Overview")
    page.acts(lambda: page.click("Clear filters"))
    assert page.figures()["Payments"] == f"{events.report(**span).total.settled:,}"


def test_spans(page: Browser, events: Events) -> None:
    """Each span has its own figures: the last day by the hour, all that is recorded, and two days by their dates."""
    everything = events.recorded()
    assert everything is not None
    first = "2026-10-05"
    since = 1_791_158_400.0
    for value, begin, end in (("24h", NOW - DAY, NOW), ("7d", NOW - 7 * DAY, NOW), ("all", *_ends(everything))):
        page.choose("range", value)
        assert page.figures()["Payments"] == f"{events.report(since=begin, until=end).total.settled:,}", value
    page.choose("range", "own")
    for name, value in (("since", first), ("until", first)):
        page.acts(
            lambda name=name, value=value: page.run(  # type: ignore[misc]
                "const at = document.getElementById(arguments[0]); at.value = arguments[1];"
                "at.dispatchEvent(new Event('change'))",
                name,
                value,
            )
        )
    assert page.figures()["Payments"] == str(events.report(since=since, until=since + DAY).total.settled)


def _ends(span: Any) -> tuple[float, float]:
    return span.since, span.until


def test_dark_and_light(page: Browser) -> None:
    """As the system has it, until somebody chooses; the choice is kept. Texts stand out in both."""
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "light"
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    page.until(lambda: page.text("#theme") == "Light", "the system's choice is not taken")
    assert page.run("return getComputedStyle(document.documentElement).colorScheme") == "dark"
    for title in SECTIONS:
        page.section(title)
        assert page.look("faint") == [], title
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page.open()
    for theme, other in (("dark", "Light"), ("light", "Dark")):
        page.acts(lambda: page.one("#theme").click())
        assert page.text("#theme") == other
        page.open()
        assert page.run("return getComputedStyle(document.documentElement).colorScheme") == theme
    page.run("localStorage.clear()")


def test_on_a_phone(page: Browser) -> None:
    """At 375 pixels nothing is cut off: only tables scroll, in themselves; what is pressed is large enough."""
    page.wide(375, 700)
    page.until(lambda: page.look("drawn") == 3, "a chart is not drawn")
    for title in SECTIONS:
        page.section(title)
        assert page.text("#main h2") == title
        page.until(lambda: page.look("beyond") == [] or None, f"{title} is too wide")
        assert page.look("small") == [], title


def test_without_a_mouse(page: Browser) -> None:
    """By the keyboard alone: past the filters, through the sections, along a chart and its marks, into its table."""
    page.run("document.activeElement?.blur()")
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "main"
    page.until(lambda: page.all("canvas"), "no chart is drawn")
    page.press(Keys.TAB)
    assert "Share of each protocol: chart" in page.run("return document.activeElement.getAttribute('aria-label')")
    page.press(Keys.ARROW_LEFT)
    last = page.table("Share of each protocol")[-1]
    readout = page.text(".readout")
    assert readout.startswith(f"{last[0][:10]}: x402-v1 {last[2]} ({last[1]}), x402-v2")
    days_ago = int((NOW - LEVERS[2][0] * DAY - START) // DAY)
    page.press(*[Keys.ARROW_LEFT] * days_ago)
    assert "x402-v1 deprecated → brownout on GET /prices" in page.text(".readout")
    page.press(Keys.HOME)
    page.until(lambda: page.text(".readout").startswith(page.table("Share of each protocol")[0][0][:10]), "Home")
    page.press(Keys.TAB, Keys.TAB)
    assert page.run("return document.activeElement.textContent") == "The figures as a table"
    page.press(Keys.ENTER)
    page.until(lambda: page.run("return document.activeElement.parentElement.open"), "the table is shut")
    page.press(Keys.TAB)
    assert page.run("return document.activeElement.getAttribute('role')") == "region"
    visible = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert visible == "solid"
    page.open()
    page.run("document.activeElement?.blur()")
    page.press(Keys.TAB, Keys.TAB, Keys.TAB)
    assert page.run("return document.activeElement.textContent") == "Failures"
    page.acts(lambda: page.press(Keys.ENTER))
    assert page.text("#main h2") == "Failures"


def test_live_tail(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """A payment appears by itself within seconds, what is hostile in it as text; challenges only when asked for."""
    path = f"{tmp_path}/events.sqlite3"
    write(path, [challenged(NOW - 60, agent="curl/8.1")])
    browser.wide(1280)
    home, browser.url = browser.url, serving.serve(Dashboard(path, token=None, clock=FixedClock(NOW)))
    try:
        browser.open("#live")
        assert "Nothing yet." in browser.text("#main")
        own = {"payer": "0x" + "ab" * 20, "amount": str(2**60 + 1)}
        write(
            path, [*paid(NOW - 5, "p", protocol="mpp", **own), rejected(NOW - 3, "x402-v1", EVIL, "verify", route=EVIL)]
        )
        rows = browser.until(
            lambda: (found := browser.table("The latest events")) and len(found) == 4 and found, "nothing"
        )
        assert [row[1] for row in rows] == ["refused", "delivered", "settled", "verified"]
        assert rows[0][3] == rows[0][7] == EVIL[:200]
        assert rows[1][4] == "1,152,921,504,606.846977 USDC"
        browser.one("#challenges").click()
        browser.until(lambda: len(browser.table("The latest events")) == 5, "the challenge is not shown")
        browser.click("Pause")
        assert "Paused." in browser.text("#main")
        for title in SECTIONS:
            browser.section(title) if title != "Live" else None
            assert browser.run("return document.querySelectorAll('img, main script').length") == 0
            assert not browser.driver.title.startswith("taken")
        browser.section("Failures")
        assert browser.table("Failures by reason")[0][0] == EVIL[:200]
        assert EVIL[:200] in [option.text for option in browser.all("#route option")]
    finally:
        browser.url = home


def test_nothing_to_show(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """An empty record, and one where nothing happened in the time that is chosen, have words in every section."""
    path = f"{tmp_path}/events.sqlite3"
    write(path, [])
    home, browser.url = browser.url, serving.serve(Dashboard(path, token=None, clock=FixedClock(NOW)))
    try:
        browser.open()
        for title in SECTIONS:
            browser.section(title)
            assert browser.text("#main .empty") or browser.text("#main .verdict"), title
        browser.section("Overview")
        assert "No events are recorded yet." in browser.text("#main")
        write(path, paid(NOW - 20 * DAY, "p", "0x01", "mpp"))
        browser.acts(lambda: browser.click("Refresh"))
        assert browser.figures()["Payments"] == "1"
        browser.choose("range", "7d")
        assert "No events from" in browser.text("#main")
        browser.acts(lambda: browser.click("Show all that is recorded"))
        assert browser.figures()["Payments"] == "1"
    finally:
        browser.url = home


def test_what_goes_wrong_has_words(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """A store that is away, and dropped events, are told; when it is back, it goes on."""
    path = tmp_path / "later.sqlite3"
    home, browser.url = browser.url, serving.serve(Dashboard(str(path), token=None, clock=FixedClock(NOW)))
    try:
        browser.open()
        assert browser.text("#main [role=alert]")
        # The browser itself notes each 503.
        browser.read_logs()
        noted = [line for line in browser.complaints if "503" in line]
        assert noted
        assert noted == browser.complaints
        browser.complaints.clear()
        browser.answers.discard(503)
        write(str(path), paid(NOW - 60, "p", "0x01", "mpp"))
        _drop(str(path), 7)
        browser.acts(lambda: browser.click("Try again"))
        assert browser.figures()["Payments"] == "1"
        assert browser.text(".warning").startswith("7 events of this time were dropped")
        browser.acts(lambda: browser.click("More under Health"))
        assert browser.figures()["Dropped events"] == "7"
        assert "no payment was lost" in browser.text(".verdict")
    finally:
        browser.url = home


def test_a_record_that_does_not_cover_the_window(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """It is said before anything else, and nothing looks as if it were good."""
    path = f"{tmp_path}/events.sqlite3"
    write(path, paid(NOW - 3 * DAY, "p", "0x01", "mpp"))
    _drop(path, 7)
    home, browser.url = browser.url, serving.serve(Dashboard(path, token=None, clock=FixedClock(NOW)))
    try:
        browser.open("#readiness")
        first, second = (each.text for each in browser.all(".verdict"))
        assert first.startswith("The record does not cover this window.")
        for words in ("younger than this window", "The record ends at", "7 events of this window were dropped"):
            assert words in first
        assert second.startswith("As far as the record goes: Switching x402-v1 off today loses nobody")
        assert not browser.all(".verdict.good")
        assert not any("younger" in step.text for step in browser.all(".steps li"))
    finally:
        browser.url = home


def test_how_servers_do(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """On an event file: each process, those first that need somebody, with the age of what they said."""
    path = f"{tmp_path}/events.sqlite3"
    ok = Part("store", "ok", "Payments under way.", {"unknown": 0, "left behind": 2}, NOW - DAY)
    recorder = Part("recorder", "ok", "Of this process, since it started.", {"recorded": 12, "dropped": 0}, NOW - DAY)
    said = {
        "fine": (NOW - 12, Part("settler", "ok", "", {"settlements left": 5000}, NOW - DAY)),
        "dry": (NOW - 8, Part("settler", "low", "It runs dry.", {"settlements left": 3}, NOW - 3600)),
        "broken": (NOW - 3, Part("settler", "away", EVIL, {}, NOW - 600)),
        "gone": (NOW - 1800, Part("settler", "ok", "", {}, NOW - DAY)),
    }
    home, browser.url = browser.url, serving.serve(Dashboard(path, token=None, clock=FixedClock(NOW)))
    try:
        write(path, paid(NOW - 60, "p", "0x01", "mpp"))
        browser.open("#health")
        assert "No server has noted here how it does." in browser.text("#main")
        assert "Settler: not known here" in browser.text("#main")
        _note(path, [Worker(f"{host}:17:00", at, 30, [part, ok, recorder]) for host, (at, part) in said.items()])
        browser.acts(lambda: browser.click("Refresh"))
        shown = [each.text for each in browser.all(".worker")]
        assert [text.partition(":")[0] for text in shown] == ["broken", "gone", "dry", "fine"]
        broken, gone, dry, fine = shown
        assert "Settler: does not answer since" in broken
        assert "10 min ago" in broken
        assert EVIL in broken
        assert "Not heard of since" in gone
        assert "30 min ago" in gone
        assert "Settler: answers, and runs low since" in dry
        assert "8 s ago." in dry
        assert "As of" in fine
        assert "5,000" in fine
        assert "Settler: not known here" not in browser.text("#main")
        browser.wide(375)
        browser.acts(lambda: browser.click("Refresh"))
        browser.until(lambda: browser.look("beyond") == [] or None, "the servers are too wide")
    finally:
        browser.wide(1280)
        browser.url = home


def test_in_litestar(browser: Browser, serving: Serving, tmp_path: Path) -> None:
    """Mounted and guarded: who may look sees a payment in each protocol come in, and how settler and store do."""
    settler = FakeSettler()
    config = PaymentConfig(
        recipient=RECIPIENT,
        settler=settler,
        network="base-sepolia",
        store=MemoryStore(),
        event_store=EventStore(url=f"sqlite:{tmp_path}/events.sqlite3", flush_seconds=0.05),
    )

    @get("/report", price="0.01")
    async def report() -> str:
        return "the report"

    def owner_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if connection.headers.get("x-owner") != "yes":
            raise NotAuthorizedException

    plugin = PaymentPlugin(config, dashboard=DashboardConfig(guards=[owner_only]))
    home, browser.url = browser.url, serving.serve(Litestar([report], plugins=[plugin]), lifespan="on")
    try:
        browser.driver.execute_cdp_cmd("Network.enable", {})
        browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {"x-owner": "yes"}})
        with httpx.Client(base_url=browser.url) as client:
            assert client.get("/payments").status_code == 401
            browser.open("payments#live")
            assert "Nothing yet." in browser.text("#main")
            for protocol in Protocol:
                asked = read_402(client.get("/report"), protocol)
                name, value = envelope(sign(asked, PAYER, time.time()), asked)
                assert client.get("/report", headers={name: value}).text == "the report"
        rows = browser.until(lambda: found if len(found := _delivered(browser)) == 3 else None, "not paid")
        assert sorted(row[2] for row in rows) == sorted(PROTOCOLS)
        assert {(row[3], row[4]) for row in rows} == {("GET /report", "0.01 USDC")}
        browser.section("Health")
        assert "Settler: answers" in browser.text("#main")
        settler.problem = "the relayer has no gas"
        browser.acts(lambda: browser.click("Refresh"))
        assert "Settler: does not answer" in browser.text("#main")
        assert "the relayer has no gas" in browser.text("#main")
        browser.section("Levers")
        assert ["GET /report", "mpp", "on"] in [row[:3] for row in browser.table("Stage of each")]
        browser.section("Overview")
        assert browser.figures()["Revenue"] == "0.03 USDC"
    finally:
        browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
        browser.url = home


def _delivered(browser: Browser) -> list[list[str]]:
    return [row for row in browser.table("The latest events") if row[1] == "delivered"]


def _note(path: str, workers: list[Worker]) -> None:
    database = open_database(path, write=True)
    writer = Writer(database, 3600, NOW)
    for worker in workers:
        writer.note(worker)
    database.close()


def _drop(path: str, events: int) -> None:
    database = open_database(path, write=True)
    Writer(database, 3600, NOW).write([], [], {int(NOW - 60) // 3600 * 3600: events})
    database.close()
