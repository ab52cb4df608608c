"""What the gateway makes of an upstream's 402, of credentials that are not good, and of what it cannot carry."""

import json
import time
from typing import Any

import msgspec
import pytest

from bridge.payers import credential, sign
from bridge.testing import FixedClock
from tests.bridge.gateway.lab import (
    EXTENSIONS,
    KEY,
    MPP,
    PAYER,
    PROTOCOLS,
    V1,
    V2,
    Server,
    gateway_before,
    lab,
    mpp_challenges,
)
from tests.bridge.harness import envelope, resign, token_json, with_token
from translators import mpp
from translators.payment import Protocol
from translators.upstream import unseal_terms
from translators.wire import mpp as mpp_wire
from translators.wire import x402_v2

pytestmark = pytest.mark.anyio

PERMIT2 = {
    "scheme": "exact",
    "network": "eip155:84532",
    "amount": "10000",
    "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
    "payTo": "0x4444444444444444444444444444444444444444",
    "maxTimeoutSeconds": 300,
    "extra": {"assetTransferMethod": "permit2", "name": "USDC", "version": "2"},
}
SOLANA = {
    "scheme": "exact",
    "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1",
    "amount": "1000",
    "asset": "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU",
    "payTo": "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4",
    "maxTimeoutSeconds": 60,
    "extra": {"feePayer": "EwWqGE4ZFKLofuestmU4LDdK7XM1N4ALgdZccwYugwGd"},
}


async def test_a_v2_challenge_goes_on_byte_for_byte_with_the_others_beside_it() -> None:
    """Extensions, unknown members and entries that no other protocol can carry are all still there."""
    server = Server([2])
    server.extensions = EXTENSIONS
    server.more_accepts = [PERMIT2, SOLANA]
    async with lab(server) as at:
        answer = await at.client.get("/report")
        assert answer.status_code == 402
        required = x402_v2.decode_payment_required(answer.headers["payment-required"])
        assert required.accepts == [server.entry_v2(), PERMIT2, SOLANA]
        assert required.extensions == EXTENSIONS
        assert answer.headers["x-upstream"] == "kept"
        assert answer.headers["cache-control"] == "no-store"
        assert len(mpp_challenges(answer)) == 1
        body = answer.json()
        assert body["type"] == "https://paymentauth.org/problems/payment-required"
        assert body["x402Version"] == 1
        assert len(body["accepts"]) == 1
        assert answer.headers["content-type"] == "application/problem+json"
        told = at.event("payment.challenged")
        assert told["offered"] == ["mpp", "x402-v1", "x402-v2"]
        assert (told["amount"], told["upstream_protocol"]) == ("10000", "x402-v2")


async def test_a_v1_body_keeps_its_members() -> None:
    """Those of the challenge, those of each entry, and those that stand beside them."""
    async with lab(Server([1])) as at:
        body = (await at.client.get("/report")).json()
        assert body["x-top"] == "kept"
        assert body["error"] == "X-PAYMENT header is required"
        assert body["accepts"][0]["x-own"] == 1
        assert body["accepts"][0]["outputSchema"] == {"type": "object"}
        assert body["status"] == 402


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "image/png"])
async def test_what_a_person_reads_stays(kind: str) -> None:
    """A paywall goes on as it is; what programs read is in the headers."""
    server = Server([2])
    server.body_402 = (kind, b"<html>pay here</html>")
    async with lab(server) as at:
        answer = await at.client.get("/report")
        assert (answer.text, answer.headers["content-type"]) == ("<html>pay here</html>", kind)
        assert len(mpp_challenges(answer)) == 1
        assert "x-payment-required" in answer.headers


async def test_a_402_of_another_kind_is_left_alone() -> None:
    """Not x402: nothing is added, nothing is taken away."""

    async def other(server: Server, scope: Any, receive: Any, send: Any) -> None:
        await server.reply(send, 402, b'{"invoice":"lnbc1"}', [(b"www-authenticate", b'L402 token="x"')])

    async with lab() as at:
        at.server.free["/other"] = other
        answer = await at.client.get("/other")
        assert answer.content == b'{"invoice":"lnbc1"}'
        assert answer.headers["www-authenticate"] == 'L402 token="x"'
        assert "payment-required" not in answer.headers


