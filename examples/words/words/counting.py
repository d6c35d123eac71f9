"""HTML to visible text to counts. Pure: no network, no outrider."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from selectolax.lexbor import LexborHTMLParser, LexborNode

CHUNK: Final = 65_536
"""Characters that are searched at once. `re` lets no other thread run meanwhile: this is about a millisecond."""

_WORD: Final = re.compile(r"\w[\w']*\w|\w")
_SPACE: Final = re.compile(r"\s")

_UNSEEN: Final = (
    "script,style,template,noscript,noframes,datalist,dialog:not([open]),svg title,svg desc,svg metadata,"
    "math annotation,body [hidden]"
)
"""Not `body` itself: a page that is hidden until its script shows it is counted."""

_STYLED: Final = "body [style*=display i]"
_NOT_SHOWN: Final = re.compile(r"(^|;)\s*display\s*:\s*none\s*(!\s*important\s*)?(;|$)", re.IGNORECASE)
_REPLACED: Final = "audio,canvas,iframe,object,video"
"""Elements with something else in their place; their own text is for browsers that do not know them."""

_BLOCKS: Final = (
    "address,article,aside,blockquote,br,button,caption,dd,details,dialog,div,dl,dt,fieldset,figcaption,figure,footer,"
    "form,h1,h2,h3,h4,h5,h6,header,hr,img,input,legend,li,main,math,nav,ol,optgroup,option,p,pre,section,select,"
    f"summary,svg,table,td,text,textarea,th,tr,ul,{_REPLACED}"
)
"""Elements that end a word; <b> and the like may stand in the middle of one."""


class Counts(Struct, frozen=True):
    """How often each word occurs, in small letters; how many there are, and how many different ones."""

    counts: dict[str, int]
    total: int
    distinct: int


def visible(html: str) -> str:
    """The text of a page that a reader sees."""
    tree = LexborHTMLParser(html)
    _remove(tree.css(_UNSEEN))
    _remove([node for node in tree.css(_STYLED) if _NOT_SHOWN.search(node.attributes["style"] or "")])
    for block in tree.css(_BLOCKS):
        block.insert_before("\n")
        block.insert_after("\n")
    _remove(tree.css(_REPLACED))
    return tree.body.text() if tree.body else ""


def count(text: str) -> Counts:
    """Count words: `\\w[\\w']*\\w` or `\\w`, whatever their case."""
    found: Counter[str] = Counter()
    for begin, end in _chunks(text):
        found.update(_WORD.findall(text, begin, end))
    counts: dict[str, int] = {}
    for word, times in found.items():  # some thousand different ones, where the text has half a million
        small = word.lower()
        counts[small] = counts.get(small, 0) + times
    return Counts(counts, found.total(), len(counts))


def merged(parts: list[Counts]) -> Counts:
    """The counts of a text whose parts were counted one by one."""
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update(part.counts)
    return Counts(dict(sums), sums.total(), len(sums))


def split(text: str, size: int = CHUNK) -> list[str]:
    """The text in parts of about so many characters, none of which ends within a word."""
    return [text[begin:end] for begin, end in _chunks(text, size)]


def top(counts: dict[str, int], most: int) -> list[tuple[str, int]]:
    """The words that occur most often; equal ones by the alphabet."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]


def _remove(nodes: list[LexborNode]) -> None:
    # Each once, and those within others before them: with a node goes all that is in it.
    for node in reversed({node.mem_id: node for node in nodes}.values()):
        node.decompose()


def _chunks(text: str, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < len(text):
        space = _SPACE.search(text, begin + size)
        end = space.start() if space else len(text)
        yield begin, end
        begin = end
