# pragma version ~=0.4.3
# pragma evm-version cancun
"""
@title  A stand-in for x402UptoPermit2Proxy
@license MIT
@notice Does what scheme_upto_evm asks of the contract at 0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002: passes a permit of
        the payer's on to Permit2, for at most what was signed, to the recipient that was signed, by the facilitator
        that was signed. Its published bytecode is in no registry of packages, so tests place this at its address.
"""

struct TokenPermissions:
    token: address
    amount: uint256

struct PermitTransferFrom:
    permitted: TokenPermissions
    nonce: uint256
    deadline: uint256

struct Transfer:
    to: address
    requestedAmount: uint256

struct Witness:
    to: address
    facilitator: address
    validAfter: uint256

interface Permit2:
    def permitWitnessTransferFrom(
        permit: PermitTransferFrom,
        transfer: Transfer,
        owner: address,
        witness: bytes32,
        witnessType: String[200],
        signature: Bytes[1024],
    ): nonpayable

event Settled:
    pass

PERMIT2: constant(address) = 0x000000000022D473030F116dDEE9F6B43aC78BA3
WITNESS_TYPEHASH: constant(bytes32) = keccak256("Witness(address to,address facilitator,uint256 validAfter)")


@external
@nonreentrant
def settle(
    permit: PermitTransferFrom, amount: uint256, owner: address, witness: Witness, signature: Bytes[1024]
):
    assert amount <= permit.permitted.amount, "AmountExceedsPermitted"
    assert msg.sender == witness.facilitator, "UnauthorizedFacilitator"
    assert amount != 0, "InvalidAmount"
    assert block.timestamp >= witness.validAfter, "PaymentTooEarly"
    extcall Permit2(PERMIT2).permitWitnessTransferFrom(
        permit,
        Transfer(to=witness.to, requestedAmount=amount),
        owner,
        keccak256(abi_encode(WITNESS_TYPEHASH, witness.to, witness.facilitator, witness.validAfter)),
        "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)",
        signature,
    )
    log Settled()
