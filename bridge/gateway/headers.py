"""Which headers go on, and what a proxy adds to them (RFC 9110, section 7.6; RFC 7239)."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from bridge.trailers import announcement, takes_trailers

__all__ = [
    "CREDENTIALS",
    "Headers",
    "Peer",
    "TrustedProxies",
    "allowing_payments",
    "named_in_connection",
    "request_headers",
    "response_headers",
    "without",
]

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authorization", b"proxy-authentication-info"),
    )
)
_FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"))
_FORWARDED_MORE = _FORWARDED | {b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-server", b"x-forwarded-ssl"}
_REPLACED = _FORWARDED_MORE | {b"host", b"expect"}

CREDENTIALS = frozenset((b"x-payment", b"payment-signature", b"payment-authorization"))
"""What carries a payment, besides `Authorization: Payment`."""

VIA = (b"via", b"1.1 x402-mpp")


class Peer:
    """Who sent a request: the address, and how he reached us, as far as it is to be believed."""

    __slots__ = ("address", "forwarded", "host", "proto")

    def __init__(self, address: str, proto: str | None, host: str | None, forwarded: Headers) -> None:
        self.address = address
        """The client's; of a trusted proxy's client, what the proxy says."""
        self.proto = proto
        self.host = host
        self.forwarded = forwarded
        """What a trusted proxy said, to be added to."""


class TrustedProxies:
    """The proxies whose word about their clients counts: addresses, networks (`10.0.0.0/8`), or `unix`."""

    def __init__(self, proxies: Sequence[str]) -> None:
        self._unix = "unix" in proxies
        # Raises `ValueError` for what is neither.
        self._networks = [ipaddress.ip_network(proxy, strict=False) for proxy in proxies if proxy != "unix"]

    def __contains__(self, address: str) -> bool:
        """Whether this is one of them."""
        if not address:
            return self._unix
        try:
            at = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        at = getattr(at, "ipv4_mapped", None) or at
        return any(at in network for network in self._networks)

    def peer(self, scope: Any) -> Peer:
        """Who sent this request."""
        address: str = (scope.get("client") or ("",))[0] or ""
        if not (self._networks or self._unix) or address not in self:
            return Peer(address, None, None, [])
        told = [(name, value) for name, value in scope["headers"] if name in _FORWARDED_MORE]
        says = dict(told)
        client = self._client(says.get(b"x-forwarded-for", b"").decode("latin-1")) or address
        proto = says.get(b"x-forwarded-proto", b"").decode("latin-1").rpartition(",")[2].strip().lower()
        host = says.get(b"x-forwarded-host", b"").decode("latin-1").rpartition(",")[2].strip()
        return Peer(client, proto if proto in ("http", "https") else None, host or None, told)

    def _client(self, chain: str) -> str | None:
        """The last of `X-Forwarded-For` that is not a trusted proxy: what stands before it anybody could write."""
        addresses = [part.strip() for part in chain.split(",") if part.strip()]
        for address in reversed(addresses):
            if address not in self:
                return address
        return addresses[0] if addresses else None


def named_in_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The names, in lower case, that `Connection` has: they are for the next hop alone (RFC 9110, section 7.6.1)."""
    named: set[bytes] = set()
    for name, value in headers:
        if name.lower() == b"connection":
            named.update(part.strip().lower() for part in value.split(b","))
    return frozenset(named)


