"""What an OpenAPI document says of payment, and the bazaar's words for a call: pure functions of a route's price."""

from typing import Any

import jsonschema
import pytest

from translators.bazaar import Bazaar, bazaar_extension
from translators.discovery import Priced, ServiceInfo, annotate, payment_info, response_402
from translators.networks import KNOWN_TOKENS
from translators.payment import Offer, Protocol

EVERYTHING = frozenset(Protocol)
RECIPIENT = "0x" + "11" * 20
CENT = Offer(KNOWN_TOKENS[1], 10_000, RECIPIENT)
PRICED = Priced((CENT,), EVERYTHING)

OFFER = {
    "type": "object",
    "required": ["intent", "method", "amount"],
    "properties": {
        "intent": {"type": "string", "enum": ["charge", "session"]},
        "method": {"type": "string"},
        "amount": {"oneOf": [{"type": "null"}, {"type": "string", "pattern": "^(0|[1-9][0-9]*)$"}]},
        "currency": {"type": "string"},
        "description": {"type": "string"},
    },
    "additionalProperties": False,
}
PAYMENT_INFO = {
    "oneOf": [
        OFFER,
        {
            "type": "object",
            "required": ["offers"],
            "properties": {"offers": {"type": "array", "minItems": 1, "items": OFFER}},
            "additionalProperties": False,
        },
    ]
}
"""draft-payment-discovery-00, appendix "JSON Schema for x-payment-info"."""


def document(operation: dict[str, Any] | None = None, method: str = "get") -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {"/report": {method: operation or {"responses": {"200": {"description": "ok"}}}}},
    }


def find(method: str, path: str) -> Priced | None:
    return PRICED if path == "/report" else None


@pytest.mark.parametrize("priced", [PRICED, Priced(None, EVERYTHING), Priced((CENT, CENT), EVERYTHING)])
def test_payment_info_is_what_the_drafts_schema_takes(priced: Priced) -> None:
    """Fixed, dynamic and several prices."""
    info = payment_info(priced)
    jsonschema.validate(info, PAYMENT_INFO)
    assert info is not None
    assert info["offers"][0]["amount"] == ("10000" if priced.offers else None)


def test_what_mpp_cannot_pay_has_no_payment_info() -> None:
    """The extension is of MPP's methods; the 402 is described all the same."""
    only_x402 = Priced((CENT,), frozenset({Protocol.X402_V2}))
    assert payment_info(only_x402) is None
    made = annotate(document(), lambda method, path: only_x402)
    operation = made["paths"]["/report"]["get"]
    assert ("x-payment-info" in operation, list(operation["responses"])) == (False, ["200", "402"])
    assert list(operation["responses"]["402"]["headers"]) == ["PAYMENT-REQUIRED"]


def test_every_paid_operation_gets_its_price_and_its_402() -> None:
    """And nothing else changes; the document that was given is left alone."""
    given = document()
    given["paths"]["/free"] = {"get": {"responses": {}}, "parameters": []}
    before = repr(given)
    made = annotate(given, find, ServiceInfo(categories=("data",), homepage="https://example.com"))
    operation = made["paths"]["/report"]["get"]
    assert operation["responses"]["402"] == response_402(EVERYTHING)
    jsonschema.validate(operation["x-payment-info"], PAYMENT_INFO)
    assert made["paths"]["/free"] == given["paths"]["/free"]
    assert made["x-service-info"] == {"categories": ["data"], "docs": {"homepage": "https://example.com"}}
    assert repr(given) == before


def test_what_a_document_says_itself_stays() -> None:
    """Its own 402, its own offers, in either form, and members of no draft; nothing is said twice."""
    stripe = {"intent": "charge", "method": "stripe", "amount": "5", "currency": "usd"}
    for own in (stripe, {"offers": [stripe]}):
        operation = {"x-payment-info": own | {"x-more": 1}, "responses": {"402": {"description": "mine"}}}
        made = annotate(document(operation), find)["paths"]["/report"]["get"]
        assert made["responses"]["402"] == {"description": "mine"}
        assert [offer["method"] for offer in made["x-payment-info"]["offers"]] == ["stripe", "evm"]
        assert made["x-payment-info"]["x-more"] == 1
        again = annotate(document(made), find)["paths"]["/report"]["get"]
        assert again == made


@pytest.mark.parametrize(
    "odd",
    [{}, {"swagger": "2.0", "paths": {"/report": {"get": {}}}}, {"openapi": "3.0.0", "paths": []}, {"openapi": 3}],
)
def test_what_is_no_openapi_3_comes_back_as_it_was(odd: dict[str, Any]) -> None:
    """An upstream may serve anything."""
    assert annotate(odd, find) == odd


def test_odd_paths_and_operations_are_passed_over() -> None:
    """And a preflight is free."""
    given = document()
    given["paths"] |= {"/x": None, "/report": {"get": "?", "options": {}, "servers": []}}
    assert annotate(given, find)["paths"] == given["paths"]


def test_links_are_uris() -> None:
    """draft: "All URI values MUST conform to RFC3986"."""
    with pytest.raises(ValueError, match="homepage"):
        ServiceInfo(homepage="docs")


@pytest.mark.parametrize(
    ("bazaar", "method"),
    [
        (Bazaar(), "GET"),
        (Bazaar(query={"city": "Zürich"}, query_schema={"type": "object", "required": ["city"]}), "GET"),
        (Bazaar(output={"weather": "sunny"}), "DELETE"),
        (Bazaar(body={"a": 1}, body_schema={"type": "object"}, query={"x": "y"}), "POST"),
        (Bazaar(body="text", body_type="text", output="text", output_type="text"), "PUT"),
    ],
)
def test_the_bazaars_info_holds_to_its_schema(bazaar: Bazaar, method: str) -> None:
    """As a facilitator checks before it lists."""
    extension = bazaar_extension(bazaar, method)["bazaar"]
    jsonschema.Draft202012Validator.check_schema(extension["schema"])
    jsonschema.validate(extension["info"], extension["schema"])
    assert extension["info"]["input"]["method"] == method


@pytest.mark.parametrize(
    ("bazaar", "method"),
    [
        (Bazaar(), "POST"),
        (Bazaar(body=1), "GET"),
        (Bazaar(body=1, body_type="yaml"), "POST"),
        (Bazaar(), "TRACE"),
    ],
)
def test_what_the_bazaar_has_no_words_for(bazaar: Bazaar, method: str) -> None:
    """Is refused when the application starts."""
    with pytest.raises(ValueError, match="bazaar"):
        bazaar_extension(bazaar, method)
