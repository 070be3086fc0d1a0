"""Command files of IMOD: which program they run, and with which options.

Lines that begin with ``$`` are commands; the lines between are the input of the command above them.
IMOD's library PIP reads options from there: a name, blanks or one equals sign, and the value. Comments
begin with ``#``. Names may be abbreviated as long as they remain unambiguous. An option that is given
again replaces its value, or adds to it where several are allowed. Source: IMOD's page on PIP.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ddgm_dist.errors import InputError
from ddgm_dist.readers.text import number, read_text, shown

__all__ = ["Options", "Program", "read_options"]

_INPUT = "StandardInput"
_ENDS = ("EndInput", "DONE")


@dataclass(frozen=True)
class Program:
    """A program of IMOD and the names of its options.

    Attributes
    ----------
    names
        Names under which it is run; the first one is used in messages.
    options
        Name of each option, or ``short:Name``, with blanks between them; ``?`` follows one without a
        value.
    any_case
        Whether upper and lower case in names of options are the same.
    reads_input
        Whether it reads its input without the option StandardInput too. Then its first lines that are
        no options are names of files.
    """

    names: tuple[str, ...]
    options: str
    any_case: bool = False
    reads_input: bool = False

    def find(self, given: str) -> tuple[str, str] | None:
        """Name and kind (``?`` or empty) of a possibly abbreviated option; None if unknown.

        Raises
        ------
        ValueError
            Several options begin so.
        """
        wanted = given.lower() if self.any_case else given
        if wanted in self._table:
            return self._table[wanted]
        found = {option for name, option in self._table.items() if name.startswith(wanted)}
        if len(found) > 1:
            raise ValueError(f"{shown(given)} may be {' or '.join(sorted(n for n, _ in found))}")
        return next(iter(found), None)

    @functools.cached_property
    def _table(self) -> dict[str, tuple[str, str]]:
        """Full name and kind of an option by each of its names."""
        table = {}
        for option in self.options.split():
            names = option.rstrip("?")
            full = names.rpartition(":")[2]
            for name in names.split(":"):
                table[name.lower() if self.any_case else name] = full, option[len(names) :]
        return table


@dataclass
class Options:
    """Options of one run of a program, by their full names.

    Attributes
    ----------
    path
        The command file.
    values
        For each option its values with the lines that they are in.
    files
        Names of files that are no options' values.
    unknown
        Names of options that the program's table lacks.
    """

    path: Path
    values: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """The value of an option as it is written; None if it is not given."""
        given = self.values.get(name)
        return given[-1][0] if given else None

    def all(self, name: str) -> list[tuple[str, int]]:
        """All values of an option, with their lines."""
        return self.values.get(name, [])

    def numbers(self, name: str, fewest: int, most: int | None = None) -> tuple[float, ...] | None:
        """The value of an option as numbers; None if it is not given, or left open by ``/``.

        Raises
        ------
        InputError
            They are no numbers, or not ``fewest`` to ``most`` of them.
        """
        text, most = self.text(name), fewest if most is None else most
        if text is None or text == "/":
            return None
        try:
            numbers = tuple(number(word) for word in re.split(r"[ \t]*,[ \t]*|[ \t]+", text))
        except ValueError as error:
            raise self.error(name, str(error)) from error
        if not fewest <= len(numbers) <= most:
            wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise self.error(name, f"{len(numbers)} numbers are given, {wanted} wanted")
        return numbers

    def integers(self, name: str, count: int, least: int = 1) -> tuple[int, ...] | None:
        """The value of an option as whole numbers, none below ``least``; see `numbers`."""
        numbers = self.numbers(name, count)
        if numbers is None:
            return None
        for value in numbers:
            if value != int(value) or value < least:
                raise self.error(name, f"{value:g} is no whole number from {least}")
        return tuple(int(value) for value in numbers)

    def error(self, name: str, why: str) -> InputError:
        """An error about the value of an option that is given."""
        text, line = self.values[name][-1]
        return InputError(
            "command file", str(self.path), f"line {line}: {name} is {shown(text)}, but {why}"
        )


def read_options(path: Path, program: Program) -> Options:
    """Options with which a command file runs a program.

    A file without any command is read as if the program were run with its lines, if they are all known
    options.

    Raises
    ------
    InputError
        The file is missing, no text, or does not run the program; it runs it several times; or an
        option is ambiguous or lacks its value.
    """
    text = read_text(path, "command file", western=True)
    runs = [run for run in _runs(text) if run.program in ("", *program.names)]
    name = program.names[0]
    if not runs:
        raise InputError("command file", str(path), f"does not run IMOD's {name}")
    if len(runs) > 1:
        lines = ", ".join(str(run.line) for run in runs[:5])
        raise InputError(
            "command file",
            str(path),
            f"runs IMOD's {name} {len(runs)} times (lines {lines})",
            "give a command file with one run of it",
        )
    options = Options(path)
    _Reader(program, options).read(runs[0])
    if not runs[0].program and (options.unknown or options.files):  # some other text
        raise InputError("command file", str(path), f"does not run IMOD's {name}")
    return options


@dataclass
class _Run:
    """One command with its input: lines and their numbers."""

    program: str
    line: int
    words: list[str] = field(default_factory=list)
    given: list[tuple[int, str]] = field(default_factory=list)


def _runs(text: str) -> list[_Run]:
    lines = list(enumerate(text.split("\n"), 1))
    if not any(line.lstrip().startswith("$") for _, line in lines):
        bare = [(i, line) for i, line in lines if line.partition("#")[0].strip()]
        return [_Run("", bare[0][0], ["-" + _INPUT], bare)] if bare else []
    runs: list[_Run] = []
    rest = iter(lines)
    for i, line in rest:
        command = line.strip()
        if command.startswith("$"):
            runs.append(_command(i, command[1:], rest))
        elif runs:
            runs[-1].given.append((i, line))
    return runs


def _command(line: int, command: str, rest: Iterator[tuple[int, str]]) -> _Run:
    """One command, with the lines that continue it."""
    while command.endswith("\\"):
        command = command[:-1] + " " + next(rest, (0, ""))[1].strip()
    try:
        words = shlex.split(command, comments=True)
    except ValueError:  # a quotation mark without its partner
        words = command.split()
    return _Run(PurePosixPath(words[0]).name if words else "-", line, words[1:])


class _Reader:
    """Reads the options of one run, first those of the command, then its input."""

    def __init__(self, program: Program, options: Options) -> None:
        self._program, self._options = program, options

    def read(self, run: _Run) -> None:
        reads_input = self._words(run.words, run.line) or self._program.reads_input
        lines = [(i, line.partition("#")[0].strip()) for i, line in run.given]
        lines = [(i, line) for i, line in lines if line]
        if not reads_input and lines:
            raise InputError(
                "command file",
                str(self._options.path),
                f"runs {self._program.names[0]} in line {run.line} with answers to its questions, "
                "as very old versions of IMOD did",
                "write its options in the form of newer versions of IMOD",
            )
        for i, line in lines if reads_input else []:
            if not self._line(i, line):
                break

    def _words(self, words: Sequence[str], line: int) -> bool:
        """Read the words of a command; return whether its input is options too."""
        reads_input, rest = False, iter(words)
        for word in rest:
            if not word.startswith("-"):
                self._options.files.append(word)
            elif len(word) > 2 and _INPUT.startswith(word.lstrip("-")):
                reads_input = True
            else:
                known = self._find(word.lstrip("-"), line)
                if known is None:  # it may have a value, which would be taken for a file
                    raise self._error(
                        line, f"{shown(word)} is no option of {self._program.names[0]}"
                    )
                self._option(known[0], line, "" if known[1] == "?" else next(rest, ""))
        return reads_input

    def _line(self, line: int, text: str) -> bool:
        """Read a line of input; return whether more may follow."""
        found = re.fullmatch(r"([^=\s]+)[ \t]*=?[ \t]*(.*)", text)
        if not found:
            raise self._error(line, f"{shown(text)} names no option")
        name, value = found.groups()
        if name == _ENDS[0] or (self._program.any_case and name.upper() == _ENDS[1]):
            return False
        if value.startswith("="):
            raise self._error(line, f"{shown(text)} has two equals signs")
        # Two lines at most, before all options, may name the files.
        early = self._program.reads_input and not self._options.values
        if early and len(self._options.files) < 2 and not self._is_option(name):
            self._options.files.append(text)
        else:
            self._option(name, line, value)
        return True

    def _option(self, name: str, line: int, value: str = "") -> None:
        known = self._find(name, line)
        if known is None:
            self._options.unknown.append(name)
            return
        full, kind = known
        value = value or ("1" if kind == "?" else "")
        if not value:
            raise self._error(line, f"{full} lacks its value")
        self._options.values.setdefault(full, []).append((value, line))

    def _is_option(self, name: str) -> bool:
        """True for an option, abbreviated without ambiguity."""
        try:
            return self._program.find(name) is not None
        except ValueError:
            return False

    def _find(self, name: str, line: int) -> tuple[str, str] | None:
        try:
            return self._program.find(name)
        except ValueError as error:
            raise self._error(line, str(error)) from error

    def _error(self, line: int, why: str) -> InputError:
        return InputError("command file", str(self._options.path), f"line {line}: {why}")
