"""Functions of the hub's plugins: those that devices call, over HTTP."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.datastructures import State
from litestar.params import Body, Parameter
from msgspec import Raw, UnsetType

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.tokens import Scope
from outrider.device import error_of

from .authorization import ClientRequest, needs
from .bodies import WAIT_LIMIT, FunctionBody, FunctionValue, Items
from .examples import FUNCTION, VALUE
from .openapi import answers, example
from .problems import not_found

FunctionName = Annotated[str, Parameter(max_length=128, description="The function's name.")]


class PluginFunctions(Controller):
    """What plugins offer."""

    path = "/functions"
    tags = ("functions",)

    @get(
        summary="List functions",
        guards=[needs(Scope.READ)],
        responses=answers(Items([FUNCTION]), type=Items[FunctionBody]),
    )
    async def list_functions(self, state: State) -> Items[FunctionBody]:
        """The functions of the plugins, with help and JSON Schema."""
        hub: Parts = state.hub
        functions = hub.functions
        if functions is None:
            return Items([])
        abouts = ((name, functions.about(name)) for name in functions.names())
        return Items([FunctionBody(name, about.help, about.arguments, about.result) for name, about in abouts])

    @post(
        "/{name:str}",
        summary="Call a function",
        guards=[needs(Scope.SEND)],
        status_code=200,
        responses=answers(VALUE, 404, 413, 415, 502, type=FunctionValue),
    )
    async def call(
        self,
        request: ClientRequest,
        state: State,
        name: FunctionName,
        data: Annotated[
            dict[str, object] | list[object],
            Body(description="Its arguments, named or positional.", examples=[example({"word": "fig"})]),
        ],
        timeout: Annotated[float, Parameter(ge=0.001, le=WAIT_LIMIT, description="Seconds it may take.")] = 30.0,
    ) -> FunctionValue:
        """Call a function of a plugin and return its value; devices call the same ones at `any:hub`."""
        hub: Parts = state.hub
        functions = hub.functions
        if functions is None or name not in functions.names():
            raise not_found(f"no plugin has a function {name}", "unknown-function")
        result = await functions.result(name, data, caller=request.user.name, timeout=timeout)
        if error := error_of(result):
            raise error
        return FunctionValue(Raw(b"null") if isinstance(result.value, UnsetType) else result.value)
