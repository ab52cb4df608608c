"""Numbers and names of the world around a route, each with its source."""

import ipaddress
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = [
    "HEADER_LIMITS",
    "TESTNETS",
    "is_internal",
    "is_loopback",
    "origin_of",
    "split_url",
]

HEADER_LIMITS: Final[tuple[tuple[int, str], ...]] = (
    (4 * 1024, "nginx's proxy_buffer_size where a memory page is 4 KiB"),
    (8 * 1024, "nginx's proxy_buffer_size on other platforms, and large_client_header_buffers for what is echoed"),
    (16 * 1024, "Node's --max-http-header-size, which fetch and undici have as well, and HAProxy's tune.bufsize"),
)
"""Bytes of a response's header block, and who stops there (their own documentation, defaults)."""

TESTNETS: Final = frozenset(
    {84532, 80002, 43113, 11124, 1328, 324705682, 11155111, 11155420, 421614, 44787, 11142220, 31337, 1337}
)
"""Chain ids whose tokens are worth nothing: those of x402 v1's list, the Sepolias, Celo's, and local nodes' own."""

_INTERNAL_SUFFIXES: Final = (".internal", ".local", ".localdomain", ".localhost", ".lan", ".svc", ".test", ".invalid")
"""Names that no public resolver knows: RFC 6761, RFC 6762, RFC 9476's `.internal`, and Kubernetes' services."""


def split_url(url: str) -> SplitResult | None:
    """An absolute http or https URL in its parts; None for anything else."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def origin_of(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port, the port always given."""
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_internal(host: str) -> bool:
    """Whether a host means nothing on the public internet: a private address, or a name without a public domain."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host.strip(".") or host.lower().rstrip(".").endswith(_INTERNAL_SUFFIXES)
