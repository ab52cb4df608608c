"""Where payment stands in Litestar's OpenAPI document: made from the price of each handler, whoever renders it."""

from copy import copy
from dataclasses import fields
from typing import Any

import msgspec
from litestar import Request, get
from litestar.config.app import AppConfig
from litestar.datastructures import CacheControlHeader
from litestar.enums import MediaType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import OpenAPI, Operation

from bridge.discovery import Discovery
from translators.discovery import Priced, ServiceInfo, annotate_operation

__all__ = ["describe_handler", "serve_document"]

_MARK = "_x402_mpp_priced"


def describe_handler(handler: HTTPRouteHandler, priced: Priced) -> None:
    """Have every operation of `handler` say what it costs, and what its 402 is."""
    base = handler.operation_class
    if not hasattr(base, _MARK):
        handler.operation_class = _paid(base, priced)


def _paid(base: type[Operation], priced: Priced) -> type[Operation]:
    def to_schema(self: Operation) -> dict[str, Any]:
        # Litestar leaves None out of what it writes, and a price that depends on the request is null.
        return annotate_operation(base.to_schema(self), priced)

    return type(f"Paid{base.__name__}", (base,), {"to_schema": to_schema, _MARK: True})


def _describe_service(config: OpenAPIConfig, service: ServiceInfo) -> None:
    """Have the document say what the service is."""
    own = config.to_openapi_schema

    def to_openapi_schema() -> OpenAPI:
        made = own()
        base = type(made)

        def to_schema(self: OpenAPI) -> dict[str, Any]:
            return base.to_schema(self) | {"x-service-info": service.to_json()}

        described: type[OpenAPI] = type(f"Described{base.__name__}", (base,), {"to_schema": to_schema})
        return described(**{field.name: getattr(made, field.name) for field in fields(made)})

    config.to_openapi_schema = to_openapi_schema  # type: ignore[method-assign]


def serve_document(app_config: AppConfig, discovery: Discovery) -> None:
    """Serve the document where registries look for it, with what the service says of itself.

    Raises `ImproperlyConfiguredException` where there is no document.
    """
    if app_config.openapi_config is None:
        raise ImproperlyConfiguredException("discovery: the application has no OpenAPI document (openapi_config=None)")
    if discovery.service is not None:
        # A copy: applications without a configuration of their own share one.
        app_config.openapi_config = copy(app_config.openapi_config)
        _describe_service(app_config.openapi_config, discovery.service)
    if discovery.path is None:
        return
    written: list[tuple[OpenAPI, bytes]] = []

    @get(
        discovery.path,
        price=None,
        include_in_schema=False,
        media_type=MediaType.JSON,
        cache_control=CacheControlHeader(max_age=discovery.max_age),
        sync_to_thread=False,
    )
    def openapi_document(request: Request[Any, Any, Any]) -> bytes:
        document = request.app.openapi_schema
        if not written or written[0][0] is not document:
            # A route that is added later makes another document.
            written[:] = [(document, msgspec.json.encode(document.to_schema()))]
        return written[0][1]

    app_config.route_handlers.append(openapi_document)
