"""What a live server asks for: its 402 of each path, read in x402 v1, x402 v2 and MPP. Nothing is paid."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx

from bridge.importing.listing import listing_of
from bridge.importing.money import PriceUnknown, as_mapping
from bridge.importing.notes import Note, changed, lost
from bridge.importing.offered import Offered, Read, network_id
from bridge.importing.tokens import token_at
from translators.errors import MalformedError, PaymentError
from translators.networks import caip2
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["probe"]

SECONDS = 15.0
MPP_SECONDS = 300
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def probe(url: str, paths: Iterable[str]) -> Read:
    """Ask a server for each of `paths` (`/weather`, or `POST /echo`) below `url`; without paths, for `url` itself.

    Raises `ValueError` for a URL that is none, and where no path asks for payment.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url!r} is not the URL of a server")
    origin = f"{parts.scheme}://{parts.netloc}"
    asked = list(paths) or [parts.path or "/"]
    base = parts.path.rstrip("/") if paths else ""
    read = Read(public_url=origin)
    with httpx.Client(timeout=SECONDS, headers={"Accept": "application/json"}) as client:
        for pattern in asked:
            method, _, path = pattern.strip().rpartition(" ")
            method = (method or "GET").upper()
            key = f"{method} {base}{path}"
            if method not in _METHODS or not path.startswith("/"):
                raise ValueError(f"{pattern!r} is not a path: write /weather, or POST /weather")
            try:
                _read(read, f"{method} {unquote(base + path.partition('?')[0])}", origin + base + path, method, client)
            except httpx.HTTPError as error:
                read.refused[key] = f"no answer: {type(error).__name__}"
            except (PaymentError, PriceUnknown) as error:
                read.refused[key] = f"its 402 cannot be read: {error}"
    return read


def _read(read: Read, key: str, url: str, method: str, client: httpx.Client) -> None:
    with client.stream(method, url) as response:
        if response.status_code != 402:
            read.refused[key] = f"answered {response.status_code}, not 402"
            return
        body = b""
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > x402_v1.MAX_BODY_BYTES:
                raise MalformedError("the body is too long")
    offered, notes = Offered(key, [], frozenset()), list[Note]()
    if (header := response.headers.get(x402_v2.CHALLENGE_HEADER)) is not None:
        _read_v2(offered, notes, header, url)
    _read_v1(offered, notes, body, url)
    _read_mpp(offered, notes, response.headers.get_list(mpp.CHALLENGE_HEADER))
    if not offered.entries:
        read.refused[key] = "; ".join(note.says for note in notes) or "it asks for payment in no protocol known here"
        return
    if "{" in key or "*" in key:
        read.refused[key] = "a path with { or * cannot be written in a route table"
        return
    notes.append(changed(key, "path", "one path was asked for: write {name} for what differs from request to request"))
    read.offered.append(offered)
    read.notes += notes


def _read_v2(offered: Offered, notes: list[Note], header: str, url: str) -> None:
    required = x402_v2.decode_payment_required(header)
    offered.protocols |= {Protocol.X402_V2}
    resource = as_mapping(required.resource)
    _describe(offered, resource.get("url"), resource.get("description"), resource.get("mimeType"), url)
    offered.bazaar = listing_of(as_mapping(required.extensions).get("bazaar"), offered.key)
    notes += [
        lost(offered.key, f"extensions.{name}", "no challenge of ours carries this extension")
        for name in as_mapping(required.extensions)
        if name != "payment-identifier" and (name != "bazaar" or offered.bazaar is None)
    ]
    for entry in required.accepts:
        try:
            x402_v2.decode_requirements(entry, x402_v2.CHALLENGE_HEADER)
            _add(offered, {**entry, "network": network_id(entry["network"]), "extra": entry.get("extra") or {}})
        except (MalformedError, PriceUnknown) as error:
            notes.append(lost(offered.key, "accepts", _says(error)))


def _read_v1(offered: Offered, notes: list[Note], body: bytes, url: str) -> None:
    try:
        required = x402_v1.decode_payment_required(body)
    except PaymentError:
        # Every 402 has a body, and most of a later generation have another one.
        return
    if not required.accepts:
        return
    offered.protocols |= {Protocol.X402_V1}
    for said in required.accepts:
        try:
            entry = x402_v1.decode_requirements(said, "the 402's body")
            network = network_id(entry.network)
        except (MalformedError, PriceUnknown) as error:
            notes.append(lost(offered.key, "accepts", _says(error)))
            continue
        _describe(offered, entry.resource, entry.description, entry.mime_type, url)
        if entry.output_schema:
            notes.append(lost(offered.key, "outputSchema", "it is not written; an OpenAPI document says it"))
        _add(
            offered,
            {
                "scheme": entry.scheme,
                "network": network,
                "amount": entry.max_amount_required,
                "asset": entry.asset,
                "payTo": entry.pay_to,
                "maxTimeoutSeconds": entry.max_timeout_seconds,
                "extra": entry.extra or {},
            },
        )


def _read_mpp(offered: Offered, notes: list[Note], headers: list[str]) -> None:
    for challenge in mpp.decode_challenges(headers):
        offered.protocols |= {Protocol.MPP}
        if (challenge.method, challenge.intent) != ("evm", "charge"):
            says = f"{challenge.method}/{challenge.intent} is not taken here, only evm/charge"
            notes.append(lost(offered.key, "WWW-Authenticate", says))
            continue
        request = mpp.decode_charge_request(challenge.request)
        details = request.method_details
        token = token_at(details.chain_id, request.currency.lower())
        if "authorization" not in (details.credential_types or ["authorization"]) or details.splits:
            notes.append(lost(offered.key, "WWW-Authenticate", "only authorizations without splits are taken here"))
            continue
        offered.description = offered.description or challenge.description or request.description or ""
        same = {(e["network"], e["asset"].lower(), e["amount"], e["payTo"].lower()) for e in offered.entries}
        terms = (caip2(details.chain_id), request.currency.lower(), request.amount, request.recipient.lower())
        if terms in same:
            continue
        extra = {} if token is None else {"name": token.name, "version": token.version}
        _add(
            offered,
            {
                "scheme": "exact",
                "network": terms[0],
                "amount": request.amount,
                "asset": request.currency,
                "payTo": request.recipient,
                "maxTimeoutSeconds": MPP_SECONDS,
                "extra": extra if details.decimals is None else {**extra, "decimals": details.decimals},
            },
        )


def _describe(offered: Offered, resource: Any, description: Any, mime_type: Any, url: str) -> None:
    offered.description = offered.description or str(description or "")
    offered.mime_type = offered.mime_type or str(mime_type or "")
    if isinstance(resource, str) and resource and resource.partition("?")[0] != url.partition("?")[0]:
        offered.resource = resource


def _add(offered: Offered, entry: dict[str, Any]) -> None:
    """Add an entry, unless another protocol has said the same."""
    if not any(_key(entry) == _key(other) for other in offered.entries):
        offered.entries.append(entry)


def _key(entry: Mapping[str, Any]) -> tuple[str, ...]:
    said = [str(entry[name]) for name in ("scheme", "network", "amount")]
    said += [str(entry[name]).lower() for name in ("asset", "payTo")]
    return (*said, str(as_mapping(entry["extra"]).get("assetTransferMethod", "eip3009")))


def _says(error: Exception) -> str:
    return error.detail if isinstance(error, MalformedError) else str(error)
