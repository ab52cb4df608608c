"""The gateway's settings: where they come from, which win, and what stops it."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.config import ConfigError
from bridge.gateway.app import Gateway
from bridge.gateway.config import GatewayConfig, load
from tests.layers import ROOT

KEY = "k" * 40
UPSTREAM = "http://127.0.0.1:4021"


def test_flags_win_over_the_environment_and_that_over_a_file(tmp_path: Path) -> None:
    """Each on its own, lists and tables included."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        'port = 1\nworkers = 2\nstore = "sqlite:a"\nchallenge_seconds = 60\ntrusted_proxies = ["10.0.0.1"]\n'
        '[upstreams]\n"/" = "http://a"\n"/b" = "http://b"\n'
    )
    environ = {"X402_MPP_PORT": "2", "X402_MPP_WORKERS": "3", "X402_MPP_SECRET_KEYS": f"{KEY}, {KEY}2"}
    config = load({"port": 3, "host": None, "trusted_proxies": ()}, environ=environ, file=file)
    assert (config.port, config.workers, config.store, config.challenge_seconds) == (3, 3, "sqlite:a", 60)
    assert config.upstreams == {"/": "http://a", "/b": "http://b"}
    assert config.secret_keys == (KEY, f"{KEY}2")
    assert config.trusted_proxies == ("10.0.0.1",)
    assert load({}, environ=environ, file=file, upstream=["/x=http://x", "http://y"]).upstreams == {
        "/x": "http://x",
        "/": "http://y",
    }
    environ = {"X402_MPP_UPSTREAM": "http://z, /w=ftp://w", "X402_MPP_MAX_BODY": "5"}
    with pytest.raises(ConfigError, match="upstreams"):
        load({}, environ=environ)
    environ["X402_MPP_UPSTREAM"] = "http://z, /w=http://w"
    environ["X402_MPP_LEVERS"] = "sqlite:levers"
    assert load({}, environ=environ).levers == "sqlite:levers"
    assert load({"levers": "levers.toml"}, environ=environ).levers == "levers.toml"
    assert load({}, environ=environ).upstreams == {"/": "http://z", "/w": "http://w"}
    assert load({}, environ=environ).max_body == 5


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"upstreams": {}}, "upstream"),
        ({"upstreams": {"/": "ftp://x"}}, "upstreams"),
        ({"upstreams": {"/": "http://user@x"}}, "upstreams"),
        ({"upstreams": {"x": "http://x"}}, "upstreams"),
        ({"upstreams": {"/a": "http://x", "/a/": "http://y"}}, "upstreams"),
        ({"public_url": "api.example.com"}, "public_url"),
        ({"secret_keys": ["short"]}, "secret_keys"),
        ({"secret_keys": []}, "secret_keys"),
        ({"trusted_proxies": ["example.com"]}, "trusted_proxies"),
        ({"host_header": "mine"}, "host_header"),
        ({"credential_header": "X-Mine"}, "credential_header"),
        ({"protocols": ["l402"]}, "protocols"),
        ({"workers": 0}, "workers"),
        ({"workers": 2, "store": "memory"}, "store"),
        ({"port": 70000}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"max_body": 0}, "max_body"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"challenge_seconds": 5}, "challenge_seconds"),
        ({"lease_seconds": 0}, "lease_seconds"),
        ({"levers": {"*": {"mpp": "off"}}}, "levers"),
        ({"levers_seconds": 0}, "levers_seconds"),
        ({"wait_seconds": -1}, "wait_seconds"),
        ({"health_path": "health/"}, "health_path"),
        ({"port": "many"}, "port"),
        ({"upstraems": {}}, "upstraems"),
    ],
)
def test_what_cannot_work_stops_it(settings: dict[str, Any], says: str) -> None:
    """With the setting's name."""
    with pytest.raises(ConfigError, match=says):
        load({"upstreams": {"/": UPSTREAM}} | settings, environ={})


@pytest.mark.parametrize("settings", [{"workers": 2}, {"public_url": "https://api.example.com"}])
def test_a_secret_is_asked_for_where_one_process_is_not_all(settings: dict[str, Any]) -> None:
    """Several workers, or the world: challenges outlive the process that made them."""
    config = GatewayConfig(upstreams={"/": UPSTREAM}, store="sqlite:unused", **settings)
    with pytest.raises(ConfigError, match="X402_MPP_SECRET_KEYS"):
        Gateway(config)


def test_the_table_in_the_docs_has_every_setting_and_its_default() -> None:
    """In the order of the class, with the variables that are read."""
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    section = page.partition("| setting of the gateway |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in re.split(r" \|(?= )", line.strip("|"))] for line in section.splitlines()[2:]]
    fields = msgspec.structs.fields(GatewayConfig)
    assert [row[0].strip("` |") for row in rows] == [field.name for field in fields]
    for field, row in zip(fields, rows, strict=True):
        if field.name in ("upstreams", "protocols"):
            continue
        told = row[-2].strip("` ")
        default = f'"{field.default}"' if isinstance(field.default, str) else repr(field.default)
        assert told == default, field.name
    variables = set(re.findall(r"`(X402_MPP_[A-Z_]+)`", section))
    from bridge.gateway.config import _ENVIRONMENT

    assert variables == {f"X402_MPP_{name.upper()}" for name in _ENVIRONMENT}
