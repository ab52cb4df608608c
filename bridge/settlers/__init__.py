"""Settlers: how an authorization becomes money on the chain."""

from collections.abc import Sequence

from bridge.settlers.base import Settler

__all__ = ["settler_from_spec"]


def settler_from_spec(
    spec: str, *, rpc_url: str | Sequence[str] | None = None, private_key: str | None = None
) -> Settler:
    """The settler that a setting names: `null`, `facilitator:URL`, or `chain` (with `rpc_url` and `private_key`).

    A facilitator's word is checked on the chain where `rpc_url` is given. After a comma stands another facilitator's
    URL, to be asked where the one before does not answer. `rpc_url` is one node's URL or several, as a sequence or with
    commas between. Raises `ValueError` for anything else; nothing is connected before `Settler.start`.
    """
    # Each settler is imported when it is asked for: what one needs, the others do not.
    kind, _, rest = spec.partition(":")
    if spec == "null":
        from bridge.settlers.null import NullSettler

        return NullSettler()
    if kind == "facilitator" and rest:
        from bridge.settlers.facilitator import FacilitatorSettler

        facilitators = [FacilitatorSettler(url.strip(), rpc_url=rpc_url or None) for url in rest.split(",")]
        if len(facilitators) == 1:
            return facilitators[0]
        from bridge.settlers.fallback import FallbackSettler

        return FallbackSettler(facilitators)
    if spec == "chain":
        if not rpc_url or not private_key:
            raise ValueError("the settler `chain` needs a node's URL and the relayer's private key")
        from bridge.settlers.chain import ChainSettler

        return ChainSettler(rpc_url, private_key)
    raise ValueError("a settler is `chain`, `facilitator:URL` or `null`")
