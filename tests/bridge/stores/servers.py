"""The servers that the store tests talk to: the machine's own, each test in a corner of it, and private ones.

The machine's own are found by DATABASE_URL and REDIS_URL, and are never stopped. In CI both must be there; elsewhere a
test that needs a missing one is skipped.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

POSTGRES = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/test")
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def missing(what: str) -> None:
    """Fail where everything must be there, skip elsewhere."""
    if IN_CI:
        pytest.fail(f"{what}, and CI must not skip", pytrace=False)
    pytest.skip(what)


def with_setting(url: str, setting: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{setting}"


def schema_of(url: str) -> str:
    return url.partition("schema=")[2].partition("&")[0]


def prefix_of(url: str) -> str:
    return url.partition("prefix=")[2].partition("&")[0]


@contextmanager
def postgres_schema(server: str = POSTGRES) -> Iterator[str]:
    """The URL of a store in a schema that is not there yet, and is dropped afterwards."""
    try:
        connection = psycopg.connect(server, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        missing("no PostgreSQL server answers at DATABASE_URL")
        raise
    url = with_setting(server, f"schema=test_{uuid.uuid4().hex}")
    with closing(connection):
        try:
            yield url
        finally:
            connection.execute(f"SET client_min_messages = error; DROP SCHEMA IF EXISTS {schema_of(url)} CASCADE")


@contextmanager
def redis_prefix(server: str = REDIS) -> Iterator[str]:
    """The URL of a store with a prefix that nobody uses yet, and whose keys are deleted afterwards."""
    with closing(redis.Redis.from_url(server, socket_timeout=3)) as client:
        try:
            client.ping()
        except redis.RedisError:
            missing("no Redis server answers at REDIS_URL")
        url = with_setting(server, f"prefix=test-{uuid.uuid4().hex}")
        try:
            yield url
        finally:
            # [{] because a glob would be free to take a brace for something else.
            keys = list(client.scan_iter(f"[{{]{prefix_of(url)}[}}]:*", count=10_000))
            for start in range(0, len(keys), 1_000):
                client.delete(*keys[start : start + 1_000])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Server:
    """A private server process that can be stopped, started and frozen."""

    def __init__(self, command: list[str], directory: Path, *, user: str | None = None) -> None:
        self.command, self.directory, self.user = command, directory, user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            # In a session of its own: whoever interrupts the tests does not interrupt the server under them.
            self.process = subprocess.Popen(
                self.command, cwd=self.directory, stdout=log, stderr=log, user=self.user, start_new_session=True
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is an orderly shutdown to both servers, at SIGQUIT both drop what they are at.

        SIGKILL ends all of its processes, as when the machine fails: PostgreSQL does not start while one is left.
        """
        if self.process is not None:
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            self.send(signal.SIGCONT)
            for _ in range(30):
                self.send(number)  # again: Redis takes no leave while it rewrites its append-only file
                try:
                    self.process.wait(1)
                    break
                except subprocess.TimeoutExpired:
                    continue
            else:
                self.process.kill()
                self.process.wait(5)
            self.process = None


def postgres_binaries() -> Path:
    """Where initdb and postgres are: on the path, or where Debian puts them."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not newest:
        missing("no PostgreSQL server is installed")
    return newest[-1].parent


@contextmanager
def private_postgres() -> Iterator[tuple[Server, str]]:
    """A PostgreSQL server for one test, running, and its URL."""
    binaries, port = postgres_binaries(), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    directory = Path(tempfile.mkdtemp(prefix="x402-mpp-postgres-"))
    try:
        if user:
            shutil.chown(directory, user)
        initdb = [binaries / "initdb", "-D", directory / "data", "-U", "postgres", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, cwd=directory, user=user, check=True, capture_output=True)
        options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(directory)]
        server = Server([str(binaries / "postgres"), "-D", str(directory / "data"), *options], directory, user=user)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        server.start()
        try:
            wait_for_postgres(url)
            yield server, url
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


def wait_for_postgres(url: str) -> None:
    for _ in range(300):
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise TimeoutError("the private PostgreSQL server does not come up")


@contextmanager
def private_redis(*options: str) -> Iterator[tuple[Server, str]]:
    """A Redis or Valkey server for one test, running, and its URL. Every write is on the disk before it is answered."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        missing("no Redis server is installed")
    port = free_port()
    directory = Path(tempfile.mkdtemp(prefix="x402-mpp-redis-"))
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    server = Server(
        [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), *durable, *options],
        directory,
    )
    url = f"redis://127.0.0.1:{port}/0"
    server.start()
    try:
        wait_for_redis(url)
        yield server, url
    finally:
        server.stop()
        shutil.rmtree(directory)


def wait_for_redis(url: str) -> None:
    with closing(redis.Redis.from_url(url, socket_timeout=2)) as client:
        for _ in range(300):
            try:
                client.ping()
                return
            except redis.RedisError:
                time.sleep(0.1)
    raise TimeoutError("the private Redis server does not come up")