async def test_an_upstream_with_mpp_of_its_own_keeps_it() -> None:
    """Its challenge stays and its credentials reach it; ours, for a method that it lacks, is put before it."""
    tempo = b'Payment id="x", realm="shop", method="tempo", intent="charge", request="e30"'
    server = Server([2])
    server.headers_402 = [(b"www-authenticate", tempo)]
    async with lab(server) as at:
        challenges = mpp_challenges(await at.client.get("/report"))
        assert [challenge.method for challenge in challenges] == ["evm", "tempo"]
        assert (await at.pay(MPP)).status_code == 200
        own = mpp_wire.Credential(challenge=challenges[1], payload=msgspec.Raw(b'{"type":"hash"}'))
        header = {"authorization": "Payment " + mpp_wire.encode_credential(own)}
        await at.client.get("/report", headers=header)
        assert at.server.last.header("authorization") == header["authorization"]


async def test_any_gateway_with_the_same_secret_takes_the_payment() -> None:
    """The challenge of one is paid at another that has never seen the upstream; nothing is asked twice."""
    server = Server([2])
    async with lab(server) as one, gateway_before({"/": server.url}, server, realm=None) as other:
        header = {"host": "localhost"}
        asked = await one.ask(MPP, headers=header)
        seen = len(server.seen)
        name, value = credential(asked, PAYER)
        answer = await other.client.get("/report", headers={**header, name: value})
        assert answer.status_code == 200
        assert len(server.seen) == seen + 1


@pytest.mark.parametrize(("client", "version"), [(V1, 2), (V2, 1)])
async def test_a_gateway_that_knows_nothing_asks_the_upstream(client: Protocol, version: int) -> None:
    """An x402 client of the other version: the terms come from the upstream, with the same method, URL and body."""
    server = Server([version])
    async with lab(server) as one, gateway_before({"/": server.url}, server) as other:
        header = {"host": "localhost"}
        name, value = await one.credential(client, "/report?a=1", "POST", json={"q": 1}, headers=header)
        seen = len(server.seen)
        answer = await other.client.post("/report?a=1", json={"q": 1}, headers={**header, name: value})
        assert answer.status_code == 200
        probe, paid = server.seen[seen:]
        assert (probe.target, probe.body, probe.paid) == ("/report?a=1", b'{"q":1}', False)
        assert probe.header(name.lower()) is None
        assert (paid.target, paid.body, paid.paid) == ("/report?a=1", b'{"q":1}', True)


async def test_a_payment_for_what_is_free_now_is_not_asked_for_twice() -> None:
    """What answered the question is the answer: a second request might do the work twice."""
    server = Server([2])
    async with lab(server) as at, gateway_before({"/": server.url}, server) as other:
        name, value = await at.credential(V1)
        server.free["/report"] = server.free["/free"]
        seen = len(server.seen)
        answer = await other.client.get("/report", headers={name: value})
        assert (answer.status_code, answer.text) == (200, "free")
        assert len(server.seen) == seen + 1


