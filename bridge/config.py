"""The settings, in one place, and the only reader of the environment."""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog

from bridge.admitted import Desk
from bridge.analytics import DEFAULT_URL, EventStore, Recorder
from bridge.clock import Clock, system_clock
from bridge.config_checks import ConfigError, check_public_url, check_values
from bridge.events import Events, Sink
from bridge.gate import Gate
from bridge.importing.notes import Note
from bridge.importing.sources import carry_over
from bridge.levers.board import LeverBoard
from bridge.levers.shadow import Shadow
from bridge.levers.sources import source_from_spec
from bridge.metrics import Metrics, MetricsMissing
from bridge.pricing import Paid, PriceDefaults, check_recipient_and_network, compile_route, stand_in
from bridge.proofs import Proofs
from bridge.reconciler import Reconciler
from bridge.responses import Responder
from bridge.routes import ALL_PROTOCOLS, PaidRoute, SettlePolicy
from bridge.settlers import settler_from_spec
from bridge.settlers.base import Settler
from bridge.stores import store_from_url
from bridge.stores.base import Store
from bridge.tracing import NO_TRACING, OpenTelemetry, TracingMissing
from bridge.verifier import Verifier
from translators.binding import MIN_KEY_BYTES
from translators.levers import Levers
from translators.payment import Asset, Offer, Protocol

__all__ = ["ENV_PREFIX", "ConfigError", "FromX402", "PaymentConfig", "check_public_url", "metrics_of", "split_list"]

