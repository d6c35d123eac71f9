"""The AsyncAPI document: all of the contract is in it, and what devices say of their commands means the same there."""

import enum
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from msgspec import Meta, Raw, Struct, json, to_builtins

from outrider.schema import About, CommandAbout, CommandSpec, Encoding, InvalidArguments, Message, State, Topics
from outrider.schema.asyncapi import Kind, Server, document, kinds_of
from outrider.schema.contract import JSON, MESSAGES, MSGPACK, Side, channels
from outrider.schema.dialect import Schemas, pattern

Document = dict[str, Any]


class Validator(Protocol):
    def is_valid(self, instance: object) -> bool: ...


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Scene(Struct, frozen=True):
    """What lamps show.

    One may hold others.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z]+\Z")]
    colour: Colour = Colour.RED
    parts: "list[Scene]" = []


class Now(Struct, frozen=True, tag="now"):
    pass


class Later(Struct, frozen=True, tag="later"):
    seconds: Annotated[float, Meta(gt=0)]


def play(
    scene: Scene,
    level: Annotated[int, Meta(ge=0, le=100, description="percent")] = 50,
    *,
    mode: Literal["soft", "hard"] = "soft",
    others: list[Scene] | None = None,
    sizes: Annotated[list[int], Meta(max_length=3)] = [1, 2],  # noqa: B006  # a device makes it anew for each call
    pair: tuple[int, str] = (1, "a"),
    when: Now | Later = Now(),  # noqa: B008  # frozen
) -> Scene:
    """Play a scene.

    Takes its time.
    """
    return scene


def about(*functions: Callable[..., object], **more: dict[str, object]) -> About:
    """What a device with these commands tells, and with commands of these argument schemas."""
    commands = {function.__name__: CommandSpec(function).about() for function in functions}
    commands |= {name: CommandAbout(help="", arguments=schema, result={}) for name, schema in more.items()}
    return About(versions={"outrider": "1"}, commands=commands)


def state(device: str, *groups: str) -> State:
    return State(device=device, status="ready", session=1, since=0, groups=list(groups))


def written(
    *kinds: Kind,
    prefix: str = "",
    servers: Sequence[Server] = (),
    common: Mapping[str, CommandAbout] | None = None,
    side: Side | None = None,
) -> Document:
    """The document as who reads it has it: JSON that was decoded."""
    found = document(Topics(prefix), version="1", servers=servers, common=common, kinds=kinds, side=side)
    return json.decode(json.encode(found), type=Document)


def of_device(device: str, about: About) -> Document:
    return written(Kind((state(device),), about))


def arguments(document: Document, channel: str, command: str) -> Document:
    payload = document["channels"][channel]["messages"][command]["payload"]
    found: Document = payload["allOf"][1]["properties"]["args"]
    return found


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, each in cast("Document", node).items():
            if key == "$ref" and isinstance(each, str):
                yield each
            else:
                yield from references(each)
    elif isinstance(node, list):
        for each in cast("list[object]", node):
            yield from references(each)


def resolved(document: Document, target: str) -> Document:
    assert target.startswith("#/"), f"{target} leads elsewhere"
    node: Any = document
    for step in target.removeprefix("#/").split("/"):
        node = node[step]
    found: Document = node
    return found


def valid(document: Document, schema: object, instance: object) -> bool:
    validator = cast("Validator", Draft7Validator({"allOf": [schema], "components": document["components"]}))
    return validator.is_valid(instance)


def test_every_topic_is_a_channel_with_its_levels_as_parameters() -> None:
    topics = Topics("acme/site1")
    built = {
        *(topics.command("{device}"), topics.command("{device}", "{requester}"), topics.group("{group}")),
        *(topics.group("{group}", "{requester}"), topics.state("{device}"), topics.about("{device}")),
        *(topics.progress("{device}", "{requester}"), topics.result("{device}")),
        *(topics.result("{device}", "{requester}"), topics.event("{device}", "{name}")),
        topics.member("{pool}", "{device}"),
    }
    found = written(prefix="acme/site1")["channels"]
    assert {channel["address"] for channel in found.values()} == built
    for channel in found.values():
        assert sorted(channel["parameters"]) == sorted(re.findall(r"{(\w+)}", channel["address"]))


def test_every_message_is_there_in_its_encodings() -> None:
    assert {message.type for message in MESSAGES.values()} == set(get_args(Message))
    messages = written()["components"]["messages"]
    encodings: dict[str, set[str]] = {}
    for message in messages.values():
        encodings.setdefault(message["name"], set()).add(message["contentType"])
    assert encodings.pop("State") == encodings.pop("About") == encodings.pop("Member") == {JSON}
    assert list(encodings.values()) == [{JSON, MSGPACK}] * 4


@pytest.mark.parametrize("name", MESSAGES)
def test_example_is_such_a_message(name: str) -> None:
    message = MESSAGES[name]
    decoded = json.decode(json.encode(message.example), type=message.type)
    assert json.decode(json.encode(decoded)) == message.example
    found = written()
    assert valid(found, found["components"]["messages"][name]["payload"], message.example)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("command", {"id": "a b"}),
        ("command", {"from": "all"}),
        ("command", {"args": "x=5"}),
        ("command", {"timeout": 0}),
        ("result", {"status": "perhaps"}),
        ("state", {"groups": ["a/b"]}),
        ("progress", {"fraction": 2}),
    ],
)
def test_message_that_the_protocol_refuses_is_invalid(name: str, changed: Document) -> None:
    found = written()
    assert not valid(found, found["components"]["messages"][name]["payload"], MESSAGES[name].example | changed)


def test_operations_say_who_publishes_where_and_retained_what() -> None:
    found = written()
    operations = found["operations"]
    for channel in channels(Topics()):
        assert operations[f"{channel.id}.send"]["tags"] == [{"name": channel.sender}]
        assert operations[f"{channel.id}.receive"]["tags"] != [{"name": channel.sender}]
    retained = {
        id.partition(".")[0]
        for id, operation in operations.items()
        if resolved(found, operation["bindings"]["$ref"])["mqtt"]["retain"]
    }
    assert retained == {"result", "resultUnnamed", "state", "about", "member"}
    replies = {id: each["reply"]["channel"]["$ref"] for id, each in operations.items() if "reply" in each}
    assert replies == {
        f"{channel}{named}.{action}": f"#/channels/result{named}"
        for channel in ("command", "groupCommand")
        for named in ("", "Unnamed")
        for action in ("send", "receive")
    }


def test_one_side_has_its_operations_and_all_channels() -> None:
    kind = Kind((state("lamp-1"),), about(play))
    both, device, requester = (written(kind, side=side) for side in (None, "device", "requester"))
    assert both["operations"] == device["operations"] | requester["operations"]
    assert not device["operations"].keys() & requester["operations"].keys()
    assert device["channels"] == requester["channels"] == both["channels"]
    assert requester["operations"]["lamp-1.play.send"]["action"] == "send"
    assert "lamp-1.play.receive" in device["operations"]


def test_command_of_a_device_has_all_that_its_signature_says() -> None:
    found = written(
        kinds_of([state("lamp-2"), state("lamp-1")], {"lamp-1": about(play), "lamp-2": about(play)})[0], prefix="site1"
    )
    channel = found["channels"]["lamp-1.commands"]
    assert channel["address"] == "site1/devices/{device}/cmd/{requester}"
    assert resolved(found, channel["parameters"]["device"]["$ref"])["enum"] == ["lamp-1", "lamp-2"]
    assert channel["messages"]["play"]["summary"] == "Play a scene."
    assert arguments(found, "lamp-1.commands", "play") == {
        "type": "object",
        "properties": {
            "scene": {"$ref": "#/components/schemas/lamp-1.Scene"},
            "level": {"type": "integer", "minimum": 0, "maximum": 100, "description": "percent", "default": 50},
            "mode": {"enum": ["hard", "soft"], "default": "soft"},
            "others": {
                "anyOf": [
                    {"type": "array", "items": {"$ref": "#/components/schemas/lamp-1.Scene"}},
                    {"type": "null"},
                ],
                "default": None,
            },
            "sizes": {"type": "array", "items": {"type": "integer"}, "maxItems": 3, "default": [1, 2]},
            "pair": {
                "type": "array",
                "items": [{"type": "integer"}, {"type": "string"}],
                "additionalItems": False,
                "minItems": 2,
                "maxItems": 2,
                "default": [1, "a"],
            },
            "when": {
                "anyOf": [
                    {"$ref": "#/components/schemas/lamp-1.Now"},
                    {"$ref": "#/components/schemas/lamp-1.Later"},
                ],
                "default": {"type": "now"},
            },
        },
        "required": ["scene"],
        "additionalProperties": False,
    }
    schemas = found["components"]["schemas"]
    assert schemas["lamp-1.Scene"]["properties"] == {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "colour": {"allOf": [{"$ref": "#/components/schemas/lamp-1.Colour"}], "default": "red"},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/lamp-1.Scene"}, "default": []},
    }
    assert schemas["lamp-1.Scene"]["description"] == "What lamps show.\n\nOne may hold others."
    assert schemas["lamp-1.Colour"]["enum"] == ["blue", "red"]
    operation = found["operations"]["lamp-1.play.send"]
    assert operation["description"] == "Takes its time."
    assert operation["messages"] == [{"$ref": "#/channels/lamp-1.commands/messages/play"}]
    assert operation["reply"]["messages"] == [{"$ref": "#/channels/lamp-1.results/messages/play"}]
    value = found["channels"]["lamp-1.results"]["messages"]["play"]["payload"]["allOf"][1]["properties"]["value"]
    assert resolved(found, value["allOf"][0]["$ref"] if "allOf" in value else value["$ref"]) == schemas["lamp-1.Scene"]


PLAIN = (
    st.none() | st.booleans() | st.integers(-2, 102) | st.sampled_from(["a", "A", "red", "soft", "now", "later", ""])
)
SCENES = st.fixed_dictionaries(
    {"name": st.sampled_from(["abc", "ABC", ""])},
    optional={"colour": st.sampled_from(["red", "green", 1]), "parts": st.sampled_from([[], [{"name": "b"}], [{}], 1])},
)
GIVEN: st.SearchStrategy[Document] = st.fixed_dictionaries(
    {"scene": SCENES},
    optional={
        "level": PLAIN | st.floats(0, 100),
        "mode": PLAIN,
        "others": PLAIN | st.lists(SCENES, max_size=2),
        "sizes": st.lists(PLAIN, max_size=4),
        "pair": st.lists(PLAIN, max_size=3),
        "when": st.fixed_dictionaries({"type": PLAIN}, optional={"seconds": PLAIN}),
        "unknown": PLAIN,
    },
)
PLAY = CommandSpec(play)
PLAYED = of_device("lamp-1", about(play))


@settings(deadline=None)
@given(given=GIVEN)
def test_arguments_are_valid_where_the_device_takes_them(given: Document) -> None:
    try:
        PLAY.arguments(Raw(json.encode(given)), Encoding.JSON)
        taken = True
    except InvalidArguments:
        taken = False
    assert valid(PLAYED, arguments(PLAYED, "lamp-1.commands", "play"), given) == taken


def test_like_named_types_that_differ_do_not_clash() -> None:
    def colour(*values: str) -> dict[str, object]:
        return {
            "type": "object",
            "properties": {"colour": {"$ref": "#/$defs/Colour"}},
            "$defs": {"Colour": {"enum": list(values)}},
        }

    lamp, oven = about(paint=colour("red"), again=colour("red"), other=colour("blue")), about(paint=colour("green"))
    found = written(*kinds_of([state("lamp-1"), state("oven-1")], {"lamp-1": lamp, "oven-1": oven}))

    def values(channel: str, command: str) -> list[str]:
        argument = arguments(found, channel, command)["properties"]["colour"]
        values: list[str] = resolved(found, argument["$ref"])["enum"]
        return values

    assert values("lamp-1.commands", "paint") == values("lamp-1.commands", "again") == ["red"]
    assert values("lamp-1.commands", "other") == ["blue"]
    assert values("oven-1.commands", "paint") == ["green"]
    own = {name for name in found["components"]["schemas"] if "Colour" in name}
    assert own == {"lamp-1.Colour", "lamp-1.Colour_2", "oven-1.Colour"}


def test_types_that_differ_only_in_what_they_refer_to_do_not_clash() -> None:
    def box(content: str) -> dict[str, object]:
        return {
            "$ref": "#/$defs/Box",
            "$defs": {"Box": {"items": {"$ref": "#/$defs/Content"}}, "Content": {"type": content}},
        }

    found = of_device("lamp-1", about(first=box("string"), second=box("integer")))
    for command, content in (("first", "string"), ("second", "integer")):
        schema = resolved(found, arguments(found, "lamp-1.commands", command)["$ref"])
        assert resolved(found, schema["items"]["$ref"]) == {"type": content}


def test_commands_that_every_device_has_stand_once() -> None:
    def ping() -> int:
        return 0

    common = about(ping).commands
    lamp, oven = about(ping, play), About(versions={}, commands={"ping": CommandAbout("Mine.", {}, {})})
    kinds = kinds_of([state("lamp-1"), state("oven-1"), state("plain")], {"lamp-1": lamp, "oven-1": oven})
    found = written(*kinds, Kind((state("plain"),), about(ping)), common=common)
    commands = {id: list(each["messages"]) for id, each in found["channels"].items() if id.endswith(".commands")}
    assert commands == {"all.commands": ["ping"], "lamp-1.commands": ["play"], "oven-1.commands": ["ping"]}
    assert "| plain |" in found["info"]["description"]


def test_devices_that_can_do_the_same_are_one_kind() -> None:
    states = [state("b", "kitchen"), state("c"), state("a", "hall"), state("unknown")]
    kinds = kinds_of(states, {"a": about(play), "b": about(play), "c": about()})
    assert [[state.device for state in kind.devices] for kind in kinds] == [["a", "b"], ["c"]]
    found = written(*kinds)
    assert found["components"]["parameters"]["group"]["examples"] == ["all", "hall", "kitchen"]
    assert "| a and b | play | hall, kitchen |" in found["info"]["description"]


def test_servers_are_named_and_say_what_they_ask_for() -> None:
    servers = [Server("one:8883", "secure-mqtt", security=("userPassword",)), Server("two:443", "wss", "/mqtt")]
    found = written(servers=servers)
    assert {name: (each["host"], each["protocol"]) for name, each in found["servers"].items()} == {
        "broker": ("one:8883", "secure-mqtt"),
        "broker2": ("two:443", "wss"),
    }
    assert found["servers"]["broker2"]["pathname"] == "/mqtt"
    assert found["components"]["securitySchemes"] == {"userPassword": {"type": "userPassword"}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://elsewhere.example/schema.json"},
        {"$ref": "file:///etc/passwd", "type": "object"},
        {"$ref": "#/$defs/Nowhere", "$defs": {}},
        {"$ref": "#/components/schemas/Command"},
        {"properties": {"a": {"default": {"$ref": "https://elsewhere.example"}, "$id": "https://elsewhere.example"}}},
        {"allOf": [{"$ref": "https://elsewhere.example"}], "enum": [[{"$ref": "https://elsewhere.example"}]]},
        {"$defs": {"A": {"$ref": "https://elsewhere.example"}}, "items": {"$ref": "#/$defs/A"}},
        {"properties": {"$ref": {"$ref": 5}}},
        {"$dynamicRef": "https://elsewhere.example", "externalDocs": {"url": 5}, "discriminator": {"propertyName": 1}},
    ],
)
def test_reference_of_a_device_that_leads_elsewhere_is_left_out(schema: dict[str, object]) -> None:
    found = of_device("lamp-1", about(odd=schema))
    for target in references(found):
        resolved(found, target)
    assert "elsewhere" not in json.encode(found).decode()
    assert "/etc/passwd" not in json.encode(found).decode()


def test_chain_of_definitions_may_be_longer_than_the_stack_is_deep() -> None:
    definitions: dict[str, object] = {f"D{n}": {"items": {"$ref": f"#/$defs/D{n + 1}"}} for n in range(3000)}
    definitions["D3000"] = {"type": "string"}
    schemas = Schemas()
    schemas.add({"$ref": "#/$defs/D0", "$defs": definitions})
    assert schemas.components["D3000"] == {"type": "string"}
    assert len(schemas.components) == 3001


def test_device_called_as_something_of_the_contract_does_not_clash() -> None:
    plain = written()
    for device in ("command", "device", "requester", "name", "state"):
        found = of_device(device, about(play))
        assert found["channels"].items() >= plain["channels"].items()
        assert found["operations"].items() >= plain["operations"].items()
        assert found["components"]["messages"] == plain["components"]["messages"]
        assert found["components"]["parameters"].keys() >= plain["components"]["parameters"].keys()
        assert found["components"]["parameters"]["device"] == plain["components"]["parameters"]["device"]


def test_commands_whose_names_no_key_can_have_stay_apart() -> None:
    commands = {name: CommandAbout("", {}, {}) for name in ("a/b", "a~b", "a_b", "")}
    found = of_device("lamp-1", About(versions={}, commands=commands))
    messages = found["channels"]["lamp-1.commands"]["messages"]
    assert {key: each["name"] for key, each in messages.items()} == {
        "a_b": "a/b",
        "a_b_2": "a~b",
        "a_b_3": "a_b",
        "_": "",
    }
    for target in references(found):
        resolved(found, target)


NAMES = st.sampled_from(["A", "B", "Box[int]", "Command"])
Schema = Any  # an object or a truth, of other schemas

LEAVES: st.SearchStrategy[Schema] = st.sampled_from(
    [{}, True, {"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^a\Z"}]
) | NAMES.map(lambda name: {"$ref": f"#/$defs/{name}"})


def larger(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        st.fixed_dictionaries({"prefixItems": st.lists(inner, min_size=1, max_size=2), "items": st.just(False)}),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"properties": st.dictionaries(NAMES, inner, max_size=2)}),
        st.fixed_dictionaries({"$ref": NAMES.map(lambda name: f"#/$defs/{name}"), "not": inner}),
    )


SCHEMAS = st.recursive(LEAVES, larger, max_leaves=8)
COMMANDS: st.SearchStrategy[dict[str, dict[str, object]]] = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "properties": st.dictionaries(NAMES, SCHEMAS, max_size=3),
            "$defs": st.dictionaries(NAMES, SCHEMAS, max_size=4),
        }
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=50)
@given(lamp=COMMANDS, oven=COMMANDS)
def test_whatever_devices_tell_all_references_resolve(
    lamp: dict[str, dict[str, object]], oven: dict[str, dict[str, object]]
) -> None:
    found = written(*kinds_of([state("lamp-1"), state("oven-1")], {"lamp-1": about(**lamp), "oven-1": about(**oven)}))
    for target in references(found):
        resolved(found, target)
    Draft7Validator.check_schema({"definitions": found["components"]["schemas"]})
    for name in found["components"]["schemas"]:
        assert re.fullmatch(r"[\w.-]+", name)


@pytest.mark.parametrize(
    ("python", "javascript"),
    [
        (r"^a\Z", "^a$"),
        (r"\Aa\\Z", r"^a\\Z"),
        (r"(?P<year>\d{4})\\\Z", r"(?<year>\d{4})\\$"),
        (r"^(?!all\Z)[A-Z]", "^(?!all$)[A-Z]"),
    ],
)
def test_pattern_is_written_as_javascript_reads_it(python: str, javascript: str) -> None:
    assert pattern(python) == javascript


def test_example_of_the_page_is_what_is_written() -> None:
    def dim(level: Annotated[int, Meta(ge=0, le=100)]) -> int:
        """Set the brightness in percent and return it."""
        return level

    page = Path(__file__).parents[2] / "docs" / "asyncapi.md"
    shown = json.decode(page.read_text().partition("```json\n")[2].partition("```")[0], type=Document)
    found = of_device("lamp-1", about(dim))["channels"]["lamp-1.commands"]["messages"]["dim"]
    assert shown == {key: value for key, value in found.items() if key not in ("name", "title", "summary")}


def test_document_is_made_of_plain_values() -> None:
    found = document(Topics(), version="1", kinds=[Kind((state("lamp-1"),), about(play))])
    assert to_builtins(found) == found