async def test_a_price_that_changed_is_learned_at_once() -> None:
    """A payment for the new price meets a gateway that remembers the old one."""
    server = Server([2])
    async with lab(server) as at, gateway_before({"/": server.url}, server) as other:
        await at.client.get("/report")
        server.price = 20_000
        name, value = await other.credential(V1, headers={"host": "localhost"})
        answer = await at.client.get("/report", headers={name: value, "host": "localhost"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("signature", "verification-failed"),
        ("nonce", "verification-failed"),
        ("value", "verification-failed"),
        ("realm", "invalid-challenge"),
        ("id", "invalid-challenge"),
        ("opaque", "invalid-challenge"),
        ("path", "invalid-challenge"),
        ("body", "verification-failed"),
        ("expired", "payment-expired"),
        ("malformed", "malformed-credential"),
    ],
)
async def test_a_bad_mpp_payment_never_reaches_the_upstream(change: str, problem: str) -> None:
    """Refused with the problem that it is, and a fresh challenge; nothing is claimed."""
    clock = FixedClock(time.time())
    async with lab(Server([2]), clock=clock) as at:
        path, body = "/report", {"q": 1}
        asked = await at.ask(MPP, path, "POST", json=body)
        header = credential(asked, PAYER)
        content = token_json(header)
        match change:
            case "signature" | "nonce":
                text = content["payload"][change]
                content["payload"][change] = text[:10] + ("1" if text[10] != "1" else "2") + text[11:]
            case "value":
                content["payload"]["value"] = "10001"
            case "realm" | "id":
                content["challenge"][change] += "x"
            case "opaque":
                opaque = mpp_wire.decode_opaque(content["challenge"]["opaque"])
                content["challenge"]["opaque"] = mpp_wire.encode_opaque(opaque | {"u": "AAAA"})
            case "path":
                path = "/other"
            case "body":
                body = {"q": 2}
            case "expired":
                clock.advance(301)
        bad = with_token(header, content) if change != "malformed" else (header[0], "Payment nothing")
        answer = await at.client.post(path, json=body, headers={bad[0]: bad[1]})
        assert answer.status_code == 402
        assert answer.json()["type"] == f"https://paymentauth.org/problems/{problem}"
        fresh = mpp_challenges(answer)
        assert len(fresh) == 1
        assert fresh[0].id != asked.challenge.id if asked.challenge else True
        assert not any(seen.paid or seen.header("payment-signature") for seen in at.server.seen)
        assert not at.rows()
        assert at.event("payment.rejected")["status"] == 402


@pytest.mark.parametrize(("client", "version"), [(V1, 2), (V2, 1)])
async def test_a_bad_x402_payment_of_the_other_version_never_reaches_the_upstream(
    client: Protocol, version: int
) -> None:
    """Less than the price, another recipient, another's signature, no base64: refused as in process."""
    async with lab(Server([version])) as at:
        asked = await at.ask(client)
        payment = sign(asked, PAYER, time.time())
        bad = [
            resign(payment, asked.offer.asset, value=1),
            resign(payment, asked.offer.asset, recipient=PAYER.address),
            msgspec.structs.replace(
                payment, authorization=msgspec.structs.replace(payment.authorization, signature=b"\x01" * 64 + b"\x1b")
            ),
        ]
        for one in bad:
            header = envelope(one, asked)
            answer = await at.client.get("/report", headers=[header])
            assert answer.status_code == 402, answer.text
        broken = await at.client.get("/report", headers={envelope(payment, asked)[0]: "%%%"})
        assert (broken.status_code, broken.json()["error"]) == (400, "invalid_payload")
        assert not any(seen.paid for seen in at.server.seen)
        assert not at.rows()


async def test_a_native_payment_that_is_not_ours_to_judge_goes_on_all_the_same() -> None:
    """A wallet's signature, Permit2, an unreadable one: as it came, and the upstream answers in its own words."""
    server = Server([2])
    server.more_accepts = [PERMIT2]
    async with lab(server) as at:
        asked = await at.ask(V2)
        payment = sign(asked, PAYER, time.time())
        wallet = msgspec.structs.replace(
            payment, authorization=msgspec.structs.replace(payment.authorization, signature=b"\x01" * 200)
        )
        header = envelope(wallet, asked)
        permit2 = token_json(header) | {"accepted": PERMIT2, "payload": {"permit2Authorization": {}}}
        for value in (header[1], with_token(header, permit2)[1], "%%%"):
            answer = await at.client.get("/report", headers={"payment-signature": value})
            assert at.server.last.header("payment-signature") == value
            assert answer.status_code in (200, 402)
            passed = at.event("payment.passed")
            assert (passed["protocol"], passed["upstream_protocol"]) == ("x402-v2", "x402-v2")
        assert not at.rows()


async def test_several_credentials_are_refused() -> None:
    """As in process: 400, and nothing is passed on. Both of x402's together are one client hedging."""
    async with lab(Server([1, 2])) as at:
        mpp_header, v1, v2 = [await at.credential(protocol) for protocol in (MPP, V1, V2)]
        answer = await at.client.get("/report", headers=[mpp_header, v2])
        assert answer.status_code == 400
        assert not any(seen.paid for seen in at.server.seen)
        assert (await at.client.get("/report", headers=[v1, v2])).status_code == 200
        assert at.server.last.header("x-payment") == v1[1]
        assert at.server.last.header("payment-signature") == v2[1]


