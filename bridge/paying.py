"""What `x402-mpp pay` does: one request, paid by a wallet, told to a person or to a script."""

import base64
import os
import shlex
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import click
import httpx
import msgspec

from bridge.client import (
    Declined,
    KeySigner,
    Ledger,
    NothingPayable,
    Outcome,
    OutcomeState,
    OutcomeUnknown,
    PayError,
    PaymentAuth,
    Policy,
    Progress,
    Wallet,
    outcome_of,
    send,
)
from bridge.client.policy import Amount, amount_text, network_text
from bridge.client.signers import CommandSigner, RpcSigner, Signer
from translators.asks import Asked, read_asks
from translators.fields import checksum_address
from translators.price import PriceError, checked_address

__all__ = ["ExitCode", "PayOptions", "UsageError", "run"]


class ExitCode(IntEnum):
    """How a run ended."""

    ANSWERED = 0
    """The answer is what was asked for, paid or free; with --dry-run, it could be paid."""
    FAILED = 1
    """The server answered with an error, and no payment was made."""
    USAGE = 2
    """The options make no sense."""
    NOT_PAID = 3
    """Nothing was paid: a rule or a person said no, nothing could be paid, or there was no signature."""
    REFUSED = 4
    """The server did not take the payment. Until its time is over it still could."""
    UNKNOWN = 5
    """The payment was sent, and nobody said what came of it. The same command asks again."""
    NO_CONNECTION = 6
    """The server was not reached; nothing was paid."""
    CHARGED = 7
    """The payment was taken, and the answer is an error, or is missing."""


class UsageError(ValueError):
    """Options that make no sense; the message names the option."""


class PayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The command's options, as its help describes them."""

    url: str
    method: str | None
    headers: Sequence[str]
    data: str | None
    protocols: Sequence[str]
    networks: Sequence[str]
    assets: Sequence[str]
    recipients: Sequence[str]
    hosts: Sequence[str]
    max_amounts: Sequence[str]
    daily_limits: Sequence[str]
    ledger: str | None
    rpc_url: str | None
    key_env: str
    keystore: str | None
    password_file: str | None
    signer_command: str | None
    signer_url: str | None
    address: str | None
    dry_run: bool
    yes: bool
    pay_again: bool
    allow_http: bool
    location: bool
    output: str | None
    as_json: bool
    quiet: bool
    timeout: float
    patience: float


def run(options: PayOptions) -> int:
    """Run the command; returns the exit code. Raises `UsageError`."""
    url = _url(options.url)
    policy = _policy(options, url)
    body = _body(options.data)
    method = (options.method or ("POST" if body is not None else "GET")).upper()
    teller = _Teller(options)
    with httpx.Client(timeout=options.timeout, follow_redirects=options.location) as client:
        request = client.build_request(method, url, headers=_headers(options.headers, body), content=body)
        if options.dry_run:
            return _dry_run(client, request, policy, teller)
        wallet = Wallet(
            _signer(options),
            policy,
            ledger=Ledger(options.ledger or Path(click.get_app_dir("x402-mpp")) / "ledger.sqlite3"),
            rpc_url=options.rpc_url,
            approve=None if options.yes else teller.approve,
            on_progress=teller.tell,
            patience=options.patience,
        )
        auth = PaymentAuth(wallet)
        if options.pay_again:
            auth.forget(request)
        try:
            response = send(client, request, auth=auth, stream=True)
            try:
                return teller.answer(response)
            finally:
                response.close()
        except OutcomeUnknown as error:
            return teller.fail(ExitCode.UNKNOWN, f"{error}. --pay-again does; --rpc-url asks a node", error.payment_id)
        except PayError as error:
            return teller.fail(ExitCode.NOT_PAID, str(error))
        except httpx.HTTPError as error:
            return teller.broken(error)
        except KeyboardInterrupt:
            return teller.interrupted()
        finally:
            wallet.ledger.close()


# What the options mean