def request_headers(scope: Any, peer: Peer, *, host: bytes, public_host: bytes, proto: bytes) -> Headers:
    """What goes on to an upstream of a request's headers. `host` is what the upstream is called by."""
    headers = scope["headers"]
    out: Headers = [(b"host", host)]
    hops: set[bytes] = set()
    trails = False
    for name, value in headers:
        if name in _HOP_BY_HOP:
            hops.add(name)
            trails = trails or (name == b"te" and _takes_trailers(value))
        elif name not in _REPLACED:
            out.append((name, value))
    if b"connection" in hops:
        dropped = named_in_connection(headers) - {b"close", b"keep-alive", b"host"}
        out = [item for item in out if item[0] not in dropped]
    if b"transfer-encoding" in hops:
        # How the body is framed is each hop's own affair, and whether there is one is not.
        out = [item for item in out if item[0] != b"content-length"]
        out.append((b"transfer-encoding", b"chunked"))
        out += announcement(headers)
    if trails and takes_trailers(scope):
        # RFC 9110, section 10.1.4: an intermediary says so for itself and for the client behind it.
        out += [(b"te", b"trailers"), (b"connection", b"te")]
    client = (scope.get("client") or ("",))[0] or ""
    if peer.forwarded:
        out += [item for item in peer.forwarded if item[0] not in _FORWARDED]
        out += _forwarding(client, public_host, proto, dict(peer.forwarded))
    else:
        out += _first_forwarding(client, public_host, proto)
    return out


@lru_cache(maxsize=1024)
def _first_forwarding(client: str, public_host: bytes, proto: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What is said of whoever comes directly: the same for each of his requests."""
    return _forwarding(client, public_host, proto, {})


def _forwarding(
    client: str, public_host: bytes, proto: bytes, told: Mapping[bytes, bytes]
) -> tuple[tuple[bytes, bytes], ...]:
    """What a proxy says of where a request comes from, behind what another one `told` before it."""
    chain = told.get(b"x-forwarded-for")
    own = client.encode("latin-1", "ignore") or b"unknown"
    element = b"for=%b;host=%b;proto=%b" % (_node(client), _quoted(public_host), proto)
    before = told.get(b"forwarded")
    return (
        (b"x-forwarded-for", chain + b", " + own if chain else own),
        (b"x-forwarded-proto", told.get(b"x-forwarded-proto") or proto),
        (b"x-forwarded-host", told.get(b"x-forwarded-host") or public_host),
        (b"forwarded", before + b", " + element if before else element),
        VIA,
    )


def _takes_trailers(te: bytes) -> bool:
    return any(part.strip().lower() == b"trailers" for part in te.split(b","))


def _node(address: str) -> bytes:
    """RFC 7239, section 6: an IPv6 address stands in brackets and quotes."""
    if not address:
        return b"unknown"
    text = address.encode("latin-1", "ignore")
    return b'"[%b]"' % text if b":" in text else text


def _quoted(text: bytes) -> bytes:
    return b'"%b"' % text if b":" in text or b"[" in text else text


def response_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What goes on to the client of an upstream's headers."""
    kept: Headers = []
    names_more = False
    for item in headers:
        name = item[0].lower()
        if name not in _HOP_BY_HOP:
            kept.append(item)
        elif name == b"connection":
            names_more = True
    if names_more:
        dropped = named_in_connection(headers) - {b"close", b"keep-alive"}
        kept = [item for item in kept if item[0].lower() not in dropped]
    return kept


def without(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes], *, mpp: bool = True) -> Headers:
    """The headers but for `names`; with `mpp`, without an MPP credential either."""
    gone = frozenset(names)
    return [
        item
        for item in headers
        if (name := item[0].lower()) not in gone and not (mpp and name == b"authorization" and _is_payment(item[1]))
    ]


def _is_payment(value: bytes) -> bool:
    return value[:8].lower() == b"payment " or value.lower() == b"payment"


def allowing_payments(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a preflight's answer, so that a browser that may pay the upstream may pay in every protocol.

    Only where the upstream lets it send a payment at all. A wildcard does not stand for `Authorization` (Fetch, section
    "CORS protocol and HTTP responses").
    """
    out: Headers = []
    for name, value in headers:
        if name.lower() == b"access-control-allow-headers":
            named = [part.strip() for part in value.split(b",") if part.strip()]
            known = {part.lower() for part in named}
            if b"*" in known or known & CREDENTIALS:
                wanted = [b"authorization"] if b"*" in known else [b"authorization", *sorted(CREDENTIALS)]
                value = b", ".join([*named, *(header for header in wanted if header not in known)])
        out.append((name, value))
    return out
