"""Levers of routes: the document, what it comes to for a client, and what of it makes no sense."""

import math
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from translators.levers import (
    EVERY_ROUTE,
    Asking,
    Doors,
    Levers,
    canary_point,
    check_levers,
    decide,
    lever_of,
    table_at,
)
from translators.levers_toml import parse_document, write_change
from translators.payment import Protocol
from translators.stages import Lever, Stage

V1, V2, MPP = Protocol.X402_V1, Protocol.X402_V2, Protocol.MPP
KEY = b"a secret of the tests, 32 bytes and more"
HEAD = 'migration = "https://api.example.com/moving"\n'


def asking(address: str = "192.0.2.1", **headers: str) -> Asking:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Asking(named.get, address)


def levers(text: str) -> Levers:
    return parse_document(text).levers


def doors(text: str, who: Asking | None = None, now: float = 1.8e9) -> Doors:
    said = levers(text)
    return decide(table_at(said, "GET /report", Protocol, now), said.clients, who or asking(), KEY)


STAGES = [
    ("", (MPP, V2, V1), set(), set()),
    ('x402-v1 = "off"', (MPP, V2), {V1}, set()),
    ('x402-v1 = "refused"', (MPP, V2), {V1}, {V1}),
    ('x402-v1 = "deprecated"', (MPP, V2, V1), set(), set()),
    ('x402-v2 = "preferred"', (V2, MPP, V1), set(), set()),
    ('x402-v1 = "preferred"\nmpp = "off"', (V1, V2), {MPP}, set()),
    ('mpp = { stage = "canary", share = "100%" }', (MPP, V2, V1), set(), set()),
    ('mpp = { stage = "canary", header = "X-Try" }', (V2, V1), {MPP}, {MPP}),
    (
        "x402-v1 = { deprecated_from = 2020-01-01, brownouts = [{ from = 2027-01-15, until = 2027-01-16 }] }",
        (MPP, V2),
        {V1},
        {V1},
    ),
]


@pytest.mark.parametrize(("said", "offered", "shut", "told"), STAGES, ids=[row[0] or "nothing" for row in STAGES])
def test_what_a_client_gets_at_each_stage(
    said: str, offered: tuple[Protocol, ...], shut: set[Protocol], told: set[Protocol]
) -> None:
    """Offered in order, shut, and spoken of."""
    found = doors(f'{HEAD}[levers."*"]\n{said}', now=1_800_000_000.0)
    if "canary" in said:
        # Who is not in a canary is not told of it.
        told = set()
    assert (found.offered, found.shut, found.told) == (offered, shut, told)


def test_the_routes_own_lever_comes_first() -> None:
    """The document's for this route, then the application's, then the document's for every route."""
    said = levers('[levers."*"]\nmpp = "off"\nx402-v1 = "off"\n[levers."GET /a"]\nx402-v1 = "on"')
    own = {V1: Lever(Stage.REFUSED), V2: Lever(Stage.PREFERRED)}
    assert lever_of(said, "GET /a", V1, own).stage is Stage.ON
    assert lever_of(said, "GET /a", V2, own).stage is Stage.PREFERRED
    assert lever_of(said, "GET /a", MPP, own).stage is Stage.OFF
    assert lever_of(said, "GET /b", V1).stage is Stage.OFF
    assert lever_of(said, "GET /b", V2).stage is Stage.ON


# Canaries


@given(st.text(max_size=40), st.sampled_from(list(Protocol)), st.floats(0, 100), st.floats(0, 100))
def test_a_canary_only_grows(who: str, protocol: Protocol, one: float, other: float) -> None:
    """Whoever is in the smaller share is in the larger, and the answer is the same each time."""
    small, large = sorted((one, other))
    point = canary_point(KEY, protocol, who)
    assert point == canary_point(KEY, protocol, who)
    assert 0 <= point < 100
    assert not point < small or point < large


def test_a_canary_has_its_share() -> None:
    """A tenth of many clients, within what chance allows, and other ones for another protocol and key."""
    names = [f"client {number}" for number in range(10_000)]
    inside = {name for name in names if canary_point(KEY, MPP, name) < 10}
    assert 900 < len(inside) < 1100
    others = {name for name in names if canary_point(KEY, V2, name) < 10}
    assert len(inside & others) < 200
    assert {name for name in names if canary_point(b"another", MPP, name) < 10} != inside


