"""The files that a browser is sent, as they stand in `static/`: nothing builds them, and none comes from elsewhere."""

import hashlib
from pathlib import Path

import msgspec

__all__ = ["PAGE", "File", "page_at", "read_files"]

PAGE = "index.html"
_BASE = b"{{base}}"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}


class File(msgspec.Struct, frozen=True):
    """One file, by the name that it has in a URL."""

    content: bytes
    kind: bytes
    """Its media type."""

    @property
    def tag(self) -> bytes:
        """An entity tag: another content has another one."""
        return b'"' + hashlib.sha256(self.content).hexdigest()[:20].encode() + b'"'


def read_files() -> dict[str, File]:
    """All of them, by name."""
    found = sorted(path for path in _FOLDER.iterdir() if path.suffix in _TYPES)
    return {path.name: File(path.read_bytes(), _TYPES[path.suffix]) for path in found}


def page_at(page: File, base: str) -> File:
    """The page, whose links begin with `base`: relative, so that a proxy may strip what stands before it."""
    escaped = base.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return File(page.content.replace(_BASE, escaped.encode()), page.kind)
