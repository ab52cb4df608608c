"""What is asked of settlers by name, and what naming them costs."""

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import bridge.settlers
from bridge.settlers import settler_from_spec
from bridge.settlers.chain import ChainSettler
from bridge.settlers.facilitator import FacilitatorSettler
from bridge.settlers.null import NullSettler
from translators.errors import Unavailable

from .payments import OFFER, RELAYER, RESOURCE, Recorder, a_payment, a_record

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
        await settler.ping()
        assert await settler.find(a_record(payment)) is None
        await settler.check_signature(payment, OFFER, RESOURCE)
        with pytest.raises(Unavailable):
            await settler.check_signature(a_payment(signature=lambda signed: b"\1" + signed), OFFER, RESOURCE)
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


def test_importing_web3_leaves_the_recursion_limit() -> None:
    """py_ecc raises it to 100,000, at which CPython 3.11's JSON scanner overruns the C stack and the process dies."""
    program = (
        "import asyncio, json, sys\n"
        "limit = sys.getrecursionlimit()\n"
        "from bridge.settlers import settler_from_spec\n"
        "from bridge.settlers.base import SettlerConfigError\n"
        "async def main():\n"
        "    try:\n"
        f"        await settler_from_spec('chain', rpc_url='http://127.0.0.1:1', private_key='{KEY}').start([])\n"
        "    except SettlerConfigError:\n"
        "        assert {'web3', 'eth_account', 'py_ecc'} <= set(sys.modules)\n"
        "asyncio.run(main())\n"
        "assert sys.getrecursionlimit() == limit, sys.getrecursionlimit()\n"
        "try:\n"
        "    json.loads('[' * 200_000)\n"
        "except RecursionError:\n"
        "    print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("alive\n", 0), done.stderr


def test_one_place_imports_web3() -> None:
    """Whoever imports it elsewhere changes the interpreter for everybody."""
    package = Path(bridge.settlers.__file__).parent.parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert path.name == "ethereum.py" or not {"web3", "eth_account"} & {name.split(".")[0] for name in names}
