"""`x402-mpp check --pay` pays in each protocol, and finds what is wrong with what it gets for its money."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import main
from translators.lint import rules_paid, rules_terms

from .faulty import Shop, charge
from .raw_server import CERTIFICATE, serving
from .till import Till, open_till

KEY = "0x" + "11" * 32

Plant = Callable[[Till], None]
FAULTS: dict[str, tuple[str, Plant]] = {}


def fault(rule: str) -> Callable[[Plant], Plant]:
    def keep(plant: Plant) -> Plant:
        FAULTS[plant.__name__.strip("_")] = (rule, plant)
        return plant

    return keep


def check(url: str, *arguments: str, key: str = KEY, code: tuple[int, ...] = (0, 3, 4, 5)) -> dict[str, Any]:
    env = {"X402_MPP_PRIVATE_KEY": key}
    ran = CliRunner().invoke(main, ["check", url, "--format", "json", *arguments], env=env)
    assert ran.exit_code in code, ran.output
    assert key[2:] not in ran.output
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


@fault("pay-refused")
def _refuses(till: Till) -> None:
    till.status, till.charges = 402, 0


@fault("pay-failed")
def _breaks(till: Till) -> None:
    till.status, till.charges = 500, 0


@fault("pay-charged-for-nothing")
def _charges_and_fails(till: Till) -> None:
    till.status = 500


@fault("receipt-missing")
def _no_receipt(till: Till) -> None:
    till.receipt = lambda said: None


@fault("receipt-wrong")
def _failure_on_success(till: Till) -> None:
    till.receipt = lambda said: said | ({"success": False} if "success" in said else {"status": "failed"})


@fault("receipt-wrong")
def _another_network(till: Till) -> None:
    till.receipt = lambda said: said | ({"network": "base"} if "network" in said else {"chainId": 8453})


@fault("receipt-members")
def _mpp_receipt_of_the_sdks(till: Till) -> None:
    till.receipt = lambda said: {name: value for name, value in said.items() if name not in ("challengeId", "chainId")}


@fault("receipt-cacheable")
def _shared_receipt(till: Till) -> None:
    till.headers = []


@fault("receipt-on-error")
def _receipt_of_a_refusal(till: Till) -> None:
    till.status, till.charges, till.receipt_always = 402, 0, True


@fault("pay-balance")
def _nothing_moves(till: Till) -> None:
    till.charges = 0
    till.receipt = lambda said: said


@fault("pay-balance")
def _takes_more(till: Till) -> None:
    till.amount = 20_000


@fault("receipt-transaction")
def _names_another_transaction(till: Till) -> None:
    till.receipt = lambda said: said | {("reference" if "reference" in said else "transaction"): "0x" + "cd" * 32}


@fault("replay-charged")
def _charges_again(till: Till) -> None:
    till.replay_status, till.charges_again = 200, 1


@fault("replay-broken")
def _breaks_on_replay(till: Till) -> None:
    till.replay_status = 500


@fault("token-without-code")
def _no_contract(till: Till) -> None:
    till.ledger.code = "0x"


@fault("token-without-eip3009")
def _plain_erc20(till: Till) -> None:
    till.ledger.takes_authorizations = False


@fault("token-domain-on-chain")
def _renamed_token(till: Till) -> None:
    till.ledger.version = "3"


ALSO = {
    # These are the same fault seen from its other end: money and receipt cannot part without either being wrong.
    "charges_and_fails": {"pay-failed"},
    "receipt_of_a_refusal": {"pay-refused"},
    "nothing_moves": {"receipt-transaction"},
    "takes_more": {"receipt-transaction"},
}


def test_a_right_till_has_no_findings() -> None:
    """Paid three times, each time exactly the price, and once more for nothing."""
    till = Till()
    with open_till(till) as (url, node):
        told = check(url, "--pay", "--rpc-url", node, "--fail-on", "info")
    assert told["findings"] == []
    assert [(paid["protocol"], paid["spent"]) for paid in told["paid"]] == [
        ("x402-v1", 10_000),
        ("x402-v2", 10_000),
        ("mpp", 10_000),
    ]
    assert till.ledger.balance == 1_000_000 - 30_000


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_nothing_else(name: str) -> None:
    """The one rule that is about it, beside what follows from it."""
    rule, plant = FAULTS[name]
    till = Till()
    plant(till)
    with open_till(till) as (url, node):
        told = check(url, "--pay", "--rpc-url", node)
    assert {finding["rule"] for finding in told["findings"]} == {rule} | ALSO.get(name, set()), told["findings"]


def test_every_rule_of_payments_and_chains_has_a_fault() -> None:
    """The others are planted in `test_check_faults`."""
    rules = {rule.id for rule in (*rules_paid.RULES, *rules_terms.ON_CHAIN)}
    assert {rule for rule, _ in FAULTS.values()} == rules


# What is not paid


def test_nothing_is_paid_unless_asked() -> None:
    """Nor without a key."""
    till = Till()
    with open_till(till) as (url, node):
        assert check(url, "--rpc-url", node)["paid"] == []
        ran = CliRunner().invoke(main, ["check", url, "--pay"], env={"X402_MPP_PRIVATE_KEY": ""})
    assert ran.exit_code == 2
    assert "X402_MPP_PRIVATE_KEY" in ran.output
    assert till.seen == set()


def test_the_limit_holds_for_all_payments_together() -> None:
    """Two cents pay for two protocols of three, and a note says so of the third."""
    till = Till()
    with open_till(till) as (url, _):
        told = check(url, "--pay", "--limit", "0.02")
        assert [paid["protocol"] for paid in told["paid"]] == ["x402-v1", "x402-v2"]
        assert any("over the limit" in note for note in check(url, "--pay", "--limit", "0.005")["notes"])
    assert any("mpp not paid: all of the limit" in note for note in told["notes"])
    assert len(till.seen) == 2


def test_real_money_is_not_paid_to_others_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mainnet's token, asked for by another machine: not signed. By this machine, or on a testnet, it is."""
    mainnet = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
    extra = {"name": "USD Coin", "version": "2"}

    def on_mainnet(shop: Shop) -> None:
        shop.v1["accepts"][0] |= {"network": "base", "asset": mainnet, "extra": extra}
        shop.v2["accepts"][0] |= {"network": "eip155:8453", "asset": mainnet, "extra": extra}
        shop.charges[0] = {**charge(), "currency": mainnet}
        shop.charges[0]["methodDetails"]["chainId"] = 8453

    till = Till(shop=on_mainnet)
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with serving(till.answer, tls=True) as port:
        elsewhere = ("https://shop.example.org/weather", "--connect-to", f"127.0.0.1:{port}", "--pay")
        told = check(*elsewhere)
        assert told["paid"] == []
        assert [note.partition(":")[0] for note in told["notes"]] == [f"{name} not paid" for name in told["speaks"]]
        assert all("--real-money" in note for note in told["notes"])
        assert till.seen == set()
        assert len(check(*elsewhere, "--real-money")["paid"]) == 3
    with open_till(till) as (url, _):
        assert len(check(url, "--pay")["paid"]) == 3


