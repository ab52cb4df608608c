"""A canary whose share is drawn by payer: who is offered the protocol before and after it is known who pays."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.levers.acquaintances import Acquaintances
from bridge.payers import Account, account, read_402, sign
from bridge.pricing import Paid
from tests.bridge.harness import KEY, MPP, V1, V2, envelope, resign
from tests.bridge.test_levers import HEAD, Levered, offered
from translators.errors import PaymentError, SettlementFailed, VerificationFailed
from translators.levers import Asking, canary_point
from translators.payment import Payment, Protocol

pytestmark = pytest.mark.anyio

SHARE = 30
CANARY = f'{HEAD}mpp = {{ stage = "canary", share = "{SHARE}%", by = "payer" }}'


def is_in(payer: Account) -> bool:
    """Whether the payer's own draw has him in."""
    return canary_point(KEY, MPP, f"payer {payer.address}") < SHARE


def find_address(inside: bool) -> str:
    """The address of a client that is in the canary by what is known of it before it pays, or is not."""
    candidates = (f"192.0.2.{number}" for number in range(256))
    return next(a for a in candidates if (canary_point(KEY, MPP, f"client  {a}") < SHARE) == inside)


def find_payer(inside: bool) -> Account:
    return next(payer for payer in map(account, map(str, range(1000))) if is_in(payer) == inside)


def refusing(error: PaymentError) -> Callable[[Payment], None]:
    def refuse(_: Payment) -> None:
        raise error

    return refuse


async def shows(house: Levered, address: str) -> bool:
    """Whether an unpaid client there is offered the canaried protocol."""
    return MPP in offered(await house.visit(client=(address, 1)))


async def buys(house: Levered, payer: Account, protocol: Protocol, address: str) -> int:
    asked = read_402(await house.visit(client=(address, 1)), protocol)
    credential = envelope(sign(asked, payer, house.clock()), asked)
    return (await house.visit(headers=[credential], client=(address, 1))).status_code


async def test_a_share_of_payers_is_offered_it(tmp_path: Path) -> None:
    """By their addresses, once they have paid in anything: on every server, and again after a restart."""
    people = [(account(f"someone {number}"), f"198.51.100.{number}") for number in range(150)]
    houses = [await Levered(tmp_path, CANARY).start() for _ in range(2)]
    strangers = [await shows(houses[0], address) for _, address in people]
    assert 20 < strangers.count(True) < 70
    for house in houses:
        for number, (payer, address) in enumerate(people):
            assert await buys(house, payer, (V1, V2)[number % 2], address) == 200
        known = [await shows(house, address) for _, address in people]
        assert known == [is_in(payer) for payer, _ in people]
        assert known != strangers
        mean = len(people) * SHARE / 100
        assert abs(known.count(True) - mean) < 4 * math.sqrt(mean)
    anew = await Levered(tmp_path, CANARY).start()
    assert [await shows(anew, address) for _, address in people] == strangers


@pytest.mark.parametrize("paying_in", [V1, V2])
@pytest.mark.parametrize("inside", [True, False])
async def test_who_pays_in_another_protocol_is_shown_what_his_payer_drew(
    inside: bool, paying_in: Protocol, tmp_path: Path
) -> None:
    """Whatever was shown to him before; and the protocol that he pays in is never taken from him."""
    house = await Levered(tmp_path, CANARY).start()
    address = find_address(not inside)
    assert await shows(house, address) is not inside
    for _ in range(2):
        assert await buys(house, find_payer(inside), paying_in, address) == 200
        assert await shows(house, address) is inside


async def test_a_payer_outside_who_was_offered_it_pays_and_goes_on_paying(tmp_path: Path) -> None:
    """His client was drawn before it was known who pays: what was offered is honoured, now and later."""
    house = await Levered(tmp_path, CANARY).start()
    address, payer = find_address(True), find_payer(False)
    for _ in range(3):
        assert await buys(house, payer, MPP, address) == 200
    assert await buys(house, payer, V2, address) == 200
    assert await shows(house, address)
    assert len(house.settler.settlements) == 4
    # From where nobody would have offered it: what came in it is taken, and is offered there from then on.
    asked = read_402(await house.visit(client=(address, 1)), MPP)
    elsewhere = find_address(False)
    credential = envelope(sign(asked, payer, house.clock()), asked)
    assert (await house.visit(headers=[credential], client=(elsewhere, 1))).status_code == 200
    assert await shows(house, elsewhere)