async def test_other_authorization_goes_on_beside_a_payment() -> None:
    """`Payment-Authorization` pays, `Authorization: Bearer` is the upstream's own."""
    async with lab(Server([2]), credential_header="Payment-Authorization") as at:
        challenge = mpp_challenges(await at.client.get("/report"))[0]
        assert challenge.header == "Payment-Authorization"
        _, value = await at.credential(MPP)
        headers = {"payment-authorization": value, "authorization": "Bearer mine"}
        assert (await at.client.get("/report", headers=headers)).status_code == 200
        assert at.server.last.header("authorization") == "Bearer mine"
        assert at.server.last.header("payment-authorization") is None


@pytest.mark.parametrize("protocols", [("mpp",), ("x402-v1",), ()])
@pytest.mark.parametrize("version", [1, 2])
async def test_only_what_is_wanted_is_added(protocols: tuple[str, ...], version: int) -> None:
    """And nothing that the upstream says itself is taken away."""
    async with lab(Server([version]), protocols=protocols) as at:
        answer = await at.client.get("/report")
        says = {*protocols, f"x402-v{version}"}
        assert ("www-authenticate" in answer.headers) == ("mpp" in says)
        assert ("payment-required" in answer.headers) == ("x402-v2" in says)
        assert (answer.json().get("x402Version") == 1) == ("x402-v1" in says)
        native = V1 if version == 1 else V2
        assert (await at.pay(native)).status_code == 200


async def test_terms_that_are_too_long_are_left_to_x402() -> None:
    """Extensions that fit no header stay out of the challenge; so does MPP where even the entry does not fit."""
    server = Server([2])
    server.extensions = {"bazaar": {"random": [format(n * 7919 % 1000003, "x") for n in range(900)]}}
    async with lab(server) as at:
        challenge = mpp_challenges(await at.client.get("/report"))[0]
        assert len(mpp_wire.encode_challenge(challenge)) < 2000
        terms = unseal_terms(mpp.carried_terms(challenge) or "")
        assert terms.extensions is None
        assert (await at.pay(MPP)).status_code == 200
        server.entry_more = {
            "extra": {"name": "USDC", "version": "2", "more": [format(n * 7919 % 1000003, "x") for n in range(900)]}
        }
        server.extensions = None
        answer = await at.client.get("/report")
        assert "www-authenticate" not in answer.headers
        assert x402_v2.decode_payment_required(answer.headers["payment-required"]).accepts == [server.entry_v2()]


async def test_no_secret_is_in_a_log_or_an_event(capsys: pytest.CaptureFixture[str], logged: list[Any]) -> None:
    """Credentials, signatures and keys: neither where a payment goes well nor where it does not."""
    async with lab(Server([2])) as at:
        headers = [await at.credential(protocol) for protocol in PROTOCOLS]
        for header in headers:
            for _ in range(2):
                await at.client.get("/report", headers=[header])
        told = json.dumps([at.told, logged], default=str) + "".join(capsys.readouterr())
        secrets = [KEY, *(header[1][20:] for header in headers)]
        for header in headers:
            payload = token_json(header)["payload"]
            secrets.append(payload["signature"][2:])
        assert not [secret for secret in secrets if secret in told]
        assert KEY not in repr(at.gateway.config)


async def test_an_mpp_payment_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To learn what its upstream asked, and to verify it; one that is not ours is refused as ever."""
    decoded = []
    decode = mpp_wire.decode_credential

    def counting(token: str | bytes) -> mpp_wire.Credential:
        decoded.append(token)
        return decode(token)

    async with lab() as at:
        header, value = await at.credential(MPP)
        monkeypatch.setattr(mpp_wire, "decode_credential", counting)
        assert (await at.client.get("/report", headers={header: value})).status_code == 200
        assert len(decoded) == 1
        header, value = await at.credential(MPP)
        credential = decode(value.removeprefix("Payment "))
        foreign = msgspec.structs.replace(
            credential, challenge=msgspec.structs.replace(credential.challenge, realm="elsewhere")
        )
        refused = await at.client.get("/report", headers={header: "Payment " + mpp_wire.encode_credential(foreign)})
        assert refused.status_code == 402
        assert refused.json()["type"].endswith("/invalid-challenge")
        assert len(at.server.settled) == 1
