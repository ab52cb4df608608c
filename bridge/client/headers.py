"""Headers whose credential stays with the request that they were made for."""

from collections.abc import Iterator
from typing import Any

import httpx

__all__ = ["CredentialHeaders", "carries_credential"]

_CREDENTIALS = ("x-payment", "payment-signature", "payment-authorization")


class CredentialHeaders(httpx.Headers):
    """The headers of a paid request: whoever sends it reads the credential, whoever copies it does not.

    httpx copies a request's headers into the one that follows a redirect, and takes away `Authorization` only. A
    payment's credential is for one server, whatever its header is called.
    """

    def __init__(self, headers: httpx.Headers, name: str, value: str) -> None:
        wire = name.encode()
        bare = [item for item in headers.raw if item[0].lower() != wire.lower()]
        super().__init__(bare)
        self._sent = httpx.Headers([*bare, (wire, value.encode())])

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """What goes on the wire."""
        return self._sent.raw

    def keys(self) -> Any:
        """With the credential's."""
        return self._sent.keys()

    def values(self) -> Any:
        """With the credential's."""
        return self._sent.values()

    def items(self) -> Any:
        """With the credential's."""
        return self._sent.items()

    def multi_items(self) -> list[tuple[str, str]]:
        """With the credential's."""
        return self._sent.multi_items()

    def get(self, key: str, default: Any = None) -> Any:
        """One header's value, the credential's too."""
        return self._sent.get(key, default)

    def get_list(self, key: str, split_commas: bool = False) -> list[str]:
        """A header's values, the credential's too."""
        return self._sent.get_list(key, split_commas)

    def __getitem__(self, key: str) -> str:
        return self._sent[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._sent

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sent)

    def __len__(self) -> int:
        return len(self._sent)

    def __repr__(self) -> str:
        """Leave the credential out: a repr ends up in logs."""
        return f"CredentialHeaders({super().multi_items()!r})"


def carries_credential(request: httpx.Request) -> bool:
    """Whether the caller pays this request himself."""
    if any(name in request.headers for name in _CREDENTIALS):
        return True
    scheme = str(request.headers.get("authorization", "")).partition(" ")[0]
    return scheme.lower() == "payment"
