"""What a fault needs around it: a chain and a facilitator that outlive every worker, workers, payers, stores."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
from eth_utils.crypto import keccak

from bridge.demo import token
from bridge.demo.app import TOKEN
from bridge.demo.chain import embedded_chain
from bridge.payers import Account, Asked, account
from bridge.stores import store_from_url
from tests.bridge.stores.servers import private_postgres, private_redis, with_setting
from tests.faults.payers import Contracts, Payer
from tests.faults.worker import Start
from translators.errors import Unavailable
from translators.payment import Payment, Protocol

ROOT = Path(__file__).resolve().parents[2]
ANVIL = ROOT / "tests/interop/peers/node/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"

RECIPIENT = account("faults: recipient").address
RELAYER = account("faults: relayer")
THE_FACILITATOR = account("faults: facilitator")
PRICE = 10_000
FUNDS = 3 * PRICE
"""Enough to be charged twice."""


class Chain:
    """The chain's own word, asked from outside."""

    def __init__(self, rpc_url: str) -> None:
        self.rpc_url = rpc_url
        self._client = httpx.AsyncClient(base_url=rpc_url, timeout=30)

    async def ask(self, *calls: tuple[Any, ...]) -> list[Any]:
        """The results of many calls at once."""
        results: list[Any] = []
        for first in range(0, len(calls), 100):
            batch = [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
                for number, (method, *params) in enumerate(calls[first : first + 100])
            ]
            answers = sorted((await self._client.post("", json=batch)).json(), key=lambda answer: answer["id"])
            if errors := [answer["error"] for answer in answers if "error" in answer]:
                raise RuntimeError(errors[0])
            results += [answer["result"] for answer in answers]
        return results

    async def balances(self, addresses: Sequence[str]) -> list[int]:
        """In atomic units."""
        selector = keccak(text="balanceOf(address)")[:4].hex()
        calls = [
            ("eth_call", {"to": TOKEN.address, "data": "0x" + selector + address[2:].rjust(64, "0")}, "latest")
            for address in addresses
        ]
        return [int(answer, 16) for answer in await self.ask(*calls)]

    async def fund(self, addresses: Sequence[str], amount: int = FUNDS) -> None:
        """Give tokens, on anvil."""
        slots = [
            ("anvil_setStorageAt", TOKEN.address, f"0x{token.balance_slot(address):064x}", f"0x{amount:064x}")
            for address in addresses
        ]
        await self.ask(*slots)

    async def close(self) -> None:
        await self._client.aclose()


class Pulse:
    """A block a second on anvil, unless it is held."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.held = False

    async def beat(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(1)
            if not self.held:
                # A node that stands still is no reason to stop.
                with contextlib.suppress(httpx.HTTPError, RuntimeError, ValueError):
                    await self._chain.ask(("evm_mine",))


class Payers:
    """Payers with tokens, each used once."""

    def __init__(self, chain: Chain, names: str, funded: int | None, folder: Path) -> None:
        self._chain = chain
        self._contracts = Contracts(chain.rpc_url, chain.ask, folder)
        self._names = names
        self._funded = funded
        self._used = 0
        self._waiting: list[Account] = []
        self._funding = asyncio.Lock()

    async def take(self, count: int, kind: str = "key") -> list[Payer]:
        """Payers of one of `KINDS`; on a chain other than anvil there are plain accounts only."""
        async with self._funding:
            keys = await self._take(count)
            payers = await self._contracts.payers(keys, kind)
            if elsewhere := [payer.address for payer, key in zip(payers, keys, strict=True) if payer.account != key]:
                await self._chain.fund(elsewhere)
            return payers

    async def _take(self, count: int) -> list[Account]:
        while len(self._waiting) < count:
            size = max(100, count) if self._funded is None else self._funded
            if self._funded is not None and self._used:
                raise RuntimeError("no payer is left")
            fresh = [account(f"{self._names} {number}") for number in range(self._used, self._used + size)]
            if self._funded is None:
                await self._chain.fund([payer.address for payer in fresh])
            self._used += size
            self._waiting += fresh
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken


class Child:
    """A process that speaks JSON lines and lives while its stdin is open."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    @asynccontextmanager
    async def running(cls, *module: str, fds: Sequence[int] = ()) -> AsyncIterator["Child"]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            pass_fds=fds,
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            yield cls(process)
        finally:
            process.stdin.close()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def hear(self) -> Any:
        assert self.process.stdout is not None
        line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError("the child ended")
        return json.loads(line)

    async def say(self, what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(what) + b"\n")
        await self.process.stdin.drain()


class Worker:
    """A worker: its process id, where it listens, and whether it lives."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid = pid
        self.url = url
        self.ended = asyncio.Event()
        self.code: int | None = None

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    def stop(self) -> None:
        """Ask it to finish what it does and end."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    async def kill(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        await self.ended.wait()