CANARY = '[levers."*"]\nmpp = { stage = "canary", share = "10%", header = "X-Try-MPP", by = "X-Customer" }'


def test_a_header_decides_a_canary() -> None:
    """A client that says so is in, one that says no is out and is refused: it says the same when it pays."""
    assert MPP in doors(CANARY, asking(x_try_mpp="1")).offered
    for no in ("0", "false", "No", ""):
        found = doors(CANARY, asking(x_try_mpp=no))
        assert MPP not in found.offered
        assert MPP in found.shut


def test_a_named_client_is_the_same_wherever_it_comes_from() -> None:
    """By its header, not by its address; and outside it is refused, because it would be outside when it pays."""
    for number in range(100):
        one = doors(CANARY, asking("192.0.2.1", x_customer=str(number)))
        two = doors(CANARY, asking("198.51.100.7", x_customer=str(number), user_agent="other"))
        assert one == two
        assert (MPP in one.offered) != (MPP in one.shut)


BY_PAYER = '[levers."*"]\nmpp = { stage = "canary", share = "10%", header = "X-Try-MPP", by = "payer" }'


def drawn(payer: str = "", *, address: str = "", speaks: frozenset[Protocol] = frozenset(), **headers: str) -> Doors:
    return doors(BY_PAYER, msgspec.structs.replace(asking(address, **headers), payer=payer, speaks=speaks))


def payers(count: int) -> list[str]:
    dice = Random(11)
    return [f"0x{dice.getrandbits(160):040x}" for _ in range(count)]


def test_a_payer_is_drawn_wherever_he_comes_from() -> None:
    """By his address alone; and outside he is not offered the protocol, and not refused in it."""
    found = set()
    for number, payer in enumerate(payers(200)):
        one = drawn(payer, address=f"192.0.2.{number}", user_agent="one/1")
        assert one == drawn(payer, address="198.51.100.7", user_agent="two/2")
        assert MPP not in one.shut
        found.add(MPP in one.offered)
    assert found == {True, False}


def test_a_payer_that_nobody_knows_is_drawn_as_a_client() -> None:
    """By user agent and address, as where nothing else is said; never refused, since his payer may be another draw."""
    by_client = BY_PAYER.replace(', by = "payer"', "")
    for number in range(200):
        who = asking(f"192.0.2.{number}", user_agent="curl/8", payer="0xsomebody")
        assert doors(BY_PAYER, who) == doors(by_client, who)


def test_a_draw_takes_nothing_from_a_payer_that_he_uses() -> None:
    """Who is known to pay in the protocol is offered it; another protocol that he pays in does not count for it."""
    outside = [payer for payer in payers(200) if MPP not in drawn(payer).offered]
    assert len(outside) > 150
    for payer in outside:
        assert MPP in drawn(payer, speaks=frozenset((V1, MPP))).offered
        assert MPP not in drawn(payer, speaks=frozenset((V1, V2))).offered
        # What the client says itself counts before that.
        assert MPP in drawn(payer, speaks=frozenset((MPP,)), x_try_mpp="no").shut


@pytest.mark.parametrize("share", [1, 10, 50])
def test_a_share_of_payers_is_kept(share: int) -> None:
    """Within four deviations of chance; only grown by a larger share; another one than that of their clients."""
    everybody = payers(20_000)

    def inside(percent: int) -> set[str]:
        said = levers(BY_PAYER.replace("10%", f"{percent}%"))
        table = table_at(said, "GET /report", Protocol, 1.8e9)
        known = {payer: msgspec.structs.replace(asking(payer, user_agent=payer), payer=payer) for payer in everybody}
        return {payer for payer, who in known.items() if MPP in decide(table, (), who, KEY).offered}

    found = inside(share)
    deviation = math.sqrt(len(everybody) * share / 100 * (1 - share / 100))
    assert abs(len(found) - len(everybody) * share / 100) < 4 * deviation
    assert found <= inside(share + 5)
    as_clients = {payer for payer in everybody if canary_point(KEY, MPP, f"client {payer} {payer}") < share}
    both = len(everybody) * (share / 100) ** 2
    assert abs(len(found & as_clients) - both) < 4 * math.sqrt(both) + 4


def test_a_client_that_may_have_been_asked_is_not_refused() -> None:
    """Known by address and user agent only, it may pay from another address: outside it is not offered, and taken."""
    found = [doors(CANARY, asking(f"192.0.2.{number}", user_agent="curl/8")) for number in range(100)]
    assert {MPP in each.offered for each in found} == {True, False}
    assert not any(MPP in each.shut for each in found)


