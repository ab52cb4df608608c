"""Our own client pays other people's servers, unmodified, on the chain: the library in both ways, and the command."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from bridge.client import Declined, KeySigner, Outcome, OutcomeState, PaymentAuth, Policy, Wallet, outcome_of
from bridge.client.chain import NodeFailed, TokenReader
from translators.payment import Protocol

from .chain import Anvil, Transfer
from .chain import Wallet as Payer
from .our_server import OurServer
from .peers import SERVERS, Server
from .visits import MINTED, ORDER, ROUTES

OFFERS = [(name, protocol) for name, spec in SERVERS.items() for protocol in sorted(spec.protocols)]
"""Every server in every protocol that it can be paid in."""

REFUSES_THE_DRAFTS_NONCE = {("pympp-server", "mpp")}
"""pympp hashes the JSON array of id and realm. Should its test fail, it has changed its mind."""

PAYABLE = [offer for offer in OFFERS if offer not in REFUSES_THE_DRAFTS_NONCE]


def _wallet(payer: Payer, protocols: list[str] | None = None) -> Wallet:
    policy = Policy(max_amount="0.05", protocols=protocols or ["mpp", "x402-v2", "x402-v1"], networks=["base-sepolia"])
    return Wallet(KeySigner(payer.private_key), policy)


def _told(outcome: Outcome | None, payer: Payer, server: Server, price: int, anvil: Anvil) -> None:
    """The receipt's transaction is the one that moved the money, and nothing else moved."""
    assert outcome is not None
    assert (outcome.state, outcome.delivered, outcome.amount) == (OutcomeState.PAID, True, price), outcome
    assert outcome.transaction is not None, outcome
    paid = Transfer(payer.address.lower(), server.pay_to.lower(), price)
    assert anvil.transfers(outcome.transaction) == [paid]
    assert anvil.balance_of(payer.address) == MINTED - price


@pytest.mark.parametrize(("name", "protocol"), PAYABLE)
def test_the_library_pays(name: str, protocol: str, peer_server: Callable[[str], Server], anvil: Anvil) -> None:
    """GET and POST, exactly the price, and a receipt with the transaction that did it."""
    server, payer, sender = peer_server(name), anvil.payer(), anvil.payer()
    url = server.url

    def get() -> httpx.Response:
        with httpx.Client(base_url=url, auth=PaymentAuth(_wallet(payer, [protocol])), timeout=60) as client:
            return client.get("/weather")

    async def post() -> httpx.Response:
        auth = PaymentAuth(_wallet(sender, [protocol]))
        async with httpx.AsyncClient(base_url=url, auth=auth, timeout=60) as client:
            return await client.post("/echo", json=ORDER)

    async def both() -> tuple[httpx.Response, httpx.Response]:
        return await asyncio.gather(asyncio.to_thread(get), post())

    answer, posted = asyncio.run(both())
    assert answer.status_code == 200, answer.text
    assert posted.json() == ORDER
    _told(outcome_of(answer), payer, server, ROUTES["weather"].price, anvil)
    _told(outcome_of(posted), sender, server, ROUTES["echo"].price, anvil)


@pytest.mark.parametrize("name", SERVERS)
def test_the_command_pays(name: str, peer_server: Callable[[str], Server], anvil: Anvil, tmp_path: Path) -> None:
    """Whatever it offers, without being told what."""
    server, payer = peer_server(name), anvil.payer()
    ran = _pay(server.url + "/weather", payer, tmp_path)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert json.loads(told["body"])
    paid = Transfer(payer.address.lower(), server.pay_to.lower(), ROUTES["weather"].price)
    assert anvil.transfers(told["payment"]["transaction"]) == [paid]
    assert anvil.balance_of(payer.address) == MINTED - ROUTES["weather"].price
    assert payer.private_key[2:] not in ran.stdout + ran.stderr


def _pay(url: str, payer: Payer, tmp_path: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [Path(sys.executable).with_name("x402-mpp"), "pay", url, "--yes", "--json"]
    return subprocess.run(
        [*command, "--ledger", tmp_path / "ledger", *more],
        env=os.environ | {"X402_MPP_PRIVATE_KEY": payer.private_key},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_server_that_hashes_the_challenge_otherwise_is_paid_once_by_the_same_signature(
    peer_server: Callable[[str], Server], anvil: Anvil
) -> None:
    """pympp refuses the draft's nonce as MPP and takes the same authorization as x402: one signature, one transfer."""
    server, payer = peer_server("pympp-server"), anvil.payer()
    with httpx.Client(base_url=server.url, auth=PaymentAuth(_wallet(payer)), timeout=60) as client:
        answer = client.get("/weather")
    outcome = outcome_of(answer)
    assert outcome is not None
    assert (outcome.protocol, outcome.presented) == (Protocol.X402_V2, 2)
    _told(outcome, payer, server, ROUTES["weather"].price, anvil)


def test_where_there_is_nothing_but_the_other_hash_nothing_is_charged(
    peer_server: Callable[[str], Server], anvil: Anvil
) -> None:
    """Refused, not paid again with another signature, and no poorer."""
    server, payer = peer_server("pympp-server"), anvil.payer()
    with httpx.Client(base_url=server.url, auth=PaymentAuth(_wallet(payer, ["mpp"])), timeout=60) as client:
        answers = [client.get("/weather") for _ in range(2)]
    outcomes = [outcome_of(answer) for answer in answers]
    assert [answer.status_code for answer in answers] == [402, 402]
    assert len({outcome.payment_id for outcome in outcomes if outcome is not None}) == 1
    assert anvil.balance_of(payer.address) == MINTED


def test_our_own_server_is_paid_in_every_protocol(our_server: Callable[..., OurServer], anvil: Anvil) -> None:
    """From one 402; and a node tells the client what the token is, and that the authorization was used."""
    server = our_server()
    for protocol in Protocol:
        payer = anvil.payer()
        wallet = _wallet(payer, [protocol.value])
        with httpx.Client(base_url=server.url, auth=PaymentAuth(wallet), timeout=60) as client:
            answer = client.get("/weather")
        outcome = outcome_of(answer)
        assert outcome is not None
        assert (outcome.state, outcome.protocol, outcome.problem) == (OutcomeState.PAID, protocol, None)
        assert anvil.balance_of(payer.address) == MINTED - ROUTES["weather"].price
        unsaid = replace(outcome.asset, decimals=0, name="", version="", symbol="")
        node = TokenReader(anvil.rpc_url)
        assert replace(node.asset(unsaid), symbol="USDC") == outcome.asset
        assert node.is_used(unsaid, outcome.payer, outcome.payment_id.rpartition("/")[2])
        assert not node.is_used(unsaid, outcome.payer, "0x" + "00" * 32)
        with pytest.raises(Declined, match="signs as"):
            node.asset(replace(outcome.asset, version="9"))
        with pytest.raises(NodeFailed, match="is of chain 84532"):
            TokenReader(anvil.rpc_url).asset(replace(outcome.asset, chain_id=1))
