"""Numbers as people read them: amounts by their token, times as dates and distances, networks by name."""

from datetime import UTC, datetime
from typing import Any

from translators.errors import MalformedError
from translators.networks import KNOWN_TOKENS, V1_NETWORKS, chain_id_from_network, v1_network
from translators.payment import Asset

__all__ = ["ago", "amount_text", "chain_of", "money", "network_text", "time_text", "token_at", "token_text"]

_UNITS = ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min"), (1, "s"))
_LAST = 253402300799  # the end of the year 9999


def money(amount: int, decimals: int) -> str:
    """Atomic units as the token's unit, without zeros that say nothing."""
    whole, fraction = divmod(amount, 10**decimals)
    digits = f"{fraction:0{decimals}}".rstrip("0") if decimals else ""
    return f"{whole}.{digits}" if digits else str(whole)


def ago(seconds: float) -> str:
    """A distance in time in its largest unit: `3 min`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def time_text(seconds: int, now: float) -> str:
    """A Unix time as a date, and how far it is from now."""
    if seconds == 0:
        return "0 (always)"
    if seconds > _LAST:
        return f"{seconds} (never)"
    date = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{date}, {ago(now - seconds)} ago" if seconds <= now else f"{date}, in {ago(seconds - now)}"


def chain_of(network: Any) -> int | None:
    """The chain id of a network as either version of x402 writes it."""
    try:
        return chain_id_from_network(network) if isinstance(network, str) else None
    except MalformedError:
        return None


def network_text(network: Any) -> str:
    """A network's id with its name, or its name with its id."""
    chain_id = network if isinstance(network, int) else chain_of(network)
    name = v1_network(chain_id) if chain_id is not None else None
    if isinstance(network, str) and network in V1_NETWORKS:
        return f"{network} (chain {V1_NETWORKS[network]})"
    return f"{network} ({name})" if name else str(network)


def token_at(chain_id: int | None, address: Any) -> Asset | None:
    """A token that is known here."""
    return next((t for t in KNOWN_TOKENS if (t.chain_id, t.address) == (chain_id, str(address).lower())), None)


def token_text(chain_id: int | None, address: Any) -> str:
    """An address with the token's symbol."""
    token = token_at(chain_id, address)
    return f"{address} ({token.symbol})" if token else str(address)


def amount_text(amount: Any, chain_id: int | None, address: Any, decimals: Any = None) -> str:
    """Atomic units with what they are worth in the token's unit."""
    token = token_at(chain_id, address)
    places = token.decimals if token else decimals if isinstance(decimals, int) and 0 <= decimals <= 255 else None
    if amount is None:
        return "missing"
    text = str(amount)
    if places is None or not (text.isascii() and text.isdecimal()) or len(text) > 78:
        return f"{text} atomic units"
    return f"{text} ({money(int(text), places)}{f' {token.symbol}' if token else ''})"