# Clients that cannot bear to see everything

CLIENTS = """
[[clients]]
product = "agentcash"
without = ["mpp"]
[[clients]]
header = "X-Client"
value = "old one"
without = ["x402-v2", "mpp"]
[[clients]]
header = "X-Only-V1"
without = ["x402-v2"]
"""


@pytest.mark.parametrize(
    ("headers", "offered"),
    [
        ({}, (MPP, V2, V1)),
        ({"user_agent": "agentcash/0.14.4 node"}, (V2, V1)),
        ({"user_agent": "Mozilla/5.0 AgentCash"}, (V2, V1)),
        ({"user_agent": "agentcashier/1"}, (MPP, V2, V1)),
        ({"x_client": "old one"}, (V1,)),
        ({"x_client": "new one"}, (MPP, V2, V1)),
        ({"x_only_v1": "anything"}, (MPP, V1)),
        ({"x_only_v1": "1", "user_agent": "agentcash"}, (V1,)),
    ],
)
def test_certain_clients_are_not_shown_everything(headers: dict[str, str], offered: tuple[Protocol, ...]) -> None:
    """By product or header; what they are not shown, they may pay in all the same."""
    found = doors(CLIENTS, asking(**headers))
    assert found.offered == offered
    assert not found.shut


def test_a_rule_that_leaves_nothing_is_not_followed() -> None:
    """Stages come first: a client gets what there is."""
    found = doors(f'[levers."*"]\nx402-v1 = "off"\n{CLIENTS}', asking(x_client="old one"))
    assert found.offered == (MPP, V2)


# The document


def test_changes_count_in_order_and_are_taken_back() -> None:
    """Each change stands on the one before; an undo takes back the last that stands; comments and history stay."""
    text = '# mine\n[levers."*"]\nmpp = "off"  # not yet\n'
    text += write_change(1.8e9, "olga", {"levers": {"*": {"mpp": {"stage": "canary", "share": "10%"}}}})
    text += write_change(1.81e9, "olga", {"levers": {"*": {"mpp": "on"}, "GET /a": {"x402-v1": "off"}}})
    assert levers(text).routes == {EVERY_ROUTE: {MPP: Lever()}, "GET /a": {V1: Lever(Stage.OFF)}}
    text += write_change(1.82e9, "ivan", {}, undo=True)
    assert levers(text).routes == {EVERY_ROUTE: {MPP: Lever(Stage.CANARY, share=10.0)}}
    text += write_change(1.83e9, "ivan", {}, undo=True)
    assert levers(text).routes == {EVERY_ROUTE: {MPP: Lever(Stage.OFF)}}
    document = parse_document(text)
    assert [(change.by, change.undo) for change in document.changes] == [
        ("olga", False),
        ("olga", False),
        ("ivan", True),
        ("ivan", True),
    ]
    assert document.standing == ()
    assert text.startswith("# mine")
    with pytest.raises(ValueError, match="change 5: there is nothing to undo"):
        parse_document(text + write_change(1.84e9, "", {}, undo=True))


def test_a_lever_can_be_given_back() -> None:
    """`inherit`: the route does again as every route does."""
    text = '[levers."*"]\nmpp = "off"\n[levers."GET /a"]\nmpp = "on"\n'
    said = levers(text + write_change(1.8e9, "", {"levers": {"GET /a": {"mpp": "inherit"}}}))
    assert lever_of(said, "GET /a", MPP).stage is Stage.OFF


EVERYTHING = {
    "migration": "https://api.example.com/moving?a=1",
    "shadow": ["GET /a"],
    "clients": [{"product": 'quo"ted \\ ü 🦆', "without": ["mpp", "x402-v1"]}],
    "levers": {
        '/odd "route"/{name}': {
            "x402-v1": {"stage": "deprecated", "sunset": "@date"},
            "mpp": {"stage": "canary", "share": "12.5%", "by": "x-id"},
        }
    },
}


