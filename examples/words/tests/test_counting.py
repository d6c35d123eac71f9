"""What is visible on a page, and what is a word."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from words import counting
from words.counting import count, merged, split, top, visible


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("One one ONE", {"one": 3}),
        ("o'clock 'quoted' rock'n'roll it''s'", {"o'clock": 1, "quoted": 1, "rock'n'roll": 1, "it''s": 1}),
        ("a, b-c d.e 1 x_y", {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "1": 1, "x_y": 1}),
        ("Straße STRASSE Éa éA 言葉", {"straße": 1, "strasse": 1, "éa": 2, "言葉": 1}),
        ("' '' ... \n\t", {}),
    ],
)
def test_text_gives_the_counts_of_its_words(text: str, counts: dict[str, int]) -> None:
    found = count(text)
    assert (found.counts, found.total, found.distinct) == (counts, sum(counts.values()), len(counts))


@pytest.mark.parametrize(
    ("html", "words"),
    [
        (
            "<title>t</title><style>s{}</style><body>a<script>b</script><template>c</template><noscript>d</noscript>",
            "a",
        ),
        ("<p>a</p><p>b</p>c<br>d<table><td>e<td>f</table><li>g<div>h</div>i", "a b c d e f g h i"),
        ("wo<b>r</b>d <i>an</i>other", "word another"),
        ("<p>a &amp; b&nbsp;c &lt;d&gt; &#101;", "a b c d e"),
        ("<p hidden>a</p><div hidden><p>b</p><p hidden>c</p></div>d<!-- e -->", "d"),
        (
            "<iframe>a</iframe><object>b<object>c</object></object><audio>d</audio><video>e</video><canvas>f</canvas>",
            "",
        ),
        ("a<iframe></iframe>b<object></object>c<audio></audio>d<video></video>e<canvas></canvas>f", "a b c d e f"),
        ("<input list=x><datalist id=x><option>a</datalist><dialog>b</dialog><dialog open>c</dialog>", "c"),
        ("<svg><title>a</title><desc>b</desc><metadata>c</metadata><text>d</text><text>e</text></svg>f", "d e f"),
        ("a<math><mi>b</mi><annotation>c</annotation></math>d<svg><text>e</text></svg>f", "a b d e f"),
        ("<select><optgroup><option>a</optgroup><optgroup label=x><option>b</select>", "a b"),
        ("a<optgroup>b</optgroup>c", "a b c"),
        ("<p style='color: red; DISPLAY:none'>a<p style='display: none !important;'>b<p style='display:block'>c", "c"),
        ("<div style='display:none'>a<i hidden>b</i><iframe hidden style='display:none'>c</iframe></div>d", "d"),
        ("wo<i hidden>x</i>rd wo<script></script>rd wo<b style='display:none'>x</b>rd", "word word word"),
        ("<body hidden style='display:none'><p>a", "a"),
        ("plain", "plain"),
        ("", ""),
        ("<frameset><frame></frameset>", ""),
        ("<p>a<p <<b <i>c", "a c"),
    ],
)
def test_page_shows_the_text_that_is_visible(html: str, words: str) -> None:
    assert " ".join(re.findall(r"\w+", visible(html))) == words


@given(st.text(st.sampled_from("abAB'ßİ_ 1\n.-") | st.characters()), st.integers(1, 9))
def test_text_in_parts_gives_the_counts_of_the_whole(text: str, size: int) -> None:
    naive = Counter(word.lower() for word in re.findall(r"\w[\w']*\w|\w", text))
    parts = split(text, size)
    assert "".join(parts) == text
    assert merged([count(part) for part in parts]).counts == count(text).counts == naive


def test_long_text_is_searched_in_parts_without_cutting_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count("x" * 3 * counting.CHUNK + " y").counts == {"x" * 3 * counting.CHUNK: 1, "y": 1}
    assert len(split("ab " * counting.CHUNK)) == 3


def test_top_is_by_count_and_then_by_the_alphabet() -> None:
    assert top({"b": 1, "a": 1, "c": 3}, 2) == [("c", 3), ("a", 1)]
