"""The check of the prose reports what is planted, and passes what is in order."""

from pathlib import Path

import pytest

from tests.prose import check, main

GOOD = """\
# A page

A short sentence, e.g. this one. It names `ddgm_dist/core/box.py`, `ddgm_dist.core.box.Box` and a
[section](#a-page). See also <https://example.org/a/very/long/address/that/nobody/can/break/over/two/lines/{url}>.

- An item ends without a full stop
- `code that has many words counts as one word only, however many words it has in it, as here it does`

| a table | {cells} |
| --- | --- |

    indented code may be as long as it likes, {code}

```
fenced code too, {code}
```

![A figure, {code}](figure.png)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small repository with nothing wrong in it."""
    (tmp_path / "ddgm_dist" / "core").mkdir(parents=True)
    (tmp_path / "ddgm_dist" / "__init__.py").write_text("")
    (tmp_path / "ddgm_dist" / "core" / "__init__.py").write_text("")
    (tmp_path / "ddgm_dist" / "core" / "box.py").write_text('"""Boxes."""\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "figure.png").write_bytes(b"")
    cells = " | ".join(["a b c"] * 11)
    page = GOOD.format(url="x" * 100, cells=cells, code="and long " * 30)
    (tmp_path / "docs" / "page.md").write_text(page)
    (tmp_path / "README.md").write_text("See [a page](docs/page.md#a-page).\n")
    return tmp_path


def found(root: Path, text: str) -> list[str]:
    """What is reported of a page of this text, without its path."""
    (root / "docs" / "bad.md").write_text(text)
    return [str(each).removeprefix("docs/bad.md:") for each in check(root)]


def test_a_good_page_passes(root: Path) -> None:
    assert [str(each) for each in check(root)] == []


@pytest.mark.parametrize("lead", ["", "- ", "1. ", "# ", "| ", "> "])
def test_a_long_sentence_is_reported(root: Path, lead: str) -> None:
    assert found(root, f"Short.\n\n{lead}{'to ' * 30}\n") == []
    (one,) = found(root, f"Short.\n\n{lead}{'to ' * 31}\n")
    assert one.startswith("3: a sentence of 31 words: to to")


def test_a_sentence_runs_on_over_lines_and_links_but_not_into_the_next_item(root: Path) -> None:
    words = "to " * 15
    assert found(root, f"- {words}\n- {words}to\n") == []
    (one,) = found(root, f"- {words}\n  [{words}](page.md) `a b`\n")
    assert one.startswith("1: a sentence of 31 words")


def test_a_list_in_a_block_of_code_is_code_and_so_is_code_in_a_list(root: Path) -> None:
    assert found(root, f"Code:\n\n    - {'to ' * 31}\n    {'to ' * 31}\n") == []
    assert found(root, f"- Code:\n\n      {'to ' * 31}\n") == []
    assert len(found(root, f"- Text.\n\n  {'to ' * 31}\n")) == 1


def test_a_full_stop_of_an_abbreviation_or_a_number_ends_no_sentence(root: Path) -> None:
    half = "to " * 15
    assert len(found(root, f"{half} e.g. It is 2.5 of {half}\n")) == 1
    assert found(root, f"{half}. It is 2.5 of {half}\n") == []
    assert found(root, f"**{half}.** It is 2.5 of {half}\n") == []


def test_a_long_line_is_reported(root: Path) -> None:
    assert found(root, "x" * 120 + "\n") == []
    assert found(root, "x" * 121 + "\n") == ["1: a line of 121 characters"]
    assert found(root, f"| {'x' * 117} |\n") == ["1: a line of 121 characters"]


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("That is told of.", "is reported"),
        ("It can be gone\non with.", "resume"),
        ("## Death at every write", "Crash consistency"),
        ("    ddgm-dist ingest --mask-bad", "--impute-nonfinite"),
        ("Set `trust`.", "data_weight_cap"),
        ("# Not yet", "Limitations"),
    ],
)
def test_a_banned_word_is_reported_with_the_word_to_say(
    root: Path, text: str, instead: str
) -> None:
    reported = found(root, f"Good.\n\n{text}\n")
    assert reported
    assert all(each.startswith("3: ") and instead in each for each in reported)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[a page](page.md)\n[gone](gone.md)", "2: a link to gone.md, which is not there"),
        ("[gone](page.md#gone)", "1: a link to page.md#gone: no such heading"),
        ("`ddgm_dist/core/gone.py`", "1: ddgm_dist/core/gone.py is not there"),
        ("    python tests/gone.py", "1: tests/gone.py is not there"),
        ("Run deploy/*/gone.yaml.", "1: deploy/*/gone.yaml is not there"),
        ("```\nfrom ddgm_dist.gone import a\n```", "2: there is no module ddgm_dist.gone"),
        ("`dd.core`, `dd.gone(1)`", "1: there is no public name gone"),
        ("`ddgm_dist.core.gone.a`", "1: there is no module ddgm_dist.core.gone.a"),
    ],
)
def test_a_dead_path_is_reported(root: Path, text: str, line: str) -> None:
    assert found(root, text + "\n") == [line]


def test_paths_in_a_store_or_an_address_are_not_those_of_the_repository(root: Path) -> None:
    text = "`OUT.zarr/ddgm_dist/events`, https://example.org/docs/gone, ~/ddgm_dist/gone.py\n"
    assert found(root, text) == []


def in_module(root: Path, text: str) -> list[str]:
    """What is reported of a module of this text, without its path."""
    (root / "ddgm_dist" / "core" / "box.py").write_text(text)
    return [str(each).removeprefix("ddgm_dist/core/box.py:") for each in check(root)]


@pytest.mark.parametrize(
    "text",
    [
        '"""Boxes.\n\nIt is told.\n"""\n',
        "a = 1\n\n# It is told.\n",
        "a = 1\n\nb = f'{a} is told'\n",
        "a = 1\n\n# It can be gone\n# on with.\n",
        "a = 1\n\nb = ('gone '\n    'on with')\n",
        '"""Boxes.\n\nGone\n    on with.\n"""\n',
    ],
)
def test_a_banned_word_in_a_comment_or_string_of_the_package_is_reported(
    root: Path, text: str
) -> None:
    (one,) = in_module(root, text)
    assert one.startswith("3: ")
    assert ": say " in one


def test_names_in_the_package_and_words_that_only_pages_lack_are_allowed(root: Path) -> None:
    assert in_module(root, "journal = {'mask_bad': 1}  # It is settled.\n") == []


@pytest.mark.parametrize("first", ["Which", "Of which", "Whether", "Its", "What", "as whose"])
@pytest.mark.parametrize("head", ["def f():", "class A:", "async def f():"])
def test_a_docstring_that_is_a_fragment_is_reported(root: Path, first: str, head: str) -> None:
    expected = f"4: a docstring that begins with {first!r}: say what it describes"
    assert in_module(root, f'if a:\n\n  {head}\n    """{first} name."""\n') == [expected]


@pytest.mark.parametrize("text", ["Return whether it is.", "Whichever it is.", "Item of a list."])
def test_a_docstring_that_says_what_it_describes_passes(root: Path, text: str) -> None:
    assert in_module(root, f'"""{text}"""\n') == []


def test_a_bad_page_fails(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "docs" / "bad.md").write_text("That is told.\n")
    assert main(root) == 1
    assert "docs/bad.md:1: " in capsys.readouterr().out
