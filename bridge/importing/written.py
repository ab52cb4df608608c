"""Settings and routes as a Python file that can be served as it is."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from bridge.importing.table import Table
from bridge.pricing import Paid
from translators.bazaar import Bazaar
from translators.foreign import X402Only
from translators.payment import Asset
from translators.price import Price

__all__ = ["NotWritable", "write_python"]

_SOURCES = {
    "Bazaar": "from translators.bazaar import Bazaar",
    "Asset": "from translators.payment import Asset",
    "Paid": "from bridge.pricing import Paid",
    "PaymentConfig": "from bridge.config import PaymentConfig",
    "PaymentMiddleware": "from bridge.asgi import PaymentMiddleware",
    "Price": "from translators.price import Price",
    "X402Only": "from translators.foreign import X402Only",
}

_HEAD = '''"""Made by `x402-mpp import`.

Serve it with `uvicorn {module}:app`. Put your own ASGI application in the place of `application` (without the x402
middleware that it has now), or hand `config` and `routes` to bridge.asgi.PaymentMiddleware where it is made.

Before the first real payment: set `public_url`, and X402_MPP_SECRET_KEYS to a secret that all workers share.
"""

# From: {source}
'''

_TAIL = '''

async def application(scope, receive, send):
    """Stands for your own application; nobody is charged for a 501."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 501, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"This is where your own application answers.\\n"})


app = PaymentMiddleware(application, config=config, routes=routes)
'''


class NotWritable(ValueError):
    """A value that has no text in Python: a function."""


def write_python(table: Table, source: str, module: str) -> str:
    """The text of a module with `config`, `routes` and `app`. Raises `NotWritable`."""
    settings = {**table.settings}
    public_url = settings.pop("public_url", None)
    lines = [f"    {name}={_text(value)}," for name, value in settings.items()]
    if public_url is not None:
        # With it comes the need for a secret that all workers share, and the file is to start as it is.
        lines.append(f"    # public_url={_text(public_url)},  # once X402_MPP_SECRET_KEYS is set")
    routes = [f"    {_text(key)}: {_text(_plain(paid))}," for key, paid in table.routes.items()]
    config = "\n".join(["config = PaymentConfig(", *lines, ")"])
    body = "\n\n".join([config, "\n".join(["routes = {", *routes, "}"])])
    if table.refused:
        # As JSON: what a stranger's server says must not end the comment.
        left = [f"# NOT priced, so free with this file: {_text(f'{key}: {why}')}" for key, why in table.refused.items()]
        body = "\n".join(left) + "\n\n" + body
    used = {"PaymentConfig", "PaymentMiddleware"} | {name for name in _SOURCES if f"{name}(" in body}
    imports = "\n".join(_SOURCES[name] for name in sorted(used, key=lambda name: _SOURCES[name]))
    return _HEAD.format(source=_text(source), module=module) + "\n" + imports + "\n\n" + body + "\n" + _TAIL


def _plain(paid: Paid) -> Any:
    """A route that says nothing but its price is that price."""
    return paid.price if paid == Paid(paid.price) else paid


def _text(value: Any) -> str:
    """A value as the Python that makes it."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False)
        case None | bool() | int() | float():
            return repr(value)
        case Paid():
            return _call("Paid", {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)})
        case Price() | Asset() | X402Only() | Bazaar():
            fields = msgspec.structs.fields(value)
            return _call(type(value).__name__, {f.name: (getattr(value, f.name), f.default) for f in fields})
        case Mapping():
            return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
        case Sequence():
            return "[" + ", ".join(map(_text, value)) + "]"
        case _:
            raise NotWritable("a price that is a function of the request cannot be written down")


def _call(name: str, fields: Mapping[str, tuple[Any, Any]]) -> str:
    said = [f"{field}={_text(value)}" for field, (value, default) in fields.items() if value != default]
    return f"{name}({', '.join(said)})"
