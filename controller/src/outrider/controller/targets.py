"""What a target means: `lamp-1`, `@kitchen`, `all`."""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from outrider.schema import ALL, State, UnknownTarget, check_name


class Targets(NamedTuple):
    """The devices a target stands for, in order of their ids.

    `group` is set where one message to the group reaches them all. `gone` are those of them that ended with
    `terminate`; nothing is sent to these.
    """

    devices: tuple[str, ...]
    group: str | None = None
    gone: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    pool: str | None = None


def resolve(target: str, states: Mapping[str, State]) -> Targets:
    """The devices that `target` stands for now.

    A group and `all` leave out devices that ended with `terminate`: those left on purpose.

    :raises InvalidName: the target is not well formed.
    :raises UnknownTarget: nobody has seen the device, or the group has no member; names the nearest ones.
    """
    if not target:
        raise UnknownTarget("the target is empty; give a device's id, @group or all")
    present = {id: state for id, state in states.items() if state.status != "terminated"}
    if target == ALL:
        if not present:
            start = "outrider-device run --id lamp-1 --ready"
            raise UnknownTarget(f"no device is there{_gone(states)}; start one: {start}")
        return Targets(tuple(sorted(present)), group=ALL)
    if target.startswith("@"):
        group = check_name(target[1:], "group") if target != f"@{ALL}" else ALL
        if group == ALL:
            return resolve(ALL, states)
        members = tuple(sorted(id for id, state in present.items() if group in state.groups))
        if not members:
            groups = sorted({name for state in present.values() for name in state.groups})
            raise UnknownTarget(f"no device is in the group @{group}{_nearest(group, groups, '@')}")
        return Targets(members, group=group)
    check_name(target, "device id")
    if target not in states:
        raise UnknownTarget(f"no device {target} has been seen{_nearest(target, sorted(states), '')}")
    gone = frozenset([target]) if target not in present else frozenset[str]()
    return Targets((target,), gone=gone)


Target = str


class Limit(NamedTuple):
    """Placeholder until the grammar is in."""

    size: int

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Placeholder until the grammar is in."""
        return cls(int(text))


def require_seen(targets: Targets, states: Mapping[str, State]) -> None:
    """Placeholder until the grammar is in."""


def sample(devices: tuple[str, ...], limit: Limit, seed: int | None) -> tuple[str, ...]:
    """Placeholder until the grammar is in."""
    return devices[: limit.size]


def _nearest(name: str, known: list[str], mark: str) -> str:
    """Words that help on: the nearest names, or what there is."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"; did you mean {', '.join(mark + each for each in near)}?"
    if not known:
        return "; none is known"
    some = ", ".join(mark + each for each in known[:5])
    return f"; known: {some}{', …' if len(known) > 5 else ''}"


def _gone(states: Mapping[str, State]) -> str:
    return f" ({len(states)} ended with terminate)" if states else ""
