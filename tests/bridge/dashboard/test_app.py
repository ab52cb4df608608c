"""The dashboard as an application: who may look, what a browser is told, and that nothing can be changed."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from bridge.analytics import Filters, open_events
from bridge.analytics.http import QUESTIONS
from bridge.dashboard import Dashboard, Part, StoreHealth, find_levers
from bridge.dashboard.app import HEADERS
from bridge.dashboard.files import read_files
from bridge.dashboard.guard import LOOPBACK_NAMES
from bridge.levers.sources import source_from_spec
from bridge.stores import MemoryStore, Record
from bridge.testing import FixedClock
from tests.bridge.analytics.conftest import write
from tests.bridge.analytics.samples import DAY, START, TOKEN, challenged, paid, rejected
from tests.bridge.dashboard.market import NOW
from tests.layers import ROOT
from translators.errors import Unavailable
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset

pytestmark = pytest.mark.anyio

STATIC = ROOT / "bridge/dashboard/static"
TOKEN_TEXT = "sixteen letters at least"
OWN = ["about", "health", "levers"]


async def get(app: Dashboard, path: str, method: str = "GET", **more: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, root_path=more.pop("root_path", ""))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=more.pop("at", "http://127.0.0.1")) as client:
        return await client.request(method, path, **more)


def shown(market: str, **more: Any) -> Dashboard:
    return Dashboard(market, **({"token": None, "clock": FixedClock(NOW)} | more))


@pytest.mark.parametrize("name", ["", *(name for name in read_files() if name != "index.html")])
async def test_the_page_and_its_files(name: str, market: str) -> None:
    """Each with its media type and a policy that lets a browser load nothing from elsewhere; asked for again by tag."""
    answer = await get(shown(market), f"/{name}")
    assert answer.status_code == 200
    assert dict(HEADERS).items() <= dict(answer.headers.raw).items()
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert len(answer.content) == int(answer.headers["content-length"]) < 60_000
    again = await get(shown(market), f"/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("question", [*QUESTIONS, *OWN])
async def test_every_question(question: str, market: str) -> None:
    """JSON that no cache keeps and no browser takes for a page."""
    answer = await get(shown(market), f"/api/{question}?protocol=x402-v1&window=30d")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert dict(HEADERS).items() <= dict(answer.headers.raw).items()
    assert answer.json() or question == "workers"


async def test_the_figures_are_the_reports(market: str) -> None:
    """The JSON is the analytics' own, on the dashboard's clock."""
    told = (await get(shown(market), "/api/report?window=7d&protocol=mpp&by=client")).json()
    with open_events(market) as events:
        found = events.report(since=NOW - 7 * DAY, until=NOW, filters=Filters(protocol="mpp"), by="client")
    assert told == msgspec.to_builtins(found)
    assert told["total"]["settled"] > 50


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/report", "/api/levers", "/api/nothing"])
async def test_it_is_only_read(method: str, path: str, market: str) -> None:
    """No other method is answered, on no path."""
    answer = await get(shown(market), path, method)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


async def test_reading_leaves_the_file_as_it_is(market: str) -> None:
    """Every question is asked, and not a byte of the events is another one."""
    before = digest(market)
    for question in (*QUESTIONS, *OWN):
        await get(shown(market), f"/api/{question}?protocol=mpp")
    assert digest(market) == before


async def test_head(market: str) -> None:
    """The headers alone."""
    for path in ("/", "/api/report?window=7d", "/api/about"):
        answer = await get(shown(market), path, "HEAD")
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 100


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/nothing", "/api/x/report", "/static/main.js", "/../app.py", "/api/"]
)
async def test_what_is_not_there(path: str, market: str) -> None:
    """A problem in words, under the same policy."""
    answer = await get(shown(market), path)
    assert answer.status_code == 404
    assert answer.json()["detail"]
    assert dict(HEADERS).items() <= dict(answer.headers.raw).items()


# Who may look


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize("sent", [f"Bearer {TOKEN_TEXT}", f"bearer {TOKEN_TEXT}", basic(TOKEN_TEXT)])
async def test_the_token_lets_in(sent: str, market: str) -> None:
    """As a bearer's, or as the password that a browser asks for."""
    app = shown(market, token=TOKEN_TEXT)
    for path in ("/", "/main.js", "/api/report", "/api/health"):
        assert (await get(app, path, headers={"authorization": sent})).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN_TEXT}x",
        TOKEN_TEXT,
        basic("x"),
        basic(""),
        "Basic !",
        "Basic /w==",
    ],
)
@pytest.mark.parametrize("path", ["/", "/main.js", "/api/report", "/api/health", "/api/nothing", "/nothing"])
async def test_nothing_without_the_token(sent: str | None, path: str, market: str) -> None:
    """No page, file or figure; a browser is told to ask for it."""
    answer = await get(shown(market, token=TOKEN_TEXT), path, headers={} if sent is None else {"authorization": sent})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert set(answer.json()) == {"type", "status", "detail"}