def test_no_credential_goes_over_plain_http_to_another_machine() -> None:
    """Everybody on the way could take it."""
    till = Till()
    with serving(till.answer) as port:
        told = check("http://shop.example.org/weather", "--connect-to", f"127.0.0.1:{port}", "--pay", "--real-money")
    assert told["paid"] == []
    assert all("plain HTTP" in note for note in told["notes"])
    assert till.seen == set()


def test_a_payment_without_an_answer_is_said_to_be_open() -> None:
    """The money may have moved: the message has the payment's identity, and not its signature."""

    class Silent(Till):
        def answer(self, request: Any) -> Any:
            if {"x-payment", "payment-signature", "authorization"} & set(request.headers):
                raise ConnectionAbortedError
            return super().answer(request)

    with open_till(Silent()) as (url, _):
        ran = CliRunner().invoke(main, ["check", url, "--pay"], env={"X402_MPP_PRIVATE_KEY": KEY})
    assert ran.exit_code == 1
    assert "may have been taken" in ran.output
    assert "eip155:84532/0x036cbd53842c5426634e7929541ec2318f3dcf7e/0x" in ran.output


def test_a_node_of_another_chain_is_asked_nothing() -> None:
    """Which a note says, and a node that does not answer ends the check, without its URL, which may hold a key."""
    till = Till()
    till.ledger.chain_id = 8453
    with open_till(till) as (url, node):
        told = check(url, "--pay", "--rpc-url", node)
        assert told["notes"] == [
            "not asked about 0x036cbd53842c5426634e7929541ec2318f3dcf7e on chain 84532: the node is of 8453"
        ]
        assert [paid["spent"] for paid in told["paid"]] == [None] * 3
        ran = CliRunner().invoke(main, ["check", url, "--rpc-url", "http://127.0.0.1:1/v3/api-key"])
    assert ran.exit_code == 1
    assert "the chain's node does not answer eth_chainId" in ran.output
    assert "api-key" not in ran.output
