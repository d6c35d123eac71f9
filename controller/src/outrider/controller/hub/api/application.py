"""The hub's HTTP application: all routes, who may use them, and what errors look like."""

from collections.abc import Sequence

from litestar import Litestar, Router
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp, ControllerRouterHandler

from outrider.controller.hub.pages.serve import routes as pages
from outrider.controller.hub.parts import Parts
from outrider.controller.hub.plugins import Context, Plugin, PluginError
from outrider.schema import OutriderError

from . import openapi
from .authorization import Authentication, needs_by_method
from .commands import Commands, Rollouts
from .devices import Devices
from .events import Events
from .functions import PluginFunctions
from .gate import BODY_LIMIT, Gate
from .health import health, me, metrics, ready
from .live import LiveStream
from .observed import Observed
from .parameters import only_known
from .problems import on_exception, on_http_exception, on_outrider_error
from .results import Results
from .scripts import Scripts


def create_app(
    parts: Parts,
    *,
    loopback: bool,
    origins: Sequence[str] = (),
    plugins: Sequence[Plugin] = (),
    context: Context | None = None,
) -> ASGIApp:
    """The application of an open hub.

    :param loopback: whether nobody outside this machine reaches it, so that tokens are not needed until there is one.
    :param origins: sites whose pages may use the API, as `https://fleet.example`.
    :param plugins: whose routes it has as well.
    :param context: what these get as `hub`.
    :raises PluginError: a plugin's routes cannot be, or are taken.
    """
    api = Router(
        openapi.PATH,
        route_handlers=[Devices, Commands, Rollouts, Results, Events, LiveStream, PluginFunctions],
        before_request=only_known,
    )
    scripts = Router("/", route_handlers=[Scripts], before_request=only_known)
    handlers: list[ControllerRouterHandler] = [api, scripts, me, health, ready, metrics, *pages()]
    handlers += [_routes(each, context) for each in plugins if each.routes]
    try:
        app = _app(handlers, parts, loopback=loopback, origins=origins)
        openapi.tidy(app.openapi_schema)
    except ImproperlyConfiguredException as error:
        names = ", ".join(repr(each.name) for each in plugins if each.routes)
        raise PluginError(f"the routes of the plugin {names} cannot be served: {error.detail}") from error
    return Observed(Gate(app, loopback=loopback, origins=origins), parts.metrics)


def _app(
    handlers: Sequence[ControllerRouterHandler], parts: Parts, *, loopback: bool, origins: Sequence[str]
) -> Litestar:
    return Litestar(
        handlers,
        state=State({"hub": parts, "tokens": parts.tokens, "loopback": loopback}),
        middleware=[
            DefineMiddleware(Authentication, exclude=rf"^{openapi.PATH}/openapi\.json$", exclude_http_methods=())
        ],
        exception_handlers={
            OutriderError: on_outrider_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        cors_config=_cors(origins) if origins else None,
        openapi_config=openapi.config(),
        plugins=[openapi.RawSchema()],
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        debug=False,
    )


def _routes(plugin: Plugin, context: Context | None) -> Router:
    """What a plugin serves beside its functions."""
    return Router(
        "/",
        route_handlers=plugin.routes,
        guards=[needs_by_method],
        dependencies={"hub": Provide(lambda: context, sync_to_thread=False)},
        tags=[plugin.name],
    )


def _cors(origins: Sequence[str]) -> CORSConfig:
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        expose_headers=["Location", "Retry-After"],
        max_age=600,
    )
