"""Contract wallets pay our route in all three protocols: by our own relayer, and through the official facilitator.

Each payment goes through the whole gate, in process, and is settled on an anvil. With `facilitator+rpc` a node stands
beside the facilitator, with `facilitator` nobody but the facilitator can say who signed.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account as EthAccount
from msgspec.structs import replace

from bridge.demo import token
from bridge.payers import Account, Asked, account, sign
from bridge.settlers.chain import ChainSettler
from bridge.settlers.facilitator import FacilitatorSettler
from tests.bridge.harness import PROTOCOLS, RECIPIENT, House, envelope, resign
from tests.bridge.settlers import wallets
from tests.bridge.settlers.anvil import until
from tests.bridge.settlers.payments import RELAYER, RIVAL
from tests.bridge.settlers.rpc import ask, deploy, nonce_of, send
from translators.payment import Payment, Protocol

from .chain import CHAIN_ID, Anvil, Transfer
from .peers import Facilitator, places

PRICE = 10_000
OWNER = account("the owner of wallets")
SETTLERS = ("chain", "facilitator+rpc", "facilitator")

MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
"""The official facilitator simulates a wallet's making and its payment in one call of this contract."""

Signs = Callable[[bytes], bytes]


class World:
    """A chain with a factory of wallets on it, and an official facilitator that makes wallets of that factory."""

    def __init__(self, anvil: Anvil, logs: Path) -> None:
        self.anvil = anvil
        self.rpc_url = anvil.rpc_url
        for key in (RELAYER, RIVAL):
            token.fund_gas(self.rpc_url, key.address, 10**20)
        self.factory = asyncio.run(wallets.a_factory(self.rpc_url))
        self.facilitator = Facilitator(
            rpc_url=self.rpc_url, private_key=anvil.keys[-1], logs=logs, factories=[self.factory]
        )
        anvil.call("anvil_setCode", MULTICALL3, _multicall3())
        self._salts = count(1)

    def settler(self, kind: str) -> Any:
        """One of `SETTLERS`."""
        if kind == "chain":
            return ChainSettler(self.rpc_url, RELAYER.key.hex(), poll_seconds=0.02)
        rpc_url = self.rpc_url if kind == "facilitator+rpc" else None
        return FacilitatorSettler(self.facilitator.url, rpc_url=rpc_url)

    async def gas_money(self) -> int:
        """What our relayer has for gas, in wei."""
        return int(await ask(self.rpc_url, "eth_getBalance", RELAYER.address, "latest"), 16)

    async def exists(self) -> tuple[str, Account, Signs]:
        """A wallet on the chain, with money, and its own form of signature."""
        address, salt = await self._wallet()
        await self._send(self.factory, wallets.make_call(OWNER.address, salt))
        return address, OWNER, lambda own: b"\1" + own

    async def signed_by_owner(self) -> tuple[str, Account, Signs]:
        """The same kind, which sends its owner's 65 bytes as they are."""
        address, owner, _ = await self.exists()
        return address, owner, lambda own: own

    async def does_not_exist(self) -> tuple[str, Account, Signs]:
        """A wallet that has money at its address, and no code yet."""
        address, salt = await self._wallet()
        making = wallets.make_call(OWNER.address, salt)
        return address, OWNER, lambda own: wallets.wrap(self.factory, making, b"\1" + own)

    async def has_delegated(self) -> tuple[str, Account, Signs]:
        """An account that runs a wallet's code (EIP-7702)."""
        key = EthAccount.create()
        await self._mint(key.address, PRICE)
        delegate = await deploy(self.rpc_url, wallets.compiled(wallets.DELEGATE))
        agreed = key.sign_authorization({"chainId": CHAIN_ID, "address": delegate, "nonce": 0})
        await self._send(key.address, b"", type=4, authorizationList=[agreed])
        assert (await wallets.code_at(self.rpc_url, key.address)).startswith("0xef0100")
        return key.address.lower(), Account(key.address.lower(), "0x" + bytes(key.key).hex()), lambda own: own

    async def lies(self) -> tuple[str, Account, Signs]:
        """Yes to every question, and no when it comes to pay."""
        return await self._villain(wallets.compiled(wallets.LIAR))

    async def burns_gas(self) -> tuple[str, Account, Signs]:
        """Never answers."""
        return await self._villain(wallets.MALICIOUS["endless"])

    async def has_a_factory_that_burns(self) -> tuple[str, Account, Signs]:
        """An envelope whose factory never answers."""
        factory = await deploy(self.rpc_url, wallets.MALICIOUS["endless"])
        address, _ = await self._wallet()
        return address, OWNER, lambda own: wallets.wrap(factory, b"\1\2\3\4", own)

    async def _mint(self, address: str, amount: int) -> None:
        await asyncio.to_thread(token.install, self.rpc_url, {address: amount})

    async def _send(self, to: str, data: bytes, **fields: Any) -> None:
        transaction = await send(self.rpc_url, to, data, **fields)

        async def is_mined() -> Any:
            return await ask(self.rpc_url, "eth_getTransactionReceipt", transaction)

        await until(is_mined)

    async def _villain(self, code: bytes) -> tuple[str, Account, Signs]:
        address = (await deploy(self.rpc_url, code)).lower()
        await self._mint(address, PRICE)
        return address, OWNER, lambda own: b"\1" + own

    async def _wallet(self) -> tuple[str, int]:
        salt = next(self._salts)
        address = await wallets.address_of(self.rpc_url, self.factory, wallets.make_call(OWNER.address, salt))
        await self._mint(address, PRICE)
        return address.lower(), salt


