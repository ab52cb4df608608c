"""Names that nobody can guess, and that nobody gets twice."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

from bridge.randomness import fresh_id, fresh_owner


def test_no_name_comes_twice() -> None:
    """Nor in threads that ask at once."""
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: fresh_id(), range(20_000)))
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{12}", name) for name in ids)
    assert re.fullmatch(r"[0-9a-f]{32}", fresh_owner())


def test_a_forked_child_has_names_of_its_own() -> None:
    """Two workers of one parent would otherwise issue one challenge twice, and its payer could pay only once."""
    fresh_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(fresh_id() for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    theirs = os.read(reading, 4096).decode()
    assert len(theirs) == 600
    assert not {theirs[at : at + 12] for at in range(0, 600, 12)} & {fresh_id() for _ in range(50)}
