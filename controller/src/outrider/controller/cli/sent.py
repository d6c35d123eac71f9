"""What goes on after a line of the REPL: a command on its way, or a question about others, and what is shown of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from outrider.controller import Dispatch
from outrider.device import Reply
from outrider.schema import OutriderError, Progress, Result, Status

from .output import reply_line, summary_line
from .terminal import printable

SHOWN: Final = 4_000
"""Characters that are shown at a terminal of one answer; `outrider results` has all of it."""

PASSED: Final = 3
"""Members of a pool that are shown refusing a command, before one takes it."""


@dataclass(slots=True)
class Sent:
    """A command on its way. `text` is what was typed, `progress` the last one of each device."""

    tag: int
    target: str
    text: str
    dispatch: Dispatch
    progress: dict[str, Progress] = field(default_factory=dict[str, Progress])
    done: int = 0
    """How many devices have given their outcome."""
    task: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many outcomes there will be."""
        return 1 if self.dispatch.targets.pool is not None else len(self.dispatch.targets.devices)

    async def ended(self) -> bool:
        """Wait until every device has an outcome; whether all are `done`."""
        assert self.task is not None
        await self.task
        outcomes = self.dispatch.outcomes
        return bool(outcomes) and all(result.status is Status.DONE for result in outcomes.values())


@dataclass(slots=True, eq=False)
class Question:
    """A question that is being answered."""

    done: bool = False
    error: OutriderError | None = None
    task: asyncio.Task[None] | None = None

    async def ended(self) -> bool:
        """Wait until it is answered; whether all that were asked did.

        :raises OutriderError: why it cannot be answered.
        """
        assert self.task is not None
        await self.task
        if self.error is not None:
            raise self.error
        return self.done


async def follow(
    sent: Sent,
    *,
    show: Callable[[RenderableType], None],
    changed: Callable[[], None],
    tagged: bool,
    ended: Callable[[Sent], None],
    late: bool,
) -> None:
    """Show what comes back, until every device has an outcome.

    :param tagged: begin each line with the command's tag, cut what is long, and sum up.
    :param ended: called when each has.
    :param late: then show what replaces it later, until final answers have come of all.
    """

    def show_tagged(line: Text) -> None:
        show(Text.assemble((f"[{sent.tag}] ", "cyan"), _cut(line, sent.dispatch.id)) if tagged else line)

    def take(reply: Reply) -> None:
        message = reply.message
        if isinstance(message, Result):
            sent.done += 1
            sent.progress.pop(reply.device, None)
        elif message.stream is None:
            sent.progress[reply.device] = message
        changed()
        # What has no end is shown where it moves (`in_flight`), not line by line.
        if isinstance(message, Result) or message.stream is not None:
            line = reply_line(reply, show_device=True)
            if line is not None:
                show_tagged(line)

    dispatch = sent.dispatch
    passed = 0
    try:
        async for reply in dispatch:
            for result in dispatch.passed[passed:PASSED]:
                line = reply_line(Reply(result.device, result), show_device=True)
                if line is not None:
                    show_tagged(line.append("  (another member was asked)", style="dim"))
            passed = len(dispatch.passed)
            take(reply)
        if passed > PASSED:
            show_tagged(Text(f"{passed - PASSED} more members did not take it", style="dim"))
        if tagged and len(dispatch.outcomes) > 1:
            show_tagged(summary_line(dispatch.outcomes))
        ended(sent)
        if late:
            async for reply in dispatch.late():
                take(reply)
    except OutriderError as error:
        show_tagged(Text(printable(str(error)), style="red"))


def _cut(line: Text, id: str) -> Text:
    more = len(line) - SHOWN
    if more <= SHOWN // 10:
        return line
    words = f" … and {more:,} characters more; all of it: outrider results {id} --json"
    return line[:SHOWN].append(words, style="dim")
