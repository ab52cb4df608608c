"""From what an owner writes beside a route to what the route offers, checked when the application starts."""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from bridge.routes import OffersOf, PaidRoute, SettlePolicy
from translators.bazaar import Bazaar, bazaar_extension
from translators.checks import MIN_VALIDITY_SECONDS
from translators.foreign import X402Only, to_foreign_offer
from translators.levers_toml import parse_lever
from translators.networks import KNOWN_TOKENS, V1_NETWORKS, chain_id_from_network, default_token
from translators.payment import Asset, Offer, Protocol
from translators.price import Price, PriceError, atomic_units, checked_address
from translators.stages import Lever

__all__ = ["AnyPrice", "Paid", "PriceDefaults", "check_recipient_and_network", "compile_route", "stand_in"]

OnePrice = str | Price | tuple[int, Asset | str] | X402Only
"""Money as text, a `Price`, an atomic amount with its asset, or terms that only x402 v2 can say."""

FixedPrice = OnePrice | Sequence[OnePrice]

AnyPrice = FixedPrice | Callable[[Any], FixedPrice | Awaitable[FixedPrice | None] | None]
"""One price, several ways to pay, or a function of the request (which may return None: free)."""


@dataclass(frozen=True)
class Paid:
    """A route's price and what it does differently from the configuration; None means as configured."""

    price: AnyPrice
    settle: SettlePolicy | str | None = None
    recipient: str | None = None
    network: str | int | None = None
    asset: Asset | str | None = None
    protocols: Iterable[Protocol | str] | None = None
    description: str = ""
    mime_type: str = ""
    levers: Mapping[str, Any] | None = None
    """Stages by protocol: `{"x402-v1": "off"}`, each as a levers file writes it; that file's own for this route win."""
    bazaar: Bazaar | bool = False
    """How the route is called, for x402's `bazaar`; True: by its method alone."""


@dataclass(frozen=True)
class PriceDefaults:
    """What prices fall back on."""

    recipient: str
    network: str | int
    asset: Asset | str | None
    settle: SettlePolicy
    protocols: frozenset[Protocol]
    max_timeout_seconds: int


def compile_route(
    name: str, paid: Paid, defaults: PriceDefaults, adapt: Callable[[Any], Any] = lambda request: request
) -> PaidRoute:
    """The route that `paid` describes.

    `adapt` turns the gate's request into what a price function expects. Raises `PriceError`, with the route's name,
    for anything that could not be charged.
    """
    try:
        offers: tuple[Offer, ...] | OffersOf
        if callable(paid.price):
            _check_fixed(paid)
            offers = _offers_of(name, paid, defaults, adapt)
        else:
            offers = _offers(paid.price, paid, defaults)
            _check_foreign(offers, _protocols(paid.protocols, defaults))
        return PaidRoute(
            name=name,
            offers=offers,
            settle=SettlePolicy(paid.settle) if paid.settle is not None else defaults.settle,
            protocols=_protocols(paid.protocols, defaults),
            description=paid.description,
            mime_type=paid.mime_type,
            levers=_levers(paid.levers or {}),
            bazaar=_bazaar(name, paid.bazaar),
        )
    except ValueError as error:
        raise PriceError(f"{name}: {error}") from None


def _bazaar(name: str, asked: Bazaar | bool) -> str | None:
    if not asked:
        return None
    bazaar = asked if isinstance(asked, Bazaar) else Bazaar()
    word = name.partition(" ")[0]
    method = bazaar.method or (word if word.isalpha() else None)
    if method is None:
        raise PriceError("bazaar: say which method is listed, as Bazaar(method=...): the route has every one")
    return msgspec.json.encode(bazaar_extension(bazaar, method.upper())).decode()


def check_recipient_and_network(recipient: str, network: str | int) -> None:
    """Raise `PriceError` for a recipient or network that no price could fall back on."""
    checked_address(recipient, "recipient")
    _chain_id(network)


def stand_in(name: str, paid: Paid, defaults: PriceDefaults) -> tuple[Offer, ...]:
    """What start-up can know of a price that is a function: an offer on the same network, in the same asset.

    Empty where no token can be assumed, and the function has to say which one it means.
    """
    try:
        offers = compile_route(name, replace(paid, price="1"), defaults).offers
    except PriceError:
        return ()
    return offers if isinstance(offers, tuple) else ()


def _check_fixed(paid: Paid) -> None:
    """Check what stands beside a price that is a function: it holds for every request."""
    if paid.recipient is not None:
        checked_address(paid.recipient, "recipient")
    if paid.network is not None:
        _chain_id(paid.network)
    if paid.asset is not None:
        checked_address(paid.asset.address if isinstance(paid.asset, Asset) else paid.asset, "asset")


def _protocols(protocols: Iterable[Protocol | str] | None, defaults: PriceDefaults) -> frozenset[Protocol]:
    chosen = defaults.protocols if protocols is None else frozenset(Protocol(protocol) for protocol in protocols)
    if not chosen:
        raise PriceError("a priced route needs at least one protocol to be paid in")
    return chosen