class Fleet:
    """Starts workers on sockets that stay open while workers come and go."""

    def __init__(self, child: Child, sockets: Sequence[socket.socket]) -> None:
        self._child = child
        self._free = list(sockets)
        self._workers: dict[int, Worker] = {}
        self._ended: dict[int, int] = {}
        self._starting = asyncio.Lock()
        self._started: asyncio.Queue[int] = asyncio.Queue()
        self._listening = asyncio.ensure_future(self._listen())

    @classmethod
    @asynccontextmanager
    async def running(cls, sockets: int = 16) -> AsyncIterator["Fleet"]:
        listening = []
        for _ in range(sockets):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sock.bind(("127.0.0.1", 0))
            sock.listen(512)
            listening.append(sock)
        async with Child.running("tests.faults.worker", fds=[sock.fileno() for sock in listening]) as child:
            assert (await child.hear())["ready"]
            fleet = cls(child, listening)
            try:
                yield fleet
            finally:
                for worker in list(fleet._workers.values()):
                    await worker.kill()
                fleet._listening.cancel()
        for sock in listening:
            sock.close()

    async def _listen(self) -> None:
        while True:
            said = await self._child.hear()
            if "pid" in said:
                self._started.put_nowait(said["pid"])
            else:
                worker = self._workers.pop(said["ended"], None)
                if worker is None:
                    self._ended[said["ended"]] = said["code"]
                else:
                    worker.code = said["code"]
                    worker.ended.set()

    def take_socket(self) -> socket.socket:
        return self._free.pop()

    def give_back(self, sock: socket.socket) -> None:
        """The socket of a run that is over; what waits in its queue is thrown away."""
        self._free.append(sock)

    async def start(self, sock: socket.socket, start: Start) -> Worker:
        """Start a worker, which may not listen to its queue yet when this returns."""
        async with self._starting:
            await self._child.say(msgspec.structs.replace(start, fd=sock.fileno()))
            pid = await self._started.get()
            worker = Worker(pid, f"http://127.0.0.1:{sock.getsockname()[1]}")
            if pid in self._ended:
                worker.code = self._ended.pop(pid)
                worker.ended.set()
            else:
                self._workers[pid] = worker
            return worker


class Lab:
    """Everything that outlives the workers."""

    def __init__(self, chain: Chain, payers: Payers, fleet: Fleet, facilitator_url: str, folder: Path) -> None:
        self.chain = chain
        self.payers = payers
        self.fleet = fleet
        self.facilitator_url = facilitator_url
        self.folder = folder
        self.servers: dict[str, tuple[Any, str]] = {}
        self.node: Node | None = None
        """The chain's node, where it is anvil."""
        self.pulse: Pulse | None = None
        """What keeps its clock going."""
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"{self._names:05}"

    def store(self, kind: str) -> str:
        """The URL of a store that nobody used before."""
        match kind:
            case "sqlite":
                return f"sqlite:{self.folder / self.name()}.sqlite3"
            case "postgresql":
                return with_setting(self.servers[kind][1], f"schema=faults_{self.name()}")
            case "redis":
                return with_setting(self.servers[kind][1], f"prefix=faults-{self.name()}")
            case _:
                raise ValueError(kind)

    def start(self, store: str, settler: str, **more: Any) -> Start:
        """A worker's start with its own files."""
        name = self.name()
        return Start(
            fd=-1,
            store=store,
            settler=settler,
            rpc_url=self.chain.rpc_url,
            facilitator_url=self.facilitator_url,
            private_key=RELAYER.private_key,
            recipient=RECIPIENT,
            runs=str(self.folder / f"{name}.runs"),
            trace=str(self.folder / f"{name}.trace"),
            **more,
        )

    async def break_facilitator(self, seed: int, rate: float, modes: Sequence[str] = ()) -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{self.facilitator_url}/faults", json={"seed": seed, "rate": rate, "modes": list(modes)})

    async def facilitator_faults(self) -> dict[str, int]:
        async with httpx.AsyncClient() as client:
            counts: dict[str, int] = (await client.get(f"{self.facilitator_url}/faults")).json()
            return counts

    async def rows(self, store: str, ids: Sequence[str]) -> list[Any]:
        """The journal's rows, read as the workers read them; asked again where the store is too slow for that."""
        for patience in range(10, -1, -1):
            opened = store_from_url(store)
            try:
                await opened.start()
                return [await opened.get(payment_id) for payment_id in ids]
            except Unavailable:
                if not patience:
                    raise
                await asyncio.sleep(0.5)
            finally:
                await opened.close()
        raise AssertionError