def test_what_is_written_is_read() -> None:
    """Every kind of member, with what has to be escaped."""
    from datetime import date

    said = parse_document("").levers
    data = {**EVERYTHING, "levers": {k: {**v} for k, v in EVERYTHING["levers"].items()}}  # type: ignore[attr-defined]
    data["levers"]['/odd "route"/{name}']["x402-v1"] = {"stage": "deprecated", "sunset": date(2027, 3, 1)}  # type: ignore[index]
    document = parse_document('[levers."*"]\nmpp = "on"' + write_change(1.8e9, 'o"l\tga', data))
    (change,) = document.changes
    assert (change.at, change.by, change.said) == (1.8e9, 'o"l\tga', data)
    said = document.levers
    assert said.shadow == {"GET /a"}
    assert said.clients[0].product == 'quo"ted \\ ü 🦆'
    own = said.routes['/odd "route"/{name}']
    assert own[V1] == Lever(Stage.DEPRECATED, sunset=1_803_859_200.0)
    assert own[MPP] == Lever(Stage.CANARY, share=12.5, by="x-id")


def test_no_rules_can_be_written() -> None:
    """A change may take all of them away."""
    assert levers(CLIENTS + write_change(1.8e9, "", {"clients": []})).clients == ()


BAD_DOCUMENTS = [
    ("levers", "not TOML"),
    ('lever = "on"', "lever is not known"),
    ('[levers]\nmpp = "on"', "not a table"),
    ('[levers."*"]\nx402 = "on"', "no protocol; there are x402-v1, x402-v2, mpp"),
    ('[levers."*"]\nmpp = "onn"', r"\*, mpp: 'onn' is no stage; there are off, canary"),
    ('[levers."*"]\nmpp = "canary 10%"', 'write { stage = "canary", share = "10%" }'),
    ('[levers."*"]\nmpp = { stage = "canary", share = 0.1 }', "percentage in quotes"),
    ('[levers."*"]\nmpp = { stages = "on" }', "stages is not known"),
    ('[levers."*"]\nmpp = { on_until = "2027-01-01" }', "without quotes"),
    ('[levers."*"]\nmpp = { on_until = 2027-01-01T10:00:00 }', "no offset"),
    ('[levers."*"]\nmpp = { on_until = 2027-01-01, deprecated_from = 2027-01-02 }', "same moment"),
    ('[levers."*"]\nmpp = { stage = "off", on_until = 2027-01-01 }', "on_until, and the stage is off"),
    ('[levers."*"]\nmpp = { brownouts = [{ from = 2027-01-01 }] }', "until when"),
    ('[levers."*"]\nmpp = { brownouts = [{ from = 2027-01-01, until = 2027-01-09, daily = "9-10" }] }', "14:00-15:30"),
    ("[[clients]]\nwithout = ['mpp']", "give product"),
    ("[[clients]]\nproduct = 'a'\nheader = 'b'\nwithout = ['mpp']", "give product"),
    ("[[clients]]\nproduct = 'a'", "without is a list"),
    ("[[clients]]\nheader = 'a b'\nwithout = ['mpp']", "field name"),
    ("migration = 'javascript:alert(1)'", "URL of a page"),
    ("shadow = 'GET /a'", "shadow is true"),
    ("[[change]]\nby = 'x'", "change 1: at is missing"),
    ("[[change]]\nat = 2027-01-01\n[change.levers.'*']\nmpp = 'x'", "change 1: "),
    ("[[change]]\nat = 2027-01-01\nundo = true\nmigration = 'https://a.b'", "says nothing else"),
]


@pytest.mark.parametrize(("text", "said"), BAD_DOCUMENTS, ids=[text for text, _ in BAD_DOCUMENTS])
def test_a_bad_document_says_where(text: str, said: str) -> None:
    """And what to write instead."""
    with pytest.raises(ValueError, match=said):
        parse_document(text)


WORDS = """migration shadow clients change levers "*" mpp x402-v1 stage share header by on_until deprecated_from
    refused_from sunset brownouts from until daily at undo without product value"""
SECTIONS = ["", '[levers."*"]', '[levers."*".mpp]', "[[clients]]", "[[change]]", '[change.levers."*"]']
SCALARS = st.one_of(
    st.text(max_size=8).map(lambda text: write_change(0, text, {}).split("by = ")[-1].strip() if text else '""'),
    st.sampled_from(["true", "false", "7", "-1.5", "nan", "[]", "{}", "[[]]", "0001-01-01", "9999-12-31"]),
    st.sampled_from(["2027-01-01T00:00:00Z", "2027-01-01T00:00:00", "12:00:00", '"on"', '"10%"', '"*"', '["mpp"]']),
)


