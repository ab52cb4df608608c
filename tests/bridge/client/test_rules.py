"""What a wallet will not do, whoever asks."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.client import Declined, Ledger, LimitExceeded, Policy, SignerFailed, Wallet
from bridge.client.chain import NodeFailed
from tests.bridge.client.shop import PAYER, URL, Script, a_402, aclient, client, nonces, wallet
from tests.bridge.harness import MPP, RECIPIENT, STRANGER, V1, V2, House
from translators.payment import Asset
from translators.price import Price

pytestmark = pytest.mark.anyio

NOW = 1_900_000_000.0
TOKEN = "0x" + "22" * 20
ODD = Asset(84532, TOKEN, 6, "Odd", "1", "ODD")


def _copy(answer: httpx.Response) -> httpx.Response:
    return httpx.Response(answer.status_code, headers=answer.headers.multi_items(), content=answer.content)


async def asking(routes: Any = None, **settings: Any) -> Script:
    ask = await a_402(routes, **settings)
    return Script(
        lambda request, n: (
            httpx.Response(200)
            if any(name in request.headers for name in ("authorization", "x-payment", "payment-signature"))
            else _copy(ask)
        )
    )


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"max_amount": "0.009"}, "over the limit a request of 0.009 USDC"),
        ({"hosts": ["api.example.com"]}, "localhost is not among the hosts"),
        ({"networks": ["base"]}, "base-sepolia (84532) is not among the networks"),
        ({"assets": ["0x" + "33" * 20]}, "is not among those to pay with"),
        ({"recipients": [STRANGER.address]}, "is not among the recipients"),
        ({"max_amount": {"0x" + "33" * 20: 10**9}}, "no limit is set for the token"),
        ({"daily_limit": "0.005"}, "the daily limit is 0.005"),
        ({"approve": lambda asked, url: False}, "was not approved"),
    ],
)
async def test_the_rules_are_kept(rules: dict[str, Any], said: str) -> None:
    """Nothing is signed, nothing is sent, and the message says why."""
    server = await asking()
    purse = wallet(now=lambda: NOW, **rules)
    async with aclient(server, purse) as shopper:
        with pytest.raises(Declined) as declined:
            await shopper.get(URL)
    assert said in str(declined.value)
    assert (nonces(purse), server.credentials) == ([], [])


@pytest.mark.parametrize(
    "rules",
    [
        {"max_amount": "0.01"},
        {"max_amount": "$0.01", "daily_limit": "0.01"},
        {"hosts": ["LOCALHOST"]},
        {"hosts": ["*.example.com", "localhost"]},
        {"networks": ["eip155:84532"]},
        {"networks": [84532]},
        {"recipients": [RECIPIENT.upper().replace("0X", "0x")]},
        {"max_amount": {"0x036CbD53842c5426634e7929541eC2318f3dCF7e": 10_000}},
    ],
)
async def test_what_the_rules_allow_is_paid(rules: dict[str, Any]) -> None:
    """To the last unit."""
    async with aclient(await asking(), wallet(now=lambda: NOW, **rules)) as shopper:
        assert (await shopper.get(URL)).status_code == 200


@pytest.mark.parametrize(
    "rules",
    [
        {"max_amount": "a lot"},
        {"max_amount": "-1"},
        {"max_amount": {"0x12": 1}},
        {"daily_limit": "0"},
        {"protocols": []},
        {"protocols": ["x402-v9"]},
        {"networks": ["mars"]},
        {"recipients": ["bob"]},
        {"assets": ["0x"]},
        {"longest_seconds": 1},
    ],
)
def test_rules_that_could_not_be_kept_are_refused(rules: dict[str, Any]) -> None:
    """When they are written, not when they are needed."""
    with pytest.raises(ValueError):  # noqa: PT011
        Policy(**({"max_amount": "1"} | rules))


async def test_plain_http_is_for_this_machine() -> None:
    """A credential that everybody on the way can read is money for whoever is first."""
    server = await asking()
    async with aclient(server, wallet(now=lambda: NOW)) as shopper:
        with pytest.raises(Declined, match="plain HTTP"):
            await shopper.get("http://api.example.com/report")
    async with aclient(server, wallet(now=lambda: NOW, allow_http=True)) as shopper:
        assert (await shopper.get("http://api.example.com/report")).status_code == 200


async def test_the_day_is_counted_across_processes(tmp_path: Path) -> None:
    """Two wallets on one file share the limit, and a day later it is there again."""
    path, now = tmp_path / "ledger", [NOW]
    server = await asking(protocols=[V2])
    purses = [wallet(now=lambda: now[0], ledger=Ledger(path), daily_limit="0.025") for _ in range(2)]
    async with aclient(server, purses[0]) as one, aclient(server, purses[1]) as two:
        await one.get(URL)
        await two.get(URL)
        with pytest.raises(LimitExceeded, match=r"0\.02 were signed for in 24 hours"):
            await one.get(URL)
        now[0] += 24 * 3600 + 1
        await one.get(URL)


async def test_the_day_is_counted_by_token_where_the_rule_is() -> None:
    """In atomic units."""
    usdc = "0x036cbd53842c5426634e7929541ec2318f3dcf7e"
    server = await asking(protocols=[V2])
    async with aclient(server, wallet(now=lambda: NOW, daily_limit={usdc: 10_000})) as shopper:
        await shopper.get(URL)
        with pytest.raises(LimitExceeded):
            await shopper.get(URL)


async def test_preference_goes_by_protocol_then_network_then_token() -> None:
    """Of two networks, the one that the wallet names first."""
    prices = ["0.01", Price("0.02", network="base")]
    server = await asking({"GET /report": prices}, protocols=[V2])
    async with aclient(server, wallet(now=lambda: NOW, networks=["base", "base-sepolia"])) as shopper:
        await shopper.get(URL)
    payload = json.loads(base64.b64decode(server.credentials[0]))
    assert payload["accepted"]["network"] == "eip155:8453"


@pytest.mark.parametrize("protocol", [V1, V2])
async def test_a_domain_that_contradicts_a_known_token_is_not_signed(protocol: Any) -> None:
    """The server says that USDC signs as something else."""
    ask = await a_402(protocols=[protocol])
    body = json.loads(ask.content)
    headers = ask.headers
    if protocol is V1:
        body["accepts"][0]["extra"]["name"] = "Other"
    else:
        required = json.loads(base64.b64decode(headers["payment-required"]))
        required["accepts"][0]["extra"]["version"] = "9"
        headers["payment-required"] = base64.b64encode(json.dumps(required).encode()).decode()
    headers.pop("x-payment-required", None)
    headers.pop("content-length", None)
    wrong = httpx.Response(402, headers=headers.multi_items(), json=body)
    purse = wallet(now=lambda: NOW)
    async with aclient(Script(lambda r, n: _copy(wrong)), purse) as shopper:
        with pytest.raises(Exception, match="signs as 'USDC', version '2'"):
            await shopper.get(URL)
    assert nonces(purse) == []


async def test_a_known_token_needs_no_domain_on_the_wire() -> None:
    """A server that forgets `extra` is paid all the same."""
    ask = await a_402(protocols=[V2])
    required = json.loads(base64.b64decode(ask.headers["payment-required"]))
    del required["accepts"][0]["extra"]
    bare = httpx.Response(402, headers={"payment-required": base64.b64encode(json.dumps(required).encode()).decode()})
    server = Script(lambda r, n: _copy(bare) if n == 1 else httpx.Response(200))
    async with aclient(server, wallet(now=lambda: NOW)) as shopper:
        await shopper.get(URL)
    assert json.loads(base64.b64decode(server.credentials[0]))["accepted"] == required["accepts"][0]


async def test_an_unknown_token_in_mpp_needs_somebody_who_knows_it() -> None:
    """The wire does not say its domain: the wallet's owner does, or the chain."""
    routes = {"GET /report": Price("0.01", asset=ODD)}
    limit = {TOKEN: 10_000}
    server = await asking(routes, protocols=[MPP])
    async with aclient(server, wallet(now=lambda: NOW, max_amount=limit)) as shopper:
        with pytest.raises(Declined, match="give a node to ask, or the token"):
            await shopper.get(URL)
    async with aclient(server, wallet(now=lambda: NOW, max_amount=limit, tokens=[ODD])) as shopper:
        assert (await shopper.get(URL)).status_code == 200
    asked = wallet(now=lambda: NOW, max_amount=limit)
    asked.chain = Node(ODD)  # type: ignore[assignment]
    async with aclient(server, asked) as shopper:
        assert (await shopper.get(URL)).status_code == 200
    failing = wallet(now=lambda: NOW, max_amount=limit)
    failing.chain = Node(None)  # type: ignore[assignment]
    async with aclient(server, failing) as shopper:
        with pytest.raises(NodeFailed):
            await shopper.get(URL)


