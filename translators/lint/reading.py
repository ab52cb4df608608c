"""A probe as the clients of the three protocols read it, bad parts included.

The codecs in `translators.wire` refuse what is wrong; here it is taken as far as it goes, so that a rule can say what
is wrong with it and the others still see the rest.
"""

import binascii
import json
import re
from functools import cached_property
from typing import Any

import msgspec

from translators.auth_params import parse_challenges
from translators.encoding import MAX_DEPTH, b64_decode
from translators.errors import MalformedError
from translators.lint.probe import Probe
from translators.networks import chain_id_from_network
from translators.payment import Protocol
from translators.wire import mpp, x402_v1, x402_v2

__all__ = ["PROBLEM_BASE", "ReadChallenge", "Reading", "Term", "as_json", "unbase64"]

PROBLEM_BASE = "https://paymentauth.org/problems/"
_PAYMENT_SCHEME = re.compile(r"(?:^|[\s,])payment(?=[\s,]|$)", re.IGNORECASE)


class Term(msgspec.Struct, frozen=True):
    """One way to pay, as one protocol says it: texts as on the wire, empty where there is none."""

    protocol: Protocol
    where: str
    network: str = ""
    chain_id: int | None = None
    asset: str = ""
    amount: str = ""
    recipient: str = ""
    name: Any = None
    version: Any = None
    timeout: int | None = None
    decimals: Any = None
    by_authorization: bool = True
    """Whether an EIP-3009 authorization pays it."""

    @property
    def key(self) -> tuple[int | None, str]:
        """Chain and token, by which offers of several protocols are compared."""
        return self.chain_id, self.asset.lower()


class ReadChallenge(msgspec.Struct, frozen=True):
    """One `Payment` challenge: its parameters, and its `request` as far as it could be read."""

    scheme: str
    params: dict[str, str]
    request: Any = None
    request_bytes: bytes | None = None

    @property
    def is_evm_charge(self) -> bool:
        """Whether draft-evm-charge-00 says what its request looks like."""
        return self.params.get("method") == "evm" and self.params.get("intent") == "charge"


def as_json(data: bytes | None) -> Any:
    """The JSON value in `data`; None where there is none, or one nested beyond use."""
    if not data or data.count(b"[") + data.count(b"{") > 100 * MAX_DEPTH:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


class Reading:
    """A probe, read. Everything is worked out when first asked for."""

    def __init__(self, probe: Probe) -> None:
        self.probe = probe

    @cached_property
    def again(self) -> "Reading | None":
        """The second answer, read."""
        probe = self.probe
        return Reading(msgspec.structs.replace(probe, answer=probe.again, again=None)) if probe.again else None

    # The body, and x402 v1 in it

    @cached_property
    def body(self) -> Any:
        """The 402's body as JSON, or None."""
        return as_json(self.probe.answer.body)

    @property
    def members(self) -> dict[str, Any]:
        """The members of the body, none where it is no object."""
        return self.body if isinstance(self.body, dict) else {}

    @property
    def is_payment_required(self) -> bool:
        """Whether the server asked for payment at all; all other rules wait for that."""
        return self.probe.answer.status == 402

    @cached_property
    def v1_header(self) -> Any:
        """What `X-PAYMENT-REQUIRED` holds; None where it is absent or unreadable."""
        value = self.probe.answer.value(x402_v1.CHALLENGE_HEADER)
        return as_json(unbase64(value)) if value is not None else None

    @property
    def v1_version(self) -> Any:
        """The body's `x402Version`."""
        return self.members.get("x402Version")

    @property
    def speaks_v1(self) -> bool:
        """Whether the body is meant for v1 clients, well made or not."""
        return ("x402Version" in self.members or "accepts" in self.members) and self.v1_version not in (2, "2")

    @property
    def v1_entries(self) -> list[dict[str, Any]]:
        """The objects in the body's `accepts`."""
        return _entries(self.members) if self.speaks_v1 else []

    # x402 v2

    @property
    def v2_value(self) -> str | None:
        """`PAYMENT-REQUIRED` as it came."""
        return self.probe.answer.value(x402_v2.CHALLENGE_HEADER)

    @cached_property
    def v2(self) -> Any:
        """What `PAYMENT-REQUIRED` holds; None where it is absent or unreadable."""
        return as_json(unbase64(self.v2_value)) if self.v2_value is not None else None

    @property
    def v2_members(self) -> dict[str, Any]:
        """Its members."""
        return self.v2 if isinstance(self.v2, dict) else {}

    @property
    def speaks_v2(self) -> bool:
        """Whether there is a challenge for v2 clients, well made or not."""
        return self.v2_value is not None

    @property
    def v2_entries(self) -> list[dict[str, Any]]:
        """The objects in its `accepts`."""
        return _entries(self.v2_members)

    # MPP

    @cached_property
    def _www_authenticate(self) -> tuple[list[tuple[int, ReadChallenge]], list[str]]:
        read: list[tuple[int, ReadChallenge]] = []
        wrong: list[str] = []
        for line, value in enumerate(self.probe.answer.values(mpp.CHALLENGE_HEADER)):
            try:
                read += [(line, _challenge(scheme, params)) for scheme, params, _ in parse_challenges(value)]
            except MalformedError as error:
                if _PAYMENT_SCHEME.search(value):
                    wrong.append(error.detail)
        return read, wrong

    @property
    def schemes(self) -> list[tuple[int, ReadChallenge]]:
        """Every challenge of every scheme, with the number of its header line."""
        return self._www_authenticate[0]

    @property
    def unparsed(self) -> list[str]:
        """What is wrong with each `WWW-Authenticate` line that has a `Payment` challenge and cannot be parsed."""
        return self._www_authenticate[1]

    @property
    def challenges(self) -> list[ReadChallenge]:
        """The `Payment` challenges."""
        return [challenge for _, challenge in self.schemes if challenge.scheme.lower() == mpp.SCHEME.lower()]

    @property
    def speaks_mpp(self) -> bool:
        """Whether there is a challenge for MPP clients, well made or not."""
        return bool(self.challenges or self.unparsed)

    # All three

    @property
    def speaks(self) -> list[Protocol]:
        """The protocols whose clients find something meant for them."""
        spoken = {Protocol.X402_V1: self.speaks_v1, Protocol.X402_V2: self.speaks_v2, Protocol.MPP: self.speaks_mpp}
        return [protocol for protocol, does in spoken.items() if does]

    @cached_property
    def terms(self) -> list[Term]:
        """Every way to pay that was found."""
        v1 = [_x402_term(Protocol.X402_V1, e, i) for i, e in enumerate(self.v1_entries)]
        v2 = [_x402_term(Protocol.X402_V2, e, i) for i, e in enumerate(self.v2_entries)]
        return [*v1, *v2, *(_mpp_term(c, i) for i, c in enumerate(self.challenges) if isinstance(c.request, dict))]

    def terms_of(self, protocol: Protocol) -> list[Term]:
        """Those of one protocol."""
        return [term for term in self.terms if term.protocol is protocol]

    @cached_property
    def openapi(self) -> dict[str, Any] | None:
        """The discovery document; None where there is none, or no JSON object."""
        exchange = self.probe.openapi
        document = as_json(exchange.body) if exchange is not None and exchange.status == 200 else None
        return document if isinstance(document, dict) else None


