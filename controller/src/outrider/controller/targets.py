"""What a target stands for: `lamp-1`, `lamp-*`, `@kitchen - lamp-3`, `room=kitchen and fw<2.1`, `any:words`, `all`.

The grammar is in `grammar`, its meaning in `selection`; here it meets the states of a fleet.
"""

import random
from collections.abc import Mapping
from typing import NamedTuple

from outrider.device.pool import no_member
from outrider.schema import ALL, State, UnknownTarget

from .grammar import TargetSyntax, read
from .plan import Share
from .selection import All, Compare, Glob, Group, In, Is, Pool, Scope, Selection, parts_of, typed
from .suggestions import nearest

__all__ = ["Target", "TargetSyntax", "Targets", "parse", "require_seen", "resolve", "sample"]

Target = Selection
"""A target that has been read."""


class Targets(NamedTuple):
    """The devices that a target stands for, in order of their ids, each once.

    `group` is set where one message to that group reaches exactly these. `gone` are those of them that ended with
    `terminate`; nothing is sent to these. `unseen` are ids that the target names and nobody has seen. `pool` is set
    where the target means any one of the devices, which are the pool's members that are there.
    """

    devices: tuple[str, ...]
    group: str | None = None
    gone: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    pool: str | None = None


def parse(text: str) -> Target:
    """Read a target.

    :raises TargetSyntax: it cannot be read; names the column and what is expected there.
    """
    return read(text)


def resolve(target: str | Target, states: Mapping[str, State]) -> Targets:
    """The devices that `target` stands for now.

    :raises TargetSyntax: the target cannot be read.
    :raises UnknownTarget: it stands for no device at all; says what there is instead.
    :raises NoMember: it is a pool that no device which is there is in.
    """
    selection = read(target) if isinstance(target, str) else target
    wants_gone = any(part == Is("terminated") for part in parts_of(selection))
    universe = frozenset(id for id, state in states.items() if wants_gone or state.status != "terminated")
    devices = tuple(sorted(selection.devices(Scope(states, universe))))
    if not devices:
        raise _nobody(selection, states)
    match selection:
        case All():
            group: str | None = ALL
        case Group(name):
            group = name
        case _:
            group = None
    return Targets(
        devices,
        group=group,
        gone=frozenset(id for id in devices if id in states and states[id].status == "terminated"),
        unseen=frozenset(id for id in devices if id not in states),
        pool=selection.name if isinstance(selection, Pool) else None,
    )


def require_seen(targets: Targets, states: Mapping[str, State]) -> Targets:
    """Return the targets, all of which have been seen.

    :raises UnknownTarget: one has not; names the nearest ones.
    """
    for id in sorted(targets.unseen):
        raise UnknownTarget(f"no device {id} has been seen{nearest(id, states)}")
    return targets


def sample(targets: Targets, limit: Share, seed: int | None = None) -> Targets:
    """So many of the devices, chosen by chance; the same ones for the same devices and seed."""
    count = min(limit.of(len(targets.devices)), len(targets.devices))
    devices = tuple(sorted(random.Random(seed).sample(sorted(targets.devices), count)))
    chosen = frozenset(devices)
    return targets._replace(devices=devices, group=None, gone=targets.gone & chosen, unseen=targets.unseen & chosen)


def _nobody(selection: Selection, states: Mapping[str, State]) -> UnknownTarget:
    """Why a target stands for no device, and what there is instead."""
    if isinstance(selection, Pool):
        known = {name for state in states.values() for name in state.pools}
        return no_member(selection.name, states, nearest(selection.name, known, mark="any:"))
    return UnknownTarget(_words_for_nobody(selection, states))


def _words_for_nobody(selection: Selection, states: Mapping[str, State]) -> str:
    present = {id: state for id, state in states.items() if state.status != "terminated"}
    gone = f" ({len(states)} ended with terminate)" if states else ""
    if not present and not any(part == Is("terminated") for part in parts_of(selection)):
        return f"no device is there{gone}; start one: outrider-device run --id lamp-1 --ready"
    match selection:
        case Group(name):
            groups = {group for state in present.values() for group in state.groups}
            return f"no device is in the group @{name}{nearest(name, groups, mark='@')}"
        case Glob(pattern):
            return f"no device's id matches {pattern}{nearest(pattern.strip('*?'), present)}"
        case Compare(key, _, _) | In(key, _):
            return f"no device has {selection}{_known_of(key, present)}"
        case Is(status):
            return f"no device is {status}"
        case _:
            return f"no device matches {selection}"


def _known_of(key: str, present: Mapping[str, State]) -> str:
    values = {typed(state.tags[key]) for state in present.values() if key in state.tags}
    if not values:
        return f"; none has a tag {key}{nearest(key, {tag for state in present.values() for tag in state.tags})}"
    some = sorted(values)
    return f"; {key} is {', '.join(some[:5])}{', …' if len(some) > 5 else ''}"
