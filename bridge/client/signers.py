"""Who signs: a key in this process, a command, or a wallet behind JSON-RPC. No key is shown, logged or kept on disk."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import httpx
from coincurve import PrivateKey

from bridge.client.errors import SignerFailed
from translators.eip3009 import authorization_digest
from translators.errors import MalformedError
from translators.fields import checksum_address, parse_address, parse_signature
from translators.keccak import keccak256
from translators.payment import Asset, Authorization

__all__ = ["CommandSigner", "KeySigner", "RpcSigner", "Signer", "typed_data"]


class Signer(Protocol):
    """Signs authorizations for one address. `sign` may block: asynchronous clients call it in a thread."""

    address: str
    """The payer: `0x` and lower-case hexadecimal."""

    def sign(self, authorization: Authorization, asset: Asset) -> bytes:
        """The signature over `authorization` under the token's domain. Raises `SignerFailed`."""


class KeySigner:
    """Signs with a private key: 32 bytes as hexadecimal, with or without `0x`. Raises `SignerFailed` for another."""

    def __init__(self, private_key: str) -> None:
        bare = private_key.strip().removeprefix("0x")
        try:
            self._key = PrivateKey(bytes.fromhex(bare if len(bare) == 64 else ""))
        except ValueError:
            raise SignerFailed("the private key is not 32 bytes of hexadecimal") from None
        self.address = "0x" + keccak256(self._key.public_key.format(compressed=False)[1:])[12:].hex()

    @classmethod
    def from_keystore(cls, path: str | Path, password: str) -> "KeySigner":
        """The key in an encrypted JSON keystore, as geth and eth-account write it. Raises `SignerFailed`."""
        from bridge.settlers.ethereum import Account  # takes a second, and few need it

        try:
            key = Account.decrypt(Path(path).read_text("utf-8"), password)
        except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
            # A wrong password is a ValueError; none of their messages repeats what was given.
            why = error.strerror if isinstance(error, OSError) else "wrong password, or no keystore"
            raise SignerFailed(f"keystore {path}: {why}") from None
        return cls(key.hex())

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"KeySigner({self.address})"

    def sign(self, authorization: Authorization, asset: Asset) -> bytes:
        """Sign at once; the same authorization always gets the same signature (RFC 6979)."""
        compact = self._key.sign_recoverable(authorization_digest(authorization, asset), hasher=None)
        return compact[:64] + bytes((compact[64] + 27,))


class CommandSigner:
    """Asks a program: EIP-712 typed data as JSON on its standard input, the signature as hexadecimal on its output.

    `timeout` is in seconds: a person may have to touch a device. The program runs without a shell.
    """

    def __init__(self, command: Sequence[str], address: str, timeout: float = 120.0) -> None:
        self.address = _address(address)
        self._command = list(command)
        self._timeout = timeout

    def sign(self, authorization: Authorization, asset: Asset) -> bytes:
        """Run the program. Raises `SignerFailed` when it fails, answers something else, or takes too long."""
        data = json.dumps(typed_data(authorization, asset))
        name = self._command[0]
        try:
            ran = subprocess.run(  # noqa: S603 (the owner of the wallet says what to run)
                self._command, input=data, capture_output=True, text=True, timeout=self._timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise SignerFailed(f"{name} did not sign within {self._timeout:g} seconds") from None
        except (OSError, ValueError) as error:
            raise SignerFailed(f"{name} cannot be run: {error}") from None
        if ran.returncode != 0:
            said = ran.stderr.strip().splitlines()
            raise SignerFailed(f"{name} did not sign (exit code {ran.returncode})" + (f": {said[-1]}" if said else ""))
        return _signature(ran.stdout.strip(), name)


class RpcSigner:
    """Asks a wallet that answers `eth_signTypedData_v4`, such as clef. `timeout` is in seconds."""

    def __init__(self, url: str, address: str, timeout: float = 120.0) -> None:
        self.address = _address(address)
        self._url = url
        self._timeout = timeout

    def sign(self, authorization: Authorization, asset: Asset) -> bytes:
        """Ask once. Raises `SignerFailed`; its message never holds the URL, which may hold a secret."""
        params = [checksum_address(self.address), typed_data(authorization, asset)]
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_signTypedData_v4", "params": params}
        try:
            answer = httpx.post(self._url, json=call, timeout=self._timeout).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise SignerFailed(f"the external signer did not answer: {type(error).__name__}") from None
        if not isinstance(answer, dict) or "result" not in answer:
            refusal = answer.get("error") if isinstance(answer, dict) else None
            said = refusal.get("message") if isinstance(refusal, dict) else None
            raise SignerFailed(f"the external signer did not sign: {said or 'no result'}")
        return _signature(answer["result"], "the external signer")


def typed_data(authorization: Authorization, asset: Asset) -> dict[str, Any]:
    """What an external signer signs: EIP-712 typed data, as `eth_signTypedData_v4` takes it."""
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "TransferWithAuthorization": [
                {"name": "from", "type": "address"},
                {"name": "to", "type": "address"},
                {"name": "value", "type": "uint256"},
                {"name": "validAfter", "type": "uint256"},
                {"name": "validBefore", "type": "uint256"},
                {"name": "nonce", "type": "bytes32"},
            ],
        },
        "primaryType": "TransferWithAuthorization",
        "domain": {
            "name": asset.name,
            "version": asset.version,
            "chainId": asset.chain_id,
            "verifyingContract": checksum_address(asset.address),
        },
        "message": {
            "from": checksum_address(authorization.payer),
            "to": checksum_address(authorization.recipient),
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": authorization.nonce,
        },
    }


def _address(address: str) -> str:
    try:
        return parse_address(address, "the payer's address")
    except MalformedError as error:
        raise SignerFailed(str(error)) from None


def _signature(text: Any, who: str) -> bytes:
    try:
        return parse_signature(text if isinstance(text, str) else "")
    except MalformedError:
        raise SignerFailed(f"{who} answered something else than a signature") from None
