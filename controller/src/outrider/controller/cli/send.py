"""`outrider send`: one command to every device of a target, and each one's outcome as it comes."""

import re
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import typer
from typer.core import TyperCommand

from outrider.controller.durable import default_path
from outrider.controller.fleet import IfOffline
from outrider.controller.plan import MINIMUM, Plan, Share
from outrider.device import DEFAULT_WAIT

from .exits import NOT_DONE, run
from .options import TARGET_HELP, BrokerOption, NameOption, PrefixOption, open_fleet, parsed, seconds
from .sending import Sending, arguments, form_of

ROLLOUT: Final = "Rollout"
"""The panel of the help that the options of rollouts are in."""


class SendCommand(TyperCommand):
    """Takes `-5` and other words that begin with one dash as arguments, but no misspelt `--option`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer hides the type of contexts
        """The words left over; `typer.BadParameter` for an option that there is none of."""
        known = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        words = args[: args.index("--")] if "--" in args else args
        for word in words:
            name = word.partition("=")[0]
            if re.match(r"--[A-Za-z]", word) and name not in known:
                hint = (
                    f"there is no option {name}; to send it as an argument write -- before it, and options before that"
                )
                raise typer.BadParameter(hint, ctx=ctx)
        return super().parse_args(ctx, args)


class WhenOffline(StrEnum):
    """What becomes of a command for a device that is away."""

    QUEUE = "queue"
    FAIL = "fail"


def send(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help=TARGET_HELP,
            show_default=False,
        ),
    ],
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="See outrider about TARGET.", show_default=False)],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS",
            help='By position: 5 "two words"; by name: x=5 msg="two words"; first the one, then the other; '
            "or one JSON object or array.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="DURATION",
            parser=seconds,
            help="How long to wait for final answers, as 30s or 5m, also of devices that are away. Without it up to "
            "30 seconds, and only for those that are there.",
            show_default=False,
        ),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait: print the command's id once the broker has it.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="DURATION", parser=seconds, help="How long it may run on a device.", show_default=False
        ),
    ] = None,
    expires: Annotated[
        float | None,
        typer.Option(
            "--expires",
            metavar="DURATION",
            parser=seconds,
            help="How long a device may still begin it, as 1h, for one that is away now. Without it as long as is "
            "waited, at least 30 seconds.",
            show_default=False,
        ),
    ] = None,
    if_offline: Annotated[
        WhenOffline | None,
        typer.Option(
            "--if-offline",
            help="queue: send it to devices that are away too, for when they are back; the default, except for ids "
            "that were never seen. fail: send them nothing, they are offline.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        Share | None,
        typer.Option(
            "--limit",
            metavar="N|N%",
            parser=parsed(Share.parse),
            help="Send to so many of the target's devices, chosen by chance.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="The same chance for the same number.", show_default=False),
    ] = None,
    batch: Annotated[
        Plan | None,  # not a tuple, which would take several words
        typer.Option(
            "--batch",
            metavar="SIZES",
            parser=parsed(Plan.of),
            help="Send in batches: 5, 10%, or 1,10%,50%, of which the last repeats. The next one begins when all "
            "devices of a batch have ended, are away, or have been silent for --wait (30s).",
            show_default=False,
            rich_help_panel=ROLLOUT,
        ),
    ] = None,
    pause: Annotated[
        float | None,
        typer.Option(
            "--pause",
            metavar="DURATION",
            parser=seconds,
            help="Wait between two batches.",
            show_default=False,
            rich_help_panel=ROLLOUT,
        ),
    ] = None,
    abort_on_failure: Annotated[
        Share | None,
        typer.Option(
            "--abort-on-failure",
            metavar="N|N%",
            parser=parsed(Share.parse),
            help="Send nothing more after so many failures, or when they are so many percent of the devices judged.",
            show_default=False,
            rich_help_panel=ROLLOUT,
        ),
    ] = None,
    minimum: Annotated[
        int | None,
        typer.Option(
            "--minimum",
            metavar="N",
            min=1,
            help="Judge a percentage from so many devices on. Without it at the end of each batch, and within one "
            f"after {MINIMUM}.",
            show_default=False,
            rich_help_panel=ROLLOUT,
        ),
    ] = None,
    cancel_on_abort: Annotated[
        bool, typer.Option("--cancel-on-abort", help="On abort cancel what runs.", rich_help_panel=ROLLOUT)
    ] = False,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable",
            help="Write it down before it is sent: outrider results ID then accounts for every device, also after this "
            "process was killed.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")] = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print each device's outcome as a line of JSON, and nothing else.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing on standard output: the exit code tells.")
    ] = False,
    broker: BrokerOption = None,
    prefix: PrefixOption = None,
    name: NameOption = None,
) -> None:
    """Send a command to every device of a target, and print what becomes of it on each.

    Exit codes: 0 all done, 1 some target not done, 2 usage, 3 broker unreachable.

    For example:

    outrider send lamp-1 ping

    outrider send @kitchen calculate 5 "two words"

    outrider send 'room=kitchen and fw<2.1' update --batch 1,10%,50% --abort-on-failure 5%

    outrider send any:words count url=https://example.com
    """
    form = form_of(json=json, ndjson=ndjson, quiet=quiet)
    if no_wait and (wait is not None or batch is not None):
        raise typer.BadParameter("--no-wait excludes --wait and --batch, which wait")
    if batch is None and (pause is not None or abort_on_failure is not None or minimum is not None or cancel_on_abort):
        raise typer.BadParameter("--pause, --abort-on-failure, --minimum and --cancel-on-abort need --batch")
    plan = None
    if batch is not None:
        settle = DEFAULT_WAIT if wait is None else wait
        plan = replace(
            batch,
            pause=pause or 0.0,
            abort_after=abort_on_failure,
            minimum=minimum,
            cancel=cancel_on_abort,
            settle=settle,
            working=max(batch.working, (timeout or 0.0) + settle),
        )
    sending = Sending(target, command, form)
    when: IfOffline | None = None if if_offline is None else if_offline.value
    outbox = default_path() if durable else None
    fleet = open_fleet(broker, prefix, name, on_disconnect=sending.disconnected, outbox=outbox)
    work = sending.run(
        fleet,
        partial(arguments, words or [], command),
        wait=wait,
        detach=no_wait,
        timeout=timeout,
        expires=expires,
        if_offline=when,
        limit=limit,
        seed=seed,
        plan=plan,
    )
    if not run(work, interrupted=sending.say_interrupted):
        raise typer.Exit(NOT_DONE)