def _multicall3() -> str:
    """Its code, by the creation code that viem has."""
    constants = places.NODE / "node_modules/viem/_cjs/constants/contracts.js"
    found = re.search(r"multicall3Bytecode = '(0x[0-9a-f]+)'", constants.read_text())
    assert found is not None
    creation = found[1]
    # The constructor is empty: it returns what stands behind it, which begins as Solidity's contracts do.
    return "0x" + creation[creation.index("60806040", 10) :]


@pytest.fixture(scope="module")
def world(installed: None, logs: Path) -> Iterator[World]:
    """A chain of its own that mines at once: two dozen payments are waited for here."""
    anvil = Anvil(logs, "--mixed-mining")
    try:
        world = World(anvil, logs)
        yield world
        world.facilitator.stop()
    finally:
        anvil.stop()


GOOD = (World.exists, World.signed_by_owner, World.does_not_exist, World.has_delegated)
BAD = (World.lies, World.burns_gas, World.has_a_factory_that_burns)


@asynccontextmanager
async def a_house(settler: Any) -> AsyncIterator[House]:
    house = House(settler=settler, clock=time.time, wait_seconds=5.0)
    await house.app.gate.start(house.config.offers_to_check())
    try:
        yield house
    finally:
        await house.app.gate.close()


async def credential(house: House, protocol: Protocol, wallet: tuple[str, Account, Signs]) -> tuple[str, str]:
    """What the wallet sends for what the 402 asks."""
    address, owner, signs = wallet
    asked: Asked = await house.ask(protocol)
    payment: Payment = resign(sign(asked, owner, time.time()), asked.offer.asset, owner, payer=address)
    authorization = replace(payment.authorization, signature=signs(payment.authorization.signature))
    return envelope(replace(payment, authorization=authorization), asked)


async def breaks_off(scope: Any, receive: Any, send: Any) -> None:
    """A handler that dies after its first byte."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError


@pytest.mark.parametrize("settler", SETTLERS)
@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_it_pays(world: World, kind: Any, settler: str) -> None:
    """In every protocol: the answer for exactly the price, once, and again for the same request."""

    async def story() -> None:
        async with a_house(world.settler(settler)) as house:
            for protocol in PROTOCOLS:
                wallet = await kind(world)
                header = await credential(house, protocol, wallet)
                before = world.anvil.balance_of(RECIPIENT)
                answer = await house.visit(headers=[header])
                assert answer.status_code == 200, (protocol, answer.text, house.told[-2:])
                assert world.anvil.balance_of(RECIPIENT) == before + PRICE
                transaction = [fields["transaction"] for event, fields in house.told if event == "payment.settled"][-1]
                assert world.anvil.transfers(transaction) == [Transfer(wallet[0], RECIPIENT, PRICE)]
                again = await house.visit(headers=[header])
                assert (again.status_code, again.content) == (200, answer.content)
            assert house.runs == len(PROTOCOLS)

    asyncio.run(story())


@pytest.mark.parametrize("settler", SETTLERS)
@pytest.mark.parametrize("kind", [World.exists, World.does_not_exist], ids=lambda kind: kind.__name__)
def test_what_it_paid_for_is_delivered(world: World, kind: Any, settler: str) -> None:
    """The answer broke off after the settlement: the same credential gets it, though its nonce is used."""

    async def story() -> None:
        async with a_house(world.settler(settler)) as house:
            for protocol in PROTOCOLS:
                header = await credential(house, protocol, await kind(world))
                before = world.anvil.balance_of(RECIPIENT)
                house.handler = breaks_off
                with pytest.raises(RuntimeError):
                    await house.visit(headers=[header])
                assert world.anvil.balance_of(RECIPIENT) == before + PRICE
                house.handler = None
                assert (await house.visit(headers=[header])).status_code == 200
                assert world.anvil.balance_of(RECIPIENT) == before + PRICE

    asyncio.run(story())


@pytest.mark.parametrize("settler", SETTLERS)
@pytest.mark.parametrize("kind", BAD, ids=lambda kind: kind.__name__)
def test_who_means_no_good_is_not_served(world: World, kind: Any, settler: str) -> None:
    """Nothing is delivered and nothing moves. A liar costs us one transaction that reverts, the others none.

    That a facilitator's transaction was reverted only a node can say: without one the outcome stays unknown.
    """
    is_liar = kind is World.lies
    expected = 503 if is_liar and settler == "facilitator" else 402

    async def story() -> None:
        async with a_house(world.settler(settler)) as house:
            for protocol in PROTOCOLS:
                header = await credential(house, protocol, await kind(world))
                before, nonce = world.anvil.balance_of(RECIPIENT), await nonce_of(world.rpc_url, RELAYER.address)
                wei = await world.gas_money()
                began = time.monotonic()
                answer = await house.visit(headers=[header])
                assert time.monotonic() - began < 10
                assert answer.status_code == expected, (protocol, answer.text)
                assert ("WWW-Authenticate" in answer.headers) is (expected == 402)
                assert b"the report" not in answer.content
                assert world.anvil.balance_of(RECIPIENT) == before
                sent = await nonce_of(world.rpc_url, RELAYER.address) - nonce
                assert sent == (1 if is_liar and settler == "chain" else 0)
                assert wei - await world.gas_money() <= sent * 100_000 * 10**10

    asyncio.run(story())