@given(st.data())
def test_whatever_stands_in_a_document_it_is_read_or_refused(data: st.DataObject) -> None:
    """Any value in any place: what comes out makes sense or is a `ValueError`, and nothing else."""
    names = st.sampled_from(WORDS.split())
    sections = st.sampled_from(SECTIONS)
    inline = st.lists(st.tuples(names, SCALARS), max_size=4).map(
        lambda pairs: "{ " + ", ".join(f"{name} = {value}" for name, value in dict(pairs).items()) + " }"
    )
    lines = []
    for section in data.draw(st.lists(sections, max_size=4)):
        lines.append(section)
        pairs = data.draw(st.lists(st.tuples(names, st.one_of(SCALARS, inline)), max_size=4))
        lines += [f"{name} = {value}" for name, value in dict(pairs).items()]
    try:
        said = parse_document("\n".join(lines)).levers
        check_levers(said)
    except ValueError:
        return
    for moment in (0.0, 1.8e9, 4e9):
        table_at(said, "GET /a", Protocol, moment)


def test_a_deep_document_is_refused() -> None:
    """Not by a stack that overflows."""
    with pytest.raises(ValueError, match="too deep"):
        parse_document("a = " + "[" * 100_000)


ALL = (tuple(Protocol), None)

NONSENSE = [
    (
        '[levers."*"]\nmpp = "off"\nx402-v1 = "off"\nx402-v2 = "refused"',
        r"GET /a: nobody could be sure to pay: mpp off, x402-v1 off, x402-v2 refused",
    ),
    (
        f'{HEAD}[levers."GET /a"]\nmpp = "off"\nx402-v1 = "off"\n'
        "x402-v2 = { deprecated_from = 2027-01-01, refused_from = 2027-03-01 }",
        r"GET /a: nobody could be sure to pay from 2027-03-01T00:00:00Z on",
    ),
    (
        f'{HEAD}[levers."*"]\nmpp = {{ stage = "canary", share = "50%" }}\nx402-v1 = "off"\n'
        "x402-v2 = { deprecated_from = 2027-01-01,"
        " brownouts = [{ from = 2027-02-01, until = 2027-03-01, daily = '10:00-11:00' }] }",
        "from 2027-02-01T10:00:00Z on: mpp canary, x402-v1 off, x402-v2 brownout",
    ),
    ('[levers."*"]\nmpp = "preferred"\nx402-v2 = "preferred"', "two protocols are preferred"),
    ('[levers."*"]\nx402-v1 = "deprecated"', "give the page's URL as migration"),
    ('[levers."GET /c"]\nx402-v1 = "off"', "GET /c: no such route is priced; there are GET /a, GET /b"),
    ('shadow = ["GET /c"]', "no such route"),
    ('[[clients]]\nproduct = "a"\nwithout = ["mpp", "x402-v1", "x402-v2"]', "leaves no protocol"),
    ('[levers."*"]\nx402-v2 = "off"', "GET /b: nobody could be sure to pay"),
]


@pytest.mark.parametrize(("text", "said"), NONSENSE, ids=[said for _, said in NONSENSE])
def test_what_would_leave_somebody_outside_is_said(text: str, said: str) -> None:
    """At any moment of the plan, on any route of the application, of whatever protocols that has."""
    with pytest.raises(ValueError, match=said):
        check_levers(levers(text), {"GET /a": ALL, "GET /b": ((V2,), None)})


def test_a_plan_to_the_end_makes_sense() -> None:
    """The whole way of v1 and v2, with MPP on."""
    text = f"""{HEAD}
[levers."*"]
mpp = "preferred"
x402-v1 = {{ stage = "deprecated", refused_from = 2027-02-01 }}
[levers."*".x402-v2]
on_until = 2027-03-01
sunset = 2027-06-01
refused_from = 2027-06-15
brownouts = [{{ from = 2027-05-01, until = 2027-06-01, daily = "14:00-15:00" }}]
"""
    check_levers(levers(text))
    check_levers(levers(text), {"GET /a": ALL})


def test_without_the_application_every_route_is_taken_for_whole() -> None:
    """What a file alone can tell."""
    with pytest.raises(ValueError, match=r"\*: nobody could be sure to pay"):
        check_levers(levers('[levers."*"]\nmpp = "off"\nx402-v1 = "off"\nx402-v2 = "off"'))
    check_levers(levers('[levers."GET /c"]\nx402-v1 = "off"'))
