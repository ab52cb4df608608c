# pragma version 0.4.3
# pragma evm-version cancun
"""
@title A stand-in for USDC on the demo chain
@license MIT
@notice ERC-20 with EIP-3009 and EIP-2612, which answers as Circle's FiatToken v2.2 does: the same functions,
        the same order of checks, the same error strings, because clients and facilitators read them.
        `mint` is open to anybody: this token is play money and must never stand on a real chain.
@dev    The code is placed by a genesis state or by anvil_setCode, so no constructor ever runs: there are no
        immutables, and the EIP-712 domain is computed from chain.id and self at each call.
        Vyper has no overloading. The functions that take (v, r, s) are ordinary ones; their twins that take
        `bytes signature` are told apart by selector in `__default__`.
        `from` and `value` are taken: names end in an underscore where the ABI's must not, and the build strips it.
"""

event Transfer:
    from_: indexed(address)
    to: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)


name: public(constant(String[4])) = "USDC"
symbol: public(constant(String[4])) = "USDC"
version: public(constant(String[1])) = "2"
decimals: public(constant(uint8)) = 6

TRANSFER_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
RECEIVE_WITH_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
CANCEL_AUTHORIZATION_TYPEHASH: public(constant(bytes32)) = keccak256(
    "CancelAuthorization(address authorizer,bytes32 nonce)"
)
PERMIT_TYPEHASH: public(constant(bytes32)) = keccak256(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
DOMAIN_TYPEHASH: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)

# The overloads that __default__ answers.
TRANSFER_WITH_SIGNATURE: constant(bytes4) = method_id(
    "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", output_type=bytes4
)
RECEIVE_WITH_SIGNATURE: constant(bytes4) = method_id(
    "receiveWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)", output_type=bytes4
)
CANCEL_WITH_SIGNATURE: constant(bytes4) = method_id("cancelAuthorization(address,bytes32,bytes)", output_type=bytes4)
PERMIT_WITH_SIGNATURE: constant(bytes4) = method_id("permit(address,address,uint256,uint256,bytes)", output_type=bytes4)

# EIP-2: above it, a signature is the mirror image of another one.
MAX_S: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
EIP1271_MAGIC: constant(bytes32) = 0x1626ba7e00000000000000000000000000000000000000000000000000000000

# Room for a multi-signature or a passkey; an EOA needs 65.
MAX_SIGNATURE: constant(uint256) = 2048
# The widest call: the selector, six static words, the offset, the length, the signature.
MAX_CALLDATA: constant(uint256) = 4 + 8 * 32 + MAX_SIGNATURE
IDENTITY: constant(address) = 0x0000000000000000000000000000000000000004

# Set from outside, by a genesis state or anvil_setStorageAt: their slots are in the artifact.
balanceOf: public(HashMap[address, uint256])
totalSupply: public(uint256)

allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])


@external
def mint(to: address, value_: uint256):
    """@notice Make money out of nothing, for anybody. Right for a demo, and for nothing else."""
    self.totalSupply += value_
    self.balanceOf[to] += value_
    log Transfer(from_=empty(address), to=to, value=value_)


@external
def transfer(to: address, value_: uint256) -> bool:
    self._transfer(msg.sender, to, value_)
    return True


@external
def transferFrom(from_: address, to: address, value_: uint256) -> bool:
    assert value_ <= self.allowance[from_][msg.sender], "ERC20: transfer amount exceeds allowance"
    self._transfer(from_, to, value_)
    if self.allowance[from_][msg.sender] != max_value(uint256):
        self.allowance[from_][msg.sender] -= value_
    return True


@external
def approve(spender: address, value_: uint256) -> bool:
    self._approve(msg.sender, spender, value_)
    return True


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain_separator()


@external
def transferWithAuthorization(
    from_: address, to: address, value_: uint256, validAfter: uint256, validBefore: uint256, nonce: bytes32,
    v: uint8, r: bytes32, s: bytes32
):
    self._move(
        TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from_, to, value_, validAfter, validBefore, nonce, self._packed(v, r, s)
    )


