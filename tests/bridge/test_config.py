"""Settings: what cannot work is refused when it is made, by name and with the remedy."""

import secrets
from typing import Any

import pytest

from bridge.config import ConfigError, PaymentConfig
from bridge.pricing import Paid
from bridge.routes import ALL_PROTOCOLS, SettlePolicy
from bridge.stores import MemoryStore, SQLiteStore
from bridge.testing import FakeSettler
from tests.bridge.harness import KEY, MPP, RECIPIENT, V1, V2, House, reply, visit
from translators.payment import Asset
from translators.price import Price, PriceError

OTHER = b"another secret of the tests, 32 bytes and more"
CUSTOM = Asset(4242, "0x" + "ab" * 20, 18, "Coin", "1")


def config_of(**settings: Any) -> PaymentConfig:
    known = {
        "recipient": RECIPIENT,
        "settler": FakeSettler(),
        "store": "memory:",
        "secret_keys": [KEY],
        "event_store": None,
    }
    return PaymentConfig(**(known | settings))


REFUSED = [
    ("settler", None, "settler"),
    ("settler", "", "settler"),
    ("recipient", "", "recipient"),
    ("recipient", "0x1234", "recipient"),
    ("recipient", "alice.eth", "recipient"),
    ("network", "atlantis", "network"),
    ("network", "solana", "network"),
    ("network", "eip155:0", "network"),
    ("network", 0, "network"),
    ("network", True, "network"),
    ("public_url", "api.example.com", "public_url"),
    ("public_url", "https://", "public_url"),
    ("public_url", "ftp://api.example.com", "public_url"),
    ("public_url", "https://api.example.com?x=1", "public_url"),
    ("public_url", "https://api.example.com/#top", "public_url"),
    ("public_url", "https://user:word@api.example.com", "public_url"),
    ("public_url", "https://api.example.com:99999", "public_url"),
    ("public_url", "https://api.example.com:x", "public_url"),
    ("public_url", "https://[::1", "public_url"),
    ("public_url", "https://api.example.com/a b", "public_url"),
    ("public_url", "https://api.example.com\r\nX: 1", "public_url"),
    ("public_url", "https://münchen.example", "public_url"),
    ("public_url", "https://a|b.example", "public_url"),
    ("realm", "", "realm"),
    ("realm", "a|b", "realm"),
    ("realm", "two\nlines", "realm"),
    ("realm", "東京", "realm"),
    ("settle", "later", "later"),
    ("protocols", ["x402-v9"], "x402-v9"),
    ("protocols", [], "protocols"),
    ("credential_header", "X-Credential", "credential_header"),
    ("max_timeout_seconds", 6, "max_timeout_seconds"),
    ("max_timeout_seconds", -1, "max_timeout_seconds"),
    ("challenge_seconds", 0, "challenge_seconds"),
    ("challenge_seconds", 10**9, "challenge_seconds"),
    ("lease_seconds", 0, "lease_seconds"),
    ("lease_seconds", float("nan"), "lease_seconds"),
    ("clock_skew", -1, "clock_skew"),
    ("clock_skew", 301, "clock_skew"),
    ("bind_body_bytes", -1, "bind_body_bytes"),
    ("wait_seconds", -1, "wait_seconds"),
    ("replay_seconds", -1, "replay_seconds"),
    ("replay_bytes", -1, "replay_bytes"),
    ("reconcile_seconds", 0, "reconcile_seconds"),
    ("health_path", "health", "health_path"),
    ("health_path", "/health/", "health_path"),
    ("health_path", "", "health_path"),
]


@pytest.mark.parametrize(("name", "value", "named"), REFUSED)
def test_setting_that_cannot_work_is_refused_by_name(name: str, value: Any, named: str) -> None:
    """At construction, before any request could meet it."""
    with pytest.raises(ConfigError, match=named):
        config_of(**{name: value})


REFUSED_AT_BUILD = [
    ("secret_keys", [], "secret_keys"),
    ("secret_keys", ["short"], "32 bytes"),
    ("secret_keys", [KEY, b"x" * 31], "32 bytes"),
    ("secret_keys", KEY.decode(), "list"),
    ("secret_keys", KEY, "list"),
    ("settler", "nullify", "chain"),
    ("settler", "facilitator:", "chain"),
    ("settler", "chain", "private key"),
    ("store", "mysql://localhost", "store"),
    ("store", "sqlite:", "store"),
]


@pytest.mark.parametrize(("name", "value", "named"), REFUSED_AT_BUILD)
def test_part_that_cannot_be_made_is_refused(name: str, value: Any, named: str) -> None:
    """Keys, settler and store are made when the gate is."""
    with pytest.raises(ConfigError, match=named):
        config_of(**{name: value}).build()


