"""What the docs show an operator, held against the thing itself: store URLs, the journal's columns, health, uvicorn."""

import asyncio
import inspect
import json
import re
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner

from bridge.cli import main
from bridge.health import live, ready
from bridge.litestar import PaymentConfig
from bridge.stores import Record, store_from_url
from bridge.stores.store_url import DEFAULT_TIMEOUT
from tests.bridge.stores.rows import fresh
from tests.docs.test_docs import blocks, table
from tests.layers import ROOT
from translators.errors import Unavailable

CONFIGURATION = "docs/configuration.md"


def shown(command: str) -> list[str]:
    """The lines that a page shows below `command`."""
    block = next(b for b in blocks(CONFIGURATION, "console") if re.match(rf"\$ .*{command}", b))
    return block.splitlines()[1:]


@pytest.mark.parametrize("url", sorted(table(CONFIGURATION, "URL")))
def test_every_store_url_names_a_store(url: str, tmp_path: Path) -> None:
    """As the table of stores writes it."""
    url = url.replace("PATH", f"{tmp_path}/payments.sqlite3").replace("...", "localhost")
    assert hasattr(store_from_url(url), "claim")


def test_every_kind_of_store_is_described() -> None:
    """Each that is supported, found in the code."""
    kinds = set(re.findall(r'"(\w+)"', "".join(re.findall(r"case (\".*\") if", inspect.getsource(store_from_url)))))
    assert kinds == {re.match(r"\w+", url)[0] for url in table(CONFIGURATION, "URL")}  # type: ignore[index]


def test_the_settings_in_a_store_url_have_these_defaults() -> None:
    """Ours, of both stores on servers."""
    source = "".join((ROOT / "bridge/stores" / name).read_text("utf-8") for name in ("postgres.py", "redis.py"))
    defaults = dict(re.findall(r'split_store_url\(url, setting="(\w+)", default="([^"]+)"', source))
    rows = table(CONFIGURATION, "setting in the query")
    assert {name: cells[-1] for name, cells in rows.items()} == defaults | {"timeout": f"{DEFAULT_TIMEOUT:g}"}


def test_the_journal_is_listed_in_these_columns(tmp_path: Path) -> None:
    """The heading that the page shows is the one that the command prints."""
    url = f"sqlite:{tmp_path}/payments.sqlite3"

    async def fill() -> None:
        store = store_from_url(url)
        await store.start()
        await store.claim(fresh(), now=1.0)
        await store.close()

    asyncio.run(fill())
    listed = CliRunner().invoke(main, ["payments", "--store", url, "list"]).output.splitlines()
    assert listed[0] == shown("list")[0]
    told = CliRunner().invoke(main, ["payments", "--store", url, "show", fresh().id]).output.splitlines()
    names = [line[:16] for line in shown("show")]
    assert [line[:16] for line in told] == [name.ljust(16) for name in names]
    assert len(names) == len(Record.__struct_fields__)
    assert CliRunner().invoke(main, ["payments", "--store", url, "migrate"]).output.splitlines() == shown("migrate")


def test_health_answers_what_the_page_shows() -> None:
    """Both paths, and the body of a process that is not ready."""
    gate = PaymentConfig("0x" + "11" * 20, "null", store="memory", secret_keys=["k" * 32]).build()
    example = json.loads(blocks("docs/deploying.md", "json")[0])

    async def broken() -> None:
        raise Unavailable(example["missing"]["settler"])

    gate.settler.ping = broken  # type: ignore[method-assign]
    answer = asyncio.run(ready(gate))
    assert (answer.status, json.loads(answer.body)) == (503, example)
    assert (b"retry-after", b"5") in answer.headers
    assert f"`{live().body.decode()}`" in (ROOT / "docs/deploying.md").read_text("utf-8")


def test_uvicorns_options_exist() -> None:
    """Those that a page tells an operator to set."""
    options = {option for parameter in uvicorn.main.params for option in parameter.opts}
    lines = [line for block in blocks("docs/deploying.md", "console") for line in block.splitlines()]
    assert {
        word for line in lines if line.startswith("uvicorn") for word in line.split() if word[:2] == "--"
    } <= options
