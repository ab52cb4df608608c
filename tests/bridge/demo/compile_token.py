"""Builds the token's artifact from its Vyper source: `python tests/bridge/demo/compile_token.py` rewrites it.

The compiler is a development dependency, so the artifact is shipped and a test compares the two.
"""

import json
from pathlib import Path
from typing import Any

import vyper

SOURCE = Path(__file__).parents[3] / "bridge" / "demo" / "token.vy"
ARTIFACT = SOURCE.with_suffix(".json")

# The functions that have a twin taking `bytes signature`, which Vyper cannot declare and `__default__` answers.
OVERLOADED = ("transferWithAuthorization", "receiveWithAuthorization", "cancelAuthorization", "permit")


def build() -> dict[str, Any]:
    """The artifact: the ABI with both overloads, the runtime code, the slots that are set from outside."""
    compiled = vyper.compile_code(SOURCE.read_text(), output_formats=["abi", "bytecode_runtime", "layout"])
    abi = [_as_solidity_names(entry) for entry in compiled["abi"] if entry["type"] != "fallback"]
    layout = compiled["layout"]["storage_layout"]
    return {
        "compiler": f"vyper {vyper.__version__}",
        "abi": abi + [_with_signature(entry) for entry in abi if entry.get("name") in OVERLOADED],
        "runtime": compiled["bytecode_runtime"],
        "slots": {name: layout[name]["slot"] for name in ("balanceOf", "totalSupply")},
    }


def _as_solidity_names(entry: dict[str, Any]) -> dict[str, Any]:
    """`from` and `value` cannot be names in Vyper, and decoded events are read by these names."""
    inputs = [{**field, "name": field["name"].rstrip("_")} for field in entry.get("inputs", [])]
    return {**entry, "inputs": inputs}


def _with_signature(entry: dict[str, Any]) -> dict[str, Any]:
    *shared, _v, _r, _s = entry["inputs"]
    return {**entry, "inputs": [*shared, {"name": "signature", "type": "bytes"}]}


if __name__ == "__main__":
    ARTIFACT.write_text(json.dumps(build(), indent=1) + "\n")
