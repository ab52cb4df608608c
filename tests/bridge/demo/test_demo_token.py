"""The demo token answers as FiatToken v2.2 does, to both overloads of every signed call."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
import vyper
import web3.logs
from compile_token import ARTIFACT, build
from demo_signing import PAYER, POOR, RECIPIENT, SETTLER, Send, Signature, Transfer, sign
from eth_account import Account
from eth_utils import keccak
from web3 import AsyncWeb3
from web3.contract import AsyncContract
from web3.exceptions import ContractLogicError

from bridge.demo.token import TOKEN_ADDRESS

pytestmark = pytest.mark.anyio

_DISCARD = web3.logs.DISCARD

TRANSFER_VRS = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
TRANSFER_BYTES = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
RECEIVE_VRS = TRANSFER_VRS.replace("transfer", "receive")
RECEIVE_BYTES = TRANSFER_BYTES.replace("transfer", "receive")
CANCEL_VRS = "cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)"
CANCEL_BYTES = "cancelAuthorization(address,bytes32,bytes)"
PERMIT_VRS = "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
PERMIT_BYTES = "permit(address,address,uint256,uint256,bytes)"

# Accepts its owner's signature behind one byte of its own, so that no EOA check can take it for one.
WALLET = """
OWNER: immutable(address)

@deploy
def __init__(owner: address):
    OWNER = owner

@external
@view
def isValidSignature(digest: bytes32, signature: Bytes[300]) -> bytes4:
    if len(signature) != 66:
        return 0xffffffff
    r: uint256 = extract32(signature, 1, output_type=uint256)
    s: uint256 = extract32(signature, 33, output_type=uint256)
    v: uint256 = convert(slice(signature, 65, 1), uint256)
    if ecrecover(digest, v, r, s) == OWNER:
        return 0x1626ba7e
    return 0xffffffff
