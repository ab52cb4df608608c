"""What is asked of settlers by name, and what naming them costs."""

import asyncio
import subprocess
import sys

import pytest

from bridge.settlers import settler_from_spec
from bridge.settlers.chain import ChainSettler
from bridge.settlers.facilitator import FacilitatorSettler
from bridge.settlers.null import NullSettler

from .payments import OFFER, RELAYER, RESOURCE, Recorder, a_payment

KEY = RELAYER.key.hex()


def test_specs() -> None:
    """Each name makes its settler, and connects nothing."""
    assert isinstance(settler_from_spec("null"), NullSettler)
    assert isinstance(settler_from_spec("facilitator:https://x402.org/facilitator"), FacilitatorSettler)
    assert isinstance(settler_from_spec("chain", rpc_url="http://127.0.0.1:1", private_key=KEY), ChainSettler)


@pytest.mark.parametrize("spec", ["", "nul", "facilitator", "facilitator:", "facilitator:x402.org", "chain", "chain:1"])
def test_bad_specs(spec: str) -> None:
    """Anything else is refused with a sentence for whoever wrote the setting."""
    with pytest.raises(ValueError, match=r"settler|facilitator"):
        settler_from_spec(spec)
    with pytest.raises(ValueError, match=r"settler|facilitator") as caught:
        settler_from_spec(spec or "chain", private_key=KEY)
    assert KEY not in str(caught.value)


def test_null_settles_nowhere() -> None:
    """The null settler is recorded like any other and has no transaction to show."""

    async def main() -> None:
        payment, recorder = a_payment(), Recorder()
        settler = NullSettler(clock=lambda: 2.5)
        await settler.start([OFFER])
        await settler.verify(payment, OFFER, RESOURCE)
        settlement = await settler.settle(payment, OFFER, RESOURCE, recorder)
        await settler.close()
        assert (settlement.transaction, settlement.settled_at, recorder.told) == ("", 2.5, [""])
        assert settlement.payment_id == payment.id

    asyncio.run(main())


def test_naming_a_settler_is_cheap() -> None:
    """A command's `--help` does not wait for web3: it is imported when a chain settler starts."""
    program = (
        "import sys; from bridge.settlers import settler_from_spec; import bridge.settlers.chain\n"
        f"settler_from_spec('chain', rpc_url='http://127.0.0.1:1', private_key='{KEY}')\n"
        "print(sorted({'web3', 'eth_account', 'aiohttp', 'httpx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
