"""What a gateway works with, made from its settings."""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog

from bridge.admitted import Desk
from bridge.analytics import Recorder
from bridge.attempt import Means
from bridge.clock import Clock
from bridge.condition import Condition
from bridge.config import ConfigError, metrics_of
from bridge.events import Events, Sink
from bridge.gate import Gate
from bridge.gateway.chain import Chain
from bridge.gateway.challenges import Challenger, Moment
from bridge.gateway.config import GatewayConfig
from bridge.gateway.exchange import Exchange
from bridge.gateway.forward import Forwarder
from bridge.gateway.headers import TrustedProxies
from bridge.gateway.learned import Learned
from bridge.gateway.levers import GatewayLevers
from bridge.gateway.native import AsPresented
from bridge.gateway.upstreams import Upstreams
from bridge.levers.board import LeverBoard
from bridge.levers.shadow import Shadow
from bridge.levers.sources import source_from_spec
from bridge.proofs import Proofs
from bridge.reconciler import Reconciler
from bridge.responses import ChallengeContext, Responder
from bridge.stores import store_from_url
from bridge.stores.base import Store
from bridge.verifier import Verified, Verifier
from translators.binding import MIN_KEY_BYTES
from translators.payment import Protocol
from translators.upstream import Demand

__all__ = ["Parts"]


class Parts:
    """Everything that lives as long as the gateway. Raises `ConfigError`; nothing is opened before `gate.start`."""

    def __init__(self, config: GatewayConfig, store: Store | None, sinks: Sequence[Sink], clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.upstreams = Upstreams(config.upstreams)
        self.trusted = TrustedProxies(config.trusted_proxies)
        self.public = config.public_url.rstrip("/") if config.public_url else None
        self.keys = _keys(config)
        self.adds = frozenset(Protocol(protocol) for protocol in config.protocols)
        self.takes = {spoken: self.adds | {spoken} for spoken in Protocol}
        """What an upstream can be paid in, by what it speaks."""
        kept = config.event_store()
        self.recorder = None if kept is None else Recorder(kept, clock)
        recorders: tuple[Sink, ...] = (*sinks, *([] if self.recorder is None else [self.recorder]))
        self.metrics = None if config.metrics_path is None else metrics_of(recorders)
        self.events = Events(recorders if self.metrics is None else (*recorders, self.metrics.sink))
        self.learned = Learned()
        board = None if config.levers is None else self._board(config.levers)
        self.levers = GatewayLevers(board, self.adds)
        self.chain = Chain(config.rpc_url)
        self.forwarder = Forwarder(timeout=config.timeout, stall=config.stall)
        self.challenger = Challenger(
            keys=self.keys,
            clock=clock,
            challenge_seconds=config.challenge_seconds,
            credential_header=config.credential_header,
            adds=self.adds,
        )
        self.responder = Responder(keys=self.keys, clock=clock, challenge_seconds=config.challenge_seconds)
        try:
            self.store = store or store_from_url(config.store)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        reconciler = Reconciler(
            store=self.store,
            settler=self.chain,
            events=self.events,
            clock=clock,
            lease_seconds=config.lease_seconds,
            interval_seconds=config.reconcile_seconds,
        )
        # It cannot settle: of each payment, its exchange does.
        chain: Any = self.chain
        verifier = Verifier(
            # An exchange, which can settle, would have a verifier verify as well.
            chain,
            Proofs(self.store, clock),
            keys=self.keys,
            clock=clock,
            clock_skew=config.clock_skew,
            body_limit=config.bind_body_bytes,
        )
        self.gate = Gate(
            verifier=verifier,
            desk=Desk(
                store=self.store,
                settler=chain,
                responder=self.responder,
                clock=clock,
                lease_seconds=config.lease_seconds,
            ),
            events=self.events,
            reconciler=reconciler,
            realm=config.realm,
            body_limit=config.bind_body_bytes,
            wait_seconds=config.wait_seconds,
            replay_seconds=config.replay_seconds,
            replay_bytes=config.replay_bytes,
            board=board,
            recorder=self.recorder,
        )
        """Opens and closes everything, and decides about each payment with `means_for` it."""
        # The upstream settles, and how its settler does is not known here.
        self.gate.condition = Condition(self.store, None, self.recorder, clock)

    def _board(self, levers: str) -> LeverBoard:
        try:
            source = source_from_spec(levers)
        except ValueError as error:
            raise ConfigError(f"levers: {error}") from None
        return LeverBoard(
            routes=None,
            events=self.events,
            clock=self.clock,
            key=self.keys[0],
            seconds=self.config.levers_seconds,
            source=source,
            # An upstream may be paid in either version of x402, whatever is added to it.
            protocols=self.adds | {Protocol.X402_V1, Protocol.X402_V2},
        )

    def means_for(
        self, exchange: Exchange, verified: Verified | None, board: LeverBoard | None, demand: Demand | None
    ) -> Means:
        """What the gate decides about one exchange with; with `verified`, about a payment that the upstream verifies.

        `board` has the levers; None where they are not asked. `demand` is the 402 that it pays, where that is known.
        """
        shadow = None
        if board is not None and board.levers.shadow and demand is not None:
            shadow = self._shadow(demand, verified)
        itself: Any = exchange
        return self.gate.means_with(
            verifier=self.gate.verifier if verified is None else AsPresented(verified),
            desk=self.gate.desk.beside(settler=itself, responder=itself),
            events=itself,
            board=board,
            shadow=shadow,
        )

    def _shadow(self, demand: Demand, verified: Verified | None) -> Shadow | None:
        """Tries MPP out on a payment of `demand`; None for one of something else, which the upstream will refuse."""
        terms_of = {terms.offer: terms for terms in demand.terms}
        if verified is not None and verified.offer not in terms_of:
            return None

        def challenges(context: ChallengeContext) -> Iterator[bytes]:
            moment = Moment(context.realm, context.bound_to, context.correlation_id, context.digest, None)
            for offer in context.offers:
                line = self.challenger.challenge(demand, terms_of[offer], moment)
                if line is None:
                    raise ValueError("what the upstream asks is too long for a challenge")
                yield line

        return Shadow(challenges, keys=self.keys, clock=self.clock, clock_skew=self.config.clock_skew)

    def warn(self) -> None:
        """Log what works and should not be served with."""
        log = structlog.get_logger("x402_mpp")
        if self.config.secret_keys is None:
            log.warning("config.ephemeral_secret", setting="secret_keys")
        if self.public is not None and not self.config.is_loopback and urlsplit(self.public).scheme != "https":
            log.warning("config.plain_http", public_url=self.public)


def _keys(config: GatewayConfig) -> list[bytes]:
    if config.secret_keys is not None:
        return [key.encode() for key in config.secret_keys]
    if config.workers > 1 or not config.is_loopback:
        raise ConfigError(
            "secret_keys: set X402_MPP_SECRET_KEYS, the same on every gateway"
            " (python -c 'import secrets; print(secrets.token_hex(32))')"
        )
    return [secrets.token_bytes(MIN_KEY_BYTES)]