"""


def signed_call(token: AsyncContract, overload: str, arguments: tuple[Any, ...], signature: Signature) -> Any:
    tail = signature.vrs if overload.endswith("uint8,bytes32,bytes32)") else (signature.packed,)
    return token.get_function_by_signature(overload)(*arguments, *tail)


async def refusal(call: Any, *, sender: str = SETTLER.address) -> str:
    with pytest.raises(ContractLogicError) as caught:
        await call.call({"from": sender})
    return str(caught.value.message)


def test_artifact_is_what_the_source_compiles_to() -> None:
    """A change of the source that forgets the artifact is caught."""
    assert json.loads(ARTIFACT.read_text()) == build()


async def test_metadata_and_domain(token: AsyncContract) -> None:
    """The domain a client would compute from the known name and version is the token's own."""
    described = [await token.functions[name]().call() for name in ("name", "symbol", "version", "decimals")]
    assert described == ["USDC", "USDC", "2", 6]
    domain = b"".join(
        (
            keccak(text="EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
            keccak(text="USDC"),
            keccak(text="2"),
            (84532).to_bytes(32, "big"),
            bytes.fromhex(TOKEN_ADDRESS[2:]).rjust(32, b"\0"),
        )
    )
    assert await token.functions.DOMAIN_SEPARATOR().call() == keccak(domain)


@pytest.mark.parametrize("overload", [TRANSFER_VRS, TRANSFER_BYTES])
async def test_transfer_moves_the_money_once(token: AsyncContract, send: Send, overload: str) -> None:
    """A valid authorization moves the money, is marked used, says so in two events, and cannot be used again."""
    transfer = Transfer()
    before = [await token.functions.balanceOf(one).call() for one in (PAYER.address, RECIPIENT)]
    assert not await token.functions.authorizationState(PAYER.address, transfer.nonce).call()

    call = signed_call(token, overload, transfer.arguments, transfer.sign())
    receipt = await send(call)

    assert receipt["status"] == 1
    after = [await token.functions.balanceOf(one).call() for one in (PAYER.address, RECIPIENT)]
    assert after == [before[0] - 1_000, before[1] + 1_000]
    assert await token.functions.authorizationState(PAYER.address, transfer.nonce).call()
    (used,) = token.events.AuthorizationUsed().process_receipt(receipt, errors=_DISCARD)
    assert used["args"] == {"authorizer": PAYER.address, "nonce": transfer.nonce}
    (moved,) = token.events.Transfer().process_receipt(receipt, errors=_DISCARD)
    assert moved["args"] == {"from": PAYER.address, "to": RECIPIENT, "value": 1_000}

    assert await refusal(call) == "execution reverted: FiatTokenV2: authorization is used or canceled"
    assert (await send(call))["status"] == 0


@pytest.mark.parametrize("overload", [TRANSFER_VRS, TRANSFER_BYTES])
async def test_transfer_refusals(token: AsyncContract, overload: str) -> None:
    """Each refusal is worded as FiatToken words it, because facilitators tell them apart by the words."""
    now = int(time.time())
    fine = Transfer()
    high_s = fine.sign().mirrored
    odd_v = replace(fine.sign(), v=fine.sign().v - 27)
    expired, early = Transfer(valid_before=now - 1), Transfer(valid_after=now + 60)
    poor = Transfer(sender=POOR.address)
    nowhere = Transfer(to="0x" + "00" * 20)
    cases = [
        (expired, expired.sign(), "FiatTokenV2: authorization is expired"),
        (early, early.sign(), "FiatTokenV2: authorization is not yet valid"),
        (fine, fine.sign(POOR), "FiatTokenV2: invalid signature"),
        (replace(fine, value=2_000), fine.sign(), "FiatTokenV2: invalid signature"),
        (fine, fine.sign(kind="ReceiveWithAuthorization"), "FiatTokenV2: invalid signature"),
        (fine, high_s, "ECRecover: invalid signature 's' value"),
        (fine, odd_v, "ECRecover: invalid signature 'v' value"),
        (poor, poor.sign(POOR), "ERC20: transfer amount exceeds balance"),
        (nowhere, nowhere.sign(), "ERC20: transfer to the zero address"),
    ]
    for transfer, signature, reason in cases:
        call = signed_call(token, overload, transfer.arguments, signature)
        assert await refusal(call) == f"execution reverted: {reason}"


async def test_signature_of_another_length(token: AsyncContract) -> None:
    """An EOA's signature has 65 bytes, neither the compact form nor one with a tail."""
    transfer = Transfer()
    for packed in (b"", transfer.sign().packed[:64], transfer.sign().packed + b"\0"):
        call = token.get_function_by_signature(TRANSFER_BYTES)(*transfer.arguments, packed)
        assert await refusal(call) == "execution reverted: ECRecover: invalid signature length"


@pytest.mark.parametrize("overload", [RECEIVE_VRS, RECEIVE_BYTES])
async def test_receive_is_for_the_payee(token: AsyncContract, send: Send, overload: str) -> None:
    """`receiveWithAuthorization` can be called by the recipient alone."""
    transfer = Transfer(to=SETTLER.address)
    call = signed_call(token, overload, transfer.arguments, transfer.sign(kind="ReceiveWithAuthorization"))
    assert await refusal(call, sender=POOR.address) == "execution reverted: FiatTokenV2: caller must be the payee"
    assert (await send(call))["status"] == 1


@pytest.mark.parametrize("overload", [CANCEL_VRS, CANCEL_BYTES])
async def test_canceled_authorization(token: AsyncContract, send: Send, overload: str) -> None:
    """A canceled authorization looks used and moves nothing, and only its author can cancel it."""
    transfer = Transfer()
    arguments = (PAYER.address, transfer.nonce)
    forged = signed_call(token, overload, arguments, sign("CancelAuthorization", POOR, *arguments))
    assert await refusal(forged) == "execution reverted: FiatTokenV2: invalid signature"

    receipt = await send(signed_call(token, overload, arguments, sign("CancelAuthorization", PAYER, *arguments)))
    (canceled,) = token.events.AuthorizationCanceled().process_receipt(receipt, errors=_DISCARD)
    assert canceled["args"] == {"authorizer": PAYER.address, "nonce": transfer.nonce}
    assert await token.functions.authorizationState(*arguments).call()
    call = signed_call(token, TRANSFER_VRS, transfer.arguments, transfer.sign())
    assert await refusal(call) == "execution reverted: FiatTokenV2: authorization is used or canceled"


@pytest.mark.parametrize("overload", [PERMIT_VRS, PERMIT_BYTES])
async def test_permit_and_transfer_from(token: AsyncContract, send: Send, overload: str) -> None:
    """EIP-2612: a signature grants an allowance once, and the allowance is used up."""
    nonce = await token.functions.nonces(PAYER.address).call()
    deadline = int(time.time()) + 60
    terms = (PAYER.address, SETTLER.address, 500)
    signature = sign("Permit", PAYER, *terms, nonce, deadline)
    late = sign("Permit", PAYER, *terms, nonce, 1)
    assert await refusal(signed_call(token, overload, (*terms, 1), late)) == (
        "execution reverted: FiatTokenV2: permit is expired"
    )
    call = signed_call(token, overload, (*terms, deadline), signature)
    assert (await send(call))["status"] == 1
    assert await refusal(call) == "execution reverted: EIP2612: invalid signature"
    assert await token.functions.allowance(PAYER.address, SETTLER.address).call() == 500
    assert (await send(token.functions.transferFrom(PAYER.address, RECIPIENT, 500)))["status"] == 1
    assert await refusal(token.functions.transferFrom(PAYER.address, RECIPIENT, 1)) == (
        "execution reverted: ERC20: transfer amount exceeds allowance"
    )


async def test_contract_wallet(w3: AsyncWeb3[Any], token: AsyncContract, send: Send) -> None:
    """EIP-1271: a wallet with code pays with a signature of its own form, through the overload that takes bytes."""
    compiled = vyper.compile_code(WALLET, output_formats=["abi", "bytecode"])
    factory = w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    wallet = (await send(factory.constructor(PAYER.address)))["contractAddress"]
    assert await w3.eth.get_code(wallet)
    await send(token.functions.mint(wallet, 5_000))
    transfer = Transfer(sender=wallet)
    overload = token.get_function_by_signature(TRANSFER_BYTES)

    forged = overload(*transfer.arguments, b"\x01" + transfer.sign(POOR).packed)
    assert await refusal(forged) == "execution reverted: FiatTokenV2: invalid signature"
    naked = signed_call(token, TRANSFER_VRS, transfer.arguments, transfer.sign())
    assert await refusal(naked) == "execution reverted: FiatTokenV2: invalid signature"
    receipt = await send(overload(*transfer.arguments, b"\x01" + transfer.sign().packed))
    assert receipt["status"] == 1
    assert await token.functions.balanceOf(wallet).call() == 4_000


async def test_contract_without_eip1271(token: AsyncContract) -> None:
    """A payer with code that knows no signatures is refused, not waved through: the token itself is one."""
    transfer = Transfer(sender=TOKEN_ADDRESS)
    call = signed_call(token, TRANSFER_BYTES, transfer.arguments, transfer.sign())
    assert await refusal(call) == "execution reverted: FiatTokenV2: invalid signature"


async def test_plain_erc20(token: AsyncContract, send: Send) -> None:
    """Mint, transfer, approve and the supply behave as ERC-20 says."""
    someone = Account.from_key("0x" + "55" * 32).address
    supply = await token.functions.totalSupply().call()
    await send(token.functions.mint(SETTLER.address, 7))
    assert await token.functions.totalSupply().call() == supply + 7
    assert (await send(token.functions.transfer(someone, 7)))["status"] == 1
    assert await token.functions.balanceOf(someone).call() == 7
    receipt = await send(token.functions.approve(someone, 9))
    (approval,) = token.events.Approval().process_receipt(receipt, errors=_DISCARD)
    assert approval["args"] == {"owner": SETTLER.address, "spender": someone, "value": 9}


async def test_unknown_function(w3: AsyncWeb3[Any]) -> None:
    """A selector the token does not have reverts without a word, and too little calldata as well."""
    for calldata in ("0xdeadbeef", "0x12", "0x"):
        with pytest.raises(ContractLogicError) as caught:
            await w3.eth.call({"to": TOKEN_ADDRESS, "data": calldata})  # type: ignore[typeddict-item]
        assert caught.value.message == "execution reverted"
