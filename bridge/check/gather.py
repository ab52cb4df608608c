"""The requests that make a probe: the route as its clients ask it, and around it what browsers and crawlers ask."""

from collections.abc import Sequence
from urllib.parse import urljoin

from msgspec.structs import replace

from bridge.check.network import Network, Request
from bridge.check.tokens import token_facts
from bridge.clock import Clock
from translators.lint.probe import Probe
from translators.lint.reading import Reading
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["ORIGIN", "gather"]

ORIGIN = "https://x402-mpp-check.example"
"""The page that the second request says it comes from: a name that is nobody's (RFC 2606)."""

_ASKED_FOR = ", ".join(
    name.lower() for name in (mpp.CREDENTIAL_HEADER, x402_v2.CREDENTIAL_HEADER, x402_v1.CREDENTIAL_HEADER)
)
_DOCUMENT_BYTES = 4 * 1024 * 1024


async def gather(
    network: Network,
    request: Request,
    *,
    clock: Clock,
    rpc_url: str | None = None,
    expected: Sequence[Protocol] = (),
) -> tuple[Probe, list[str]]:
    """The probe of a route, and notes on what was not asked. Raises `CheckError`.

    Where the first answer is no 402, nothing else is asked: the route's work may have been done.
    """
    answer = await network.ask(request.method, request.url, headers=request.headers, body=request.body)
    probe = Probe(request.url, request.method, clock(), answer, request.body, expected=tuple(expected))
    if answer.status != 402:
        return probe, []
    url, headers = answer.url, request.headers_for(answer.url)
    asked = (("Access-Control-Request-Method", request.method), ("Access-Control-Request-Headers", _ASKED_FOR))
    origin = ("Origin", ORIGIN)
    probe = replace(
        probe,
        again=await network.ask(request.method, url, headers=(*headers, origin), body=request.body),
        preflight=await network.ask("OPTIONS", url, headers=(origin, *asked), limit=0),
        head=await network.ask("HEAD", url, headers=headers, limit=0) if request.method == "GET" else None,
        openapi=await network.ask("GET", urljoin(url, "/openapi.json"), limit=_DOCUMENT_BYTES),
    )
    if rpc_url is None:
        return probe, []
    tokens, notes = await token_facts(network, rpc_url, Reading(probe))
    return replace(probe, tokens=tokens), notes
