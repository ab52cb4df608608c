"""Run by the Python of the server that is imported: load its module, find its route table, and write it as JSON.

It stands alone: this program is handed over as text, and neither this package nor its libraries are there. What the
module prints goes where it always goes; the result goes to the file that the last argument names.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any


class Served(BaseException):
    """The module began to serve: that is far enough."""


def main() -> None:
    """Arguments: the module's file, the name to take from it (or nothing), the file for the result."""
    path, name, out = sys.argv[1:4]
    sys.argv = [path]
    try:
        result = extract(path, name)
    except BaseException as error:
        traceback.print_exc()
        result = {"error": f"{type(error).__name__}: {error}"}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file, default=plain)
    sys.stderr.flush()
    # The module may have started threads.
    os._exit(0)


def extract(path: str, name: str) -> dict[str, Any]:
    """The tables of the module, as plain data."""
    hold_servers()
    module = load(path)
    found = Found()
    if name:
        value: Any = module
        for part in name.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        found.look(name, value)
    else:
        for name, value in list(vars(module).items()):
            # Whatever a module holds: a proxy for a request that is not there raises at the first look.
            with contextlib.suppress(Exception):
                found.look(name, value)
    return found.result()


def hold_servers() -> None:
    """A module that serves when it is run is stopped there, with all that it has made so far."""

    def stop(*_args: Any, **_kwargs: Any) -> None:
        raise Served

    places = [
        ("uvicorn", "run"),
        ("uvicorn", "Server.run"),
        ("uvicorn", "Server.serve"),
        ("hypercorn.asyncio", "serve"),
    ]
    places += [("werkzeug.serving", "make_server"), ("werkzeug.serving", "run_simple"), ("flask", "Flask.run")]
    for module, attribute in places:
        try:
            owner: Any = importlib.import_module(module)
        except ImportError:
            continue
        *parents, last = attribute.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, stop)


def load(path: str) -> Any:
    """Import a file by its own place among packages, as `python -m` would."""
    path = os.path.abspath(path)
    folder, names = os.path.dirname(path), [os.path.splitext(os.path.basename(path))[0]]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, parent = os.path.split(folder)
        names.insert(0, parent)
    sys.path.insert(0, folder)
    sys.path.insert(1, os.getcwd())
    for number in range(1, len(names)):
        importlib.import_module(".".join(names[:number]))
    full = ".".join(names)
    spec = importlib.util.spec_from_file_location(full, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    with contextlib.suppress(Served, SystemExit):
        spec.loader.exec_module(module)
    return module


class Found:
    """Route tables, by what they look like."""

    def __init__(self) -> None:
        self.deployed: Any = None
        """What an application has among its layers."""
        self.tables: dict[str, Any] = {}
        self.single: dict[str, Any] = {}
        """Routes that stand for every path, or are only a part of a table."""
        self.server: Any = None
        self.calls: list[Any] = []
        self.seen: set[int] = set()

    def look(self, name: str, value: Any) -> None:
        """Take what this value is or holds."""
        if id(value) in self.seen or isinstance(value, type):
            return
        self.seen.add(id(value))
        if is_table(value):
            (self.single if is_route(value) else self.tables)[name] = value
        elif isinstance(value, list | tuple) and value and all(is_call(call) for call in value):
            self.calls += value
        elif is_call(value):
            self.calls.append(value)
        elif is_server(value):
            self.server = self.server or value
        elif isinstance(getattr(value, "middleware_configs", None), list):
            self.calls += value.middleware_configs
        elif isinstance(getattr(value, "user_middleware", None), list):
            for middleware in value.user_middleware:
                self.look_at_middleware(middleware)

    def look_at_middleware(self, middleware: Any) -> None:
        """One layer of a Starlette or FastAPI application."""
        options = getattr(middleware, "kwargs", None) or getattr(middleware, "options", None) or {}
        held = list(options.values()) + list(getattr(middleware, "args", ()))
        for value in held:
            if is_table(value):
                self.deployed = self.deployed or value
            else:
                self.look("", value)
            closure = closed_over(value)
            if "pay_to_address" in closure and "max_amount_required" in closure:
                self.calls.append(call_of(closure))
            for kept in closure.values():
                if is_table(kept):
                    self.deployed = self.deployed or kept
                elif is_server(kept):
                    self.look("", kept)

    def routes(self) -> Any:
        """The table that counts: the one that an application has, else the only one."""
        if self.deployed is not None:
            return self.deployed
        named = self.tables or self.single
        if len(named) > 1:
            raise LookupError("several route tables, {}: name one, as FILE:NAME".format(", ".join(named)))
        return next(iter(named.values()), None)

    def result(self) -> dict[str, Any]:
        """What was found, with prices that only the server's own schemes can read resolved."""
        routes = self.routes()
        if routes is None and not self.calls:
            raise LookupError("no route table: name it, as FILE:NAME")
        clients = getattr(self.server, "_facilitator_clients", None) or []
        return {
            "routes": None if routes is None else resolved(routes, self.server),
            "calls": self.calls,
            "facilitators": [client.url for client in clients if isinstance(getattr(client, "url", None), str)],
            "authenticated": any(getattr(client, "_auth_provider", None) is not None for client in clients),
        }


def is_route(value: Any) -> bool:
    """A route of the second generation."""
    return "accepts" in value if isinstance(value, dict) else hasattr(value, "accepts")


def is_table(value: Any) -> bool:
    """A table of them, or one route for every path."""
    if isinstance(value, dict):
        return is_route(value) or (bool(value) and all(map(is_route, value.values())))
    return hasattr(value, "accepts") and dataclasses.is_dataclass(value)


def is_call(value: Any) -> bool:
    """The arguments of a `require_payment` of the first generation."""
    return isinstance(value, dict) and "price" in value and "pay_to_address" in value


def is_server(value: Any) -> bool:
    """The second generation's resource server."""
    return hasattr(value, "_facilitator_clients") and hasattr(value, "_schemes")


def closed_over(function: Any) -> dict[str, Any]:
    """What a function keeps from where it was made."""
    code = getattr(function, "__code__", None)
    kept: dict[str, Any] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=False):
        try:
            kept[name] = cell.cell_contents
        except ValueError:
            continue
    return kept