def _url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise UsageError(f"URL: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError("URL: give the whole of it, such as https://api.example.com/report")
    if url.userinfo:
        raise UsageError("URL: give a user and password as an Authorization header, not in the URL")
    return url


def _policy(options: PayOptions, url: httpx.URL) -> Policy:
    try:
        return Policy(
            max_amount=_amounts(options.max_amounts, "--max-amount"),
            daily_limit=_amounts(options.daily_limits, "--daily-limit") if options.daily_limits else None,
            protocols=options.protocols or ("mpp", "x402-v2", "x402-v1"),
            networks=options.networks or None,
            assets=options.assets or None,
            recipients=options.recipients or None,
            hosts=options.hosts or (url.host,),
            allow_http=options.allow_http,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _amounts(given: Sequence[str], option: str) -> Amount:
    """Money as text, or atomic units by token: `0.10`, or `0x...=10000` as often as there are tokens."""
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    amounts: dict[str, int] = {}
    for text in given:
        token, sign, units = text.partition("=")
        if not sign or not (units.isascii() and units.isdecimal()):
            raise UsageError(f"{option}: give money once, such as 0.10, or TOKEN=UNITS for each token")
        try:
            amounts[checked_address(token, option)] = int(units)
        except PriceError as error:
            raise UsageError(str(error)) from None
    return amounts


def _body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if not data.startswith("@"):
        return data.encode()
    try:
        return sys.stdin.buffer.read() if data == "@-" else Path(data[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"--data: {data[1:]}: {error.strerror}") from None


def _headers(given: Sequence[str], body: bytes | None) -> httpx.Headers:
    headers: list[tuple[str, str]] = []
    for line in given:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise UsageError("--header: write NAME:VALUE")
        headers.append((name.strip(), value.strip()))
    made = httpx.Headers(headers)
    if body is not None and "content-type" not in made:
        made["content-type"] = "application/json" if body[:1] in (b"{", b"[") else "text/plain"
    return made


def _signer(options: PayOptions) -> Signer:
    external = [name for name in (options.signer_command, options.signer_url, options.keystore) if name is not None]
    if len(external) > 1:
        raise UsageError("give one of --keystore, --signer-command and --signer-url")
    try:
        if options.keystore is not None:
            return KeySigner.from_keystore(options.keystore, _password(options))
        if external:
            if options.address is None:
                raise UsageError("--address: say which address the external signer signs for")
            if options.signer_command is not None:
                words = shlex.split(options.signer_command)
                if not words:
                    raise UsageError("--signer-command: it is empty")
                return CommandSigner(words, options.address)
            assert options.signer_url is not None
            return RpcSigner(options.signer_url, options.address)
        key = os.environ.get(options.key_env)
        if not key:
            raise UsageError(f"no key: set {options.key_env}, or give --keystore, --signer-command or --signer-url")
        return KeySigner(key)
    except PayError as error:
        raise UsageError(str(error)) from None


def _password(options: PayOptions) -> str:
    if options.password_file is not None:
        try:
            return Path(options.password_file).read_text("utf-8").rstrip("\r\n")
        except OSError as error:
            raise UsageError(f"--password-file: {options.password_file}: {error.strerror}") from None
    found = os.environ.get("X402_MPP_KEYSTORE_PASSWORD")
    if found is not None:
        return found
    if not sys.stdin.isatty():
        raise UsageError("the keystore's password: give --password-file, or set X402_MPP_KEYSTORE_PASSWORD")
    asked: str = click.prompt("Password of the keystore", hide_input=True, err=True)
    return asked


# What is told


class _Teller:
    """Tells a person on stderr, or a script on stdout, what happens; writes the body where it belongs."""

    def __init__(self, options: PayOptions) -> None:
        self._options = options
        self._sent = False

    def say(self, line: str) -> None:
        """One line for a person."""
        if not self._options.quiet:
            click.echo(_plain(line), err=True)

    def approve(self, asked: Asked, url: httpx.URL) -> bool:
        """Ask whoever sits at the terminal."""
        if not sys.stdin.isatty():
            raise Declined("nobody is here to confirm the payment: give --yes")
        self.say(f"{'Asked':<10}{_price(asked)}")
        question = _plain(f"Pay for {url.copy_with(query=None)}?")
        return click.confirm(question, err=True)

    def tell(self, progress: Progress) -> None:
        """What the wallet is at."""
        match progress.step:
            case "paying":
                self._sent = True
                self.say(f"{'Paying':<10}{_price(progress.asked)}")
            case "again":
                self._sent = True
                self.say("A payment for this request is open; sending the same one again:")
                self.say(f"{'':<10}{_price(progress.asked)}")
            case "other envelope":
                self.say(f"Refused; sending the same signature in {progress.asked.protocol.value}")
            case "waiting":
                self.say(f"The server says later: the same payment again in {progress.seconds:g} s")
            case _:
                pass

    def answer(self, response: httpx.Response) -> int:
        """Write the body and say what was paid; the exit code."""
        outcome = outcome_of(response)
        code = _code(response, outcome)
        body = b""
        try:
            if self._options.as_json or self._options.output is not None:
                body = response.read()
                if self._options.output is not None:
                    Path(self._options.output).write_bytes(body)
            else:
                for part in response.iter_bytes():
                    body = part or body
                    sys.stdout.buffer.write(part)
                    sys.stdout.buffer.flush()
                if sys.stdout.isatty() and not body.endswith(b"\n"):
                    self.say("")
        except OSError as error:
            # What was paid for is at hand and cannot be put down: said, and told apart from a server's failure.
            self.say(f"The answer cannot be written: {error.strerror}")
            code = ExitCode.CHARGED if outcome is not None else ExitCode.FAILED
        if self._options.as_json:
            self._print(code, response=response, outcome=outcome, body=body)
        self._conclude(response, outcome)
        return code

    def _conclude(self, response: httpx.Response, outcome: Outcome | None) -> None:
        if outcome is None:
            if response.status_code >= 400:
                self.say(f"The server answered {response.status_code}; nothing was paid")
            return
        price = f"{amount_text(outcome.amount, outcome.asset)} in {outcome.protocol.value}"
        problem = f": {outcome.problem}" if outcome.problem else ""
        match outcome.state:
            case OutcomeState.PAID if outcome.delivered:
                self.say(f"{'Paid':<10}{price}" + (f" ({outcome.problem})" if outcome.problem else ""))
                if outcome.transaction:
                    self.say(f"{'':<10}{outcome.transaction}")
            case OutcomeState.PAID:
                self.say(f"Paid {price}, and the server answered {response.status_code}{problem}")
            case OutcomeState.REFUSED:
                self.say(f"The server did not take {price}{problem}")
            case OutcomeState.UNKNOWN:
                self.say(f"Sent {price}; the server answered {response.status_code}{problem}")
                self.say("Whether it was charged is not known.")
                self.say("The same command sends the same payment again.")

    def fail(self, code: ExitCode, why: str, payment_id: str | None = None) -> int:
        """Say why nothing came back."""
        click.echo(_plain(f"Error: {why}"), err=True)
        if self._options.as_json:
            self._print(code, error=why, payment_id=payment_id)
        return code

    def broken(self, error: httpx.HTTPError) -> int:
        """Say that the connection failed, and what that means for the money."""
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if not self._sent:
            return self.fail(ExitCode.NO_CONNECTION, f"the server was not reached, nothing was paid ({why})")
        told = "the connection broke after the payment was sent; the same command sends the same payment again"
        return self.fail(ExitCode.UNKNOWN, f"{told} ({why})")

    def interrupted(self) -> int:
        """Say what it means for the money that somebody has had enough."""
        if not self._sent:
            return self.fail(ExitCode.NOT_PAID, "interrupted before anything was paid")
        why = "interrupted after the payment was sent; the same command sends the same payment again"
        return self.fail(ExitCode.UNKNOWN, why)

    def _print(
        self,
        code: ExitCode,
        *,
        response: httpx.Response | None = None,
        outcome: Outcome | None = None,
        body: bytes = b"",
        **more: str | None,
    ) -> None:
        told: dict[str, Any] = {"exit_code": int(code), "result": code.name.lower(), "url": self._options.url}
        if response is not None:
            told |= {"status": response.status_code, "headers": response.headers.multi_items()}
            if self._options.output is not None:
                told["output"] = self._options.output
            else:
                told |= _body_members(body)
        told["payment"] = _payment(outcome) if outcome is not None else None
        click.echo(msgspec.json.encode(told | {name: value for name, value in more.items() if value is not None}))


def _dry_run(client: httpx.Client, request: httpx.Request, policy: Policy, teller: _Teller) -> int:
    """Ask without paying, and show every ask, the one that would be paid first."""
    try:
        response = client.send(request)
    except httpx.HTTPError as error:
        return teller.broken(error)
    if response.status_code != 402:
        teller.say(f"Nothing to pay: the server answered {response.status_code}")
        return teller.answer(response)
    reading = read_asks(response.headers.multi_items(), response.content, policy.tokens)
    chosen: Asked | None = None
    why = None
    try:
        own = "authorization" in request.headers
        chosen = policy.choose(reading, response.request.url, _now(), has_authorization=own)
    except (Declined, NothingPayable) as error:
        why = str(error)
    code = ExitCode.ANSWERED if chosen is not None else ExitCode.NOT_PAID
    if teller._options.as_json:
        asks = [_ask(asked) | {"chosen": asked is chosen} for asked in reading.asks]
        passed = [{"protocol": one.protocol.value, "reason": one.reason} for one in reading.passed]
        told = {"exit_code": int(code), "result": code.name.lower(), "url": teller._options.url, "status": 402}
        click.echo(msgspec.json.encode(told | {"asks": asks, "passed": passed, "error": why}))
        return code
    for asked in reading.asks:
        click.echo(_plain(f"{'would pay' if asked is chosen else 'offered':<10}{_price(asked)}"))
    for one in reading.passed:
        click.echo(_plain(f"{'passed':<10}{one.protocol.value}: {one.reason}"))
    if why is not None:
        click.echo(_plain(why), err=True)
    return code


def _now() -> float:
    from bridge.clock import system_clock

    return system_clock()


def _code(response: httpx.Response, outcome: Outcome | None) -> ExitCode:
    if outcome is None:
        return ExitCode.ANSWERED if response.status_code < 400 else ExitCode.FAILED
    match outcome.state:
        case OutcomeState.PAID:
            return ExitCode.ANSWERED if outcome.delivered else ExitCode.CHARGED
        case OutcomeState.REFUSED:
            return ExitCode.REFUSED
        case OutcomeState.UNKNOWN:
            return ExitCode.UNKNOWN


def _price(asked: Asked) -> str:
    """What is asked, on two lines: an address is half of one, and is not to be broken."""
    offer = asked.offer
    amount, network = amount_text(offer.amount, offer.asset), network_text(offer.asset.chain_id)
    return f"{amount} in {asked.protocol.value} on {network}\n          to {checksum_address(offer.recipient)}"


def _ask(asked: Asked) -> dict[str, Any]:
    offer = asked.offer
    return {
        "protocol": asked.protocol.value,
        "where": asked.where,
        "amount": str(offer.amount),
        "price": amount_text(offer.amount, offer.asset),
        "asset": offer.asset.address,
        "network": offer.network,
        "recipient": offer.recipient,
    }


def _payment(outcome: Outcome) -> dict[str, Any]:
    return {
        "state": outcome.state.value,
        "delivered": outcome.delivered,
        "protocol": outcome.protocol.value,
        "id": outcome.payment_id,
        "payer": outcome.payer,
        "recipient": outcome.recipient,
        "amount": str(outcome.amount),
        "price": amount_text(outcome.amount, outcome.asset),
        "asset": outcome.asset.address,
        "network": f"eip155:{outcome.asset.chain_id}",
        "transaction": outcome.transaction,
        "receipt": msgspec.to_builtins(outcome.receipt.details) if outcome.receipt is not None else None,
        "valid_until": outcome.valid_until,
        "presented": outcome.presented,
        "problem": outcome.problem,
    }


def _body_members(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _plain(text: str) -> str:
    """The text without what a terminal would obey: part of it comes from the server."""
    return "".join(character if character.isprintable() or character == "\n" else "?" for character in text)
