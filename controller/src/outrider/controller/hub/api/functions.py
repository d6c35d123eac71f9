"""Functions of the hub's plugins: those that devices call, over HTTP."""

from typing import Annotated

from litestar import Controller, get
from litestar.datastructures import State
from litestar.params import Parameter

from outrider.controller.hub.parts import Parts
from outrider.controller.hub.tokens import Scope

from .authorization import needs
from .bodies import FunctionBody, Items
from .examples import FUNCTION
from .openapi import answers

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
