"""Check the prose: ``python -m tests.prose`` lists what is wrong, and ``make lint`` runs it.

In pages, a sentence has at most 30 words and a line at most 120 characters. Private words are reported
with the standard word. Every relative link, path and module that a page names must exist.

In the package, comments and strings have no private words either. A docstring begins with what it
describes, not with a word such as "Which" or "Whether".
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

MOST_WORDS = 30
MOST_CHARACTERS = 120
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/*.md",
    "deploy/**/*.md",
    "ddgm_dist/**/*.md",
)
# Files and folders that a page tells its reader to make.
READERS_OWN = ("deploy/kubernetes/overlays/mine", "deploy/kubernetes/overlays/specimen7")


class Banned(NamedTuple):
    """A word that no page has; with ``code``, nor do the package's comments and strings."""

    pattern: str
    instead: str
    code: bool = False


BANNED = (
    # Private words.
    Banned(r"\bpos(?:e|es|ed)\b", "build the problem, set", code=True),
    Banned(r"\bjournals?\b", "event log", code=True),
    Banned(r"\bsettle[sd]?\b", "choose, tune, decide"),
    Banned(r"\bhellos?\b", "handshake", code=True),
    Banned(r"\bpatience\b", "timeouts", code=True),
    Banned(r"\b(?:is|are|was|were|be|been) told\b", "is reported", code=True),
    Banned(r"\btold of\b", "is reported", code=True),
    Banned(r"\b(?:gone|go|goes|going) on with\b", "resume, continue with", code=True),
    Banned(r"\bgoes on where\b|\bgo on where\b", "resumes where", code=True),
    Banned(r"\bstumbles?\b", "fails for a moment", code=True),
    Banned(r"\bso grave\b", "this severe", code=True),
    Banned(r"\b(?:mend|mends|mended)\b", "repair, fix"),
    # Headings.
    Banned(r"\bseeing what a run does\b", "Monitoring", code=True),
    Banned(r"\bdeath at every write\b", "Crash consistency", code=True),
    Banned(r"\bwhose output (?:it|this) is\b", "Fencing, who owns the output", code=True),
    Banned(r"\bwho may work\b", "Worker admission", code=True),
    Banned(r"^#+ not yet$", "Limitations"),
    Banned(r"^#+ words$", "Glossary"),
    # Names that have changed.
    Banned(r"\bmask_bad\b", "impute_nonfinite"),
    Banned(r"--mask-bad\b", "--impute-nonfinite", code=True),
    Banned(r"`trust`|\btrust ?= ?\d", "data_weight_cap", code=True),
    Banned(r"\bspecimen: (?:slab|isolated)\b", "boundary: extended, boundary: vacuum", code=True),
    Banned(r"\bstate[:=] ?(?:resident|streamed)\b", "state: memory, state: store", code=True),
    Banned(r"\bmanifest datapod\b", "manifest data-pod", code=True),
    Banned(r"--at-once\b", "--max-parallel", code=True),
    Banned(r"--any-version\b", "--ignore-version-mismatch", code=True),
    Banned(r"--fresh\b", "--no-resume", code=True),
    Banned(r"--variety\b", "--augment", code=True),
    Banned(r"\bmake_plan\(", "dd.plan("),
    Banned(r"\bread_status\(", "dd.status("),
)


