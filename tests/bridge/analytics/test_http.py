"""The questions over HTTP: the same answers as in Python, and clear refusals."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from bridge.analytics import EventsAPI, Filters, open_events
from bridge.analytics.http import QUESTIONS
from tests.bridge.analytics.conftest import write
from tests.bridge.analytics.samples import DAY, START, TOKEN, challenged, paid

pytestmark = pytest.mark.anyio
SPAN = f"since={int(START)}&until={int(START + DAY)}"


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = f"{tmp_path}/events.sqlite3"
    write(path, [challenged(START), *paid(START, "p", "0x01", "mpp"), *paid(START + 5, "q", "0x02", "x402-v1")])
    return path


@pytest.fixture
async def client(path: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(EventsAPI(path, clock=lambda: START + 3600))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as opened:
        yield opened


@pytest.mark.parametrize("question", QUESTIONS)
async def test_every_question_is_answered(question: str, client: httpx.AsyncClient) -> None:
    """In JSON that no cache keeps."""
    answer = await client.get(f"/analytics/{question}?protocol=x402-v1")
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() is not None


async def test_as_in_python(path: str, client: httpx.AsyncClient) -> None:
    """Spans, filters and breakdowns are the same."""
    told: dict[str, Any] = (await client.get(f"/report?{SPAN}&protocol=mpp&by=route")).json()
    with open_events(path) as events:
        found = events.report(since=START, until=START + DAY, filters=Filters(protocol="mpp"), by="route")
        left = events.readiness("x402-v1", since=START, until=START + DAY)
    assert told == msgspec.to_builtins(found)
    assert (await client.get(f"/readiness?{SPAN}&protocol=x402-v1")).json() == msgspec.to_builtins(left)
    tail = (await client.get("/tail?limit=2")).json()
    assert [row["fact"]["kind"] for row in tail] == ["payment.settled", "payment.delivered"]
    assert (await client.get(f"/tail?after={tail[0]['id']}")).json() == tail[1:]


async def test_what_there_is_to_narrow_to(url: str) -> None:
    """Every route, network, asset, protocol and client that was ever seen, each once and in order."""
    events = [
        challenged(START, agent="curl/8.1"),
        *paid(START, "p", "0x01", "mpp"),
        *paid(START, "q", "0x01", "x402-v1"),
    ]
    write(url, [*events, challenged(START + DAY, route="GET /b", agent="zip/1.0")])
    with open_events(url) as opened:
        assert opened.names() == {
            "route": ["GET /b", "GET /report"],
            "network": ["eip155:84532"],
            "asset": [TOKEN],
            "protocol": ["mpp", "x402-v1", "x402-v2"],
            "product": ["curl", "zip"],
            "version": ["1.0", "8.1"],
        }


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("nothing", 404),
        ("report?by=payer", 400),
        ("report?since=yesterday", 400),
        ("report?since=2026-02-01&until=2026-01-01", 400),
        ("report?since=2026-02-01&window=3d", 400),
        ("report?window=0d", 400),
        ("readiness?protocol=x402-v9", 400),
        ("shares?step=1s&window=90d", 400),
        ("tail?limit=-1", 400),
        ("tail?after=many", 400),
    ],
)
async def test_what_cannot_be_asked(query: str, status: int, client: httpx.AsyncClient) -> None:
    """A problem that says what is wrong."""
    answer = await client.get(f"/{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_methods(client: httpx.AsyncClient) -> None:
    """Questions are asked with GET; HEAD has the length and no body."""
    refused = await client.post("/report")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    head = await client.head(f"/report?{SPAN}")
    assert (head.status_code, head.content) == (200, b"")


async def test_a_store_that_is_away() -> None:
    """A 503."""
    transport = httpx.ASGITransport(EventsAPI("/nowhere/at/all.sqlite3"))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        assert (await client.get("/report")).status_code == 503
