"""The headers that tell a client of its protocol's end: RFC 9745's `Deprecation`, RFC 8594's `Sunset`, and `Link`."""

from email.utils import formatdate

from bridge.responses import Notice
from translators.levers import Standing
from translators.stages import Stage

__all__ = ["NO_NOTICE", "Notice", "notice_of"]

NO_NOTICE: Notice = ()

_TELLING = (Stage.DEPRECATED, Stage.BROWNOUT, Stage.REFUSED)
_EXPOSE = (b"access-control-expose-headers", b"Deprecation, Sunset, Link")


def notice_of(standing: Standing, migration: str | None, since: float) -> Notice:
    """The headers of an answer in a protocol that stands so; `since` is when it got there, where no date says."""
    if standing.stage not in _TELLING:
        return NO_NOTICE
    lever = standing.lever
    began = lever.deprecated_from if lever.deprecated_from is not None else since
    # A structured field's Date (RFC 9745, section 2.1): an at sign and whole seconds.
    headers = [(b"deprecation", f"@{int(began)}".encode())]
    relations = ["deprecation"]
    if lever.end is not None:
        # RFC 8594, section 3: an HTTP-date.
        headers.append((b"sunset", formatdate(lever.end, usegmt=True).encode()))
        relations.append("sunset")
    if migration is not None:
        headers.append((b"link", f'<{migration}>; rel="{" ".join(relations)}"'.encode()))
    return (*headers, _EXPOSE)
