"""Comments are above what they explain, and change nothing."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ddgm_dist.deploy.yaml_text import dump

printable = "".join(map(chr, range(32, 127))) + "\n"
keys = st.text("abcdefgh", min_size=1, max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just("0")
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)


@given(st.dictionaries(keys, values, min_size=1, max_size=4), st.text(printable, max_size=200))
def test_a_reader_gets_the_document_back(document: dict[str, object], comment: str) -> None:
    text = dump(document, dict.fromkeys(document, comment), head=comment)
    assert yaml.safe_load(text) == document


def test_a_comment_stands_above_its_key_at_its_depth() -> None:
    text = dump({"a": {"b": [{"c": 1}, {"d": 2}]}}, {"a.b": "why b", "a.b.1.d": "why d"}, head="h")
    assert text == ("# h\na:\n  # why b\n  b:\n    - c: 1\n      # why d\n    - d: 2\n")


def test_a_comment_on_nothing_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"a\.c"):
        dump({"a": {"b": 1}}, {"a.c": "why"})