ENV_PREFIX = "X402_MPP_"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass
class PaymentConfig:
    """How an application is paid. Every route may differ in price, recipient, network and policy."""

    recipient: str
    """The address that is paid."""

    settler: Settler | str
    """How money moves: a settler, or `facilitator:URL`, or `null`, which verifies and settles nowhere."""

    network: str | int = "base"
    """x402 v1's name (`base-sepolia`), a CAIP-2 id (`eip155:84532`) or a chain id."""

    asset: Asset | str | None = None
    """The token that prices are in: an `Asset`, or the address of a known one. None: the network's dollar token."""

    store: Store | str = "sqlite:payments.sqlite3"
    """Where claims live: a store or its URL. `memory` is for one process only, `sqlite:PATH` for all processes of one
    machine, `postgresql://...` and `redis://...` for any number of machines."""

    secret_keys: Sequence[str | bytes] | None = field(default=None, repr=False)
    """Secrets of at least 32 bytes that authenticate challenges: the first signs, all are accepted, so that they can be
    rotated. The same on every worker. None: from `X402_MPP_SECRET_KEYS` (comma-separated); without that, made anew at
    each start, on loopback only."""

    public_url: str | None = None
    """Where clients reach this server: scheme and authority, and a prefix where a proxy strips one. None: taken from
    the request on loopback, from the socket's address elsewhere; `Host` is not trusted."""

    realm: str | None = None
    """MPP's protection space. None: the authority of the public URL."""

    settle: SettlePolicy | str = SettlePolicy.ON_SUCCESS
    """`on_success`: the handler runs, and the payment is settled before the first byte of its success. `first`: settled
    before the handler runs."""

    protocols: Iterable[Protocol | str] = field(default_factory=lambda: ALL_PROTOCOLS)
    """The wire protocols that are offered: `x402-v1`, `x402-v2`, `mpp`."""

    levers: Levers | str | None = None
    """The stage of each protocol on each route: a TOML file's path or a store's URL, both of which may change while the
    server runs, or `Levers`, which stay. None: every protocol of a route is on."""

    levers_seconds: float = 1.0
    """How often it is looked whether somebody moved a lever, in seconds."""

    max_timeout_seconds: int = 300
    """x402's `maxTimeoutSeconds`: how long a payer's authorization should live, in seconds."""

    challenge_seconds: int = 300
    """How long an MPP challenge can be paid, in seconds."""

    clock_skew: float = 5.0
    """How far a payer's clock may run ahead of ours, in seconds."""

    lease_seconds: float = 60.0
    """How long a claim outlives the process that held it, in seconds: a request at work renews it."""

    wait_seconds: float = 10.0
    """How long a request waits for another one with the same payment to finish, in seconds."""

    replay_seconds: float = 600.0
    """How long a paid answer is kept for the same request, and an idempotency key remembered, in seconds."""

    replay_bytes: int = 64 * 1024
    """The longest paid answer that is kept, headers and body, in bytes. 0: none."""

    reconcile_seconds: float = 15.0
    """How often payments that nobody works on are looked into, in seconds."""

    health_path: str | None = None
    """Where `live` and `ready` are answered, such as `/health` for `/health/ready`; free, and None: nowhere."""

    metrics_path: str | None = None
    """Where Prometheus reads metrics, such as `/metrics`; free, and None: nowhere. It needs the extra `metrics`."""

    tracing: bool = False
    """OpenTelemetry spans around verification, settlement and delivery, under the server's own span. It needs the extra
    `otel`, and says nothing until the application sets an SDK up."""

    bind_body_bytes: int = 64 * 1024
    """MPP challenges are bound to a request body of up to this many bytes, where its content type says that a client
    sends it again unchanged (JSON, forms, text). 0: never."""

    credential_header: str | None = None
    """`Payment-Authorization` where the application uses `Authorization` itself."""

    payment_identifier: bool = True
    """Tell x402 v2 clients in the challenge that they may name a request (x402's extension `payment-identifier`), so
    that it is not charged for twice. An id that comes is honoured either way, as `Idempotency-Key` is."""

    both_receipts: bool = False
    """Give x402 payers MPP's receipt as well as their own."""

    sinks: Sequence[Sink] = ()
    """Called with every event, besides structlog."""

    event_store: EventStore | str | None = DEFAULT_URL
    """Where events are kept for reports: `sqlite:PATH`, `postgresql://...`, or an `EventStore` with more to say. None:
    nowhere. No request waits for it, and a payment is taken whatever becomes of it."""

    clock: Clock = system_clock
    """The time, in Unix seconds."""

    def __post_init__(self) -> None:
        self._check()
        self.recorder = self._recorder()
        try:
            self._tracing = OpenTelemetry() if self.tracing else NO_TRACING
        except TracingMissing as error:
            raise ConfigError(str(error)) from None
        recorders = (*self.sinks, self.recorder)
        self.metrics = metrics_of(recorders) if self.metrics_path is not None else None
        listening = [self.metrics.sink if self.metrics is not None else None, self.recorder]
        self.events = Events((*self.sinks, *(sink for sink in listening if sink is not None)))
        self.routes: list[PaidRoute] = []
        self._is_secret_ephemeral = False
        self._offers: list[Offer] = []

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> "PaymentConfig":
        """Settings from `X402_MPP_RECIPIENT`, `_NETWORK`, `_SETTLER`, `_RPC_URL`, `_PRIVATE_KEY`, `_STORE`,
        `_SECRET_KEYS`, `_PUBLIC_URL`, `_REALM`, `_SETTLE`, `_LEVERS`, `_EVENTS` and `_PAYER_KEY`; `settings` win over
        them.

        With `_SETTLER=chain` (the default when `_RPC_URL` is set) payments are settled by `_PRIVATE_KEY` on `_RPC_URL`.
        Raises `ConfigError` for what is missing.
        """
        source = os.environ if environ is None else environ
        env = {
            key.removeprefix(ENV_PREFIX).lower(): value
            for key, value in source.items()
            if key.startswith(ENV_PREFIX) and value
        }
        for name in ("recipient", "network", "store", "public_url", "realm", "settle", "levers"):
            if name in env:
                settings.setdefault(name, env[name])
        if "secret_keys" in env:
            settings.setdefault("secret_keys", split_list(env["secret_keys"]))
        if "event_store" not in settings and ("events" in env or "payer_key" in env):
            url, key = env.get("events", DEFAULT_URL), env.get("payer_key")
            try:
                settings["event_store"] = None if url == "none" else EventStore(url=url, payer_key=key)
            except ValueError as error:
                raise ConfigError(str(error)) from None
        if "settler" not in settings:
            spec = env.get("settler") or ("chain" if "rpc_url" in env else None)
            if spec is None:
                raise ConfigError(f"{ENV_PREFIX}SETTLER is not set: chain, facilitator:URL or null")
            try:
                settings["settler"] = settler_from_spec(
                    spec, rpc_url=env.get("rpc_url"), private_key=env.get("private_key")
                )
            except ValueError as error:
                raise ConfigError(f"settler: {error}") from None
        if "recipient" not in settings:
            raise ConfigError(f"{ENV_PREFIX}RECIPIENT is not set: the address that is paid")
        return cls(**settings)

    @classmethod
    def from_x402(cls, routes: Any, *, server: Any = None, **settings: Any) -> "FromX402":
        """Settings and a route table that offer what an x402 server offers, from its own route table as it stands.

        `routes` is the `RoutesConfig` of the x402 SDK's second generation (2.x), of Python's objects or plain mappings,
        or the arguments of `require_payment` of its first (0.2.1) as one mapping or a list of them. `server` is the
        SDK's resource server, for its facilitator and its schemes' prices. `settings` win over what is found.

        What is not as it was stands in the result's `notes`, and what has no place here is logged besides. Raises
        `ConfigError` for a route that could not be charged: it would be free.
        """
        try:
            table = carry_over(routes, server, settings)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return FromX402(cls(**table.settings), table.routes, table.notes)

    def _check(self) -> None:
        if not self.settler:
            raise ConfigError("settler: a priced route needs one")
        try:
            self.settle = SettlePolicy(self.settle)
            self.protocols = frozenset(Protocol(protocol) for protocol in self.protocols)
            check_recipient_and_network(self.recipient, self.network)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if not self.protocols:
            raise ConfigError("protocols: leave at least one to be paid in")
        check_values(vars(self))

    def _recorder(self) -> Recorder | None:
        if self.event_store is None:
            return None
        try:
            kept = EventStore(url=self.event_store) if isinstance(self.event_store, str) else self.event_store
        except ValueError as error:
            raise ConfigError(f"event_store: {error}") from None
        return Recorder(kept, self.clock)

    def route(self, name: str, paid: Paid, adapt: Callable[[Any], Any] = lambda request: request) -> PaidRoute:
        """Compile a priced route and remember it for start-up's checks; raises `PriceError` with its name."""
        route = compile_route(name, paid, self._defaults(), adapt)
        self.routes.append(route)
        for offer in route.offers if isinstance(route.offers, tuple) else ():
            if (terms := offer.foreign) is not None:
                structlog.get_logger("x402_mpp").info(
                    "config.x402_only", route=name, scheme=terms.scheme, network=terms.network, transfer=terms.transfer
                )
        self._offers += route.offers if isinstance(route.offers, tuple) else stand_in(name, paid, self._defaults())
        return route

    def _defaults(self) -> PriceDefaults:
        return PriceDefaults(
            recipient=self.recipient,
            network=self.network,
            asset=self.asset,
            settle=SettlePolicy(self.settle),
            protocols=frozenset(Protocol(protocol) for protocol in self.protocols),
            max_timeout_seconds=self.max_timeout_seconds,
        )

    def build(self) -> Gate:
        """The gate that these settings describe; nothing is opened until `Gate.start`. Raises `ConfigError`."""
        keys = self._keys()
        try:
            settler = settler_from_spec(self.settler) if isinstance(self.settler, str) else self.settler
            store = store_from_url(self.store) if isinstance(self.store, str) else self.store
            board = self._board(keys[0])
        except ValueError as error:
            raise ConfigError(str(error)) from None
        responder = Responder(
            keys=keys,
            clock=self.clock,
            challenge_seconds=self.challenge_seconds,
            credential_header=self.credential_header,
            both_receipts=self.both_receipts,
            payment_identifier=self.payment_identifier,
        )
        desk = Desk(
            store=store,
            settler=settler,
            responder=responder,
            clock=self.clock,
            lease_seconds=self.lease_seconds,
            tracing=self._tracing,
        )
        return Gate(
            verifier=Verifier(
                settler,
                Proofs(store, self.clock),
                keys=keys,
                clock=self.clock,
                clock_skew=self.clock_skew,
                body_limit=self.bind_body_bytes,
            ),
            desk=desk,
            events=self.events,
            reconciler=Reconciler(
                store=store,
                settler=settler,
                events=self.events,
                clock=self.clock,
                lease_seconds=self.lease_seconds,
                interval_seconds=self.reconcile_seconds,
            ),
            realm=self.realm,
            body_limit=self.bind_body_bytes,
            wait_seconds=self.wait_seconds,
            replay_seconds=self.replay_seconds,
            replay_bytes=self.replay_bytes,
            board=board,
            shadow=Shadow(responder.challenges, keys=keys, clock=self.clock, clock_skew=self.clock_skew),
            recorder=self.recorder,
        )

    def _board(self, key: bytes) -> LeverBoard | None:
        """The levers; the routes that are priced by the time that the gate starts are known to them."""
        source = source_from_spec(self.levers) if isinstance(self.levers, str) else None
        levers = self.levers if isinstance(self.levers, Levers) else None
        return LeverBoard(
            routes=self.routes,
            events=self.events,
            clock=self.clock,
            key=key,
            seconds=self.levers_seconds,
            source=source,
            levers=levers,
        )

    def offers_to_check(self) -> list[Offer]:
        """Every offer that start-up can know; a price that is a function is stood in for on its network."""
        return list(dict.fromkeys(self._offers))

    def _keys(self) -> list[bytes]:
        given = self.secret_keys
        if given is None and (from_env := os.environ.get(ENV_PREFIX + "SECRET_KEYS")):
            given = split_list(from_env)
        if given is None:
            if self.public_url is not None and urlsplit(self.public_url).hostname not in _LOOPBACK:
                raise ConfigError(
                    f"secret_keys: set them, or {ENV_PREFIX}SECRET_KEYS, the same on every worker"
                    " (python -c 'import secrets; print(secrets.token_hex(32))')"
                )
            self._is_secret_ephemeral = True
            return [secrets.token_bytes(MIN_KEY_BYTES)]
        if isinstance(given, str | bytes):
            raise ConfigError("secret_keys: give a list, the signing key first")
        keys = [key.encode() if isinstance(key, str) else bytes(key) for key in given]
        if not keys or any(len(key) < MIN_KEY_BYTES for key in keys):
            raise ConfigError(f"secret_keys: each has at least {MIN_KEY_BYTES} bytes")
        return keys

    def warn(self) -> None:
        """Log what works and should not be served with; called when the application starts."""
        log = structlog.get_logger("x402_mpp")
        if self._is_secret_ephemeral:
            # Another worker makes another one, and refuses what this one asked for.
            log.warning("config.ephemeral_secret", setting="secret_keys")
        if self.public_url is not None:
            url = urlsplit(self.public_url)
            if url.scheme != "https" and url.hostname not in _LOOPBACK:
                # draft-httpauth-payment-00, section "Transport Security": no challenges over plain HTTP.
                log.warning("config.plain_http", public_url=self.public_url)


class FromX402(NamedTuple):
    """What `PaymentConfig.from_x402` makes: `PaymentMiddleware(app, config=..., routes=...)` takes the first two."""

    config: PaymentConfig
    routes: dict[str, Paid]
    notes: list[Note]
    """What is not as it was on the old server."""


def metrics_of(recorders: Iterable[Any]) -> Metrics:
    """Metrics, in this process or of all that share a folder; `recorders` may drop events. Raises `ConfigError`."""
    try:
        # prometheus-client reads the same variable when it is imported, and writes into files from then on.
        return Metrics(multiprocess="PROMETHEUS_MULTIPROC_DIR" in os.environ, recorders=recorders)
    except MetricsMissing as error:
        raise ConfigError(str(error)) from None


def split_list(text: str) -> list[str]:
    """The parts of a comma-separated setting."""
    return [key.strip() for key in text.split(",") if key.strip()]
