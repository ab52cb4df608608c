"""Names that nobody can guess: the system is asked for randomness once for many of them, for each call of it costs."""

import binascii
import os
import secrets
from threading import Lock

__all__ = ["fresh_id", "fresh_owner"]

_POOL_BYTES = 4096
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class _Pool:
    """Random bytes, each given out once."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """A forked child would give out its parent's bytes again; the lock, too, may have been held at the fork."""
        self._lock = Lock()
        self._bytes = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        with self._lock:
            if len(self._bytes) - self._at < count:
                self._bytes, self._at = secrets.token_bytes(_POOL_BYTES), 0
            self._at += count
            return self._bytes[self._at - count : self._at]


_POOL = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_POOL.forget)


def fresh_id() -> str:
    """12 characters that can stand in a URL, of 72 random bits."""
    return binascii.b2a_base64(_POOL.take(9), newline=False).translate(_URL_SAFE).decode()


def fresh_owner() -> str:
    """32 hexadecimal digits, of 128 random bits."""
    return _POOL.take(16).hex()