class Node:
    def __init__(self, asset: Asset | None) -> None:
        self._asset = asset

    def asset(self, wanted: Asset) -> Asset:
        if self._asset is None:
            raise NodeFailed("the node did not answer")
        return self._asset


async def test_an_unknown_token_has_no_worth_in_money() -> None:
    """A limit of a dollar says nothing about a token that anybody can make."""
    server = await asking({"GET /report": Price("0.01", asset=ODD)}, protocols=[V2])
    async with aclient(server, wallet(now=lambda: NOW)) as shopper:
        with pytest.raises(Declined, match="whose worth is not known"):
            await shopper.get(URL)


async def test_a_challenge_for_another_body_is_not_answered() -> None:
    """Its digest is of what somebody else sent."""
    house = House({"POST /report": "0.01"}, protocols=[MPP])
    ask = await house.visit("POST", "/report", [("content-type", "application/json")], b"{}")
    purse = wallet(now=house.clock)
    async with aclient(Script(lambda r, n: _copy(ask)), purse) as shopper:
        with pytest.raises(Declined, match="not for this body"):
            await shopper.post(URL, json={"a": 1})
    assert nonces(purse) == []


async def test_authorizations_do_not_live_longer_than_the_wallet_lets_them() -> None:
    """Whatever the server asks for."""
    server = await asking(protocols=[V2], max_timeout_seconds=86_400)
    async with aclient(server, wallet(now=lambda: NOW, longest_seconds=120)) as shopper:
        await shopper.get(URL)
    signed = json.loads(base64.b64decode(server.credentials[0]))["payload"]["authorization"]
    assert signed["validBefore"] == str(int(NOW) + 120)


