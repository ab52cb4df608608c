"""Values that others publish, as data: whoever computes something else is not compatible with them."""

SECRET = "test-vector-secret-minimum-32-byte-secret"
AMOUNT = {"amount": "1000000"}
EXPIRES = "2025-01-06T12:00:00Z"
DIGEST = "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE"
TOKEN = "0x20c0000000000000000000000000000000000001"

CHALLENGE_IDS: list[tuple[str, dict[str, object], dict[str, str], str]] = [
    # mpp-tools, conformance/vectors/challenge-id.json: secret, request, other members, id.
    (SECRET, AMOUNT, {}, "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0"),
    (SECRET, AMOUNT, {"expires": EXPIRES}, "ZcHgfEi5_Qyda9NQwUzamsCgCcWXw6N6EH2NLyaSTlg"),
    (SECRET, AMOUNT, {"digest": DIGEST}, "vwnOtW2kwdujK9_uC_taI2e6Jwq86Jwogvq9m--i8eQ"),
    (SECRET, AMOUNT, {"expires": EXPIRES, "digest": DIGEST}, "HSUJV7QH1E135PSDPlrZ5cLoozV3bv5T4vfVdS3Xyzk"),
    (SECRET, AMOUNT, {"opaque": "trace-123"}, "1XJ-Ti0DACNe3E1zHvwH6OdnKlhUx6xKxDbhJyexng4"),
    (SECRET, AMOUNT, {"header": "Payment-Authorization"}, "re8MIMJYpIJ0r_aiizscg6ghtipQM8IpOa_NtpwIU8E"),
    (SECRET, AMOUNT, {"header": "Authorization"}, "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0"),
    (
        SECRET,
        {"amount": "1000"},
        {"opaque": "eyJyb3V0ZSI6Ii9hcGkvcHJlbWl1bSJ9"},
        "qKB3Cm8efoWftvkRf43R5GxatYiXuZPxhs2kA3CvxGM",
    ),
    (SECRET, AMOUNT, {"description": "API access payment required"}, "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0"),
    (
        SECRET,
        {**AMOUNT, "currency": "0x1234", "recipient": "0xabcd"},
        {},
        "I8ZLhCXrskUbWuwYSSM0My-wk3mnL9_w8cDlEcs2UFo",
    ),
    (
        SECRET,
        {**AMOUNT, "currency": "0x1234", "methodDetails": {"chainId": 42431}},
        {},
        "W8sYOWDDrcuRcku27vjJoqLX0uAnBmql7qAOuQwdmPo",
    ),
    (
        SECRET,
        {"amount": "1500", "currency": "USD", "description": "Access <premium> & analytics", "recipient": "merchant"},
        {},
        "iU2QdYw_u-prmGZWxm58jeBakeYE-ib_u77f9vcW76E",
    ),
    (
        SECRET,
        {"amount": "1000", "currency": "USD", "recipient": "merchant", "resource": "/charge/query-replay?tier=basic"},
        {},
        "ge6Ckot8ZHZB_S-6OOlzuKOnUhndJIUarP-zPCtzleE",
    ),
    (
        SECRET,
        {"amount": "2500", "currency": "USD", "externalId": "server-order-123", "recipient": "merchant"},
        {},
        "PyzaHuf-58VJxeH7oErmMTlnKZZ5yYzRVueWW0MK1hI",
    ),
    (
        SECRET,
        {
            "amount": "5000",
            "currency": "USD",
            "methodDetails": {"chainId": 42431, "feePayer": True, "maxFeePerGas": "1000000"},
            "recipient": "merchant",
        },
        {},
        "Z-51rg0Ds7Xd9FnWiXT3aOs4vyuScuZkxnk-BNRy8QE",
    ),
    (SECRET, {}, {}, "SMpxo_gPWGquX9vAZ-b_OIPsHO3kfdY2s73946Mnwc0"),
    (SECRET, AMOUNT, {"realm": "payments.other.com"}, "NiwWsOUeZDNPegltJVbOHVKR4hHbZR5tnoQ80DVrqyY"),
    (SECRET, AMOUNT, {"method": "stripe"}, "IPY59YD2ZWmf3yXnZxbQgYoYejrVB9Nh_rpSkrOeSG0"),
    (SECRET, AMOUNT, {"intent": "session"}, "3bUB3LSxOG-lexqNCMGiV-p_j1UeibqWlA-saIiwo5A"),
    (
        "test-secret-key-12345-minimum-32-byte-secret",
        {"amount": "5000000", "currency": TOKEN, "recipient": "0xabcdef1234567890abcdef1234567890abcdef12"},
        {"expires": "2026-01-29T12:00:00Z"},
        "DAgfntQtAmV_y2J9YWUh-UKvwRTxXhMCvX0uOFzvfOE",
    ),
    (
        "test-secret-abc123-minimum-32-byte-secret",
        {
            "amount": "10000000",
            "currency": TOKEN,
            "recipient": "0x742d35Cc6634C0532925a3b844Bc9e7595f1B0F2",
            "description": "API access fee",
            "externalId": "order-12345",
        },
        {"realm": "api.tempo.xyz", "expires": "2026-02-01T00:00:00Z", "digest": "sha-256=abc123def456"},
        "_pLIgk1zfLjIqa1aXziYSyyHZLQZQ1WXCBSa3-DK6_E",
    ),
    (
        "unicode-test-key-minimum-32-byte-secret",
        {
            "amount": "100",
            "currency": "EUR",
            "recipient": "0x1111111111111111111111111111111111111111",
            "description": "Payment for café ☕",
        },
        {},
        "-UB9jxfPEvTmFw7qvLmqJhDZ-lJ-noCp15ROxPHC4BE",
    ),
    (
        "case-sensitive-key-minimum-32-bytes",
        {**AMOUNT, "Currency": "USD", "ZONE": "eu-1", "network": {"chainId": 42431, "Layer": "L2"}},
        {},
        "oUJHedaukLx579-B6Apbsw_r17uJOqERHjQRjCVhP0M",
    ),
    # pympp 0.16.0, tests/test_challenge_id.py
    ("test-vector-secret", {**AMOUNT}, {"expires": EXPIRES}, "ChPX33RkKSZoSUyZcu8ai4hhkvjZJFkZVnvWs5s0iXI"),
    ("test-vector-secret", {}, {}, "yLN7yChAejW9WNmb54HpJIWpdb1WWXeA3_aCx4dxmkU"),
]