def unbase64(value: str) -> bytes | None:
    """Base64 of any alphabet and length: a header too long to be taken is still looked into."""
    try:
        return b64_decode(value, "")
    except MalformedError:
        pass
    try:
        return binascii.a2b_base64(value.translate(str.maketrans("-_", "+/")) + "==")
    except (binascii.Error, ValueError):
        return None


def _entries(members: dict[str, Any]) -> list[dict[str, Any]]:
    accepts = members.get("accepts")
    return [entry for entry in accepts if isinstance(entry, dict)] if isinstance(accepts, list) else []


def _challenge(scheme: str, params: dict[str, str]) -> ReadChallenge:
    data = unbase64(params["request"]) if params.get("request") else None
    return ReadChallenge(scheme, params, as_json(data), data)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _x402_term(protocol: Protocol, entry: dict[str, Any], index: int) -> Term:
    extra = entry.get("extra")
    extra = extra if isinstance(extra, dict) else {}
    network = _text(entry.get("network"))
    timeout = entry.get("maxTimeoutSeconds")
    words = ("maxAmountRequired", "amount") if protocol is Protocol.X402_V1 else ("amount", "maxAmountRequired")
    scheme, transfer = entry.get("scheme"), extra.get("assetTransferMethod")
    return Term(
        protocol,
        f"{'body' if protocol is Protocol.X402_V1 else x402_v2.CHALLENGE_HEADER} accepts[{index}]",
        network,
        _chain_id(network),
        _text(entry.get("asset")),
        _text(next((entry[word] for word in words if word in entry), None)),
        _text(entry.get("payTo")),
        extra.get("name"),
        extra.get("version"),
        timeout if isinstance(timeout, int) and not isinstance(timeout, bool) else None,
        by_authorization=scheme == "exact" and transfer in (None, "eip3009"),
    )


def _chain_id(network: str) -> int | None:
    try:
        return chain_id_from_network(network)
    except MalformedError:
        return None


def _mpp_term(challenge: ReadChallenge, index: int) -> Term:
    request = challenge.request
    details = request.get("methodDetails")
    details = details if isinstance(details, dict) else {}
    chain_id = details.get("chainId")
    chain_id = chain_id if isinstance(chain_id, int) and challenge.is_evm_charge else None
    types = details.get("credentialTypes")
    return Term(
        Protocol.MPP,
        f"challenge {index + 1}",
        f"eip155:{chain_id}" if chain_id is not None else "",
        chain_id,
        _text(request.get("currency")),
        _text(request.get("amount")),
        _text(request.get("recipient")),
        decimals=details.get("decimals"),
        by_authorization=challenge.is_evm_charge and isinstance(types, list) and "authorization" in types,
    )