def _levers(said: Mapping[str, Any]) -> dict[Protocol, Lever]:
    levers = {}
    for protocol, value in said.items():
        try:
            levers[Protocol(protocol)] = parse_lever(value)
        except ValueError as error:
            raise PriceError(f"levers, {protocol}: {error}") from None
    return levers


def _offers_of(name: str, paid: Paid, defaults: PriceDefaults, adapt: Callable[[Any], Any]) -> OffersOf:
    price_of: Any = paid.price

    async def offers_of(request: Any) -> Sequence[Offer] | None:
        price = price_of(adapt(request))
        if inspect.isawaitable(price):
            price = await price
        if price is None:
            return None
        try:
            offers = _offers(price, paid, defaults)
            if any(offer.foreign is not None for offer in offers):
                raise PriceError("an X402Only price is fixed: whether it can be settled is asked at start-up")
            return offers
        except ValueError as error:
            raise PriceError(f"{name}: {error}") from None

    return offers_of


def _offers(price: Any, paid: Paid, defaults: PriceDefaults) -> tuple[Offer, ...]:
    several = isinstance(price, Sequence) and not isinstance(price, str) and not _is_atomic(price)
    prices = tuple(price) if several else (price,)
    if not prices:
        raise PriceError("a price list is empty")
    offers = tuple(_offer(one, paid, defaults) for one in prices)
    if len(set(offers)) != len(offers):
        raise PriceError("the same price stands twice")
    # Clients take the first offer that they can pay, and what every protocol can carry is the better one.
    return tuple(sorted(offers, key=lambda offer: offer.foreign is not None))


def _check_foreign(offers: Iterable[Offer], protocols: frozenset[Protocol]) -> None:
    if Protocol.X402_V2 not in protocols and any(offer.foreign is not None for offer in offers):
        raise PriceError("an X402Only price needs the protocol x402-v2")


def _is_atomic(price: Sequence[Any]) -> bool:
    return len(price) == 2 and isinstance(price[0], int) and not isinstance(price[0], bool)


def _offer(price: Any, paid: Paid, defaults: PriceDefaults) -> Offer:
    if isinstance(price, X402Only):
        return to_foreign_offer(price)
    if isinstance(price, tuple) and _is_atomic(price):
        price = Price(price[0], asset=price[1])
    if isinstance(price, int) and not isinstance(price, bool):
        raise PriceError(f'{price} has no unit: "{price}" is money, Price({price}, asset=...) atomic units')
    if not isinstance(price, Price):
        price = Price(price)
    if isinstance(price.amount, int) and price.asset is None:
        raise PriceError("an amount in atomic units needs its asset")
    wanted = price.asset if price.asset is not None else paid.asset
    own_asset = wanted if isinstance(wanted, Asset) else None
    network = next((n for n in (price.network, paid.network) if n is not None), None)
    if network is None:
        network = own_asset.chain_id if own_asset else defaults.network
    chain_id = _chain_id(network)
    if wanted is None and chain_id == _chain_id(defaults.network):
        wanted = defaults.asset
    asset = _asset(wanted, chain_id)
    return Offer(
        asset=asset,
        amount=atomic_units(price.amount, asset.decimals),
        recipient=checked_address(price.recipient or paid.recipient or defaults.recipient, "recipient"),
        max_timeout_seconds=_timeout(price.max_timeout_seconds, defaults),
    )


def _timeout(seconds: int | None, defaults: PriceDefaults) -> int:
    if seconds is None:
        return defaults.max_timeout_seconds
    if not MIN_VALIDITY_SECONDS < seconds < 2**31:
        raise PriceError(f"max_timeout_seconds: give more than {MIN_VALIDITY_SECONDS} whole seconds")
    return seconds


def _chain_id(network: str | int) -> int:
    if isinstance(network, int) and not isinstance(network, bool) and network > 0:
        return network
    chain_id = chain_id_from_network(network) if isinstance(network, str) else None
    if not chain_id:
        known = ", ".join(sorted(V1_NETWORKS))
        raise PriceError(f'network {network!r} is not known: use "eip155:<chain id>" or one of {known}')
    return chain_id


def _asset(wanted: Asset | str | None, chain_id: int) -> Asset:
    if isinstance(wanted, Asset):
        if wanted.chain_id != chain_id:
            raise PriceError(f"the asset is on chain {wanted.chain_id}, the price on chain {chain_id}")
        checked_address(wanted.address, "asset")
        return wanted
    if wanted is None:
        token = default_token(chain_id)
        if token is None:
            raise PriceError(f"no token is known on chain {chain_id}: give the asset as Asset(...)")
        return token
    address = checked_address(wanted, "asset")
    for token in KNOWN_TOKENS:
        if (token.chain_id, token.address) == (chain_id, address):
            return token
    raise PriceError(f"token {wanted} is not known on chain {chain_id}: give it as Asset(...), with its EIP-712 domain")
