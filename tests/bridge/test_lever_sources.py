"""Where levers are kept: a file, SQLite, PostgreSQL, Redis. All keep the same text, and lose no change."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.levers import LeverSource, source_from_spec
from bridge.stores import store_from_url
from tests.bridge.harness import MPP, House
from tests.bridge.stores import servers
from translators.errors import Unavailable
from translators.levers import EVERY_ROUTE
from translators.levers_toml import parse_document, write_change
from translators.stages import Lever, Stage

pytestmark = pytest.mark.anyio

OFF = write_change(1.8e9, "olga", {"levers": {"*": {"mpp": "off"}}})
ON = write_change(1.81e9, "olga", {"levers": {"*": {"mpp": "on"}}})


@pytest.fixture(params=["file", "sqlite", "postgresql", "redis"])
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place of each kind with nothing in it yet."""
    match request.param:
        case "file":
            path = tmp_path / "levers.toml"
            path.write_text("")
            yield str(path)
        case "sqlite":
            yield f"sqlite:{tmp_path}/payments.db"
        case "postgresql":
            with servers.postgres_schema() as url:
                yield url
        case _:
            with servers.redis_prefix() as url:
                yield url


async def test_what_is_added_is_read_by_everybody(spec: str) -> None:
    """In the order in which it was added."""
    mine, other = source_from_spec(spec), source_from_spec(spec)
    assert await mine.read() == ""
    assert await mine.append(OFF, after="")
    assert await other.read() == OFF
    assert await other.append(ON, after=OFF)
    assert await mine.read() == OFF + ON
    assert parse_document(await mine.read()).levers.routes == {EVERY_ROUTE: {MPP: Lever(Stage.ON)}}


async def test_a_change_counts_only_on_what_its_maker_saw(spec: str) -> None:
    """Nothing is added on top of what somebody else has added meanwhile."""
    source = source_from_spec(spec)
    await source.append(OFF, after="")
    assert not await source.append(ON, after="")
    assert await source.read() == OFF


async def test_of_changes_at_once_none_is_lost(spec: str) -> None:
    """Each looks again, as the command does, until it was the first."""

    async def change(number: int, source: LeverSource) -> None:
        mine = write_change(1.8e9 + number, str(number), {"levers": {"*": {"mpp": "off"}}})
        while not await source.append(mine, after=await source.read()):
            pass

    async with asyncio.timeout(60):
        await asyncio.gather(*(change(number, source_from_spec(spec)) for number in range(8)))
    changes = parse_document(await source_from_spec(spec).read()).changes
    assert sorted(change.by for change in changes) == [str(number) for number in range(8)]


async def test_servers_that_start_at_once_do_not_trip(spec: str) -> None:
    """Whoever reads first makes the table."""
    texts = await asyncio.gather(*(source_from_spec(spec).read() for _ in range(8)))
    assert set(texts) == {""}


async def test_the_payment_store_may_be_the_place(spec: str) -> None:
    """Whichever of the two comes first."""
    if spec.endswith(".toml"):
        with pytest.raises(ValueError, match="no store"):
            store_from_url(spec)
        return
    source, store = source_from_spec(spec), store_from_url(spec)
    if "sqlite" in spec:
        await store.start()
        await source.append(OFF, after="")
    else:
        await source.append(OFF, after="")
        await store.start()
    assert await store.records() == []
    assert await source.read() == OFF
    await store.close()
    again = store_from_url(spec)
    await again.start()
    await again.close()
    assert await source.read() == OFF


async def test_a_running_server_follows(spec: str) -> None:
    """Forwards and back, by what somebody else adds; the event tells who, and when he did."""
    house = House(levers=spec, levers_seconds=3600.0)
    await house.app._start()
    board, other = house.app.gate.board, source_from_spec(spec)
    assert board is not None
    await other.append(OFF, after="")
    await board.refresh()
    assert "www-authenticate" not in (await house.visit()).headers
    await other.append(write_change(1.82e9, "ivan", {}, undo=True), after=OFF)
    await board.refresh()
    assert "www-authenticate" in (await house.visit()).headers
    told = [fields for event, fields in house.told if event == "lever.changed"]
    assert [(t["route"], t["before"], t["after"], t["by"], t["at"], t["source"]) for t in told] == [
        ("*", "on", "off", "olga", 1.8e9, "change"),
        ("*", "off", "on", "ivan", 1.82e9, "change"),
    ]
    await house.app._stop()


@pytest.mark.parametrize(
    "spec",
    [
        "/nowhere/levers.toml",
        "sqlite:/nowhere/payments.db",
        "postgresql://postgres:sesame@127.0.0.1:1/test?timeout=0.2",
        "redis://:sesame@127.0.0.1:1/0?timeout=0.2",
    ],
)
async def test_what_is_not_there_is_said(spec: str) -> None:
    """As unavailable, and without its password."""
    source = source_from_spec(spec)
    for work in (source.read(), source.append(OFF, after="")):
        with pytest.raises(Unavailable) as raised:
            await work
        assert "sesame" not in raised.value.detail + source.name


async def test_a_file_keeps_what_its_owner_wrote(tmp_path: Path) -> None:
    """To the byte, also where the last line has no end, or the file is a link."""
    path, link = tmp_path / "real.toml", tmp_path / "levers.toml"
    path.write_bytes('# für mich\r\n[levers."*"]\r\nmpp = "on"'.encode())
    link.symlink_to(path)
    source = source_from_spec(str(link))
    assert await source.append(OFF, after=await source.read())
    assert link.is_symlink()
    assert path.read_bytes() == '# für mich\r\n[levers."*"]\r\nmpp = "on"\n'.encode() + OFF.encode()
    assert parse_document(await source.read()).levers.routes == {EVERY_ROUTE: {MPP: Lever(Stage.OFF)}}


@pytest.mark.parametrize(("data", "error"), [(b"\xff\xfe", ValueError), (b"#" * 1_000_001, Unavailable)])
async def test_what_is_no_file_of_levers_is_not_read(data: bytes, error: type[Exception], tmp_path: Path) -> None:
    """Other encodings, or a file that was put there by mistake."""
    path = tmp_path / "levers.toml"
    path.write_bytes(data)
    with pytest.raises(error):
        await source_from_spec(str(path)).read()