@pytest.mark.parametrize("by", [', by = "payer"', ""])
@pytest.mark.parametrize("damaged", [True, False])
async def test_who_fails_to_pay_in_it_is_asked_again_in_it(damaged: bool, by: str, tmp_path: Path) -> None:
    """Also outside, and from elsewhere: a client that speaks nothing else could not try again."""
    house = await Levered(tmp_path, CANARY.replace(', by = "payer"', by)).start()
    inside, outside, payer = find_address(True), find_address(False), find_payer(False)
    if not damaged:
        house.settler.on_settle = refusing(SettlementFailed("the token refused it"))
    asked = read_402(await house.visit(client=(inside, 1)), MPP)
    payment = sign(asked, payer, house.clock())
    if damaged:
        payment = resign(payment, asked.offer.asset, payer, value=1)
    answer = await house.visit(headers=[envelope(payment, asked)], client=(outside, 1))
    assert MPP in offered(answer)
    # Who was not verified is not known again.
    assert await shows(house, outside) == (not damaged and bool(by))


async def test_two_payers_of_one_client_are_drawn_as_that_client(tmp_path: Path) -> None:
    """Behind a proxy, or with many wallets: it names nobody, so that nobody is offered what another one drew."""
    for inside in (True, False):
        house = await Levered(tmp_path, CANARY).start()
        address = find_address(inside)
        for payer in (find_payer(not inside), account("another")):
            assert await buys(house, payer, V2, address) == 200
        assert await shows(house, address) is inside
        assert await buys(house, find_payer(not inside), V2, address) == 200
        assert await shows(house, address) is inside


async def test_nobody_is_known_who_was_not_verified(tmp_path: Path) -> None:
    """A refused payment names no payer: anybody could sign one for the client next to him."""
    house = await Levered(tmp_path, CANARY).start()
    address, payer = find_address(False), find_payer(True)
    house.settler.on_verify = refusing(VerificationFailed("no money"))
    assert await buys(house, payer, V2, address) == 402
    assert not await shows(house, address)


async def test_nobody_is_remembered_where_no_payer_is_drawn(tmp_path: Path) -> None:
    """And what was remembered is forgotten when the lever moves on."""
    house = await Levered(tmp_path, CANARY.replace(', by = "payer"', "")).start()
    address, payer = find_address(False), find_payer(True)
    assert await buys(house, payer, V2, address) == 200
    await house.say(CANARY)
    assert not await shows(house, address)
    assert await buys(house, payer, V2, address) == 200
    assert await shows(house, address)
    await house.say("")
    await house.say(CANARY)
    assert not await shows(house, address)


async def test_a_lever_of_the_application_may_draw_payers(tmp_path: Path) -> None:
    """Beside the price, without a file that says anything."""
    lever = {"stage": "canary", "share": f"{SHARE}%", "by": "payer"}
    house = await Levered(tmp_path, routes={"GET /report": Paid("0.01", levers={"mpp": lever})}).start()
    address, payer = find_address(False), find_payer(True)
    assert await buys(house, payer, V2, address) == 200
    assert await shows(house, address)


def test_memory_has_an_end() -> None:
    """The client that was not seen for the longest time gives way; nothing that is kept tells its address."""
    known = Acquaintances(KEY, most=3)
    clients = [Asking({"user-agent": "shop/1"}.get, f"192.0.2.{number}") for number in range(5)]
    for number, client in enumerate(clients[:3]):
        known.remember(client, f"payer {number}", MPP)
    assert known.recognise(clients[0]).payer == "payer 0"
    for number, client in enumerate(clients[3:], 3):
        known.remember(client, f"payer {number}", V1)
    assert [known.recognise(client).payer for client in clients] == ["payer 0", "", "", "payer 3", "payer 4"]
    assert known.recognise(clients[3]).speaks == {V1}
    assert not any(word in repr(known._known) for word in ("192.0.2", "shop"))
    other = Asking({"user-agent": "shop/2"}.get, "192.0.2.0")
    assert known.recognise(other) == other
