"""The gateway's settings: from flags, the environment and a TOML file, in this order."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bridge.analytics import DEFAULT_URL, EventStore
from bridge.config import ENV_PREFIX, ConfigError, check_public_url, split_list
from bridge.gateway.headers import TrustedProxies
from bridge.gateway.upstreams import Upstreams
from translators.binding import MIN_KEY_BYTES
from translators.checks import MIN_VALIDITY_SECONDS
from translators.payment import Protocol

__all__ = ["GatewayConfig", "load"]

_YEAR = 365 * 24 * 60 * 60
_LISTS = ("secret_keys", "trusted_proxies", "protocols")
_ENVIRONMENT = (
    *(
        "upstream",
        "public_url",
        "events",
        "payer_key",
        "store",
        "levers",
        "secret_keys",
        "rpc_url",
        "realm",
        "trusted_proxies",
        "protocols",
    ),
    *("credential_header", "host_header", "health_path", "metrics_path", "timeout", "max_body", "max_concurrency"),
    *("host", "port", "workers"),
)
"""Settings that have a variable, as they are called there."""


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a gateway works. Times are in seconds, sizes in bytes. Raises `ConfigError` for what cannot work."""

    upstreams: dict[str, str]
    """The servers behind it: path prefix to URL. As with nginx, a URL with a path (`http://host/`) has it in the place
    of the prefix; one without gets the path whole."""
    events: str | None = DEFAULT_URL
    """Where events are kept for reports: see `PaymentConfig.event_store`; `none` keeps none."""
    payer_key: str | None = None
    """A secret that payers are hashed with there: see `EventStore.payer_key`."""
    public_url: str | None = None
    """Where clients reach the gateway: scheme, host, and a path where a proxy in front strips one. None: taken from a
    loopback `Host`, else from the socket's address."""
    store: str = "sqlite:payments.sqlite3"
    """Where claims live: see `PaymentConfig.store`."""
    secret_keys: tuple[str, ...] | None = None
    """Secrets of at least 32 bytes that authenticate challenges; the same on every gateway. None: made at the start,
    with one worker and on loopback only."""
    levers: str | None = None
    """The stage of each protocol on each route: a TOML file's path, or a store's URL. None: no protocol is shut."""
    levers_seconds: float = 1.0
    """How often it is looked whether somebody moved a lever."""
    rpc_url: str | None = None
    """A node (or several, with commas between) of the chain that is paid on: it is asked what became of a payment whose
    outcome the upstream did not tell. None: nobody is asked."""
    realm: str | None = None
    """MPP's protection space. None: the authority of the public URL."""
    protocols: tuple[str, ...] = tuple(Protocol)
    """What is added to an upstream's own challenge, and taken beside its own version: `x402-v1`, `x402-v2`, `mpp`."""
    credential_header: str | None = None
    """`Payment-Authorization` where the upstream uses `Authorization` itself."""
    host_header: str | None = None
    """What an upstream is called by in `Host`: `public` or `upstream`. None: `public` over http, `upstream` over https,
    where names decide who answers."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies in front whose `X-Forwarded-*` and `Forwarded` are believed: addresses, networks, or `unix`."""
    timeout: float = 60.0
    """How long an upstream may take to begin its answer."""
    stall: float = 300.0
    """How long an answer that has begun may pause."""
    max_body: int | None = None
    """The longest request body. None: any."""
    max_concurrency: int | None = 1000
    """How many requests a worker has under way at once. None: any number."""
    health_path: str | None = None
    """Where `live` and `ready` are answered: see `PaymentConfig.health_path`."""
    metrics_path: str | None = None
    """Where Prometheus reads metrics: see `PaymentConfig.metrics_path`."""
    challenge_seconds: int = 300
    """How long an MPP challenge can be paid."""
    clock_skew: float = 5.0
    """How far a payer's clock may run ahead."""
    lease_seconds: float = 60.0
    """How long a claim outlives the process that held it."""
    wait_seconds: float = 10.0
    """How long a request waits for another one with the same payment."""
    replay_seconds: float = 600.0
    """How long a paid answer is kept, and an idempotency key remembered."""
    replay_bytes: int = 64 * 1024
    """The longest paid answer that is kept. 0: none."""
    reconcile_seconds: float = 15.0
    """How often payments that nobody works on are looked into."""
    bind_body_bytes: int = 64 * 1024
    """MPP challenges are bound to a body of up to this many bytes, and it is asked about with it. 0: never."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8402
    """The port to listen on; 0 takes a free one."""
    workers: int = 1
    """How many processes serve."""

    def __repr__(self) -> str:
        """Leave the secrets out: a repr ends up in logs."""
        return f"GatewayConfig(upstreams={self.upstreams!r})"

    def __post_init__(self) -> None:
        try:
            Upstreams(self.upstreams)
        except ValueError as error:
            raise ConfigError(f"upstreams: {error}") from None
        try:
            self.event_store()
        except ValueError as error:
            raise ConfigError(f"events: {error}") from None
        try:
            TrustedProxies(self.trusted_proxies)
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}") from None
        if self.public_url is not None:
            check_public_url(self.public_url)
        if self.host_header not in (None, "public", "upstream"):
            raise ConfigError("host_header: public or upstream")
        if self.credential_header not in (None, "Payment-Authorization"):
            raise ConfigError("credential_header: only Payment-Authorization is defined besides Authorization")
        for key in self.secret_keys or ():
            if len(key.encode()) < MIN_KEY_BYTES:
                raise ConfigError(f"secret_keys: each has at least {MIN_KEY_BYTES} bytes")
        if self.secret_keys is not None and not self.secret_keys:
            raise ConfigError("secret_keys: give at least one")
        try:
            for protocol in self.protocols:
                Protocol(protocol)
        except ValueError as error:
            raise ConfigError(f"protocols: {error}") from None
        if self.workers < 1 or not 0 <= self.port < 65536:
            raise ConfigError("workers: at least 1; port: 0 to 65535")
        if self.workers > 1 and self.store.startswith("memory"):
            raise ConfigError("store: several workers need one that they share, such as sqlite:PATH")
        for name in ("timeout", "stall", "reconcile_seconds", "levers_seconds"):
            if not 0 < getattr(self, name) < _YEAR:
                raise ConfigError(f"{name}: give more than 0 seconds, and less than a year")
        for name in ("max_body", "max_concurrency"):
            if (limit := getattr(self, name)) is not None and limit < 1:
                raise ConfigError(f"{name}: give 1 or more, or leave it out")
        if not MIN_VALIDITY_SECONDS < self.challenge_seconds < _YEAR:
            raise ConfigError(f"challenge_seconds: give more than {MIN_VALIDITY_SECONDS}, and less than a year")
        if not 1 <= self.lease_seconds < _YEAR:
            raise ConfigError("lease_seconds: give at least one second, and less than a year")
        for name in ("clock_skew", "wait_seconds", "replay_seconds", "replay_bytes", "bind_body_bytes"):
            if not 0 <= getattr(self, name) < _YEAR:
                raise ConfigError(f"{name}: give 0 or more, and less than {_YEAR}")
        for name in ("health_path", "metrics_path"):
            path = getattr(self, name)
            if path is not None and (path[:1] != "/" or path[-1:] == "/"):
                raise ConfigError(f"{name}: begin it with a slash, and do not end it with one")

    def event_store(self) -> EventStore | None:
        """The event store's settings; None where none is kept. Raises `ValueError` for what cannot work."""
        if self.events in (None, "none"):
            return None
        return EventStore(url=self.events, payer_key=self.payer_key)

    @property
    def is_loopback(self) -> bool:
        """Whether clients reach it on this machine only, as far as it was told."""
        return self.public_url is None or urlsplit(self.public_url).hostname in ("localhost", "127.0.0.1", "::1")


