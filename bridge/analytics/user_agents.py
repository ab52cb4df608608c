"""Which client a request came from, as much of it as may be kept: the product and its version."""

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["NOBODY", "OTHER", "Client", "client_of"]


class Client(NamedTuple):
    """A client's product and version; either may be empty."""

    product: str
    version: str = ""


NOBODY = Client("(none)")
"""A request without a `User-Agent`."""

OTHER = Client("(other)")
"""One whose `User-Agent` names no product, or came when there were too many products already."""

# RFC 9110, section 10.1.5: User-Agent = product *( RWS ( product / comment ) ); product = token ["/" version].
# Without `@`, which no program's name has and every mail address; shorter than most keys that somebody may put there.
_PRODUCT = re.compile(r"([A-Za-z][A-Za-z0-9._+-]{0,39})(?:/v?([0-9A-Za-z.+_-]{1,64}))?(?=\s|$)")
_VERSION = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6}){0,3}(?:-?[a-z]{1,5}\.?[0-9]{0,4})?")
_BROWSER = re.compile(r"\b(Edg|OPR|Firefox|Chrome|Version)/([0-9]{1,4})")
_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Version": "Safari"}


@lru_cache(maxsize=4096)
def client_of(user_agent: str | None) -> Client:
    """Product and version of a `User-Agent`; comments, devices and what else it says are left out."""
    if not user_agent:
        return NOBODY
    found = _PRODUCT.match(user_agent)
    if found is None:
        return OTHER
    if found[1] == "Mozilla":
        # Every browser says that first; the order is the one in which they pose as each other.
        names = dict(reversed(_BROWSER.findall(user_agent)))
        for name in ("Edg", "OPR", "Firefox", "Chrome", "Version"):
            if name in names:
                return Client(_BROWSERS.get(name, name), names[name])
        return Client("Mozilla")
    version = _VERSION.match(found[2] or "")
    return Client(found[1], version[0] if version else "")
