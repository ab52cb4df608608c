"""What is kept of a `User-Agent`: product and version, and nothing that says more of a person."""

import pytest

from bridge.analytics.user_agents import client_of

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.6478.61 Safari/537.36"
EDGE = f"{CHROME} Edg/126.0.2592.56"
SAFARI = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15"
CASES = [
    (None, "(none)", ""),
    ("", "(none)", ""),
    ("python-httpx/0.28.1", "python-httpx", "0.28.1"),
    ("x402-fetch/v1.2.3-beta.1 node/22", "x402-fetch", "1.2.3-beta.1"),
    ("curl", "curl", ""),
    ("curl/8.5.0 (x86_64-pc-linux-gnu)", "curl", "8.5.0"),
    ("agent/deadbeefdeadbeef", "agent", ""),
    ("agent/1.2.3.4.5.6", "agent", "1.2.3.4"),
    ("bob@example.com", "(other)", ""),
    ("(a comment alone)", "(other)", ""),
    ("x" * 60, "(other)", ""),
    ("agent/" + "1" * 500, "(other)", ""),
    ("\x00\xff", "(other)", ""),
    (CHROME, "Chrome", "126"),
    (EDGE, "Edge", "126"),
    (SAFARI, "Safari", "17"),
    ("Mozilla/5.0 (X11; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox", "127"),
    ("Mozilla/5.0 (compatible; Somebot/2.1; +http://example.com)", "Mozilla", ""),
]


@pytest.mark.parametrize(("said", "product", "version"), CASES)
def test_clients(said: str | None, product: str, version: str) -> None:
    """Each as reports name it."""
    assert client_of(said) == (product, version)
