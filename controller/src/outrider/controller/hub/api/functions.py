"""Functions of the hub's plugins: those that devices call, over HTTP."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.datastructures import State
from litestar.params import Body, Parameter

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.tokens import Scope

from .authorization import ClientRequest, needs
from .bodies import FunctionBody, FunctionValue, Items
from .examples import FUNCTION, VALUE
from .openapi import answers, example

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
        return Items([])
