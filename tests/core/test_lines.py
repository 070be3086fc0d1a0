"""Lines for a terminal: none is longer than 80 columns, and no word is lost."""

from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.core.lines import WIDTH, labelled, wrapped

WORDS = st.lists(st.text("ab-/.,", min_size=1, max_size=30), min_size=1, max_size=60)


@given(WORDS, st.integers(0, 20))
def test_lines_fit_and_keep_their_words(words: list[str], indent: int) -> None:
    lines = labelled("label", " ".join(words), indent + 6).split("\n")
    assert all(len(line) <= WIDTH for line in lines)
    assert all(line.startswith(" " * (indent + 6)) for line in lines[1:])
    assert " ".join(lines).split() == ["label", *words]


def test_a_long_word_stays_whole() -> None:
    path = "/folder" * 20
    assert path in labelled("written", path, 16).split()


def test_items_of_a_list_continue_beneath_their_text() -> None:
    lines = wrapped(f"causes:\n  {'word ' * 40}", 4).split("\n")
    assert lines[0] == "causes:"
    assert all(line.startswith("      word") for line in lines[1:])
    assert len(lines) == 4
    numbered = wrapped(f"  12. {'word ' * 40}", 4).split("\n")
    assert all(line.startswith(" " * 10 + "word") for line in numbered[1:])