EIP3009: list[tuple[int, str, int, str, str]] = [
    # 89rat/x402-conformance, vectors/golden.json: byte of the private key, payer, value, digest, signature; USDC on
    # Base, to 0xc59c..., valid from 0 to 9999999999, the nonce counts from 1.
    (
        0x11,
        "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a",
        1_000_000,
        "fb4d99a3877d0a63137cb263652538b9e0c9b0bcc581540520a1d0f0dcde474d",
        "2de55410b11b7cbfe0f40023b906c2b190f2bb2b507c5d695c0acf5bc36299a60ca0a4089dc7829d652431b9665fe0d02b71edef691a6b92281a05f989b161f41b",
    ),
    (
        0x22,
        "0x1563915e194d8cfba1943570603f7606a3115508",
        1,
        "1be7eb13ee2c7712449708b07aa4bfbc80bbf65a70d494a7ed56297d7b7cfa9c",
        "fc36e85fb525a600def5f1891454044ec4e39f04bb9523273172a1fd697e7f661a2f413234c31858cc088c7e5f980def774d08e3525cc7d7dc217c6400c6cb711c",
    ),
    (
        0x33,
        "0x5cbdd86a2fa8dc4bddd8a8f69dba48572eec07fb",
        2**256 - 1,
        "41ffc359a212fa7b83a0db4ddf75af39e984fc41f06170c2b9782115bd46c5ee",
        "9a59acbde3e5dbee8e4e13bfb628f4b64654dfe01e1d7401ecc7885816f970ac10a82f23555921f59cbedf7d17404ec09eb9c4ad44c4ff8f3d57b5adc274349d1c",
    ),
]

EIP3009_RECIPIENT = "0xc59c85e661d34084a7769f955d17fd38254a6235"

WWW_AUTHENTICATE: dict[str, tuple[str, dict[str, str] | None]] = {
    # mpp-tools, conformance/vectors/www-authenticate.json: value, and what differs from BASIC; None is refused.
    "white space": (
        'Payment  id="c" ,  realm="api.example.com" ,  method="tempo" ,  intent="charge" ,  request="e30"',
        {},
    ),
    "order": ('Payment request="e30", realm="api.example.com", intent="charge", id="c", method="tempo"', {}),
    "unknown": (
        'Payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30", foo="bar"',
        {},
    ),
    "case of the scheme": (
        'payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30"',
        {},
    ),
    "quotes": (
        'Payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30", '
        'description="Pay \\"premium\\" API"',
        {"description": 'Pay "premium" API'},
    ),
    "backslashes": (
        'Payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30", '
        'description="Path C:\\\\tempo\\\\api"',
        {"description": "Path C:\\tempo\\api"},
    ),
    "digest and expires": (
        'Payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30", '
        'description="API access", digest="sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=", '
        'expires="2026-01-29T12:05:00Z"',
        {
            "description": "API access",
            "digest": "sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=",
            "expires": "2026-01-29T12:05:00Z",
        },
    ),
    "scheme's name in realm": (
        'Payment id="c", realm="contact Payment support", method="tempo", intent="charge", request="e30"',
        {"realm": "contact Payment support"},
    ),
    "no id": ('Payment realm="api", method="tempo", intent="charge", request="e30"', None),
    "no realm": ('Payment id="abc", method="tempo", intent="charge", request="e30"', None),
    "no method": ('Payment id="abc", realm="api", intent="charge", request="e30"', None),
    "no intent": ('Payment id="abc", realm="api", method="tempo", request="e30"', None),
    "no request": ('Payment id="abc", realm="api", method="tempo", intent="charge"', None),
    "empty id": ('Payment id="", realm="api", method="tempo", intent="charge", request="e30"', None),
    "duplicate": ('Payment id="a", realm="api", method="tempo", intent="charge", request="e30", id="b"', None),
    "scheme only": ("Payment", None),
    # Two that those vectors would have read in part, and we refuse: a quote inside a value, and a value without end.
    "bare quotes": (
        'Payment id="c", realm="api.example.com", method="tempo", intent="charge", request="e30", '
        'description="Payment for "Premium" service"',
        None,
    ),
    "no end": (
        'Payment id="c", realm="a", method="tempo", intent="charge", request="e30", fuzz="' + "\\" * 12000,
        None,
    ),
}
BASIC = {"id": "c", "realm": "api.example.com", "method": "tempo", "intent": "charge", "request": "e30"}