@dataclass(frozen=True)
class Finding:
    """What is wrong, and where."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


class Line(NamedTuple):
    """A line of a page, by its number from 1; ``code`` says that it lies in a block of code."""

    number: int
    text: str
    code: bool


_FENCE = re.compile(r"\s*(?:```|~~~)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")
_HEADING = re.compile(r"#+\s")
_URL = re.compile(r"<?https?://[^\s)>]+>?")


def lines_of(text: str) -> list[Line]:
    """Lines of a page; fenced and indented blocks are code."""
    found: list[Line] = []
    fenced = listed = indented = False
    blank = True
    for number, line in enumerate(text.splitlines(), 1):
        fence = bool(_FENCE.match(line))
        if fence or fenced:
            found.append(Line(number, line, True))
            fenced ^= fence
            indented = blank = False
            continue
        if line.strip():
            depth = len(line) - len(line.lstrip())
            indented = depth >= (6 if listed else 4) and (indented or blank)
            if not indented:
                listed = bool(_ITEM.match(line)) or (listed and depth > 0)
        found.append(Line(number, line, indented and bool(line.strip())))
        blank = not line.strip()
    return found


def blocks(lines: Iterable[Line]) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items, table cells and headings, each with the number of its first line."""
    start, held = 0, list[str]()
    for number, text, code in lines:
        line = "" if code else text.strip()
        table, heading = line.startswith("|"), bool(_HEADING.match(line))
        if held and (not line or table or heading or _ITEM.match(text)):
            yield start, " ".join(held)
            held = []
        if table:
            for cell in re.split(r"(?<!\\)\|", line.strip("|")):
                yield number, cell.strip()
        elif heading:
            yield number, line.lstrip("# ")
        elif line:
            start = start if held else number
            held.append(line if held else re.sub(rf"^{_ITEM.pattern}", "", text).strip())
    if held:
        yield start, " ".join(held)


def plain(text: str) -> str:
    """Text as it is read: code is one word, a link is its text, and an image is nothing."""
    text = re.sub(r"<!--.*?-->", "", text)
    text = re.sub(r"(`+).+?\1", " code ", text)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = _URL.sub(" link ", text)
    return text.replace("*", "")


