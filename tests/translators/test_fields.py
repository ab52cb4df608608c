"""The field forms that all wires share, and the names of networks and tokens."""

import pytest

from translators.errors import MalformedError
from translators.fields import checksum_address, parse_address, parse_signature, parse_uint256, parse_word
from translators.networks import KNOWN_TOKENS, V1_NETWORKS, caip2, chain_id_from_network, default_token, v1_network

ADDRESS = "0x" + "aB" * 20
WORD = "0x" + "0F" * 32

ACCEPTED = [
    (parse_address, ADDRESS, ADDRESS.lower()),
    (parse_address, "0X" + "00" * 20, "0x" + "00" * 20),
    (parse_word, WORD, WORD.lower()),
    (parse_uint256, "0", 0),
    (parse_uint256, "1", 1),
    (parse_uint256, str(2**256 - 1), 2**256 - 1),
]

REFUSED = [
    *[
        (parse_address, text)
        for text in ("", "0x", ADDRESS[2:], ADDRESS[:-1], ADDRESS + "0", ADDRESS + "\n", " " + ADDRESS)
    ],
    *[(parse_address, text) for text in ("0x" + "g" * 40, "0x" + "\uff11" * 40, "0x" + "\u0661" * 40, "\x00" * 42)],
    *[(parse_word, text) for text in ("", WORD[2:], WORD[:-1], WORD + "0", WORD + "\n", ADDRESS)],
    *[
        (parse_uint256, text)
        for text in ("", " 1", "1 ", "1\n", "+1", "-1", "-0", "01", "00", "0x1", "1.0", "1e3", "1_000", "\u0663")
    ],
    *[(parse_uint256, text) for text in (str(2**256), "9" * 78, "1" + "0" * 78, "9" * 100_000)],
]


@pytest.mark.parametrize(("parse", "text", "value"), ACCEPTED)
def test_accepted(parse, text: str, value: object) -> None:
    """Each form is read to one canonical value."""
    assert parse(text, "it") == value


@pytest.mark.parametrize(("parse", "text"), REFUSED)
def test_refused(parse, text: str) -> None:
    """Nothing near the form passes: no white space, sign, leading zero, other digits, other length."""
    with pytest.raises(MalformedError, match=r"^it is not"):
        parse(text, "it")


@pytest.mark.parametrize("text", ["", "0x", "0x0", "0xabc", "abcd", "0xzz", "0x00\n", "0x 00"])
def test_signature_refused(text: str) -> None:
    """A signature is whole bytes of hexadecimal, and some."""
    with pytest.raises(MalformedError, match=r"^signature is not"):
        parse_signature(text)


@pytest.mark.parametrize("length", [1, 64, 65, 66, 1000])
def test_signature_of_any_length(length: int) -> None:
    """Contract wallets sign as long as they like."""
    assert parse_signature("0x" + "Ab" * length) == b"\xab" * length


@pytest.mark.parametrize(
    "address",
    [
        # EIP-55, "Test Cases"
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_checksum(address: str) -> None:
    """EIP-55's examples, from any case."""
    assert checksum_address(address.lower()) == checksum_address("0x" + address[2:].upper()) == address


def test_networks_are_one_to_one() -> None:
    """Each v1 name has one chain id, and comes back from it; CAIP-2 goes both ways for any chain."""
    for name, chain_id in V1_NETWORKS.items():
        assert chain_id_from_network(name) == chain_id
        assert v1_network(chain_id) == name
        assert chain_id_from_network(caip2(chain_id)) == chain_id
    assert v1_network(1) is None
    assert caip2(84532) == "eip155:84532"


def test_v1_names_are_those_of_its_own_client() -> None:
    """The EVM networks of npm `x402` 1.2.0, which refuses a whole 402 over one name beyond them."""
    assert set(V1_NETWORKS) == {
        *("abstract", "abstract-testnet", "base-sepolia", "base", "avalanche-fuji", "avalanche", "iotex", "sei"),
        *("sei-testnet", "polygon", "polygon-amoy", "peaq", "story", "educhain", "skale-base-sepolia"),
    }


@pytest.mark.parametrize(
    "network", ["", "solana", "Base", "base ", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "EIP155:1"]
)
def test_unknown_network(network: str) -> None:
    """A network that is not EVM or not known is no chain id, and no error."""
    assert chain_id_from_network(network) is None


@pytest.mark.parametrize("reference", ["", "x", "0x1", "-1", "1 ", "1.0", "²", "\u0661", "9" * 21, "1:2"])
def test_malformed_caip2(reference: str) -> None:
    """An `eip155` reference is a decimal number."""
    with pytest.raises(MalformedError):
        chain_id_from_network(f"eip155:{reference}")


def test_known_tokens() -> None:
    """Tokens are in canonical form, each once, and a chain's first is its default."""
    assert len({(token.chain_id, token.address) for token in KNOWN_TOKENS}) == len(KNOWN_TOKENS)
    for token in KNOWN_TOKENS:
        assert parse_address(token.address, "token") == token.address
        assert default_token(token.chain_id).chain_id == token.chain_id
    assert default_token(42220).symbol == "USDC"
    assert default_token(1) is None
