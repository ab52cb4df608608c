"""`x402-mpp check` finds what is wrong with a server, all of it and nothing else.

Each fault stands in a server of its own that is right otherwise, is asked over a real socket by the command itself, and
has to be found by the one rule that is about it.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from bridge.cli import main
from translators.binding import format_time
from translators.encoding import b64_encode, b64url_encode
from translators.lint import rules_paid, rules_terms
from translators.lint.table import RULES

from .faulty import OTHER, PAY_TO, TOKEN, Shop, charge, drop, fill, fold, put, right, twice
from .raw_server import CERTIFICATE, RawAnswer, RawRequest, serving

Fault = Callable[[Shop], None]
FAULTS: dict[str, tuple[str, Fault, tuple[str, ...]]] = {}
"""By the fault's name: the rule that finds it, what is wrong with the shop, and more of the command line."""


def fault(rule: str, *arguments: str) -> Callable[[Fault], Fault]:
    def keep(plant: Fault) -> Fault:
        FAULTS[plant.__name__.strip("_")] = (rule, plant, arguments)
        return plant

    return keep


def check(port: int, *arguments: str, origin: str | None = None) -> dict[str, Any]:
    """What the command says of the server, as JSON."""
    url = f"{origin or f'http://127.0.0.1:{port}'}/weather"
    through = ["--connect-to", f"127.0.0.1:{port}"] if origin else []
    ran = CliRunner().invoke(main, ["check", url, "--format", "json", *through, *arguments])
    assert ran.exit_code in (0, 3, 4, 5), ran.output
    told: dict[str, Any] = json.loads(ran.stdout)
    assert told["exit_code"] == ran.exit_code
    return told


# As HTTP


@fault("no-402")
def _free(shop: Shop) -> None:
    shop.status = 200


@fault("no-402")
def _not_there(shop: Shop) -> None:
    shop.status = 404


@fault("redirect")
def _moved(shop: Shop) -> None:
    shop.status = 308
    shop.late.append(put("Location", "/elsewhere"))


@fault("protocol-missing", "--expect", "x402-v1")
def _no_v1(shop: Shop) -> None:
    shop.v1 = {}


@fault("nothing-readable")
def _bare_402(shop: Shop) -> None:
    shop.v1, shop.v2, shop.charges, shop.problem = {}, {}, [], {"message": "pay up"}


@fault("mpp-challenge-missing")
def _stripped_challenge(shop: Shop) -> None:
    shop.v1, shop.v2 = {}, {}
    shop.late.append(drop("WWW-Authenticate"))


@fault("cacheable")
def _public(shop: Shop) -> None:
    shop.late.append(put("Cache-Control", "public, max-age=60"))


@fault("mpp-no-store")
def _no_cache_control(shop: Shop) -> None:
    shop.late.append(drop("Cache-Control"))


@fault("x402-no-store")
def _no_cache_control_x402(shop: Shop) -> None:
    shop.charges = []
    shop.late.append(drop("Cache-Control"))


@fault("headers-4k")
def _five_kib(shop: Shop) -> None:
    shop.late.append(fill(5_000))


@fault("headers-8k")
def _ten_kib(shop: Shop) -> None:
    shop.late.append(fill(10_000))


@fault("headers-16k")
def _twenty_kib(shop: Shop) -> None:
    shop.late.append(fill(20_000))


@fault("mpp-challenge-8k", "--ignore", "headers-8k")
def _long_challenge(shop: Shop) -> None:
    shop.params["description"] = "d" * 9_000


@fault("header-repeated")
def _two_of_v2(shop: Shop) -> None:
    shop.late.append(twice("PAYMENT-REQUIRED"))


@fault("cors-expose")
def _hidden_from_browsers(shop: Shop) -> None:
    shop.late.append(put("Access-Control-Expose-Headers", "WWW-Authenticate"))


