"""What the URLs of the stores on servers have in common: our own settings stand in the query, among the driver's."""

import re
from urllib.parse import unquote

import msgspec

__all__ = ["StoreURL", "split_store_url"]

DEFAULT_TIMEOUT = 2.0
"""Seconds. A claim takes a millisecond; a payer who is asked to come back in five seconds is not to wait for long."""


class StoreURL(msgspec.Struct, frozen=True):
    """A store's URL taken apart. It may hold a password, so it is neither shown nor logged."""

    driver_url: str
    """The URL without our own settings."""
    name: str
    """Where the store lives on its server: a schema, or a key prefix."""
    timeout: float
    """After how many seconds a call gives up."""

    def __repr__(self) -> str:
        """Leave the URL out: a repr ends up in logs."""
        return f"StoreURL(name={self.name!r}, timeout={self.timeout!r})"


def split_store_url(url: str, *, setting: str, default: str, pattern: str) -> StoreURL:
    """Take the settings `setting` (the store's name, as `pattern` allows) and `timeout` out of the query of `url`.

    Raises `ValueError`, which never repeats the URL.
    """
    base, _, query = url.partition("?")
    # What is the driver's stays as it is: drivers differ in how they read a plus sign.
    drivers: list[str] = []
    ours = {setting: default, "timeout": str(DEFAULT_TIMEOUT)}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        if key in ours:
            ours[key] = unquote(value)
        elif part:
            drivers.append(part)
    if not re.fullmatch(pattern, ours[setting]):
        raise ValueError(f"the payment store's {setting} is not of the form {pattern}")
    driver_url = "?".join([base, "&".join(drivers)]) if drivers else base
    return StoreURL(driver_url, ours[setting], _seconds(ours["timeout"]))


def _seconds(text: str) -> float:
    try:
        timeout = float(text)
    except ValueError:
        timeout = 0.0
    if not 0.05 <= timeout <= 60:
        raise ValueError("the payment store's timeout is not a number of seconds from 0.05 to 60")
    return timeout