GOOD = [
    ("recipient", RECIPIENT.upper().replace("0X", "0x")),
    ("network", "base-sepolia"),
    ("network", "eip155:84532"),
    ("network", 84532),
    ("public_url", "https://api.example.com"),
    ("public_url", "https://api.example.com:8443/v1/"),
    ("public_url", "http://localhost:8000"),
    ("public_url", "https://[2001:db8::1]:8443"),
    ("realm", 'the "shop", est. 2024'),
    ("settle", "first"),
    ("protocols", ["mpp"]),
    ("secret_keys", [KEY.decode(), OTHER]),
    ("bind_body_bytes", 0),
    ("replay_bytes", 0),
    ("lease_seconds", 1),
    ("store", "memory"),
    ("settler", "null"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "value"), GOOD)
async def test_setting_that_works(name: str, value: Any) -> None:
    """Builds a gate, which answers a 402 that can be read."""
    house = House(**{name: value})
    answer = await house.visit()
    assert (answer.status_code, house.config.settle) == (402, SettlePolicy(house.config.settle))


def test_what_is_said_once_becomes_what_it_means() -> None:
    """Text is read as the policy and the protocols that it names."""
    config = config_of(settle="first", protocols=["mpp", "x402-v2"])
    assert (config.settle, config.protocols) == (SettlePolicy.FIRST, {MPP, V2})
    assert config_of().protocols == ALL_PROTOCOLS


def test_store_by_name() -> None:
    """A store is an object, or named."""
    assert isinstance(config_of(store="memory:").build().store, MemoryStore)
    assert isinstance(config_of(store="sqlite:payments.db").build().store, SQLiteStore)
    own = MemoryStore()
    assert config_of(store=own).build().store is own


# Secrets


def test_secrets_are_made_anew_on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that others reach needs secrets that outlive it and that its workers share."""
    monkeypatch.delenv("X402_MPP_SECRET_KEYS", raising=False)
    for public_url in (None, "http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000"):
        config_of(secret_keys=None, public_url=public_url).build()
    with pytest.raises(ConfigError, match=r"secret_keys.*X402_MPP_SECRET_KEYS"):
        config_of(secret_keys=None, public_url="https://api.example.com").build()


@pytest.mark.anyio
async def test_secrets_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comma-separated, the signing one first; an empty variable is none."""
    monkeypatch.setenv(
        "X402_MPP_SECRET_KEYS", f" {OTHER.decode().replace(',', ';')} , {KEY.decode().replace(',', ';')},"
    )
    signing = House(secret_keys=None)
    header = await signing.credential(MPP)
    first = House(secret_keys=[OTHER.decode().replace(",", ";")])
    second = House(secret_keys=[KEY.decode().replace(",", ";")])
    assert (await first.visit(headers=[header])).status_code == 200
    assert (await second.visit(headers=[header])).status_code == 402
    older = await second.credential(MPP)
    assert (await signing.visit(headers=[older])).status_code == 200
    monkeypatch.setenv("X402_MPP_SECRET_KEYS", "")
    config_of(secret_keys=None).build()


@pytest.mark.anyio
async def test_two_processes_with_their_own_secrets_refuse_each_others_challenges() -> None:
    """Which is why they are set, the same on every worker."""
    houses = [House(secret_keys=[secrets.token_bytes(32)]) for _ in range(2)]
    header = await houses[0].credential(MPP)
    assert (await houses[1].visit(headers=[header])).problem == "invalid-challenge"


# The environment

ENV = {
    "X402_MPP_RECIPIENT": RECIPIENT,
    "X402_MPP_SETTLER": "null",
    "X402_MPP_NETWORK": "base-sepolia",
    "X402_MPP_STORE": "memory:",
    "X402_MPP_SECRET_KEYS": f"{'a' * 32},{'b' * 40}",
    "X402_MPP_PUBLIC_URL": "https://api.example.com",
    "X402_MPP_REALM": "shop",
    "X402_MPP_SETTLE": "first",
    "OTHER": "ignored",
}


def test_from_env_reads_every_setting() -> None:
    """Each variable is its setting."""
    config = PaymentConfig.from_env(ENV)
    assert (config.recipient, config.network, config.store) == (RECIPIENT, "base-sepolia", "memory:")
    assert config.secret_keys == ["a" * 32, "b" * 40]
    assert (config.public_url, config.realm, config.settle) == ("https://api.example.com", "shop", SettlePolicy.FIRST)
    config.build()


def test_settings_win_over_the_environment() -> None:
    """What the program says counts, and the environment fills the rest."""
    settler = FakeSettler()
    config = PaymentConfig.from_env(ENV, settler=settler, realm="mine", secret_keys=[KEY])
    assert (config.settler, config.realm, config.secret_keys, config.network) == (
        settler,
        "mine",
        [KEY],
        "base-sepolia",
    )