@pytest.mark.parametrize("token", ["", "fifteen letters", "a line\nand another", "mehr als sechzehn Zeichen: ü"])
def test_a_token_that_guards_nothing(token: str, market: str) -> None:
    """Is refused at the start."""
    with pytest.raises(ValueError, match="token"):
        shown(market, token=token)


async def test_only_by_this_machines_own_name(market: str) -> None:
    """A page elsewhere that points a name of its own at this machine learns nothing."""
    app = shown(market, hosts=LOOPBACK_NAMES)
    for at in ("http://127.0.0.1:8480", "http://localhost", "http://[::1]:8480"):
        assert (await get(app, "/api/report", at=at)).status_code == 200
    for at in ("http://evil.example:8480", "http://127.0.0.1.evil.example", "http://localhost.evil.example"):
        assert (await get(app, "/api/report", at=at)).status_code == 421


# What is hostile


async def test_markup_stays_text(tmp_path: Path) -> None:
    """What clients send is told in JSON as it is, which no browser takes for a page; no page holds any of it."""
    evil = "<img src=x onerror=alert(1)></script>"
    path = f"{tmp_path}/events.sqlite3"
    write(path, [challenged(START, route=evil), rejected(START, "mpp", evil, "verify", agent=f"evil/{evil}")])
    app = Dashboard(path, token=None, clock=FixedClock(START + 60))
    answer = await get(app, "/api/report?by=route")
    assert evil in answer.json()["groups"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    page = await get(app, f"/?{evil}")
    assert (page.status_code, page.text.count("onerror")) == (200, 0)
    assert (await get(app, f"/{evil}")).headers["content-type"] == "application/problem+json"


def test_no_script_writes_markup() -> None:
    """Texts become text nodes: none of our scripts has a way to make markup or code of one."""
    for script in STATIC.glob("*.js"):
        if script.name != "uplot.js":
            for word in (
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                "srcdoc",
            ):
                assert word not in script.read_text("utf-8"), f"{script.name}: {word}"
    page = (STATIC / "index.html").read_text("utf-8")
    assert not re.search(r"\son\w+=|style=|<script>|<style", page)


def test_nothing_names_another_host() -> None:
    """No file has the address of another host in it, but for names of namespaces and where the charts come from."""
    for file in STATIC.iterdir():
        found = set(re.findall(r"https?://[\w.-]+", file.read_text("utf-8")))
        assert found <= {"http://www.w3.org", "https://github.com"}, file.name


def test_the_charts_library_is_what_was_fetched() -> None:
    """The files are those of the release that the page about it names, byte for byte."""
    said = (STATIC / "uplot-origin.txt").read_text("utf-8")
    for name in ("uplot.js", "uplot.css", "uplot-license.txt"):
        assert f"{hashlib.sha256((STATIC / name).read_bytes()).hexdigest()}  {name}" in said
    assert "MIT" in (STATIC / "uplot-license.txt").read_text("utf-8")


# Where it stands


@pytest.mark.parametrize(
    ("path", "root_path", "raw", "expected"),
    [
        ("", "", "/", ""),
        ("/payments", "", "/payments", "payments/"),
        ("/payments", "", "/payments/", ""),
        ("", "/tools", "/tools/", ""),
        ("/payments", "/tools", "/tools/payments", "payments/"),
    ],
)
async def test_links_lead_to_the_files(path: str, root_path: str, raw: str, expected: str, market: str) -> None:
    """From below any path, with a slash at its end or without, and behind a proxy that strips what stands before it."""
    app = shown(market, path=path)
    page = await get(app, raw, root_path=root_path)
    assert f'src="{expected}main.js"' in page.text
    for link in re.findall(r'(?:src|href)="([^#"]+)"', page.text):
        assert (
            await get(app, str(httpx.URL(f"http://here{raw}").join(link).path), root_path=root_path)
        ).status_code == 200


async def test_mounted_in_fastapi(market: str) -> None:
    """As an application of its own, below whatever path."""
    app = FastAPI()
    app.mount("/payments", shown(market))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here", follow_redirects=True) as client:
        for path in ("/payments", "/payments/", "/payments/main.js", "/payments/api/report"):
            assert (await client.get(path)).status_code == 200, path
        assert 'src="main.js"' in (await client.get("/payments")).text
        assert (await client.get("/payments/nothing")).status_code == 404


# What the event store does not know


async def test_tokens_have_their_decimals(market: str) -> None:
    """Those that are known, and the application's own before them."""
    own = Asset(84532, "0x" + "12" * 20, 18, "Own Token", "1")
    told = (await get(shown(market, assets=lambda: [own]), "/api/about")).json()
    assert told["tokens"][0] == {
        "network": "eip155:84532",
        "network_name": "base-sepolia",
        "address": own.address,
        "decimals": 18,
        "symbol": "Own Token",
    }
    assert len(told["tokens"]) == 1 + len(KNOWN_TOKENS)


async def test_amounts_are_exact(tmp_path: Path) -> None:
    """An amount beyond what JSON's readers keep comes as text, in sums and in the tail."""
    amount = str(2**60 + 1)
    path = f"{tmp_path}/events.sqlite3"
    write(path, paid(START, "p", "0x01", "mpp", amount=amount))
    app = Dashboard(path, token=None, clock=FixedClock(START + 60))
    assert (await get(app, "/api/report")).json()["total"]["revenue"] == {TOKEN: amount}
    assert {row["fact"]["amount"] for row in (await get(app, "/api/tail")).json()} == {amount}


class Away(MemoryStore):
    """A store that does not answer."""

    async def records(self, *, states: Any = (), limit: int = 100) -> list[Record]:
        raise Unavailable("The payment store does not answer.")


async def parts(app: Dashboard) -> dict[str, Any]:
    return {part["name"]: part for part in (await get(app, "/api/health")).json()["parts"]}


async def test_health(market: str, tmp_path: Path) -> None:
    """Who is asked says how they do; who nobody can ask is not known; an event store that is away is told."""
    found = await parts(shown(market))
    assert {name: part["state"] for name, part in found.items()} == {
        "settler": "unknown",
        "store": "unknown",
        "events": "ok",
    }
    found = await parts(shown(f"{tmp_path}/none.sqlite3", health=StoreHealth(MemoryStore())))
    assert (found["store"]["state"], found["store"]["figures"]) == (
        "ok",
        {"claimed": 0, "settling": 0, "unknown": 0, "left behind": 0},
    )
    assert found["events"]["state"] == "away"
    found = await parts(shown(market, health=StoreHealth(Away())))
    assert (found["store"]["state"], found["store"]["detail"]) == ("away", "The payment store does not answer.")


async def test_health_that_asks_itself(market: str) -> None:
    """Anything that has parts can say how they do; it is closed with the dashboard."""

    class Own:
        closed = False

        async def parts(self) -> Sequence[Part]:
            return (Part("settler", "away", "no gas"),)

        async def close(self) -> None:
            self.closed = True

    own = Own()
    app = shown(market, health=own)
    assert (await parts(app))["settler"]["detail"] == "no gas"
    await app.close()
    assert own.closed


async def test_levers(market: str, tmp_path: Path) -> None:
    """From a file: the stages now, what comes next, and who changed what; a file that makes no sense is told."""
    file = tmp_path / "levers.toml"
    file.write_text(
        '[levers."*"]\nx402-v1 = { stage = "deprecated", refused_from = 2027-03-01 }\n'
        '[[change]]\nat = 2026-10-01T00:00:00Z\nby = "ana"\nlevers."GET /prices".mpp = "preferred"\n'
    )
    app = shown(market, levers=find_levers(source_from_spec(str(file)), FixedClock(NOW)))
    told = (await get(app, "/api/levers")).json()
    stages = {(row["route"], row["protocol"]): row for row in told["stages"]}
    assert stages["*", "x402-v1"]["stage"] == "deprecated"
    assert stages["*", "x402-v1"]["next"] == {"at": "2027-03-01T00:00:00Z", "stage": "refused"}
    assert stages["GET /prices", "mpp"]["stage"] == "preferred"
    assert [(change["by"], change["undo"]) for change in told["changes"]] == [("ana", False)]
    file.write_text("levers = 3")
    told = (await get(app, "/api/levers")).json()
    assert (told["stages"], told["changes"]) == ([], [])
    assert told["problem"]


async def test_levers_from_events_alone(market: str) -> None:
    """What the servers told last."""
    told = (await get(shown(market), "/api/levers")).json()
    assert told["source"] == "events"
    assert {(row["route"], row["protocol"]): row["stage"] for row in told["stages"]} == {
        ("*", "mpp"): "preferred",
        ("*", "x402-v1"): "deprecated",
        ("GET /prices", "x402-v1"): "deprecated",
    }


async def test_a_store_that_is_away() -> None:
    """503 where figures are asked for, and the page all the same."""
    app = Dashboard("/nowhere/at/all.sqlite3", token=None)
    assert (await get(app, "/")).status_code == 200
    assert (await get(app, "/api/report")).status_code == 503
    assert (await get(app, "/api/levers")).json()["problem"]
    assert (await get(app, "/api/health")).status_code == 200
