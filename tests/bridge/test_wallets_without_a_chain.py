"""Contract wallets through a settler that cannot ask the chain: its facilitator judges them, for this moment only."""

from typing import Any

import pytest
from msgspec.structs import replace

from bridge.payers import sign
from bridge.testing import FakeSettler
from tests.bridge.harness import PAYER, PROTOCOLS, STRANGER, Answer, Headers, House, envelope, resign
from translators.checks import is_proven
from translators.errors import (
    AlreadyUsed,
    InsufficientFunds,
    OutcomeUnknown,
    PaymentError,
    PaymentExpired,
    Unavailable,
    VerificationFailed,
)
from translators.lifecycle import State
from translators.payment import Offer, Payment, Protocol, Resource

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("protocol", PROTOCOLS)]

USED = AlreadyUsed("the nonce is used")


class Judge(FakeSettler):
    """A facilitator without a node beside it. `PAYER` is a wallet, and `STRANGER` its owner."""

    def __init__(self) -> None:
        super().__init__()
        self.can_tell = False
        self.asked = 0
        self.verdict: PaymentError | None = None
        """What it says before it looks at the signature."""

    async def check_signature(self, payment: Payment, offer: Offer, resource: Resource) -> bool:
        if is_proven(payment, offer):
            return False
        await self.verify(payment, offer, resource)
        return True

    async def verify(self, payment: Payment, offer: Offer, resource: Resource) -> None:
        self.asked += 1
        if self.verdict is not None:
            raise self.verdict
        await super().verify(payment, offer, resource)
        if payment.authorization.signature != resign(payment, offer.asset, STRANGER).authorization.signature:
            raise VerificationFailed("not the wallet's")


class Shop(House):
    """A house that settles by a `Judge`."""

    def __init__(self, **settings: Any) -> None:
        self.judge = Judge()
        super().__init__(settler=self.judge, **settings)

    async def by_wallet(self, protocol: Protocol) -> tuple[Headers, Headers]:
        """What the wallet sends, and the same as somebody would send it who has not signed it."""
        asked = await self.ask(protocol)
        payment = resign(sign(asked, PAYER, self.clock()), asked.offer.asset, STRANGER)
        other = replace(payment.authorization, signature=payment.authorization.signature + b"\1")
        return [envelope(payment, asked)], [envelope(replace(payment, authorization=other), asked)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written down."""
        return not self.store._keys and not self.store._rows  # type: ignore[attr-defined]


def is_come_back(answer: Answer) -> bool:
    """503, and no word of paying."""
    return answer.status_code == 503 and "Retry-After" in answer.headers and "WWW-Authenticate" not in answer.headers


async def dies(*_: Any) -> None:
    """A handler whose answer breaks off: settled, and not delivered."""
    await _[2]({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError


async def left_undelivered(shop: Shop, headers: Headers) -> None:
    shop.handler = dies
    with pytest.raises(RuntimeError):
        await shop.visit(headers=headers)
    shop.handler = None
    assert (await shop.record()).state is State.SETTLED


async def test_it_is_served_for_one_question(protocol: Protocol) -> None:
    """One verdict says who signed and whether it can be settled; the same request again gets the same answer."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)
    first = await shop.visit(headers=own)
    assert (first.status_code, shop.judge.asked) == (200, 1)
    again = await shop.visit(headers=own)
    assert (again.status_code, again.content, shop.judge.asked) == (200, first.content, 2)
    assert (len(shop.judge.settlements), shop.runs) == (1, 1)


@pytest.mark.parametrize("verdict", [None, Unavailable("away"), InsufficientFunds("it has paid all it had")], ids=repr)
async def test_what_it_paid_for_is_delivered(protocol: Protocol, verdict: PaymentError | None) -> None:
    """Settled and not delivered, it is known again, though the facilitator refuses it now, or is away."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)
    await left_undelivered(shop, own)
    shop.judge.verdict = verdict
    assert (await shop.visit(headers=own)).status_code == 200
    assert len(shop.judge.settlements) == 1


async def test_nobody_else_gets_it(protocol: Protocol) -> None:
    """Who has not signed is told nothing of the payment, not even that it was used, and is not told to pay."""
    shop = Shop()
    own, forged = await shop.by_wallet(protocol)
    await left_undelivered(shop, own)
    assert is_come_back(await shop.visit(headers=forged))
    assert (await shop.record()).state is State.SETTLED


async def test_used_elsewhere(protocol: Protocol) -> None:
    """A nonce that was used, by a signature that was never judged: neither we nor the facilitator can tell whose it is,
    and nobody is told to pay again."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)
    shop.judge.verdict = USED
    assert is_come_back(await shop.visit(headers=own))
    assert shop.is_empty


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(None, 402), (InsufficientFunds("poor"), 402), (Unavailable("away"), 503)],
    ids=["not his", "poor", "away"],
)
async def test_what_is_refused_is_not_written_down(
    protocol: Protocol, verdict: PaymentError | None, status: int
) -> None:
    """Anybody can sign for a wallet of his own that has nothing: it takes no room in the store."""
    shop = Shop()
    _, forged = await shop.by_wallet(protocol)
    shop.judge.verdict = verdict
    for _ in range(3):
        assert (await shop.visit(headers=forged)).status_code == status
    assert shop.is_empty
    assert shop.judge.asked == 3


async def test_an_outcome_that_is_not_known_stays_so(protocol: Protocol) -> None:
    """503 for the wallet's own credential, as for anybody's, and its money moves once."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)

    async def settles_and_is_silent(*arguments: Any) -> Any:
        await FakeSettler.settle(shop.judge, *arguments)
        raise OutcomeUnknown("time-out")

    shop.judge.settle = settles_and_is_silent  # type: ignore[method-assign]
    for _ in range(2):
        assert is_come_back(await shop.visit(headers=own))
    assert len(shop.judge.settlements) == 1


async def test_the_memory_ends(protocol: Protocol) -> None:
    """After a month nobody can tell any more: 503, as before it was ever known."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)
    await left_undelivered(shop, own)
    shop.clock.advance(31 * 24 * 60 * 60)
    shop.judge.verdict = USED
    assert is_come_back(await shop.visit(headers=own))


async def test_expired_and_settled_in_time(protocol: Protocol) -> None:
    """Its answer is due long after its window has closed; one that was never settled is asked for anew."""
    shop = Shop()
    own, _ = await shop.by_wallet(protocol)
    late, _ = await shop.by_wallet(protocol)
    await left_undelivered(shop, own)
    shop.clock.advance(24 * 60 * 60)
    shop.judge.verdict = PaymentExpired("too late")
    assert (await shop.visit(headers=own)).status_code == 200
    assert (await shop.visit(headers=late)).status_code == 402
