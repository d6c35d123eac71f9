"""Query parameters that several resources share."""

from typing import Annotated, Final

from litestar.params import Parameter

from .authorization import ClientRequest
from .problems import invalid

MOST: Final = 1000
"""Things on a page at most."""

Limit = Annotated[int, Parameter(ge=1, le=MOST, description="How many on a page at most.")]

Cursor = Annotated[
    int | None, Parameter(ge=0, le=2**53, description="`next` of the page before; without it the first one.")
]

Since = Annotated[float | None, Parameter(ge=-1e11, le=1e11, description="From this time on, in Unix seconds.")]

Until = Annotated[float | None, Parameter(ge=-1e11, le=1e11, description="Before this time, in Unix seconds.")]

DeviceId = Annotated[str, Parameter(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A device's id.")]

CommandId = Annotated[str, Parameter(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="A command's id.")]

Target = Annotated[
    str | None,
    Parameter(
        min_length=1, max_length=4096, description="A target, as `lamp-1`, `@kitchen` or `room=hall and is:ready`."
    ),
]


Text = Annotated[str | None, Parameter(min_length=1, max_length=256, description="Only what has exactly this.")]


async def only_known(request: ClientRequest) -> None:
    """A hook before requests: a query parameter that a resource has not is refused, so that no slip goes unnoticed.

    :raises Refused: naming it.
    """
    if not request.query_params:
        return
    known = request.route_handler.parsed_fn_signature.parameters.keys() - request.path_params.keys() - _GIVEN
    for name in request.query_params:
        if name not in known:
            there = f"there are {', '.join(sorted(known))}" if known else "there are none"
            raise invalid(f"no query parameter is called {name!r} here: {there}", name)


_GIVEN: Final = frozenset({"request", "state", "data"})
"""What handlers are given beside parameters."""
