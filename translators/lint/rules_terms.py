"""Rules about what is asked for, whatever protocol says it: amounts, addresses, tokens, and that all say the same."""

import re
from collections.abc import Iterable, Iterator

from translators.eip3009 import domain_separator
from translators.errors import MalformedError
from translators.fields import checksum_address, parse_address, parse_uint256
from translators.lint.known import TESTNETS
from translators.lint.probe import TokenFacts
from translators.lint.reading import Reading, Term
from translators.lint.rule import Kind, Rule, Severity
from translators.networks import KNOWN_TOKENS
from translators.payment import Asset, Protocol

__all__ = ["ON_CHAIN", "RULES"]

_EXACT = "scheme_exact_evm, EIP-3009"
_AMOUNTS = "x402 specification v1 and v2, 5.1.2; draft-evm-charge-00, Shared Fields"
_SETTLES = 6
"""Seconds that x402's official facilitator wants an authorization to be valid still."""


def _on_evm(term: Term) -> bool:
    return term.chain_id is not None or term.network.startswith("eip155:")


def _amount_form(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        if term.amount:
            try:
                parse_uint256(term.amount, "")
            except MalformedError:
                yield f"{term.where}: {term.amount[:40]!r}"


def _amount_zero(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        if term.amount == "0":
            yield f"{term.where}: 0"


def _addresses(term: Term) -> Iterator[tuple[str, str]]:
    if _on_evm(term):
        names = ("currency", "recipient") if term.protocol is Protocol.MPP else ("asset", "payTo")
        yield from ((name, value) for name, value in zip(names, (term.asset, term.recipient), strict=True) if value)


def _is_address(text: str) -> bool:
    try:
        parse_address(text, "")
    except MalformedError:
        return False
    return True


def _address_form(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        for name, address in _addresses(term):
            if not _is_address(address):
                yield f"{term.where}: {name} is {address[:50]!r}"


def _address_checksum(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        for name, address in _addresses(term):
            mixed = re.search("[a-f]", address[2:]) and re.search("[A-F]", address[2:])
            if _is_address(address) and mixed and checksum_address(address) != address:
                yield f"{term.where}: {name} is {address}"


def _recipient(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        if _on_evm(term) and _is_address(term.recipient):
            if int(term.recipient, 16) == 0:
                yield f"{term.where}: the zero address"
            elif term.recipient.lower() == term.asset.lower():
                yield f"{term.where}: the token's own contract"


def _timeout(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        if term.timeout is not None and term.timeout <= _SETTLES:
            yield f"{term.where}: maxTimeoutSeconds is {term.timeout}"


def _domain_missing(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        if term.protocol is not Protocol.MPP and term.by_authorization and _on_evm(term):
            missing = [n for n in ("name", "version") if not isinstance(getattr(term, n), str) or not getattr(term, n)]
            if missing:
                yield f"{term.where}: extra has no {' and no '.join(missing)}"


def _known(term: Term) -> Asset | None:
    return next((t for t in KNOWN_TOKENS if (t.chain_id, t.address) == term.key), None)


def _domain_wrong(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        token = _known(term)
        if token is None or not term.by_authorization:
            continue
        for name, told, true in (("name", term.name, token.name), ("version", term.version, token.version)):
            if isinstance(told, str) and told and told != true:
                yield f"{term.where}: extra.{name} is {told[:40]!r}, and that of {token.symbol} there {true!r}"


def _decimals(reading: Reading) -> Iterator[str]:
    for term in reading.terms:
        token, facts = _known(term), _facts(reading, term)
        true = token.decimals if token else facts.decimals if facts else None
        if isinstance(term.decimals, int) and true is not None and term.decimals != true:
            yield f"{term.where}: decimals is {term.decimals}, and the token has {true}"


def _testnets(reading: Reading) -> Iterator[str]:
    chains = {term.chain_id for term in reading.terms if term.chain_id is not None}
    play, real = chains & TESTNETS, chains - TESTNETS
    if play and real and any(_mixes(reading.terms_of(protocol)) for protocol in reading.speaks):
        yield f"chains {_listed(play)} are testnets, {_listed(real)} are not"


def _mixes(terms: list[Term]) -> bool:
    chains = {term.chain_id for term in terms if term.chain_id is not None}
    return bool(chains & TESTNETS) and bool(chains - TESTNETS)


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted(str(value) for value in values))


def _pairs(reading: Reading) -> Iterator[tuple[list[Term], list[Term]]]:
    """Each two protocols' offers that an authorization pays, where both have some."""
    spoken = [[t for t in reading.terms_of(p) if t.by_authorization and t.chain_id] for p in reading.speaks]
    offering = [terms for terms in spoken if terms]
    for index, ours in enumerate(offering):
        for theirs in offering[index + 1 :]:
            yield ours, theirs


def _both(ours: list[Term], theirs: list[Term]) -> str:
    return f"{ours[0].protocol.value} and {theirs[0].protocol.value}"


def _networks(reading: Reading) -> Iterator[str]:
    for ours, theirs in _pairs(reading):
        chains, others = {t.chain_id for t in ours}, {t.chain_id for t in theirs}
        if not chains & others:
            yield f"{_both(ours, theirs)} have no chain in common: {_listed(chains)} and {_listed(others)}"


def _assets(reading: Reading) -> Iterator[str]:
    for ours, theirs in _pairs(reading):
        common = {t.chain_id for t in ours} & {t.chain_id for t in theirs}
        tokens, others = {t.key for t in ours if t.chain_id in common}, {t.key for t in theirs if t.chain_id in common}
        if common and not tokens & others:
            yield f"{_both(ours, theirs)} have no token in common on chain {_listed(common)}"


def _amounts(reading: Reading) -> Iterator[str]:
    for ours, theirs in _pairs(reading):
        for key in sorted({t.key for t in ours} & {t.key for t in theirs}, key=str):
            asked, others = ({t.amount for t in terms if t.key == key and t.amount} for terms in (ours, theirs))
            if asked and others and not asked & others:
                yield f"{_both(ours, theirs)} ask {_listed(asked)} and {_listed(others)} of one token"


def _recipients(reading: Reading) -> Iterator[str]:
    for ours, theirs in _pairs(reading):
        for key in sorted({t.key for t in ours} & {t.key for t in theirs}, key=str):
            paid, others = ({t.recipient.lower() for t in terms if t.key == key} for terms in (ours, theirs))
            if not paid & others:
                yield f"{_both(ours, theirs)} pay {_listed(paid)} and {_listed(others)}"


# What the chain says


def _facts(reading: Reading, term: Term) -> TokenFacts | None:
    return next((f for f in reading.probe.tokens if (f.chain_id, f.address.lower()) == term.key), None)


def _with_facts(reading: Reading) -> Iterator[tuple[Term, TokenFacts]]:
    for term in reading.terms:
        if term.by_authorization and (facts := _facts(reading, term)) is not None:
            yield term, facts


def _no_code(reading: Reading) -> Iterator[str]:
    for term, facts in _with_facts(reading):
        if not facts.has_code:
            yield f"{term.where}: nothing stands at {term.asset} on chain {term.chain_id}"


def _no_eip3009(reading: Reading) -> Iterator[str]:
    for term, facts in _with_facts(reading):
        if facts.has_code and facts.takes_authorizations is False:
            yield f"{term.where}: {term.asset} does not answer authorizationState"


def _domain_on_chain(reading: Reading) -> Iterator[str]:
    for term, facts in _with_facts(reading):
        if term.protocol is Protocol.MPP or not isinstance(term.name, str) or not isinstance(term.version, str):
            continue
        token = _known(term)
        if token is not None and (term.name, term.version) != (token.name, token.version):
            continue  # `token-domain` has said it already
        if facts.domain_separator is not None:
            told = Asset(facts.chain_id, facts.address.lower(), 0, term.name, term.version)
            if domain_separator(told) != facts.domain_separator:
                yield f"{term.where}: {term.name[:40]!r}, {term.version[:20]!r} is not the contract's DOMAIN_SEPARATOR"
        elif facts.name is not None and facts.name != term.name:
            yield f"{term.where}: extra.name is {term.name[:40]!r}, and the contract's name() {facts.name[:40]!r}"


RULES = (
    Rule(
        "amount-form",
        Severity.ERROR,
        Kind.MUST,
        "an amount is no whole number of atomic units",
        _AMOUNTS,
        'write atomic units as decimal text: "10000" is a cent of a token with six decimals',
        _amount_form,
    ),
    Rule(
        "amount-zero",
        Severity.WARNING,
        Kind.ADVICE,
        "an amount is zero",
        "a transfer of nothing costs gas, and some clients and facilitators refuse it",
        "leave the price off the route",
        _amount_zero,
    ),
    Rule(
        "address-form",
        Severity.ERROR,
        Kind.MUST,
        "a token or recipient is no address",
        "x402 specification v1 and v2, 5.1.2; draft-evm-charge-00, Shared Fields",
        "write 0x and 40 hexadecimal digits",
        _address_form,
    ),
    Rule(
        "address-checksum",
        Severity.WARNING,
        Kind.SHOULD,
        "an address has a wrong checksum",
        "EIP-55; draft-evm-charge-00, Shared Fields; viem refuses such an address",
        "look for a mistyped digit; write EIP-55 case, or lower case throughout",
        _address_checksum,
    ),
    Rule(
        "recipient-lost",
        Severity.ERROR,
        Kind.ADVICE,
        "money would be lost at this recipient",
        "EIP-20: tokens sent there are nobody's",
        "set the recipient to your own account",
        _recipient,
    ),
    Rule(
        "timeout-short",
        Severity.ERROR,
        Kind.ADVICE,
        "no time is left to settle",
        "x402's facilitator refuses an authorization that ends within 6 s (verify, exact on EVM)",
        "write a minute or more into maxTimeoutSeconds",
        _timeout,
    ),
    Rule(
        "domain-missing",
        Severity.ERROR,
        Kind.MUST,
        "the token's EIP-712 domain is not said",
        f"{_EXACT}, PaymentRequirements: extra.name and extra.version",
        "write the token's own name and version into extra",
        _domain_missing,
    ),
    Rule(
        "token-domain",
        Severity.ERROR,
        Kind.MUST,
        "the token has another EIP-712 domain",
        f"{_EXACT}; the token's own name() and version(): signatures under another domain are void",
        "copy name and version from the contract: they differ between chains",
        _domain_wrong,
    ),
    Rule(
        "token-decimals",
        Severity.WARNING,
        Kind.MUST,
        "the token has other decimals",
        "draft-evm-charge-00, Method Details: decimals; the token's own decimals()",
        "write the token's own decimals; wallets show the amount by them",
        _decimals,
    ),
    Rule(
        "testnet-beside-mainnet",
        Severity.ERROR,
        Kind.ADVICE,
        "play money is taken beside real money",
        "a payer chooses among the offers: the free one will be chosen",
        "offer either testnets or mainnets on one route",
        _testnets,
    ),
    Rule(
        "networks-disagree",
        Severity.ERROR,
        Kind.ADVICE,
        "two protocols are on different networks",
        "one route, one price: a client that moves from one protocol to the other cannot pay",
        "offer the same networks in every protocol that has a name for them",
        _networks,
    ),
    Rule(
        "tokens-disagree",
        Severity.WARNING,
        Kind.ADVICE,
        "two protocols ask for different tokens",
        "one route, one price",
        "offer the same tokens in every protocol",
        _assets,
    ),
    Rule(
        "amounts-disagree",
        Severity.ERROR,
        Kind.ADVICE,
        "two protocols ask different amounts",
        "one route, one price: whoever reads both pays the lower",
        "make all challenges from one price",
        _amounts,
    ),
    Rule(
        "recipients-disagree",
        Severity.WARNING,
        Kind.ADVICE,
        "two protocols pay different recipients",
        "one route, one seller",
        "make all challenges from one recipient, unless your books want two",
        _recipients,
    ),
)

ON_CHAIN = (
    Rule(
        "token-without-code",
        Severity.ERROR,
        Kind.ADVICE,
        "no contract stands at the token's address",
        "the chain's node, eth_getCode",
        "look up the token's address on this chain",
        _no_code,
    ),
    Rule(
        "token-without-eip3009",
        Severity.ERROR,
        Kind.MUST,
        "the token takes no authorizations",
        "draft-evm-charge-00, Credential Type Negotiation; EIP-3009",
        "ask for a token with EIP-3009, or for Permit2",
        _no_eip3009,
    ),
    Rule(
        "token-domain-on-chain",
        Severity.ERROR,
        Kind.MUST,
        "the contract has another EIP-712 domain",
        f"{_EXACT}; the contract's DOMAIN_SEPARATOR() or name(), asked of the chain",
        "copy name and version from the contract",
        _domain_on_chain,
    ),
)
"""Rules that can be asked only where a node of the chain was."""
