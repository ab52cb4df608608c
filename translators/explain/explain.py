"""A piece, explained: what it says in words, what could be verified of it, and all of it as JSON."""

from collections.abc import Iterator
from typing import Any

import msgspec

from translators.auth_params import parse_challenges
from translators.binding import parse_time
from translators.errors import MalformedError
from translators.explain.checked import (
    Check,
    challenge_checks,
    credential_checks,
    jcs_check,
    payment_v1_checks,
    payment_v2_checks,
    receipt_checks,
    signed_token,
    token_checks,
)
from translators.explain.pieces import Form, Piece, find_pieces
from translators.explain.words import amount_text, chain_of, network_text, time_text, token_text
from translators.lint.reading import as_json, unbase64
from translators.wire.mpp import SCHEME

__all__ = ["Explained", "explain"]

Facts = Iterator[tuple[str, str]]


class Explained(msgspec.Struct, frozen=True):
    """One piece: `facts` are labels and words, `decoded` its JSON with what was folded into it unfolded."""

    form: Form
    where: str
    facts: tuple[tuple[str, str], ...]
    checks: tuple[Check, ...]
    decoded: Any


def explain(paste: str, now: float, *, body: bytes | None = None, show_signatures: bool = False) -> list[Explained]:
    """Everything in a paste. `body` is the request's, for a digest; `now` is in Unix seconds.

    Raises `MalformedError` where nothing can be read; its message repeats nothing of the paste.
    """
    read: list[tuple[Piece, Any]] = []
    pieces = find_pieces(paste)
    for piece in pieces:
        try:
            read += [(piece, value) for value in _values(piece)]
        except MalformedError as error:
            if len(pieces) == 1:
                raise
            read.append((piece, error))
    offers = {
        form: [entry for piece, value in read if piece.form is form for entry in _accepts(value)] for form in Form
    }
    return [
        _unreadable(piece, value)
        if isinstance(value, MalformedError)
        else _explained(piece, value, offers, now, body, show_signatures)
        for piece, value in read
    ]


def _unreadable(piece: Piece, error: MalformedError) -> Explained:
    """One of several that cannot be read: the others are shown all the same."""
    return Explained(piece.form, piece.where, (), (Check("form", False, error.detail),), None)


def _values(piece: Piece) -> list[Any]:
    """The JSON value of a piece; of a `WWW-Authenticate` line, the parameters of each challenge."""
    if piece.form is Form.MPP_CHALLENGE:
        text = piece.value if piece.value.lower().lstrip().startswith(SCHEME.lower()) or "," in piece.value else ""
        challenges = parse_challenges(text if not text or " " in text.split("=", 1)[0] else f"{SCHEME} {text}")
        found = [params for scheme, params, _ in challenges if scheme.lower() == SCHEME.lower()]
        if not found:
            raise MalformedError(f"{piece.where} has no {SCHEME} challenge")
        return list(found)
    text = piece.value
    if piece.form is Form.MPP_CREDENTIAL and text.lower().startswith(SCHEME.lower()):
        text = text[len(SCHEME) :].strip()
    value = (
        as_json(text.encode("utf-8", "replace")) if text.startswith("{") else as_json(unbase64("".join(text.split())))
    )
    if not isinstance(value, dict):
        raise MalformedError(f"{piece.where} is not base64 of a JSON object")
    return [value]


def _accepts(value: Any) -> list[dict[str, Any]]:
    accepts = value.get("accepts") if isinstance(value, dict) else None
    return [entry for entry in accepts if isinstance(entry, dict)] if isinstance(accepts, list) else []


def _explained(
    piece: Piece,
    value: dict[str, Any],
    offers: dict[Form, list[dict[str, Any]]],
    now: float,
    body: bytes | None,
    show_signatures: bool,
) -> Explained:
    facts, checks = _of_form(piece.form, value, offers, now, body)
    shown = _unfolded(value) if show_signatures else _redacted(_unfolded(value))
    told = tuple((label, "missing" if text == "None" else text) for label, text in facts)
    return Explained(piece.form, piece.where, told, tuple(checks), shown)


