"""The wire format as examples: each message, written once and never changed afterwards.

`python -m tests.schema.golden` writes the files that are missing. A file that exists is not touched: a change of the
wire format must show as a failing test.
"""

from pathlib import Path
from typing import Final

from msgspec import Raw

from outrider.schema import (
    About,
    Command,
    CommandAbout,
    Encoding,
    Error,
    Event,
    Member,
    Message,
    Progress,
    Result,
    State,
    Status,
    encode,
)

FOLDER: Final = Path(__file__).with_name("golden")
SUFFIX: Final = {Encoding.JSON: ".json", Encoding.MSGPACK: ".msgpack"}


def messages(encoding: Encoding) -> dict[str, Message]:
    """Every example by its name, values in the given encoding."""

    def raw(value: object) -> Raw:
        return Raw(encode(value, encoding))

    began, ended = 1763800000.5, 1763800002.25
    return {
        "command_minimal": Command(command="ping"),
        "command_named": Command(
            id="5f0c2a9be1d34c77",
            command="calculate",
            args=raw({"x": 0.5, "msg": "two words"}),
            from_="alice",
            behalf="bob",
            to="lamp-1",
            issued=1763800000.0,
            expires=1763800030.0,
            timeout=10.0,
            trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        "command_positional": Command(id="a1", command="calculate", args=raw([0.5, "two words"]), from_="alice"),
        "progress_accepted": Progress(id="a1", device="lamp-1", seq=0, accepted=True),
        "progress_fraction": Progress(id="a1", device="lamp-1", seq=1, fraction=0.25, text="5 of 20"),
        "progress_output": Progress(id="a1", device="lamp-1", seq=2, stream="stdout", data="warming up\n"),
        "result_done": Result(
            id="a1",
            device="lamp-1",
            command="calculate",
            status=Status.DONE,
            value=raw("two words"),
            started=began,
            finished=ended,
        ),
        "result_done_null": Result(
            id="a1",
            device="lamp-1",
            command="calibrate",
            status=Status.DONE,
            value=raw(None),
            started=began,
            finished=ended,
        ),
        "result_rejected": Result(
            id="a1",
            device="lamp-1",
            command="dim",
            status=Status.REJECTED,
            error=Error("invalid-arguments", "argument 'level': Expected int <= 100", {"argument": "level"}),
            finished=1763800000.5,
        ),
        "result_cancelled": Result(
            id="a1",
            device="lamp-1",
            command="calibrate",
            status=Status.CANCELLED,
            error=Error("", "cancelled"),
            started=began,
            finished=ended,
        ),
        "state_ready": State(
            device="lamp-1",
            status="ready",
            session=1763800000000000,
            since=1763800000.0,
            groups=["kitchen"],
            pools=["words"],
            tags={"room": "kitchen", "floor": 2, "dimmable": True, "gain": 0.5},
            about="0123456789abcdef",
        ),
        "state_lost": State(device="lamp-1", status="lost", session=1763800000000000, since=1763800000.0),
        "about": About(
            versions={"outrider": "0.1.0", "fw": "2.1"},
            commands={
                "dim": CommandAbout(
                    help="Set the brightness in percent and return it.",
                    arguments={
                        "type": "object",
                        "properties": {"level": {"type": "integer", "minimum": 0, "maximum": 100}},
                        "required": ["level"],
                        "additionalProperties": False,
                    },
                    result={"type": "integer"},
                    idempotent=True,
                    timeout=5.0,
                )
            },
        ),
        "event": Event(
            id="e1", device="lamp-1", name="initial", key="e", subject="s1", time=1763800000.0, data=raw({"n": 1})
        ),
        "member": Member(device="words-1", idempotent=["count_words", "ping"]),
    }


def main() -> None:
    """Write the files that are missing."""
    FOLDER.mkdir(exist_ok=True)
    for encoding, suffix in SUFFIX.items():
        for name, message in messages(encoding).items():
            file = FOLDER / f"{name}{suffix}"
            if not file.exists():
                file.write_bytes(encode(message, encoding))
                print(f"wrote {file.name}")


if __name__ == "__main__":
    main()
