"""Levers in a TOML file that people edit."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from translators.errors import Unavailable

__all__ = ["FileLevers"]

LARGEST = 1_000_000
"""Bytes. A file that is longer is not one of ours."""


class FileLevers:
    """The file at `path`. It is read whole each time, so an editor may as well put another one in its place."""

    def __init__(self, path: str) -> None:
        self.name = path

    async def read(self) -> str:
        """See `LeverSource.read`."""
        return await asyncio.to_thread(self._read)

    async def append(self, text: str, *, after: str) -> bool:
        """See `LeverSource.append`. What stands in the file stays as it is, to the byte."""
        return await asyncio.to_thread(self._append, text, after)

    def _read(self) -> str:
        try:
            with open(self.name, "rb") as file:
                return _text(file)
        except OSError as error:
            raise Unavailable(f"{self.name}: {error.strerror}") from None

    def _append(self, text: str, after: str) -> bool:
        try:
            # In its place, not by a new file: it may be a link, or mounted by itself.
            with open(self.name, "r+b") as file, _locked(file):
                before = _text(file)
                if before != after:
                    return False
                file.seek(0, os.SEEK_END)
                file.write(("" if not before or before.endswith("\n") else "\n").encode() + text.encode())
        except OSError as error:
            raise Unavailable(f"{self.name}: {error.strerror}") from None
        return True


def _text(file: BinaryIO) -> str:
    data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Unavailable(f"{file.name}: longer than {LARGEST} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name}: not UTF-8") from None


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """Keep other commands out while this one writes. Where there is no such lock, two may get in each other's way."""
    with suppress(ImportError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
    yield