@fault("cors-allow-headers")
def _forbidden_to_browsers(shop: Shop) -> None:
    shop.preflight = RawAnswer(204, [("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "*")])


@fault("options-402")
def _options_charged(shop: Shop) -> None:
    shop.preflight = None


@fault("head-differs")
def _head_without_challenge(shop: Shop) -> None:
    shop.head = RawAnswer(402)


@fault("head-differs")
def _head_breaks(shop: Shop) -> None:
    shop.head = RawAnswer(500)


@fault("head-free")
def _head_served(shop: Shop) -> None:
    shop.head = RawAnswer(200)


@fault("problem-missing")
def _no_problem(shop: Shop) -> None:
    shop.problem = {}


@fault("problem-type")
def _blank_problem(shop: Shop) -> None:
    shop.problem["type"] = "about:blank"


@fault("problem-status")
def _problem_of_another_status(shop: Shop) -> None:
    shop.problem["status"] = 401


@fault("problem-content-type")
def _plain_json(shop: Shop) -> None:
    shop.late.append(put("Content-Type", "application/json"))


@fault("v1-content-type")
def _html(shop: Shop) -> None:
    shop.charges, shop.problem = [], {}
    shop.late.append(put("Content-Type", "text/html"))


# x402 v1


@fault("v1-header-only")
def _v1_in_the_header_alone(shop: Shop) -> None:
    shop.body = json.dumps(shop.problem).encode() if shop.request.path != "/openapi.json" else None


@fault("v1-header-differs")
def _two_v1_challenges(shop: Shop) -> None:
    entry = {**shop.v1["accepts"][0], "maxAmountRequired": "1"}
    shop.v1_header = {**shop.v1, "accepts": [entry]}


@fault("v1-version")
def _version_as_text(shop: Shop) -> None:
    shop.v1["x402Version"] = "1"


@fault("v1-error")
def _null_error(shop: Shop) -> None:
    shop.v1["error"] = None


@fault("v1-accepts")
def _empty_accepts(shop: Shop) -> None:
    shop.v1["accepts"] = []


@fault("v1-v2-words")
def _v2_words_in_v1(shop: Shop) -> None:
    entry = shop.v1["accepts"][0]
    entry["amount"] = entry.pop("maxAmountRequired")
    entry["network"] = "eip155:84532"


@fault("v1-entry")
def _v1_without_a_resource(shop: Shop) -> None:
    del shop.v1["accepts"][0]["resource"]


@fault("v1-entry")
def _v1_amount_as_number(shop: Shop) -> None:
    shop.v1["accepts"][0]["maxAmountRequired"] = 10000


@fault("v1-network")
def _unknown_v1_name(shop: Shop) -> None:
    shop.v1["accepts"].append({**shop.v1["accepts"][0], "network": "celo"})


# x402 v2


@fault("v2-in-body")
def _v2_in_the_body_alone(shop: Shop) -> None:
    shop.v1 = {**shop.v2}
    shop.v2 = {}
    shop.late.append(drop("X-PAYMENT-REQUIRED"))


@fault("v2-unreadable")
def _v2_as_plain_json(shop: Shop) -> None:
    shop.encode_v2 = lambda data: data.decode()


@fault("v2-base64")
def _v2_without_padding(shop: Shop) -> None:
    shop.v2["error"] = "paid"
    shop.encode_v2 = lambda data: b64_encode(data + b" " * (len(data) % 3 == 0)).rstrip("=")


@fault("v2-version")
def _v2_says_1(shop: Shop) -> None:
    shop.v2["x402Version"] = 1


@fault("v2-accepts")
def _v2_without_accepts(shop: Shop) -> None:
    del shop.v2["accepts"]


@fault("v2-v1-words")
def _v1_words_in_v2(shop: Shop) -> None:
    entry = shop.v2["accepts"][0]
    entry["maxAmountRequired"] = entry.pop("amount")
    entry["network"] = "base-sepolia"


@fault("v2-entry")
def _v2_timeout_as_text(shop: Shop) -> None:
    shop.v2["accepts"][0]["maxTimeoutSeconds"] = "300"


@fault("v2-resource")
def _v2_without_resource(shop: Shop) -> None:
    del shop.v2["resource"]


@fault("v2-extension")
def _extension_without_schema(shop: Shop) -> None:
    shop.v2["extensions"] = {"payment-identifier": {"info": {"required": False}}}


@fault("bazaar")
def _bazaar_of_another_method(shop: Shop) -> None:
    info = {"input": {"type": "http", "method": "DELETE"}}
    shop.v2["extensions"] = {"bazaar": {"info": info, "schema": {"type": "object"}}}


# MPP


@fault("mpp-grammar")
def _unquoted(shop: Shop) -> None:
    shop.late.append(
        lambda headers: [(n, v.replace('", ', '" ')) if n.startswith("WWW") else (n, v) for n, v in headers]
    )


@fault("mpp-parameter-missing")
def _no_realm(shop: Shop) -> None:
    shop.without.add("realm")


@fault("mpp-parameter-missing")
def _empty_id(shop: Shop) -> None:
    shop.params["id"] = ""


@fault("mpp-method")
def _shouted_method(shop: Shop) -> None:
    shop.params["method"] = "EVM"


@fault("mpp-request-unreadable")
def _request_is_text(shop: Shop) -> None:
    shop.encode_request = lambda value: "not-base64-of-json"


@fault("mpp-base64url")
def _padded_request(shop: Shop) -> None:
    shop.charges[0]["externalId"] = "a"
    shop.encode_request = lambda value: b64_encode(_jcs(value)).replace("+", "-").replace("/", "_")


def _jcs(value: Any) -> bytes:
    """Canonical, and of a length that base64 pads."""
    for filler in ("a", "ab", "abc"):
        value["externalId"] = filler
        data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
        if len(data) % 3:
            return data
    raise AssertionError("one of three lengths is padded")


@fault("mpp-jcs")
def _unsorted_request(shop: Shop) -> None:
    shop.encode_request = lambda value: b64url_encode(json.dumps(value, separators=(",", ":")).encode())
    shop.charges[0] = dict(reversed(shop.charges[0].items()))


@fault("mpp-opaque", "--ignore", "mpp-challenge-reused")
def _opaque_is_a_list(shop: Shop) -> None:
    shop.params["opaque"] = b64url_encode(b'["a"]')


@fault("mpp-evm-request")
def _no_chain_id(shop: Shop) -> None:
    del shop.charges[0]["methodDetails"]["chainId"]


@fault("mpp-credential-types")
def _permit2_without_address(shop: Shop) -> None:
    shop.charges[0]["methodDetails"]["credentialTypes"] = ["permit2", "authorization"]


@fault("mpp-types-missing")
def _no_credential_types(shop: Shop) -> None:
    del shop.charges[0]["methodDetails"]["credentialTypes"]


@fault("mpp-expires-form")
def _expires_as_seconds(shop: Shop) -> None:
    shop.params["expires"] = str(int(time.time()) + 300)


@fault("mpp-expired")
def _expired(shop: Shop) -> None:
    shop.params["expires"] = format_time(time.time() - 60)


@fault("mpp-expires-soon")
def _ten_seconds(shop: Shop) -> None:
    shop.params["expires"] = format_time(time.time() + 25)


@fault("mpp-expires-missing")
def _never_expires(shop: Shop) -> None:
    shop.without.add("expires")


@fault("mpp-id-shape")
def _counted_id(shop: Shop) -> None:
    shop.params["id"] = f"challenge-{time.monotonic_ns()}"


@fault("mpp-challenge-reused")
def _the_same_id(shop: Shop) -> None:
    shop.params["id"] = "A" * 43


@fault("mpp-digest", "--data", '{"city":"Oslo"}')
def _digest_of_another_body(shop: Shop) -> None:
    shop.params["digest"] = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


@fault("mpp-digest-form", "--data", '{"city":"Oslo"}')
def _digest_without_colons(shop: Shop) -> None:
    from .faulty import digest_without_colons

    shop.params["digest"] = digest_without_colons(shop.request.body)


@fault("mpp-digest-missing", "--data", '{"city":"Oslo"}')
def _no_digest(shop: Shop) -> None:
    shop.without.add("digest")


@fault("mpp-folded")
def _folded(shop: Shop) -> None:
    shop.charges.append(charge())
    shop.late.append(fold)


@fault("mpp-not-first")
def _basic_first(shop: Shop) -> None:
    shop.late.append(lambda headers: [("WWW-Authenticate", 'Basic realm="admin"'), *headers])


@fault("mpp-realm")
def _strange_realm(shop: Shop) -> None:
    shop.params["realm"] = "payments"


@fault("problem-challenge-id")
def _problem_of_another_challenge(shop: Shop) -> None:
    shop.problem["challengeId"] = "B" * 43


# What is asked for


def _everywhere(shop: Shop, v1: dict[str, Any], v2: dict[str, Any], mpp: dict[str, Any]) -> None:
    """The same change in all three protocols, so that they still agree."""
    shop.v1["accepts"][0] |= v1
    shop.v2["accepts"][0] |= v2
    shop.charges[0] |= mpp


@fault("amount-form")
def _dollars(shop: Shop) -> None:
    _everywhere(shop, {"maxAmountRequired": "0.01"}, {"amount": "0.01"}, {"amount": "0.01"})
    shop.openapi = None


@fault("amount-zero")
def _gratis(shop: Shop) -> None:
    _everywhere(shop, {"maxAmountRequired": "0"}, {"amount": "0"}, {"amount": "0"})
    shop.openapi = None


@fault("address-form")
def _a_name_for_an_address(shop: Shop) -> None:
    _everywhere(shop, {"payTo": "shop.eth"}, {"payTo": "shop.eth"}, {"recipient": "shop.eth"})


@fault("address-checksum")
def _mistyped_case(shop: Shop) -> None:
    wrong = PAY_TO.replace("B", "b", 1)
    _everywhere(shop, {"payTo": wrong}, {"payTo": wrong}, {"recipient": wrong})


@fault("recipient-lost")
def _zero_address(shop: Shop) -> None:
    zero = "0x" + "0" * 40
    _everywhere(shop, {"payTo": zero}, {"payTo": zero}, {"recipient": zero})


@fault("recipient-lost")
def _to_the_token(shop: Shop) -> None:
    _everywhere(shop, {"payTo": TOKEN}, {"payTo": TOKEN}, {"recipient": TOKEN})


@fault("timeout-short")
def _no_time(shop: Shop) -> None:
    _everywhere(shop, {"maxTimeoutSeconds": 5}, {"maxTimeoutSeconds": 5}, {})


@fault("domain-missing")
def _no_extra(shop: Shop) -> None:
    del shop.v2["accepts"][0]["extra"]


@fault("token-domain")
def _mainnet_name_on_a_testnet(shop: Shop) -> None:
    shop.v1["accepts"][0]["extra"] = shop.v2["accepts"][0]["extra"] = {"name": "USD Coin", "version": "2"}


@fault("token-decimals")
def _eighteen_decimals(shop: Shop) -> None:
    shop.charges[0]["methodDetails"]["decimals"] = 18


MAINNET = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"


@fault("testnet-beside-mainnet")
def _play_money_too(shop: Shop) -> None:
    extra = {"name": "USD Coin", "version": "2"}
    v1, v2, mpp = shop.v1["accepts"], shop.v2["accepts"], shop.charges
    v1.append({**v1[0], "network": "base", "asset": MAINNET, "extra": extra})
    v2.append({**v2[0], "network": "eip155:8453", "asset": MAINNET, "extra": extra})
    mpp.append({**charge(), "currency": MAINNET})
    mpp[-1]["methodDetails"]["chainId"] = 8453


@fault("networks-disagree")
def _another_testnet_in_v1(shop: Shop) -> None:
    amoy = {"network": "polygon-amoy", "asset": "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582"}
    shop.v1["accepts"][0] |= amoy


@fault("tokens-disagree")
def _another_token_in_v2(shop: Shop) -> None:
    shop.v2["accepts"][0]["asset"] = OTHER
    shop.v1["accepts"].append({**shop.v1["accepts"][0]})


@fault("amounts-disagree")
def _cheaper_in_v2(shop: Shop) -> None:
    shop.v2["accepts"][0]["amount"] = "9000"


@fault("recipients-disagree")
def _another_recipient_in_mpp(shop: Shop) -> None:
    shop.charges[0]["recipient"] = OTHER


# The resource


def _resource(shop: Shop, url: str) -> None:
    shop.v1["accepts"][0]["resource"] = url
    shop.v2["resource"]["url"] = url


@fault("resource-invalid")
def _path_only(shop: Shop) -> None:
    _resource(shop, "/weather")


@fault("resource-scheme")
def _another_scheme(shop: Shop) -> None:
    _resource(shop, shop.url.replace("http://", "https://"))


@fault("resource-internal")
def _the_pods_address(shop: Shop) -> None:
    _resource(shop, "http://10.1.2.3:8080/weather")


@fault("resource-host")
def _another_host(shop: Shop) -> None:
    _resource(shop, "http://api.example.org/weather")


@fault("resource-path")
def _without_the_prefix(shop: Shop) -> None:
    _resource(shop, shop.url.replace("/weather", "/v1/weather"))


# Discovery


def _operation(shop: Shop) -> dict[str, Any]:
    assert shop.openapi is not None
    operation: dict[str, Any] = shop.openapi["paths"]["/weather"]["get"]
    return operation


@fault("openapi-unreadable")
def _yaml(shop: Shop) -> None:
    if shop.request.path == "/openapi.json":
        shop.body = b"openapi: 3.1.0\n"


@fault("openapi-fields")
def _swagger(shop: Shop) -> None:
    assert shop.openapi is not None
    shop.openapi["openapi"] = "2.0"


@fault("openapi-content-type")
def _document_as_text(shop: Shop) -> None:
    shop.openapi_headers[0] = ("Content-Type", "text/plain")


@fault("openapi-undeclared")
def _price_not_in_the_document(shop: Shop) -> None:
    del _operation(shop)["x-payment-info"]


@fault("openapi-unpriced")
def _a_document_without_prices(shop: Shop) -> None:
    assert shop.openapi is not None
    del shop.openapi["x-service-info"]
    for operation in shop.openapi["paths"]["/weather"].values():
        operation.pop("x-payment-info", None)


@fault("openapi-payment-info")
def _price_as_number(shop: Shop) -> None:
    _operation(shop)["x-payment-info"] = {"offers": [{"intent": "charge", "method": "evm", "amount": 0.01}]}


@fault("openapi-no-402")
def _undeclared_402(shop: Shop) -> None:
    _operation(shop)["responses"] = {"200": {"description": "The weather"}}


@fault("openapi-disagrees")
def _yesterdays_price(shop: Shop) -> None:
    offer = {"intent": "charge", "method": "evm", "amount": "5000", "currency": TOKEN}
    _operation(shop)["x-payment-info"] = offer


@fault("openapi-service-info")
def _categories_as_text(shop: Shop) -> None:
    assert shop.openapi is not None
    shop.openapi["x-service-info"]["categories"] = "data"


@fault("openapi-no-schema")
def _no_request_body(shop: Shop) -> None:
    assert shop.openapi is not None
    del shop.openapi["paths"]["/weather"]["post"]["requestBody"]


@fault("openapi-cache")
def _uncached_document(shop: Shop) -> None:
    del shop.openapi_headers[1]


@fault("openapi-large")
def _long_document(shop: Shop) -> None:
    assert shop.openapi is not None
    shop.openapi["info"]["description"] = "d" * 70_000


def test_a_right_server_has_no_findings() -> None:
    """What the faults are planted in."""
    with serving(lambda request: right(request).answer()) as port:
        for more in ((), ("--data", '{"city":"Oslo"}')):
            told = check(port, *more, "--fail-on", "info")
            assert told["findings"] == []
            assert told["speaks"] == ["x402-v1", "x402-v2", "mpp"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(name: str) -> None:
    """The one rule that is about it, with a detail, a clause and a remedy."""
    rule, plant, arguments = FAULTS[name]

    def answer(request: Any) -> RawAnswer:
        shop = right(request)
        plant(shop)
        return shop.answer()

    with serving(answer) as port:
        told = check(port, *arguments)
    assert {finding["rule"] for finding in told["findings"]} == {rule}, told["findings"]
    for finding in told["findings"]:
        assert finding["detail"]
        assert finding["clause"]
        assert finding["remedy"]


@pytest.mark.parametrize("form", ["table", "json", "junit"])
def test_a_server_cannot_write_to_the_terminal(form: str) -> None:
    """Escapes, half characters and markup in what it says are shown as text, and XML stays XML."""

    def answer(request: RawRequest) -> RawAnswer:
        shop = right(request)
        shop.v1["accepts"][0] |= {"network": "\x1b[2J<b>", "payTo": "\ud800", "asset": "]]>&"}
        shop.v2["accepts"][0]["network"] = "eip155:\x07\ud800"
        shop.params["realm"] = "a\x9b31m"
        return shop.answer()

    with serving(answer) as port:
        ran = CliRunner().invoke(main, ["check", f"http://127.0.0.1:{port}/weather", "--format", form])
    assert ran.exit_code == 5, ran.output
    assert "\x1b" not in ran.output
    assert "\x07" not in ran.output
    if form == "junit":
        suite = ElementTree.fromstring(ran.stdout)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > 0
        assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))
    if form == "json":
        assert json.loads(ran.stdout)["exit_code"] == 5


@pytest.mark.parametrize(
    ("plant", "fail_on", "code"),
    [
        (_cheaper_in_v2, "error", 5),
        (_cheaper_in_v2, "never", 0),
        (_options_charged, "error", 0),
        (_options_charged, "warning", 4),
        (_strange_realm, "warning", 0),
        (_strange_realm, "info", 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(plant: Fault, fail_on: str, code: int) -> None:
    """Where it is as bad as `--fail-on` says."""

    def answer(request: RawRequest) -> RawAnswer:
        shop = right(request)
        plant(shop)
        return shop.answer()

    with serving(answer) as port:
        ran = CliRunner().invoke(main, ["check", f"http://127.0.0.1:{port}/weather", "--fail-on", fail_on])
    assert ran.exit_code == code


def test_redirects_are_followed_when_asked_and_not_blindly() -> None:
    """Within bounds, and what the user sends along does not go to another origin."""
    seen: list[RawRequest] = []

    def elsewhere(request: RawRequest) -> RawAnswer:
        seen.append(request)
        return right(request).answer()

    with serving(elsewhere) as target:

        def redirecting(request: RawRequest) -> RawAnswer:
            to = {"/loop": "/loop", "/weather": f"http://127.0.0.1:{target}/weather", "/mail": "ftp://a.b/"}
            return RawAnswer(307, [("Location", to.get(request.path, "/weather"))])

        with serving(redirecting) as port:
            url = f"http://127.0.0.1:{port}"
            told = check(port, "--follow", "--header", "X-Key: secret")
            assert told["findings"] == []
            assert told["url"].endswith(f":{target}/weather")
            assert all("x-key" not in request.headers for request in seen)
            for path, said in (("/loop", "more than 5 redirects"), ("/mail", "no http URL")):
                ran = CliRunner().invoke(main, ["check", url + path, "--follow"])
                assert (ran.exit_code, said in ran.output) == (1, True), ran.output


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "Missing argument 'URL'"),
        (["ftp://x/"], 2, "no http or https URL"),
        (["http://127.0.0.1:1/x"], 1, "GET http://127.0.0.1:1/x: "),
        (["http://127.0.0.1:1/x", "--ignore", "nonsense"], 2, "no such rule: nonsense"),
        (["http://127.0.0.1:1/x", "--header", "nonsense"], 2, "write NAME:VALUE"),
        (["http://127.0.0.1:1/x", "--data", "@/nowhere"], 2, "No such file"),
        (["http://127.0.0.1:1/x", "--connect-to", "a/b"], 1, "write host:port"),
        (["http://127.0.0.1:1/x", "--expect", "x402"], 2, "x402-v1"),
    ],
)
def test_what_cannot_be_checked_is_said(arguments: list[str], code: int, said: str) -> None:
    """In one line, without a traceback."""
    ran = CliRunner().invoke(main, ["check", *arguments])
    assert ran.exit_code == code
    assert said in ran.output


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    """Nor one that sends a body without end, or something else than HTTP."""

    def slow(request: RawRequest) -> RawAnswer:
        time.sleep(1)
        return RawAnswer(402)

    with serving(slow) as port:
        ran = CliRunner().invoke(main, ["check", f"http://127.0.0.1:{port}/x", "--timeout", "0.2"])
    assert (ran.exit_code, "no answer in 0.2 s" in ran.output) == (1, True)
    with serving(lambda request: RawAnswer(402, body=b"x" * 2_000_000)) as port:
        assert [finding["rule"] for finding in check(port)["findings"]] == ["nothing-readable", "options-402"]


def test_the_rules_are_listed() -> None:
    """In lines of at most 80 columns."""
    ran = CliRunner().invoke(main, ["check", "--rules"])
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert {line.split()[0] for line in lines if re.match("  [a-z]", line)} == {rule.id for rule in RULES}


def test_plain_http_beyond_the_loopback_is_found() -> None:
    """A name that is not this machine's, asked without TLS."""
    origin = "http://shop.example.org"
    with serving(lambda request: right(request, origin=origin).answer()) as port:
        told = check(port, origin=origin)
    assert [finding["rule"] for finding in told["findings"]] == ["plain-http"]

    def x402_only(request: RawRequest) -> RawAnswer:
        shop = right(request, origin=origin)
        shop.charges = []
        return shop.answer()

    with serving(x402_only) as port:
        told = check(port, origin=origin)
    assert [finding["rule"] for finding in told["findings"]] == ["x402-plain-http"]


HTTPS = "https://shop.example.org"


def test_a_server_behind_tls_is_checked_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--connect-to` keeps the URL's name: `Host`, and the name that the certificate has to have."""
    with serving(lambda request: right(request, origin=HTTPS).answer(), tls=True) as port:
        ran = CliRunner().invoke(main, ["check", f"{HTTPS}/weather", "--connect-to", f"127.0.0.1:{port}"])
        assert ran.exit_code == 1
        assert "certificate" in ran.output.lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert check(port, origin=HTTPS)["findings"] == []
        other = ["check", "https://other.example.org/", "--connect-to", f"127.0.0.1:{port}"]
        assert "certificate" in CliRunner().invoke(main, other).output.lower()


def test_http_behind_https_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy ends TLS, and the application behind it believes that it was asked over http."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))

    def unaware(request: RawRequest) -> RawAnswer:
        shop = right(request, origin=HTTPS)
        _resource(shop, shop.url.replace("https://", "http://"))
        return shop.answer()

    with serving(unaware, tls=True) as port:
        told = check(port, origin=HTTPS)
        assert [finding["rule"] for finding in told["findings"]] == ["resource-scheme"] * 2
        # And down to http, which a redirect is not followed to.
        away = RawAnswer(301, [("Location", "http://shop.example.org/weather")])
    with serving(lambda request: away, tls=True) as port:
        through = ["--connect-to", f"127.0.0.1:{port}", "--follow"]
        ran = CliRunner().invoke(main, ["check", f"{HTTPS}/weather", *through])
    assert (ran.exit_code, "from https to http" in ran.output) == (1, True)


def test_every_rule_has_a_fault() -> None:
    """A rule that nothing was planted for might find nothing. Those of payments and chains have tests of their own."""
    planted: Mapping[str, int] = {rule: 1 for rule, _, _ in FAULTS.values()} | {"plain-http": 1, "x402-plain-http": 1}
    elsewhere = {rule.id for rule in (*rules_paid.RULES, *rules_terms.ON_CHAIN)}
    assert {rule.id for rule in RULES} - elsewhere == set(planted)
    assert len(planted) >= 30
