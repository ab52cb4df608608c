"""An upstream's 402 with the challenges that it lacks: what it said stays, and every generation of client can read it.

The upstream's own words are not touched, except that its address becomes the public one.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from translators.auth_params import format_challenge, parse_challenges
from translators.encoding import b64_decode, b64_encode, json_decode
from translators.errors import PaymentError
from translators.levers import Doors
from translators.networks import caip2, chain_id_from_network, v1_network
from translators.payment import Protocol
from translators.upstream import Demand, seal_terms
from translators.wire import x402_v1, x402_v2

__all__ = ["Place", "complete", "description_of", "naming", "payable", "restored_url"]

Headers = list[tuple[bytes, bytes]]

_UNPAID_V1 = f"{x402_v1.CREDENTIAL_HEADER} header is required"
_UNPAID_V2 = f"{x402_v2.CREDENTIAL_HEADER} header is required"
_ENCODER = msgspec.json.Encoder()
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_OF_THE_BODY = (
    *(b"content-type", b"content-length", b"content-encoding", b"content-md5", b"content-digest", b"digest", b"etag"),
    *(b"repr-digest", b"last-modified", b"accept-ranges"),
)
_OF_A_CHALLENGE = (
    (1, Protocol.X402_V1, ("x402Version", "error", "accepts")),
    (2, Protocol.X402_V2, ("x402Version", "error", "accepts", "resource", "extensions")),
)
"""A body's `x402Version`, its protocol, and the members that make it a challenge."""
_CHALLENGES = {
    Protocol.MPP: b"www-authenticate",
    Protocol.X402_V2: b"payment-required",
    Protocol.X402_V1: b"x-payment-required",
}
_NOTHING: frozenset[Protocol] = frozenset()
_EVERYTHING = frozenset(Protocol)
_REPLACED = (b"cache-control", b"pragma", b"expires", b"access-control-expose-headers", b"x-payment-required")


class Place(msgspec.Struct, frozen=True):
    """Where an upstream is, and where clients find it. Both are origins with a path, without a slash at their end."""

    own: str
    public: str
    url: str
    """The public URL of this request's resource."""

    def to_public(self, url: str) -> str:
        """What the upstream calls its own, as clients reach it; any other URL as it is."""
        found = self.split(url)
        return self.public + found[1] if found is not None else url

    def split(self, url: str) -> tuple[str, str] | None:
        """Where the upstream says that it is, and the rest of one of its URLs; None for anybody else's.

        It may know its own address, or the public one that it is called by, and it knows its own paths.
        """
        try:
            at, own, public = urlsplit(url), urlsplit(self.own), urlsplit(self.public)
        except ValueError:
            return None
        if at.scheme not in ("http", "https"):
            return None
        known = {(own.netloc, own.path), (public.netloc, public.path), (public.netloc, own.path)}
        for netloc, path in sorted(known, key=lambda place: -len(place[1])):
            # A server behind a proxy often does not know which scheme it is reached by.
            if at.netloc.lower() == netloc.lower() and (at.path == path or at.path.startswith(path + "/")):
                rest = at.path[len(path) :] + (f"?{at.query}" if at.query else "")
                return f"{at.scheme}://{at.netloc}{path}", rest
        return None


def naming(demand: Demand, place: Place) -> str | None:
    """Where an x402 v2 challenge says that the upstream is; None where that is what clients say, or it says nothing."""
    url = (demand.v2.resource or {}).get("url") if demand.v2 is not None else None
    found = place.split(url) if isinstance(url, str) else None
    return found[0] if found is not None and place.to_public(str(url)) != url else None


def restored_url(token: bytes, place: Place, named: str) -> bytes:
    """An x402 v2 credential that names its resource as the upstream does, which is at `named`; unchanged otherwise."""
    try:
        payload = json_decode(b64_decode(token, x402_v2.CREDENTIAL_HEADER), _OBJECT, x402_v2.CREDENTIAL_HEADER)
    except PaymentError:
        return token
    resource = payload.get("resource")
    url = resource.get("url") if isinstance(resource, dict) else None
    if not isinstance(resource, dict) or not isinstance(url, str) or not url.startswith(place.public):
        return token
    own = named + url[len(place.public) :]
    return b64_encode(_ENCODER.encode({**payload, "resource": {**resource, "url": own}})).encode()


def description_of(demand: Demand) -> str:
    """What the upstream says that it sells."""
    told: Any = (demand.v2.resource or {}).get("description") if demand.v2 is not None else None
    if not told and demand.v1 is not None and demand.v1.accepts:
        told = demand.v1.accepts[0].get("description")
    return told if isinstance(told, str) else ""


