"""Contract wallets pay like anybody else, deployed or not, and none of them costs us more than we allow."""

import asyncio
import time
from typing import Any

import pytest
from eth_account import Account

from bridge.settlers.eip3009_calls import AUTHORIZATION_USED
from bridge.settlers.erc6492 import unwrap
from bridge.settlers.wallets import Wallets
from translators.checks import is_proven
from translators.errors import PaymentError, SettlementFailed, Unavailable, VerificationFailed
from translators.payment import Payment

from .payments import OFFER, POOR, PRICE, RECIPIENT, RELAYER, RESOURCE, RIVAL, USDC, Recorder, a_payment
from .proxy import Drop, Forward, proxy
from .rpc import ask, balance, deploy, mint, nonce_of, running, send, settle, used
from .wallets import DELEGATE, LIAR, MAGIC, MALICIOUS, a_factory, address_of, code_at, compiled, make_call, wrap

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="session")
async def factory(rpc_url: str) -> str:
    return await a_factory(rpc_url)


async def a_wallet(rpc_url: str, factory: str, salt: int, *, money: int = PRICE, made: bool = True) -> str:
    wallet = await address_of(rpc_url, factory, make_call(salt=salt))
    if made:
        await send(rpc_url, factory, make_call(salt=salt))
    if money:
        await mint(rpc_url, wallet, money)
    return wallet


def unmade(factory: str, wallet: str, salt: int, **options: Any) -> Payment:
    """A payment by a wallet that its own signature brings along."""
    return a_payment(payer=wallet, signature=lambda own: wrap(factory, make_call(salt=salt), b"\1" + own), **options)


async def test_check_signature(rpc_url: str, factory: str) -> None:
    """A wallet's word is a proof in all its forms, before and after its nonce is used, and nobody else's is."""
    wallet = await a_wallet(rpc_url, factory, 1)
    own = a_payment(payer=wallet, signature=lambda signed: b"\1" + signed)
    by_owner = a_payment(payer=wallet)
    still_wrapped = unmade(factory, wallet, 1)
    absent = await a_wallet(rpc_url, factory, 2, money=0, made=False)
    good = [a_payment(), a_payment(valid_before=0), own, by_owner, still_wrapped, unmade(factory, absent, 2)]
    bad = [
        a_payment(payer=POOR.address),
        a_payment(payer=POOR.address, signature=lambda signed: b"\1" + signed),
        a_payment(payer=wallet, key=POOR),
        a_payment(payer=wallet, key=POOR, signature=lambda signed: b"\1" + signed),
        a_payment(payer=wallet, signature=lambda signed: b""),
        unmade(factory, wallet, 1, key=POOR),
        unmade(factory, absent, 2, key=POOR),
        unmade(factory, absent, 3),  # makes another wallet
        a_payment(payer=absent, signature=lambda signed: b"\1" + signed),
        a_payment(payer=absent, signature=lambda signed: signed + MAGIC),
        a_payment(payer=absent, signature=lambda signed: MAGIC),
        a_payment(payer=absent, signature=lambda own: wrap(factory, make_call(salt=2), wrap(factory, b"", own))),
    ]
    async with running(rpc_url) as settler:
        for payment in good:
            await settler.check_signature(payment, OFFER, RESOURCE)
        for payment in bad:
            with pytest.raises(VerificationFailed):
                await settler.check_signature(payment, OFFER, RESOURCE)
        await settle(settler, own)
        await settler.check_signature(own, OFFER, RESOURCE)
    assert await code_at(rpc_url, absent) == "0x"


