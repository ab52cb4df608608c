"""Settlers: how an authorization becomes money on the chain."""

from bridge.settlers.base import Settler

__all__ = ["settler_from_spec"]


def settler_from_spec(spec: str, *, rpc_url: str | None = None, private_key: str | None = None) -> Settler:
    """The settler that a setting names: `null`, `facilitator:URL`, or `chain` (with `rpc_url` and `private_key`).

    Raises `ValueError` for anything else; nothing is connected before `Settler.start`.
    """
    # Each settler is imported when it is asked for: what one needs, the others do not.
    kind, _, rest = spec.partition(":")
    if spec == "null":
        from bridge.settlers.null import NullSettler

        return NullSettler()
    if kind == "facilitator" and rest:
        from bridge.settlers.facilitator import FacilitatorSettler

        return FacilitatorSettler(rest)
    if spec == "chain":
        if not rpc_url or not private_key:
            raise ValueError("the settler `chain` needs a node's URL and the relayer's private key")
        from bridge.settlers.chain import ChainSettler

        return ChainSettler(rpc_url, private_key)
    raise ValueError("a settler is `chain`, `facilitator:URL` or `null`")
