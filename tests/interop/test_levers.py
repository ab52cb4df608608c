"""Every lever, forwards and back, with other people's clients on a server that is never restarted.

Each generation has a route of its own, whose lever is moved in the file that the running server looks at; the clients
of all three ask at once after each step.
"""

from collections.abc import Callable

import httpx
import pytest

from .chain import Anvil, Wallet
from .levered import Bench, Side, forwards_and_back, shut_out
from .our_server import OurServer
from .peers import ClientError, Clients

SIDES = (
    Side("x402-v1", "x402-fetch", "GET", "/weather", 10_000),
    Side("x402-v2", "@x402/fetch", "POST", "/echo", 20_000),
    Side("mpp", "mppx", "GET", "/dear", 50_000),
)


@pytest.fixture(scope="module")
def bench(
    our_server: Callable[..., OurServer], clients: Clients, anvil: Anvil, tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """A server with a file of levers that says nothing yet."""
    file = tmp_path_factory.mktemp("levers") / "levers.toml"
    file.write_text("")
    return Bench(our_server(extra=("--levers", str(file))), file, clients, anvil, SIDES)


def test_every_lever_forwards_and_back(bench: Bench) -> None:
    """Whoever's protocol is open pays its price and not more; whoever's is shut pays nothing in it."""
    forwards_and_back(bench)


def share_of_clients(bench: Bench, side: Side, agents: list[str]) -> set[str]:
    """Those of the clients that are offered the protocol."""
    return {agent for agent in agents if side.protocol in bench.offered(side, agent)}


def test_a_share_of_clients_forwards_and_back(bench: Bench) -> None:
    """Drawn by what a client shows: always the same ones, more of them in a larger share, and nobody but them."""
    agents = [f"shop-{number}/1.0" for number in range(80)]

    def by_client(share: int) -> dict[Side, set[str]]:
        bench.move("canary", f'{{ stage = "canary", share = "{share}%" }}', float(share))
        return {side: share_of_clients(bench, side, agents) for side in SIDES}

    small = by_client(30)
    one = {side: (sorted(small[side])[0], sorted(set(agents) - small[side])[0]) for side in SIDES}

    def pay(*, in_share: bool, outside: bool) -> None:
        for side in SIDES:
            for agent, is_open in zip(one[side], (in_share, outside), strict=True):
                paid = bench.pay_as(agent, side, bench.anvil.payer())
                assert paid == ((side.protocol, side.price) if is_open else shut_out(side)), (side, agent)

    for side in SIDES:
        # Within four deviations of 24 of 80.
        assert 8 <= len(small[side]) <= 40
    pay(in_share=True, outside=False)
    large = by_client(60)
    assert all(small[side] < large[side] for side in SIDES)
    bench.move("on", '"on"')
    pay(in_share=True, outside=True)
    assert by_client(30) == small
    pay(in_share=True, outside=False)
    bench.move("off", '"off"')
    pay(in_share=False, outside=False)


OTHER = {"x402-v1": "mppx", "x402-v2": "mppx", "mpp": "@x402/fetch"}
"""By the protocol of a side: a client that pays in another one."""


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.protocol)
def test_a_share_of_payers_forwards_and_back(side: Side, bench: Bench) -> None:
    """Drawn by who pays, once that is known, in whichever protocol; and nobody is refused what he was offered."""
    lever = '{ stage = "canary", share = "50%", by = "payer" }'
    bench.move("canary", lever, 50.0)
    found: dict[bool, tuple[Wallet, str]] = {}
    for number in range(30):
        payer, agents = bench.anvil.payer(), [f"{side.protocol}-{number}-{place}/1.0" for place in range(2)]
        drawn = set()
        for agent in agents:
            paid_in, spent = bench.pay_as(agent, side, payer, OTHER[side.protocol])
            assert paid_in not in (None, side.protocol)
            assert spent == side.price
            drawn.add(side.protocol in bench.offered(side, agent))
        assert len(drawn) == 1, "two clients of one payer are offered the same"
        found.setdefault(drawn.pop(), (payer, agents[0]))
        if len(found) == 2:
            break
    (inside, inside_agent), (outside, outside_agent) = found[True], found[False]
    assert bench.pay_as(inside_agent, side, inside) == (side.protocol, side.price)
    assert bench.pay_as(outside_agent, side, outside) == shut_out(side)
    # As a client that nobody knows yet, and that was offered it.
    offered = next(a for a in (f"new-{n}/1.0" for n in range(60)) if side.protocol in bench.offered(side, a))
    for _ in range(2):
        assert bench.pay_as(offered, side, outside) == (side.protocol, side.price)
    bench.move("on", '"on"')
    assert bench.pay_as(outside_agent, side, outside) == (side.protocol, side.price)
    bench.move("off", '"off"')
    assert bench.pay_as(inside_agent, side, inside) == shut_out(side)
    # What was remembered is forgotten, and learned again.
    bench.move("canary", lever, 50.0)
    assert bench.pay_as(inside_agent, side, inside, OTHER[side.protocol])[1] == side.price
    assert side.protocol in bench.offered(side, inside_agent)


def test_a_half_is_switched_off_for_a_client_and_on_again(bench: Bench) -> None:
    """`@x402/fetch` with a v1 scheme alone pays as soon as it is not shown v2, and gives up when it is again."""
    rule = '[[clients]]\nheader = "X-Client"\nvalue = "only-v1"\nwithout = ["x402-v2"]\n'
    mine = {"X-Client": "only-v1"}
    url = bench.server.url + "/weather"
    for text, pays in (("", False), (rule, True), ("", False)):
        bench.file.write_text(text)
        bench.wait(lambda pays=pays: ("payment-required" in httpx.get(url, headers=mine).headers) != pays)
        payer = bench.anvil.payer()
        ask = {"private_key": payer.private_key, "headers": mine}
        if pays:
            assert bench.clients["@x402/fetch-only-v1"].request("GET", url, **ask).status == 200
        else:
            with pytest.raises(ClientError):
                bench.clients["@x402/fetch-only-v1"].request("GET", url, **ask)
        assert (1_000_000 - bench.anvil.balance_of(payer.address) == 10_000) == pays


def test_a_file_that_makes_no_sense_changes_nothing(bench: Bench) -> None:
    """The server says so, and serves on as before."""
    bench.file.write_text('[levers."*"]\nmpp = "onn"\n')
    bench.wait(lambda: any(event.get("event") == "levers.invalid" for event in bench.server.events()))
    assert len(bench.offered(SIDES[0])) == 3
    bench.file.write_text("")