@pytest.mark.parametrize("code", MALICIOUS.values(), ids=MALICIOUS)
async def test_malicious_wallets(rpc_url: str, code: bytes) -> None:
    """A wallet that loops, reverts, floods or answers with less than an answer is refused, in time."""
    wallet = await deploy(rpc_url, code)
    payment = a_payment(payer=wallet, signature=lambda signed: b"\1" + signed)
    async with running(rpc_url, max_gas=200_000, max_deploy_gas=300_000) as settler:
        began = time.monotonic()
        with pytest.raises(VerificationFailed):
            await settler.check_signature(payment, OFFER, RESOURCE)
        with pytest.raises(VerificationFailed):
            await settler.verify(payment, OFFER, RESOURCE)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("code", MALICIOUS.values(), ids=MALICIOUS)
async def test_malicious_factories(rpc_url: str, code: bytes) -> None:
    """A factory that makes nothing is refused by a simulation, and nothing is sent."""
    factory = await deploy(rpc_url, code)
    payment = unmade(factory, POOR.address.lower(), 1)
    before, recorder = await nonce_of(rpc_url, RELAYER.address), Recorder()
    async with running(rpc_url, max_gas=200_000, max_deploy_gas=300_000) as settler:
        with pytest.raises(VerificationFailed):
            await settler.check_signature(payment, OFFER, RESOURCE)
        with pytest.raises(VerificationFailed):
            await settler.verify(payment, OFFER, RESOURCE)
        with pytest.raises((VerificationFailed, SettlementFailed)):
            await settler.settle(payment, OFFER, RESOURCE, recorder)
    assert (recorder.told, await nonce_of(rpc_url, RELAYER.address)) == ([], before)


async def test_wallet_of_many_forms_settles(rpc_url: str, factory: str) -> None:
    """A deployed wallet pays with its own form of signature, its owner's 65 bytes, and an envelope it has outgrown."""
    wallet = await a_wallet(rpc_url, factory, 4, money=3 * PRICE)
    forms = [
        a_payment(payer=wallet, signature=lambda signed: b"\1" + signed),
        a_payment(payer=wallet),
        unmade(factory, wallet, 4),
    ]
    async with running(rpc_url) as settler:
        for payment in forms:
            await settler.verify(payment, OFFER, RESOURCE)
            await settle(settler, payment)
    assert await balance(rpc_url, wallet) == 0