async def test_what_was_never_sent_does_not_count_for_the_day() -> None:
    """A signer that fails gives the money back to the limit."""
    server = await asking(protocols=[V2])

    class Failing:
        address = PAYER.address

        def sign(self, authorization: Any, asset: Any) -> bytes:
            raise SignerFailed("the device is locked")

    class Strange(Failing):
        def sign(self, authorization: Any, asset: Any) -> bytes:
            return b"\x01" * 65

    good = wallet(now=lambda: NOW, daily_limit="0.01")
    for signer in (Failing(), Strange()):
        bad = Wallet(signer, good.policy, ledger=good.ledger, clock=lambda: NOW)
        async with aclient(server, bad) as shopper:
            with pytest.raises(SignerFailed):
                await shopper.get(URL)
    assert server.credentials == []
    async with aclient(server, good) as shopper:
        assert (await shopper.get(URL)).status_code == 200


# Redirects


@pytest.mark.parametrize("protocol", [V1, V2, MPP])
async def test_a_redirect_to_another_host_carries_no_credential(protocol: Any) -> None:
    """httpx copies headers into the request that follows; the credential is not among them, whatever its name."""
    ask = await a_402(protocols=[protocol])
    elsewhere: list[httpx.Request] = []

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        if request.url.host == "127.0.0.1":
            elsewhere.append(request)
            return _copy(ask)
        if n == 1:
            return _copy(ask)
        return httpx.Response(307, headers={"location": "http://127.0.0.1/steal"})

    purse = wallet(now=lambda: NOW)
    async with aclient(Script(answer), purse, follow_redirects=True) as shopper:
        response = await shopper.get(URL)
    assert response.status_code == 402
    (request,) = elsewhere
    assert not {"x-payment", "payment-signature", "payment-authorization", "authorization"} & set(request.headers)
    assert len(set(nonces(purse))) == 1


def test_a_redirect_within_the_server_carries_the_same_credential() -> None:
    """A slash more, and no second signature; and a 402 that was reached by a redirect is paid where it was reached."""
    import anyio

    ask = anyio.run(a_402)
    paid: list[str] = []

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        credential = request.headers.get("authorization")
        if request.url.path == "/old":
            return httpx.Response(308, headers={"location": "/report"})
        if request.url.path == "/report" and credential:
            paid.append(credential)
            return httpx.Response(307, headers={"location": "/report/"})
        if request.url.path == "/report/" and credential:
            paid.append(credential)
            return httpx.Response(200, text="the report")
        return _copy(ask)

    purse = wallet(now=lambda: NOW)
    with client(Script(answer), purse, follow_redirects=True) as shopper:
        assert shopper.get("http://localhost/old").text == "the report"
    assert (len(nonces(purse)), len(set(paid)), len(paid)) == (1, 1, 2)


async def test_a_server_that_redirects_for_ever_is_given_up_on() -> None:
    """Each time to a place that asks again: one signature, sent a few times, and the last answer is the caller's."""
    ask = await a_402(protocols=[V2])

    def answer(request: httpx.Request, n: int) -> httpx.Response:
        assert n < 100
        if "payment-signature" in request.headers:
            return httpx.Response(307, headers={"location": f"/report/{n}"})
        return _copy(ask)

    purse = wallet(now=lambda: NOW)
    async with aclient(Script(answer), purse, follow_redirects=True) as shopper:
        assert (await shopper.get(URL)).status_code == 402
    assert len(set(nonces(purse))) == 1


def test_the_credential_is_not_in_a_repr() -> None:
    """Of the headers that hold it."""
    from bridge.client.headers import CredentialHeaders

    headers = CredentialHeaders(httpx.Headers({"accept": "*/*"}), "X-PAYMENT", "secret-secret")
    assert "secret-secret" not in repr(headers)
    assert headers["x-payment"] == "secret-secret"
    assert [*headers.items()] == [*headers.multi_items()] == [("accept", "*/*"), ("x-payment", "secret-secret")]
    assert ("x-payment" in headers, len(headers), [*headers], [*headers.values()]) == (
        *(True, 2, ["accept", "x-payment"]),
        ["*/*", "secret-secret"],
    )
    assert "x-payment" not in httpx.Headers(headers)