def load(
    options: Mapping[str, Any],
    *,
    environ: Mapping[str, str],
    file: str | Path | None = None,
    upstream: Sequence[str] = (),
) -> GatewayConfig:
    """The settings of a command line: `options` (None: not given) over `environ` over the TOML `file`.

    `upstream` are `URL` or `PATH=URL`. Raises `ConfigError`.
    """
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings = tomllib.loads(Path(file).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: {error}") from None
    for name in _ENVIRONMENT:
        if value := environ.get(ENV_PREFIX + name.upper()):
            settings["upstreams" if name == "upstream" else name] = _from_text(name, value)
    settings |= {name: value for name, value in options.items() if value not in (None, ())}
    if upstream:
        settings["upstreams"] = _upstreams(upstream)
    if isinstance(settings.get("upstreams"), str):
        settings["upstreams"] = {"/": settings["upstreams"]}
    if not settings.get("upstreams"):
        raise ConfigError("upstream: give the URL of the server behind the gateway")
    try:
        return msgspec.convert(settings, GatewayConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error.__cause__ if isinstance(error.__cause__, ConfigError) else error)) from None


def _from_text(name: str, value: str) -> Any:
    if name == "upstream":
        return _upstreams(split_list(value))
    return split_list(value) if name in _LISTS else value


def _upstreams(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        prefix, url = text.split("=", 1) if text.startswith("/") and "=" in text else ("/", text)
        if prefix in found:
            raise ConfigError(f"upstream: {prefix} is given twice")
        found[prefix] = url
    return found