def sentences(text: str) -> Iterator[str]:
    """Sentences of a block of plain text."""
    text = re.sub(r"\b(e\.g|i\.e|etc|vs|cf|approx)\.", lambda found: found[1], text)
    yield from re.split(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9`]|code\b|link\b)", text)


def long_sentences(path: str, lines: Iterable[Line]) -> Iterator[Finding]:
    for number, block in blocks(lines):
        for sentence in sentences(plain(block)):
            words = [word for word in sentence.split() if re.search(r"\w", word)]
            if len(words) > MOST_WORDS:
                shown = " ".join(words[:8])
                yield Finding(path, number, f"a sentence of {len(words)} words: {shown} ...")


def long_lines(path: str, lines: Iterable[Line]) -> Iterator[Finding]:
    for number, text, code in lines:
        length = len(_URL.sub("", text))
        if not code and not text.lstrip().startswith("![") and length > MOST_CHARACTERS:
            yield Finding(path, number, f"a line of {length} characters")


def banned_words(
    path: str, lines: Iterable[Line], entries: Iterable[Banned] = BANNED
) -> Iterator[Finding]:
    """Words to be replaced, also where one is broken over two lines."""
    rows = [*lines, Line(0, "", True)]
    for (number, text, code), after in pairwise(rows):
        joined = text if after.code or code else f"{text} {after.text.strip()}"
        for entry in entries:
            for found in re.finditer(entry.pattern, joined, re.IGNORECASE):
                if found.start() < len(text):
                    yield Finding(path, number, f"{found[0]!r}: say {entry.instead}")


_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w./@-])((?:ddgm_dist|tests|benchmarks|deploy|docs)/[\w./*-]*\w/?)")
_PUBLIC = re.compile(r"(?<![\w.])dd\.([a-z_]\w*)", re.IGNORECASE)
_MODULE = re.compile(r"(?<![\w.-])ddgm_dist((?:\.[a-z_]\w*)+)")


def _anchors(page: Path) -> set[str]:
    heads = [line.text for line in lines_of(page.read_text(encoding="utf-8")) if not line.code]
    names = (plain(head.lstrip("# ")).strip().lower() for head in heads if _HEADING.match(head))
    return {re.sub(r"[^\w\- ]", "", name).replace(" ", "-") for name in names}


def _is_module(root: Path, dotted: str) -> bool:
    """Whether a module has this name, or one that may hold it as an attribute."""
    at = root / "ddgm_dist"
    for part in dotted.strip(".").split("."):
        if at.with_suffix(".py").is_file():
            return True
        package, at = at, at / part
        if not at.is_dir() and not at.with_suffix(".py").is_file():
            names = "".join(p.read_text(encoding="utf-8") for p in package.glob("__init__.py*"))
            return bool(re.search(rf"\b{part}\b", names))
    return True


def dead_paths(root: Path, path: str, lines: Iterable[Line]) -> Iterator[Finding]:
    here = (root / path).parent
    for number, text, code in lines:
        for target in () if code else _LINK.findall(text):
            file, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            page = here / file if file else root / path
            if not page.exists():
                yield Finding(path, number, f"a link to {target}, which is not there")
            elif anchor and page.suffix == ".md" and anchor not in _anchors(page):
                yield Finding(path, number, f"a link to {target}: no such heading")
        for named in _PATH.findall(_LINK.sub("]", _URL.sub("", text))):
            made = named.startswith(READERS_OWN)
            if not made and not (
                any(root.glob(named)) if "*" in named else (root / named).exists()
            ):
                yield Finding(path, number, f"{named} is not there")
        for dotted in _MODULE.findall(text):
            if not _is_module(root, dotted):
                yield Finding(path, number, f"there is no module ddgm_dist{dotted}")
        for name in _PUBLIC.findall(text):
            if not _is_module(root, name):
                yield Finding(path, number, f"there is no public name {name}")


def check_page(root: Path, path: str) -> list[Finding]:
    """All that is wrong with one page, whose path is relative to ``root``."""
    lines = lines_of((root / path).read_text(encoding="utf-8"))
    found = [
        *long_sentences(path, lines),
        *long_lines(path, lines),
        *banned_words(path, lines),
        *dead_paths(root, path, lines),
    ]
    return sorted(found, key=lambda each: each.line)


# The parts of an f-string are tokens of their own since Python 3.12.
_WRITTEN = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
_QUOTES = re.compile(r"""^\w*["']+|["']+$""")
_FRAGMENT = re.compile(
    r"(?:(?:of|for|in|to|on|by|at|with|from|as)\s+)?(?:which|what|whose|whom|who)\b"
    r"|(?:whether|why|how|its|their)\b",
    re.IGNORECASE,
)


def written(source: str) -> Iterator[Line]:
    """Comments and strings of a module, as lines of text."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _WRITTEN:
            text = _QUOTES.sub("", token.string)
            for number, line in enumerate(text.splitlines(), token.start[0]):
                yield Line(number, line.strip("# "), False)


def fragments(path: str, source: str) -> Iterator[Finding]:
    """Docstrings that begin with a word which refers to nothing."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = _FRAGMENT.match(ast.get_docstring(node) or "")
            if found:
                what = f"a docstring that begins with {found[0]!r}: say what it describes"
                yield Finding(path, node.body[0].lineno, what)


def check_module(root: Path, path: str) -> list[Finding]:
    """All that is wrong with the comments and strings of one module of the package."""
    source = (root / path).read_text(encoding="utf-8")
    banned = [entry for entry in BANNED if entry.code]
    found = [*banned_words(path, written(source), banned), *fragments(path, source)]
    return sorted(found, key=lambda each: each.line)


def check(root: Path) -> list[Finding]:
    """All that is wrong with the pages and the package of a repository."""
    pages = sorted({path for pattern in PAGES for path in root.glob(pattern)})
    modules = sorted((root / "ddgm_dist").rglob("*.py"))
    return [
        each
        for files, check_one in ((pages, check_page), (modules, check_module))
        for file in files
        for each in check_one(root, file.relative_to(root).as_posix())
    ]


def main(root: Path) -> int:
    """Print what is found; the exit status is 1 if something is wrong."""
    findings = check(root)
    print(*findings, sep="\n", end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parents[1]))