@asynccontextmanager
async def laboratory(
    *, chain: str = "embedded", payers: int = 2000, stores: Sequence[str] = (), sockets: int = 16, keeps: bool = False
) -> AsyncIterator[Lab]:
    """A chain (`embedded`, or `anvil`), a facilitator on it, workers to start, and private servers for `stores`.

    Anvil's chain outlives its process where it `keeps` it, which takes time and memory.
    """
    names = f"faults {time.time_ns()}"
    async with AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="x402-mpp-faults-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        gas = {RELAYER.address: 10**21, THE_FACILITATOR.address: 10**21}
        node: Node | None = None
        if chain == "embedded":
            balances = {account(f"{names} {number}").address: FUNDS for number in range(payers)}
            url = await stack.enter_async_context(embedded_chain(balances=balances, gas=gas))
        else:
            node = await stack.enter_async_context(anvil(folder, gas, keeps=keeps))
            url = node.url
        known = Chain(url)
        stack.push_async_callback(known.close)
        options = ("--rpc-url", url, "--private-key", THE_FACILITATOR.private_key)
        facilitator = await stack.enter_async_context(Child.running("tests.faults.facilitator", *options))
        fleet = await stack.enter_async_context(Fleet.running(sockets))
        payer_source = Payers(known, names, payers if chain == "embedded" else None, folder)
        lab = Lab(known, payer_source, fleet, (await facilitator.hear())["url"], folder)
        lab.node = node
        if node is not None:
            # Until its first block, anvil's clock stands at its beginning.
            await known.ask(("evm_mine",))
            lab.pulse = Pulse(known)
            beating = asyncio.create_task(lab.pulse.beat())
            stack.callback(beating.cancel)
        for kind, private in (("postgresql", private_postgres), ("redis", private_redis)):
            if kind in stores:
                lab.servers[kind] = stack.enter_context(private())
        yield lab


class Node:
    """An anvil that mines at once, and a block a second besides, so that its clock goes.

    The second is ours to do (`Pulse`): a node that was told to mine in another way cannot be told to do both again.
    With `keeps` its chain outlives its process; what waits for a block does not.
    """

    def __init__(self, folder: Path, *, keeps: bool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = folder / "anvil.log"
        state = ("--state", str(folder / "anvil.json"), "--preserve-historical-states") if keeps else ()
        # Killed, it leaves what it had put on the disk: here that is gone with the folder, and at no time much. By
        # itself it keeps thousands of states in the home of whoever starts it, ten megabytes each.
        kept = ("--cache-path", str(folder / "states"), "--max-persisted-states", "64")
        command = (str(ANVIL), "--chain-id", str(token.CHAIN_ID), "--port", str(self._port), "--silent")
        self._command = (*command, *kept, *state)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        raise RuntimeError("anvil does not start")

    def send_signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        await self._process.wait()


@asynccontextmanager
async def anvil(folder: Path, gas: dict[str, int], *, keeps: bool) -> AsyncIterator[Node]:
    """A node with the token on it, and gas."""
    node = Node(folder, keeps=keeps)
    try:
        await node.start()
        token.install(node.url, {})
        for address, wei in gas.items():
            token.fund_gas(node.url, address, wei)
        yield node
    finally:
        await node.end()


class Purchase:
    """One payment: signed once, sent as often as it takes, and every answer that it got."""

    def __init__(self, client: httpx.AsyncClient, path: str, protocol: Protocol, payer: Payer) -> None:
        self._client = client
        self.path = path
        self.protocol = protocol
        self.payer = payer
        self.payment: Payment | None = None
        self.headers: dict[str, str] = {}
        self.statuses: list[int] = []
        self.bad_answers: list[str] = []
        self.refusals: list[str] = []
        """What the 402s said."""
        self.lost = 0

    async def prepare(self, url: str, asked: Asked | None = None) -> None:
        """Ask, and sign; `asked` is a 402 that is good for more than one payment."""
        if asked is None:
            self.payment, header = self.payer.pay(await self._client.get(url + self.path), self.protocol)
        else:
            self.payment, header = self.payer.sign(asked)
        self.headers = dict((header,))
        if self.protocol is Protocol.X402_V2:
            # One protocol of the three with a key of the client's own.
            self.headers["Idempotency-Key"] = f"purchase {self.payer.address}"

    @property
    def id(self) -> str:
        assert self.payment is not None
        return self.payment.id

    async def send(self, url: str) -> int | None:
        """The status of one answer; None where none came whole."""
        try:
            answer = await self._client.get(url + self.path, headers=self.headers)
        except httpx.HTTPError:
            self.lost += 1
            return None
        self.statuses.append(answer.status_code)
        if answer.status_code == 503 and ("retry-after" not in answer.headers or "www-authenticate" in answer.headers):
            self.bad_answers.append("503 without Retry-After, or with a challenge")
        if answer.status_code == 402:
            self.refusals.append(str(answer.json().get("detail")))
        if answer.status_code not in (200, 402, 503):
            self.bad_answers.append(f"{answer.status_code}: {answer.text[:200]}")
        return answer.status_code

    async def insist(self, url: Callable[[], str], seconds: float, pause: float = 0.15) -> int | None:
        """Send it again until it is served or refused for good."""
        deadline = time.monotonic() + seconds
        status = None
        while time.monotonic() < deadline:
            status = await self.send(url())
            if status not in (None, 503, 500, 502):
                break
            await asyncio.sleep(pause)
        return status


def runs_of(start: Start) -> Counter[str]:
    """How often the handler ran, by payment."""
    path = Path(start.runs)
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def trace_of(start: Start) -> list[str]:
    path = Path(start.trace)
    return path.read_text().splitlines() if path.exists() else []
