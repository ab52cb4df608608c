"""Values of settings that cannot work, whoever gave them."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from translators.checks import MIN_VALIDITY_SECONDS

__all__ = ["ConfigError", "check_public_url", "check_values"]

_REALM = re.compile(r"[ -{}~]+")
_URL_TEXT = re.compile(r"[!-{}~]+")
_YEAR = 365 * 24 * 60 * 60


class ConfigError(ValueError):
    """A setting that cannot work; its message names the setting and the remedy."""


def check_values(settings: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a value of `PaymentConfig`'s fields, by name, that cannot work."""
    if settings["public_url"] is not None:
        check_public_url(settings["public_url"])
    realm = settings["realm"]
    if realm is not None and _REALM.fullmatch(realm) is None:
        # draft-httpauth-payment-00: the realm is a quoted string, and a slot of the challenge id between pipes.
        raise ConfigError("realm: give printable ASCII without a |")
    if settings["credential_header"] not in (None, "Payment-Authorization"):
        raise ConfigError("credential_header: only Payment-Authorization is defined besides Authorization")
    for name in ("max_timeout_seconds", "challenge_seconds"):
        if not MIN_VALIDITY_SECONDS < settings[name] < _YEAR:
            raise ConfigError(f"{name}: give more than {MIN_VALIDITY_SECONDS} seconds, and less than a year")
    if not 1 <= settings["lease_seconds"] < _YEAR:
        raise ConfigError("lease_seconds: give at least one second, and less than a year")
    if not 0 <= settings["clock_skew"] <= settings["max_timeout_seconds"]:
        raise ConfigError("clock_skew: give seconds from 0 to max_timeout_seconds")
    for name in ("wait_seconds", "replay_seconds", "replay_bytes"):
        if not 0 <= settings[name] < _YEAR:
            raise ConfigError(f"{name}: give 0 or more, and less than {_YEAR}")
    for name in ("reconcile_seconds", "levers_seconds"):
        if not 0 < settings[name] < _YEAR:
            raise ConfigError(f"{name}: give more than 0, and less than a year")
    for name in ("health_path", "metrics_path"):
        path = settings[name]
        if path is not None and (path[:1] != "/" or path[-1:] == "/"):
            raise ConfigError(f"{name}: begin it with a slash, and do not end it with one")
    if settings["bind_body_bytes"] < 0:
        raise ConfigError("bind_body_bytes: give 0 or more")


def check_public_url(public_url: str) -> None:
    """Raise `ConfigError` for what clients could not reach a server by."""
    try:
        url = urlsplit(public_url)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        url, usable = urlsplit(""), False
    if not usable or url.query or url.fragment or "@" in url.netloc or _URL_TEXT.fullmatch(public_url) is None:
        raise ConfigError("public_url: give scheme and host, such as https://api.example.com")
