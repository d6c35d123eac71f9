"""Query parameters that several resources share."""

from typing import Annotated, Final

from litestar.params import Parameter

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