def test_from_env_takes_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is `os.environ`; an empty variable is none."""
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("X402_MPP_REALM", "")
    assert PaymentConfig.from_env().realm is None


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "X402_MPP_SETTLER"),
        ({"X402_MPP_RECIPIENT": RECIPIENT}, "X402_MPP_SETTLER"),
        ({"X402_MPP_SETTLER": "null"}, "X402_MPP_RECIPIENT"),
        ({"X402_MPP_SETTLER": "chain"}, "private key"),
        ({"X402_MPP_RPC_URL": "http://localhost:8545"}, "private key"),
        ({"X402_MPP_SETTLER": "magic"}, "settler"),
        (ENV | {"X402_MPP_SETTLE": "later"}, "later"),
        (ENV | {"X402_MPP_NETWORK": "atlantis"}, "network"),
        (ENV | {"X402_MPP_RECIPIENT": "bob"}, "recipient"),
    ],
)
def test_from_env_says_what_is_missing(environment: dict[str, str], named: str) -> None:
    """By the name of the variable or the setting."""
    with pytest.raises(ConfigError, match=named):
        PaymentConfig.from_env(environment)


def test_private_key_of_the_environment_is_in_no_error() -> None:
    """A key without the rest that it needs is not quoted."""
    with pytest.raises(ConfigError) as caught:
        PaymentConfig.from_env(ENV | {"X402_MPP_SETTLER": "chain", "X402_MPP_PRIVATE_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)


# Warnings


@pytest.mark.parametrize(
    ("public_url", "warned"),
    [
        ("http://api.example.com", True),
        ("https://api.example.com", False),
        ("http://localhost:8000", False),
        ("http://127.0.0.1", False),
        (None, False),
    ],
)
def test_plain_http_beyond_loopback_is_warned_of(public_url: str | None, warned: bool, logged: list[Any]) -> None:
    """MPP forbids it; a test set-up may do it, knowing."""
    config = config_of(public_url=public_url)
    config.build()
    assert logged == []
    config.warn()
    assert [entry["event"] for entry in logged] == (["config.plain_http"] if warned else [])


# Routes


def test_routes_are_remembered_for_the_start() -> None:
    """Every distinct offer once, and a stand-in for each price that is a function."""
    config = config_of(network="base-sepolia")
    config.route("GET /a", Paid("0.01"))
    config.route("GET /b", Paid(["0.01", "0.02"]))
    config.route("GET /c", Paid(lambda _: "0.05", network="base"))
    assert [(o.amount, o.asset.chain_id) for o in config.offers_to_check()] == [
        (10_000, 84532),
        (20_000, 84532),
        (1_000_000, 8453),
    ]


def test_function_that_names_its_own_token_needs_no_default() -> None:
    """On a network without a known token there is nothing to ask about before the first request."""
    config = config_of(network=4242)
    config.route("GET /a", Paid(lambda _: (5, CUSTOM)))
    assert config.offers_to_check() == []
    with pytest.raises(PriceError, match="GET /b: no token is known"):
        config.route("GET /b", Paid("0.01"))


def test_configured_asset_is_for_the_configured_network() -> None:
    """Another network's prices fall back on that network's token."""
    config = config_of(network=4242, asset=CUSTOM)
    own = config.route("GET /a", Paid("0.01")).offers
    other = config.route("GET /b", Paid(Price("0.01", network="base"))).offers
    assert isinstance(own, tuple)
    assert isinstance(other, tuple)
    assert (own[0].asset, own[0].amount) == (CUSTOM, 10**16)
    assert (other[0].asset.chain_id, other[0].amount) == (8453, 10_000)


# Health


@pytest.mark.anyio
async def test_health_is_answered_where_it_is_configured_only() -> None:
    """`/live` and `/ready` under the configured path are free; the application's own of that name are not touched."""
    house = House({"/*": "0.01"}, health_path="/health")
    assert (await house.visit(path="/health/live")).json() == {"status": "live"}
    assert (await house.visit(path="/health/ready")).json() == {"status": "ready", "missing": {}}
    house.settler.problem = "the node does not answer"
    not_ready = await house.visit(path="/health/ready")
    assert (not_ready.status_code, not_ready.json()["missing"]) == (503, {"settler": "the node does not answer"})
    assert (await house.visit("HEAD", "/health/live")).content == b""
    for path in ("/live", "/ready", "/health", "/health/other"):
        assert (await house.visit(path=path)).status_code == 402, path
    house.messages = reply()
    assert (await visit(House({"/x": "0.01"}).app, "GET", "/health/live")).content == b"the report"


@pytest.mark.anyio
async def test_clock_skew_is_forgiven() -> None:
    """A payer whose clock runs ahead by no more than the setting is served."""
    for skew, status in ((10, 200), (0, 402)):
        house = House(clock_skew=skew)
        asked_at = house.clock()
        header = await house.credential(V1)
        house.clock.now = asked_at - 600 - 5
        assert (await house.visit(headers=[header])).status_code == status