@external
def receiveWithAuthorization(
    from_: address, to: address, value_: uint256, validAfter: uint256, validBefore: uint256, nonce: bytes32,
    v: uint8, r: bytes32, s: bytes32
):
    self._receive(from_, to, value_, validAfter, validBefore, nonce, self._packed(v, r, s))


@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    self._cancel(authorizer, nonce, self._packed(v, r, s))


@external
def permit(owner: address, spender: address, value_: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    self._permit(owner, spender, value_, deadline, self._packed(v, r, s))


@external
def __default__():
    """@dev The overloads that take `bytes signature`: the selector is compared and the calldata decoded by hand."""
    assert len(msg.data) >= 4
    selector: bytes4 = convert(slice(msg.data, 0, 4), bytes4)
    body: Bytes[MAX_CALLDATA] = self._body()

    if selector in [TRANSFER_WITH_SIGNATURE, RECEIVE_WITH_SIGNATURE]:
        from_: address = empty(address)
        to: address = empty(address)
        value_: uint256 = 0
        valid_after: uint256 = 0
        valid_before: uint256 = 0
        nonce: bytes32 = empty(bytes32)
        signature: Bytes[MAX_SIGNATURE] = b""
        from_, to, value_, valid_after, valid_before, nonce, signature = abi_decode(
            body, (address, address, uint256, uint256, uint256, bytes32, Bytes[MAX_SIGNATURE])
        )
        if selector == RECEIVE_WITH_SIGNATURE:
            self._receive(from_, to, value_, valid_after, valid_before, nonce, signature)
        else:
            self._move(
                TRANSFER_WITH_AUTHORIZATION_TYPEHASH, from_, to, value_, valid_after, valid_before, nonce, signature
            )
    elif selector == CANCEL_WITH_SIGNATURE:
        authorizer: address = empty(address)
        nonce: bytes32 = empty(bytes32)
        signature: Bytes[MAX_SIGNATURE] = b""
        authorizer, nonce, signature = abi_decode(body, (address, bytes32, Bytes[MAX_SIGNATURE]))
        self._cancel(authorizer, nonce, signature)
    elif selector == PERMIT_WITH_SIGNATURE:
        owner: address = empty(address)
        spender: address = empty(address)
        value_: uint256 = 0
        deadline: uint256 = 0
        signature: Bytes[MAX_SIGNATURE] = b""
        owner, spender, value_, deadline, signature = abi_decode(
            body, (address, address, uint256, uint256, Bytes[MAX_SIGNATURE])
        )
        self._permit(owner, spender, value_, deadline, signature)
    else:
        raise  # an unknown function: no data, as Solidity does


@internal
def _body() -> Bytes[MAX_CALLDATA]:
    """
    @dev What follows the selector. Vyper slices msg.data by constant lengths only, but passes it on whole, and
         the identity precompile hands it back as bytes.
    """
    calldata: Bytes[MAX_CALLDATA] = raw_call(IDENTITY, msg.data, max_outsize=MAX_CALLDATA, is_static_call=True)
    return slice(calldata, 4, len(calldata) - 4)


@internal
def _receive(
    from_: address, to: address, value_: uint256, valid_after: uint256, valid_before: uint256, nonce: bytes32,
    signature: Bytes[MAX_SIGNATURE]
):
    assert to == msg.sender, "FiatTokenV2: caller must be the payee"
    self._move(RECEIVE_WITH_AUTHORIZATION_TYPEHASH, from_, to, value_, valid_after, valid_before, nonce, signature)


@internal
def _move(
    typehash: bytes32, from_: address, to: address, value_: uint256, valid_after: uint256, valid_before: uint256,
    nonce: bytes32, signature: Bytes[MAX_SIGNATURE]
):
    assert block.timestamp > valid_after, "FiatTokenV2: authorization is not yet valid"
    assert block.timestamp < valid_before, "FiatTokenV2: authorization is expired"
    assert not self.authorizationState[from_][nonce], "FiatTokenV2: authorization is used or canceled"
    digest: bytes32 = self._digest(
        keccak256(abi_encode(typehash, from_, to, value_, valid_after, valid_before, nonce))
    )
    assert self._is_valid_signature(from_, digest, signature), "FiatTokenV2: invalid signature"

    self.authorizationState[from_][nonce] = True
    log AuthorizationUsed(authorizer=from_, nonce=nonce)
    self._transfer(from_, to, value_)


@internal
def _cancel(authorizer: address, nonce: bytes32, signature: Bytes[MAX_SIGNATURE]):
    assert not self.authorizationState[authorizer][nonce], "FiatTokenV2: authorization is used or canceled"
    digest: bytes32 = self._digest(keccak256(abi_encode(CANCEL_AUTHORIZATION_TYPEHASH, authorizer, nonce)))
    assert self._is_valid_signature(authorizer, digest, signature), "FiatTokenV2: invalid signature"

    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)