async def test_a_liar_is_held_off(rpc_url: str) -> None:
    """A wallet that says yes to simulations only costs three transactions that revert, however often it is asked, and
    not many more when it is asked twenty times at once; so does an account that runs such code (EIP-7702). Nobody else
    is refused."""
    code = compiled(LIAR)
    wallet, account = await deploy(rpc_url, code), Account.create()
    agreed = account.sign_authorization({"chainId": 84532, "address": wallet, "nonce": 0})
    await send(rpc_url, account.address, b"", type=4, authorizationList=[agreed])
    for payer, key, most in ((wallet.lower(), POOR, 18), (account.address.lower(), account, 3)):
        await mint(rpc_url, payer, PRICE)
        payments = [a_payment(payer=payer, key=key) for _ in range(20)]
        async with running(rpc_url) as settler:
            before = await nonce_of(rpc_url, RELAYER.address)
            if most == 3:
                outcomes = [(await asyncio.gather(settle(settler, p), return_exceptions=True))[0] for p in payments]
            else:
                outcomes = await asyncio.gather(*(settle(settler, p) for p in payments), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {SettlementFailed, Unavailable}
            assert 3 <= await nonce_of(rpc_url, RELAYER.address) - before <= most
            with pytest.raises(Unavailable):
                await settler.verify(payments[0], OFFER, RESOURCE)
            await settler.verify(a_payment(), OFFER, RESOURCE)
            await settle(settler, a_payment())
    assert await balance(rpc_url, wallet) == PRICE


def test_who_is_held_off_is_let_in_again() -> None:
    """Reverts are forgotten after a while, and the factory of a kind counts for all its wallets."""
    now = 0.0
    wallets = Wallets(lambda: now)
    for salt in range(3):
        wallets.check(a_payment())
        wallets.note(unmade(RIVAL.address.lower(), f"0x{salt:040x}", salt))
    wallets.check(a_payment())
    fourth = unmade(RIVAL.address.lower(), f"0x{4:040x}", 4)
    with pytest.raises(Unavailable):
        wallets.check(fourth)
    now = 601.0
    wallets.check(fourth)


async def test_account_with_code(rpc_url: str) -> None:
    """EIP-7702: the account's key is proof without a chain, whatever its code says; the token asks the code as well."""
    for source, takes in ((compiled(DELEGATE), True), (MALICIOUS["reverts"], False)):
        account, delegate = Account.create(), await deploy(rpc_url, source)
        await mint(rpc_url, account.address, 2 * PRICE)
        agreed = account.sign_authorization({"chainId": 84532, "address": delegate, "nonce": 0})
        await send(rpc_url, account.address, b"", type=4, authorizationList=[agreed])
        assert (await code_at(rpc_url, account.address)).startswith("0xef0100")
        payment = a_payment(key=account)
        recovery_id = a_payment(key=account, signature=lambda own: own[:64] + bytes((own[64] - 27,)))
        async with running(rpc_url) as settler:
            for signed in (payment, recovery_id):
                assert is_proven(signed, OFFER)
                await settler.check_signature(signed, OFFER, RESOURCE)
            with pytest.raises(VerificationFailed):
                await settler.check_signature(a_payment(payer=account.address, key=POOR), OFFER, RESOURCE)
            if takes:
                for signed in (payment, recovery_id):
                    await settler.verify(signed, OFFER, RESOURCE)
                    await settle(settler, signed)
            else:
                with pytest.raises(VerificationFailed):
                    await settler.verify(payment, OFFER, RESOURCE)
        assert await balance(rpc_url, account.address) == (0 if takes else 2 * PRICE)


async def test_undeployed_wallet_settles(rpc_url: str, factory: str) -> None:
    """A wallet that does not exist is made in the one transaction that settles, which is recorded before it is sent."""
    wallet = await a_wallet(rpc_url, factory, 5, made=False)
    payment, recorder, before = unmade(factory, wallet, 5), Recorder(), await balance(rpc_url, RECIPIENT)
    async with running(rpc_url) as settler:
        await settler.verify(payment, OFFER, RESOURCE)
        settlement = await settler.settle(payment, OFFER, RESOURCE, recorder)
        again = await settle(settler, payment)
    assert recorder.told == [settlement.transaction] == [again.transaction]
    assert await balance(rpc_url, RECIPIENT) == before + PRICE
    assert await code_at(rpc_url, wallet) != "0x"
    receipt = await ask(rpc_url, "eth_getTransactionReceipt", settlement.transaction)
    assert AUTHORIZATION_USED in [log["topics"][0] for log in receipt["logs"]]
    assert await code_at(rpc_url, receipt["contractAddress"]) == "0x"


async def test_made_by_another_meanwhile(rpc_url: str, factory: str) -> None:
    """Somebody who makes the wallet a moment before us changes nothing."""
    wallet = await a_wallet(rpc_url, factory, 6, made=False)
    payment, before = unmade(factory, wallet, 6), await balance(rpc_url, RECIPIENT)

    async def overtake(transaction: str) -> None:
        await send(rpc_url, factory, make_call(salt=6))

    async with running(rpc_url) as settler:
        await settler.settle(payment, OFFER, RESOURCE, overtake)
    assert await balance(rpc_url, RECIPIENT) == before + PRICE


async def refusal(settler: Any, payment: Payment) -> PaymentError:
    """What verification says; settling refuses as well, and tells nobody that it began."""
    recorder = Recorder()
    with pytest.raises(PaymentError) as caught:
        await settler.verify(payment, OFFER, RESOURCE)
    with pytest.raises(PaymentError) as again:
        await settler.settle(payment, OFFER, RESOURCE, recorder)
    assert not isinstance(again.value, Unavailable)
    assert recorder.told == []
    return caught.value


async def test_undeployed_wallets_can_be_refused(rpc_url: str, factory: str) -> None:
    """By a setting, by the gas that it would take, or because the simulation does not end in a settlement."""
    wallet = await a_wallet(rpc_url, factory, 7, made=False)
    payment = unmade(factory, wallet, 7)
    undeployed = "invalid_exact_evm_payload_undeployed_smart_wallet"
    async with running(rpc_url, deploy_wallets=False) as settler:
        assert (await refusal(settler, payment)).reason == undeployed
        await settler.check_signature(payment, OFFER, RESOURCE)  # whoever only asks deploys nothing
    async with running(rpc_url, max_deploy_gas=100_000) as settler:
        assert isinstance(await refusal(settler, payment), VerificationFailed)
    async with running(rpc_url) as settler:
        assert isinstance(await refusal(settler, unmade(factory, wallet, 7, key=POOR)), VerificationFailed)
        assert isinstance(await refusal(settler, unmade(factory, wallet, 8)), VerificationFailed)
    assert await code_at(rpc_url, wallet) == "0x"
    assert not await used(rpc_url, payment)


async def test_the_relayers_rights_are_not_lent(rpc_url: str, factory: str) -> None:
    """A "factory" that is the token, told to transfer what the relayer owns, gets nothing: it is not he who calls."""
    await mint(rpc_url, RELAYER.address, 7_000)
    theft = bytes.fromhex("a9059cbb" + "00" * 12 + RIVAL.address[2:] + f"{7_000:064x}")
    wallet = await a_wallet(rpc_url, factory, 9, money=2 * PRICE)  # it exists, so that its signature is good
    before = await balance(rpc_url, RELAYER.address)
    absent = await a_wallet(rpc_url, factory, 10, made=False)
    thieves = [
        a_payment(payer=wallet, signature=lambda own: wrap(USDC.address, theft, b"\1" + own)),
        a_payment(payer=absent, signature=lambda own: wrap(USDC.address, theft, b"\1" + own)),
    ]

    async def overtake(transaction: str) -> None:
        raise AssertionError("nothing is sent")

    async with running(rpc_url) as settler:
        await settle(settler, thieves[0])  # the envelope of a wallet that exists is not opened
        with pytest.raises(PaymentError):
            await settler.settle(thieves[1], OFFER, RESOURCE, overtake)
    assert await balance(rpc_url, RELAYER.address) == before
    assert await balance(rpc_url, RIVAL.address) == 0


async def test_node_that_is_gone(rpc_url: str) -> None:
    """Who cannot be asked does not say no."""

    async def gone(method: str, params: list[Any], forward: Forward) -> Any:
        if dead:
            raise Drop
        return await forward()

    dead = False
    async with proxy(rpc_url, gone) as url, running(url) as settler:
        dead = True
        with pytest.raises(Unavailable):
            await settler.check_signature(a_payment(signature=lambda signed: b"\1" + signed), OFFER, RESOURCE)
        await settler.check_signature(a_payment(), OFFER, RESOURCE)  # proven without a chain


def test_envelopes_that_cannot_be_read() -> None:
    """Offsets and lengths that point nowhere are refused, whatever they are."""
    good = wrap("0x" + "55" * 20, b"deployment", b"signature")
    assert unwrap(good) == ("0x" + "55" * 20, b"deployment", b"signature")
    huge = b"\xff" * 32
    for body in (
        b"",
        bytes(95),
        huge * 3,
        good[:32] + huge + good[64:-32],
        good[:64] + huge,
        good[:96] + huge,
        good[1:],
    ):
        with pytest.raises(VerificationFailed):
            unwrap(body + MAGIC)
    for length in range(0, len(good) - 32 - 64, 7):
        try:
            unwrap(good[:length] + MAGIC)
        except VerificationFailed:
            continue
        raise AssertionError(length)