def payable(demand: Demand, adds: Collection[Protocol]) -> frozenset[Protocol]:
    """The protocols that the whole 402 can be paid in, where those of `adds` may be added."""
    found = {Protocol.MPP} if demand.has_mpp else set()
    if Protocol.MPP in adds and any(seal_terms(terms) is not None for terms in demand.terms):
        found.add(Protocol.MPP)
    if demand.v2.accepts if demand.v2 is not None else Protocol.X402_V2 in adds and demand.terms:
        found.add(Protocol.X402_V2)
    says_v1 = Protocol.X402_V1 in adds and any(_network_v1(terms.entry) is not None for terms in demand.terms)
    if demand.v1.accepts if demand.v1 is not None else says_v1:
        found.add(Protocol.X402_V1)
    return frozenset(found)


def complete(
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes | None,
    demand: Demand,
    place: Place,
    *,
    adds: Collection[Protocol],
    challenges: Sequence[bytes],
    problem: Mapping[str, object],
    refused: str | None,
    exposed: bytes,
    doors: Doors | None = None,
) -> tuple[Headers, bytes | None]:
    """The headers and body of the whole 402; None for a body that stays as it came.

    `adds` are the protocols that may be added, `challenges` MPP's, as header values. `problem` is what an MPP client
    reads in the body. `refused` is the reason why a payment was not taken, for x402; None where none came. `exposed` is
    what browsers' scripts may read. `doors` are what the levers leave of all this for the client, the upstream's own
    challenges included; None where none was moved.
    """
    hidden = _NOTHING if doors is None else _EVERYTHING.difference(doors.offered)
    says_v1 = (demand.v1 is not None or Protocol.X402_V1 in adds) and Protocol.X402_V1 not in hidden
    v1 = _v1(demand, place, refused) if says_v1 else None
    merged = _body(headers, body, demand, v1, problem, hidden, is_refusal=refused is not None)
    out: Headers = [(b"www-authenticate", value) for value in challenges if Protocol.MPP not in hidden]
    told_v2 = Protocol.X402_V2 in hidden
    exposes = [exposed]
    for name, value in headers:
        lower = name.lower()
        if lower in _REPLACED or (merged is not None and lower in _OF_THE_BODY):
            if lower == b"access-control-expose-headers":
                exposes.insert(0, value)
        elif lower == b"www-authenticate" and Protocol.MPP in hidden:
            out += [(name, other) for other in _not_mpp(value)]
        elif lower == b"payment-required":
            if Protocol.X402_V2 in hidden:
                continue
            told_v2 = True
            out.append((name, value if demand.v2 is None or naming(demand, place) is None else _public(demand, place)))
        else:
            out.append((name, value))
    says_v2 = demand.v2 is not None or Protocol.X402_V2 in adds
    if not told_v2 and says_v2 and (v2 := _v2(demand, place, refused)) is not None:
        out.append((b"payment-required", x402_v2.encode_payment_required(v2).encode()))
    if v1 is not None:
        out.append((b"x-payment-required", b64_encode(_ENCODER.encode(v1)).encode()))
    if merged is not None:
        out += [(b"content-type", b"application/problem+json"), (b"content-length", str(len(merged)).encode())]
    out += [
        (b"cache-control", b"no-store"),
        (b"access-control-expose-headers", b"*" if b"*" in exposes else b", ".join(exposes)),
    ]
    if doors is not None and doors.preferred is not None:
        first = _CHALLENGES[doors.preferred]
        out.sort(key=lambda item: item[0].lower() != first)
    return out, merged


def _not_mpp(value: bytes) -> list[bytes]:
    """A `WWW-Authenticate` line without what it asks in MPP; no line where it asks for nothing else."""
    try:
        found = parse_challenges(value.decode("latin-1"))
        others = [challenge for challenge in found if challenge.scheme.lower() != "payment"]
        if len(others) == len(found):
            return [value]
        return [
            (f"{at.scheme} {at.token68}" if at.token68 else format_challenge(at.scheme, at.params)).encode("latin-1")
            for at in others
        ]
    except (PaymentError, ValueError):
        return [] if value[:7].lower() == b"payment" else [value]


