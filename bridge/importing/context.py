"""A request as the x402 SDK hands it to a price that is a function: the members of its `HTTPRequestContext`."""

from typing import Any
from urllib.parse import parse_qs

from bridge.request import PaidRequest

__all__ = ["RequestContext"]


class RequestContext:
    """The SDK's context, and its adapter in one: `context.adapter.get_header("X-Plan")`, `context.path`, ..."""

    def __init__(self, request: PaidRequest, pattern: str) -> None:
        self._request = request
        self.path = request.path
        self.method = request.method
        self.route_pattern = pattern
        self.decoded_path: str = request.scope["path"]
        self.payment_header = self.get_header("payment-signature") or self.get_header("x-payment")

    @property
    def adapter(self) -> "RequestContext":
        """Itself."""
        return self

    def get_header(self, name: str) -> str | None:
        """The first value of a header."""
        return self._request.header(name.lower().encode("latin-1"))

    def get_method(self) -> str:
        """The request's method."""
        return self.method

    def get_path(self) -> str:
        """The path as it was sent."""
        return self.path

    def get_url(self) -> str:
        """The public URL, with its query."""
        query = self._request.scope.get("query_string", b"").decode("latin-1")
        return self._request.url + (f"?{query}" if query else "")

    def get_accept_header(self) -> str:
        """`Accept`, or nothing."""
        return self.get_header("accept") or ""

    def get_user_agent(self) -> str:
        """`User-Agent`, or nothing."""
        return self.get_header("user-agent") or ""

    def get_query_params(self) -> dict[str, str | list[str]]:
        """Every parameter of the query: its value, or its values where there are several."""
        query = self._request.scope.get("query_string", b"").decode("latin-1")
        found = parse_qs(query, keep_blank_values=True)
        return {name: values[0] if len(values) == 1 else values for name, values in found.items()}

    def get_query_param(self, name: str) -> str | list[str] | None:
        """One parameter of the query."""
        return self.get_query_params().get(name)

    def get_body(self) -> Any:
        """Nothing: as on the SDK's ASGI servers, a body is not read before it is paid for."""
        return None