def _of_form(
    form: Form, value: dict[str, Any], offers: dict[Form, list[dict[str, Any]]], now: float, body: bytes | None
) -> tuple[Facts, Iterator[Check]]:
    match form:
        case Form.V1_REQUIRED | Form.V2_REQUIRED:
            return _required(value), _required_checks(value)
        case Form.V1_PAYMENT:
            payload = _members(value.get("payload"))
            chain_id = chain_of(value.get("network"))
            token = signed_token(chain_id, payload.get("authorization"), payload.get("signature"))
            asset = token.address if token else None
            facts = _payment(value, payload.get("authorization"), payload.get("signature"), chain_id, asset, now)
            return facts, payment_v1_checks(value, offers[Form.V1_REQUIRED], now)
        case Form.V2_PAYMENT:
            return _payment_v2(value, now), payment_v2_checks(value, offers[Form.V2_REQUIRED], now)
        case Form.MPP_CHALLENGE:
            data = unbase64(value.get("request", ""))
            return _challenge(value, now), _both(challenge_checks(value, now, body), [jcs_check(as_json(data), data)])
        case Form.MPP_CREDENTIAL:
            challenge = {k: str(v) for k, v in _members(value.get("challenge")).items() if v is not None}
            data = unbase64(challenge.get("request", ""))
            checks = _both(credential_checks(value, as_json(data), now), challenge_checks(challenge, now, body))
            return _credential(value, as_json(data), challenge, now), checks
        case Form.MPP_REQUEST:
            return _request(value), iter(())
        case Form.V1_RECEIPT | Form.V2_RECEIPT | Form.MPP_RECEIPT:
            return _plain(value, now), receipt_checks(value)
        case _:
            return _plain(value, now), iter(())


def _both(first: Iterator[Check], second: "Iterator[Check] | list[Check]") -> Iterator[Check]:
    yield from first
    yield from second


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _required(value: dict[str, Any]) -> Facts:
    if value.get("error") is not None:
        yield "error", str(value["error"])
    resource = _members(value.get("resource"))
    if resource:
        yield "resource", str(resource.get("url"))
    for index, entry in enumerate(_accepts(value)):
        network, asset = entry.get("network"), entry.get("asset")
        chain_id = chain_of(network)
        amount = entry.get("amount", entry.get("maxAmountRequired"))
        yield f"offer {index + 1}", f"{entry.get('scheme')} on {network_text(network)}"
        yield "amount", amount_text(amount, chain_id, asset)
        yield "token", token_text(chain_id, asset)
        yield "to", str(entry.get("payTo"))
        yield "time", f"{entry.get('maxTimeoutSeconds')} s to settle"
        if isinstance(entry.get("resource"), str):
            yield "resource", entry["resource"]
        extra = dict(_members(entry.get("extra")))
        if extra:
            yield "domain", f"{extra.pop('name', 'no name')}, version {extra.pop('version', 'missing')}"
        for name, told in extra.items():
            yield "extra", f"{name}: {told}"
    for name in _members(value.get("extensions")):
        yield "extension", str(name)


def _required_checks(value: dict[str, Any]) -> Iterator[Check]:
    for entry in _accepts(value):
        yield from token_checks(chain_of(entry.get("network")), entry.get("asset"), entry.get("extra"))


def _payment(
    said: dict[str, Any], authorization: Any, signature: Any, chain_id: int | None, asset: Any, now: float
) -> Facts:
    if said.get("scheme") is not None:
        yield "scheme", str(said["scheme"])
    yield "network", network_text(said.get("network"))
    if asset is not None:
        yield "token", token_text(chain_id, asset)
    yield from _signed(_members(authorization), signature, chain_id, asset, now)
    if said.get("resource") is not None:
        yield "resource", str(said["resource"])


def _payment_v2(value: dict[str, Any], now: float) -> Facts:
    payload, accepted = _members(value.get("payload")), _members(value.get("accepted"))
    chain_id, asset = chain_of(accepted.get("network")), accepted.get("asset")
    said = {**accepted, "resource": _members(value.get("resource")).get("url")}
    yield from _payment(said, payload.get("authorization"), payload.get("signature"), chain_id, asset, now)
    permit = _members(payload.get("permit2Authorization"))
    if permit:
        permitted = _members(permit.get("permitted"))
        yield "permit", token_text(chain_id, permitted.get("token"))
        yield "amount", amount_text(permitted.get("amount"), chain_id, permitted.get("token"))
        yield "from", str(permit.get("from"))
        yield "to", str(_members(permit.get("witness")).get("to"))
        yield "spender", str(permit.get("spender"))
        yield "valid until", _moment(permit.get("deadline"), now)
        yield "nonce", str(permit.get("nonce"))