@internal
def _permit(owner: address, spender: address, value_: uint256, deadline: uint256, signature: Bytes[MAX_SIGNATURE]):
    assert deadline >= block.timestamp, "FiatTokenV2: permit is expired"
    nonce: uint256 = self.nonces[owner]
    self.nonces[owner] = nonce + 1
    digest: bytes32 = self._digest(keccak256(abi_encode(PERMIT_TYPEHASH, owner, spender, value_, nonce, deadline)))
    assert self._is_valid_signature(owner, digest, signature), "EIP2612: invalid signature"
    self._approve(owner, spender, value_)


@internal
def _transfer(from_: address, to: address, value_: uint256):
    assert from_ != empty(address), "ERC20: transfer from the zero address"
    assert to != empty(address), "ERC20: transfer to the zero address"
    assert value_ <= self.balanceOf[from_], "ERC20: transfer amount exceeds balance"
    self.balanceOf[from_] -= value_
    self.balanceOf[to] += value_
    log Transfer(from_=from_, to=to, value=value_)


@internal
def _approve(owner: address, spender: address, value_: uint256):
    assert owner != empty(address), "ERC20: approve from the zero address"
    assert spender != empty(address), "ERC20: approve to the zero address"
    self.allowance[owner][spender] = value_
    log Approval(owner=owner, spender=spender, value=value_)


@internal
@view
def _domain_separator() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPEHASH, keccak256(name), keccak256(version), chain.id, self))


@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(b"\x19\x01", self._domain_separator(), struct_hash))


@internal
@pure
def _packed(v: uint8, r: bytes32, s: bytes32) -> Bytes[65]:
    return concat(r, s, convert(v, bytes1))


@internal
@view
def _is_valid_signature(signer: address, digest: bytes32, signature: Bytes[MAX_SIGNATURE]) -> bool:
    if signer.is_contract:
        success: bool = False
        answer: Bytes[32] = b""
        success, answer = raw_call(
            signer,
            abi_encode(digest, signature, method_id=method_id("isValidSignature(bytes32,bytes)")),
            max_outsize=32,
            is_static_call=True,
            revert_on_failure=False,
        )
        return success and len(answer) == 32 and convert(answer, bytes32) == EIP1271_MAGIC

    assert len(signature) == 65, "ECRecover: invalid signature length"
    s: uint256 = extract32(signature, 32, output_type=uint256)
    assert s <= MAX_S, "ECRecover: invalid signature 's' value"
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    assert v == 27 or v == 28, "ECRecover: invalid signature 'v' value"
    recovered: address = ecrecover(digest, v, extract32(signature, 0, output_type=uint256), s)
    assert recovered != empty(address), "ECRecover: invalid signature"
    return recovered == signer