def call_of(closure: dict[str, Any]) -> dict[str, Any]:
    """`require_payment`'s arguments, from what its middleware kept of them."""
    names = ["pay_to_address", "path", "description", "mime_type", "max_deadline_seconds", "input_schema"]
    names += ["output_schema", "network", "resource", "paywall_config", "custom_paywall_html"]
    call = {name: closure[name] for name in names if name in closure}
    asset = {"address": closure["asset_address"], "eip712": closure.get("eip712_domain")}
    call["price"] = {"amount": closure["max_amount_required"], "asset": asset}
    config = getattr(closure.get("facilitator"), "config", None)
    if isinstance(config, dict):
        call["facilitator_config"] = config
    return call


def resolved(routes: Any, server: Any) -> Any:
    """The table, with the prices that the server's own parsers for money read as they read them."""
    schemes = getattr(server, "_schemes", None) or {}
    for route in [routes] if is_route(routes) else routes.values():
        accepts = member(route, "accepts")
        for option in accepts if isinstance(accepts, list | tuple) else [accepts]:
            network, price = member(option, "network"), member(option, "price")
            scheme: Any = (schemes.get(network) or {}).get(member(option, "scheme"))
            if getattr(scheme, "_money_parsers", None) and isinstance(price, str | int | float):
                put(option, "price", scheme.parse_price(price, network))
    return routes


def member(value: Any, name: str) -> Any:
    """A member of an object or a mapping."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def put(value: Any, name: str, content: Any) -> None:
    """Set it."""
    if isinstance(value, dict):
        value[name] = content
    else:
        setattr(value, name, content)


def plain(value: Any) -> Any:
    """What JSON has no word for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for dump in ("model_dump", "dict"):
        if callable(getattr(value, dump, None)) and not isinstance(value, type):
            return getattr(value, dump)()
    if callable(value):
        return {"$callable": getattr(value, "__qualname__", type(value).__name__)}
    return {"$object": type(value).__name__}


if __name__ == "__main__":
    main()