def _moment(seconds: Any, now: float) -> str:
    text = str(seconds)
    return time_text(int(text), now) if text.isascii() and text.isdecimal() and len(text) < 79 else text


def _signed(signed: dict[str, Any], signature: Any, chain_id: int | None, asset: Any, now: float) -> Facts:
    if not signed:
        return
    # Without a token the amount has no unit; x402 v1 does not name one.
    yield "amount", amount_text(signed.get("value"), chain_id, asset)
    yield "from", str(signed.get("from"))
    yield "to", str(signed.get("to"))
    for label, name in (("valid after", "validAfter"), ("valid until", "validBefore")):
        yield label, _moment(signed.get(name), now)
    yield "nonce", str(signed.get("nonce"))
    if isinstance(signature, str):
        yield "signature", f"{max(len(signature) - 2, 0) // 2} bytes"


def _request(request: dict[str, Any]) -> Facts:
    details = _members(request.get("methodDetails"))
    chain_id = details.get("chainId")
    if chain_id is not None:
        yield "network", network_text(chain_id)
    chain_id = chain_id if isinstance(chain_id, int) else None
    yield "amount", amount_text(request.get("amount"), chain_id, request.get("currency"), details.get("decimals"))
    yield "token", token_text(chain_id, request.get("currency"))
    if request.get("recipient") is not None:
        yield "to", str(request["recipient"])
    types = details.get("credentialTypes")
    if isinstance(types, list):
        yield "paid by", ", ".join(str(word) for word in types)


def _challenge(params: dict[str, Any], now: float) -> Facts:
    yield "method", f"{params.get('method')}, {params.get('intent')}"
    yield "realm", str(params.get("realm"))
    request = as_json(unbase64(str(params.get("request") or "")))
    if isinstance(request, dict):
        yield from _request(request)
    if params.get("expires"):
        yield "expires", _expires(str(params["expires"]), now)
    for name in ("description", "digest", "header"):
        if params.get(name):
            yield name, str(params[name])
    yield "id", str(params.get("id"))


def _expires(text: str, now: float) -> str:
    try:
        return time_text(parse_time(text), now)
    except MalformedError:
        return text


def _credential(value: dict[str, Any], request: Any, challenge: dict[str, str], now: float) -> Facts:
    payload = _members(value.get("payload"))
    yield "payload", str(payload.get("type"))
    yield from (fact for fact in _challenge(challenge, now) if fact[0] in ("method", "realm", "network", "token", "id"))
    details = _members(_members(request).get("methodDetails"))
    chain_id = details.get("chainId")
    yield from _signed(
        payload,
        payload.get("signature"),
        chain_id if isinstance(chain_id, int) else None,
        _members(request).get("currency"),
        now,
    )
    if challenge.get("expires"):
        yield "expires", _expires(challenge["expires"], now)
    if value.get("source") is not None:
        yield "source", str(value["source"])


def _plain(value: dict[str, Any], now: float) -> Facts:
    """A receipt or a problem: its own members are words enough."""
    for name, told in value.items():
        if name == "network":
            yield name, network_text(told)
        elif name == "timestamp":
            yield name, _expires(str(told), now)
        elif not isinstance(told, dict | list):
            yield name, "yes" if told is True else "no" if told is False else str(told)


# As JSON


def _unfolded(value: Any) -> Any:
    """The same value with base64 of JSON in it as that JSON: a challenge's `request` and `opaque`."""
    if isinstance(value, dict):
        return {name: _opened(name, member) for name, member in value.items()}
    if isinstance(value, list):
        return [_unfolded(item) for item in value]
    return value


def _opened(name: str, member: Any) -> Any:
    if name in ("request", "opaque") and isinstance(member, str):
        inner = as_json(unbase64(member))
        return inner if isinstance(inner, dict) else member
    return _unfolded(member)


_SECRET = {"signature", "permissionContext", "serializedTransaction"}


def _redacted(value: Any, inside: str = "") -> Any:
    """The same value without what could be used in the payer's place."""
    if isinstance(value, dict):
        return {name: _hidden(name, member, inside) for name, member in value.items()}
    if isinstance(value, list):
        return [_redacted(item, inside) for item in value]
    return value


def _hidden(name: str, member: Any, inside: str) -> Any:
    # A payload's transaction is a signed one (Solana); a receipt's is a hash.
    if isinstance(member, str) and (name in _SECRET or (inside == "payload" and name == "transaction")):
        return f"<{len(member)} characters, hidden>"
    return _redacted(member, name)