def _body(
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes | None,
    demand: Demand,
    v1: dict[str, Any] | None,
    problem: Mapping[str, object],
    hidden: Collection[Protocol],
    *,
    is_refusal: bool,
) -> bytes | None:
    """What everybody reads in the body; None where a person is to read it, or another kind of program."""
    if body is None:
        # Nobody here can read it. What programs read of it may be a challenge that is not to be seen.
        if not hidden or b"json" not in _kind(headers):
            return None
    elif demand.body is None and body.strip() and not _kind(headers).startswith(b"text/plain"):
        return None
    said = demand.body or {}
    for version, protocol, members in _OF_A_CHALLENGE if hidden else ():
        if said.get("x402Version") == version and protocol in hidden:
            said = {name: value for name, value in said.items() if name not in members}
    content = {**said, **problem} if is_refusal else {**problem, **said}
    if v1 is None and "x402Version" in problem:
        # For clients of v1, which read nothing else: that nothing can be paid in it.
        v1 = {name: problem[name] for name in ("x402Version", "accepts")}
    return _ENCODER.encode({**content, **(v1 or {})})


def _kind(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return next((value for name, value in headers if name.lower() == b"content-type"), b"text/plain").lower()


def _public(demand: Demand, place: Place) -> bytes:
    assert demand.v2 is not None
    return x402_v2.encode_payment_required(_at(demand.v2, place)).encode()


def _at(required: x402_v2.PaymentRequired, place: Place) -> x402_v2.PaymentRequired:
    resource = required.resource or {}
    if not isinstance(url := resource.get("url"), str):
        return required
    return msgspec.structs.replace(required, resource={**resource, "url": place.to_public(url)})


def _v1(demand: Demand, place: Place, refused: str | None) -> dict[str, Any] | None:
    """The v1 challenge: the upstream's own, or one of what v1 can say of its v2 challenge."""
    if demand.v1 is not None:
        accepts = [_entry_at(entry, place) for entry in demand.v1.accepts]
        error = refused or demand.v1.error
    else:
        accepts = [entry for terms in demand.terms if (entry := _entry_v1(terms.entry, demand, place)) is not None]
        error = refused or _UNPAID_V1
    if not accepts:
        return None
    return {"x402Version": 1, **({"error": error} if error is not None else {}), "accepts": accepts}


def _entry_at(entry: dict[str, Any], place: Place) -> dict[str, Any]:
    resource = entry.get("resource")
    return {**entry, "resource": place.to_public(resource)} if isinstance(resource, str) else entry


def _entry_v1(entry: dict[str, Any], demand: Demand, place: Place) -> dict[str, Any] | None:
    """An entry of v2 as v1 says it; None on a network that v1 has no name for."""
    network = _network_v1(entry)
    if network is None:
        return None
    resource = (demand.v2.resource if demand.v2 is not None else None) or {}
    url = resource.get("url")
    return {
        "scheme": entry["scheme"],
        "network": network,
        "maxAmountRequired": entry["amount"],
        "resource": place.to_public(url) if isinstance(url, str) else place.url,
        "description": _text(resource.get("description")),
        "mimeType": _text(resource.get("mimeType")),
        "payTo": entry["payTo"],
        "maxTimeoutSeconds": entry["maxTimeoutSeconds"],
        "asset": entry["asset"],
        "extra": entry.get("extra") or {},
    }


def _network_v1(entry: dict[str, Any]) -> str | None:
    chain_id = _chain_id(entry["network"])
    return v1_network(chain_id) if chain_id is not None else None


def _v2(demand: Demand, place: Place, refused: str | None) -> x402_v2.PaymentRequired | None:
    """The v2 challenge of an upstream that has none in its headers."""
    if demand.v2 is not None:
        return _at(demand.v2, place)
    accepts = [_entry_v2(terms.entry) for terms in demand.terms]
    if not accepts:
        return None
    first = demand.terms[0].entry
    # The request's own URL: v1 has a resource for each entry, v2 has one, and clients send it back.
    info = x402_v2.ResourceInfo(
        url=place.url,
        description=_text(first.get("description")) or None,
        mime_type=_text(first.get("mimeType")) or None,
    )
    return x402_v2.PaymentRequired(
        x402_version=2, error=refused or _UNPAID_V2, resource=msgspec.to_builtins(info), accepts=accepts
    )


def _entry_v2(entry: dict[str, Any]) -> dict[str, Any]:
    chain_id = _chain_id(entry["network"])
    assert chain_id is not None
    return {
        "scheme": entry["scheme"],
        "network": caip2(chain_id),
        "amount": entry["maxAmountRequired"],
        "asset": entry["asset"],
        "payTo": entry["payTo"],
        "maxTimeoutSeconds": entry["maxTimeoutSeconds"],
        "extra": entry.get("extra") or {},
    }


def _chain_id(network: str) -> int | None:
    try:
        return chain_id_from_network(network)
    except PaymentError:
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
