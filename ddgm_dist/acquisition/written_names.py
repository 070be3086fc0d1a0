"""Names of files as other programs write them: with folders of another computer, quotes, other case."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.errors import InputError

__all__ = ["FolderNames", "name_of", "same_name"]


def name_of(written: str) -> str:
    r"""Name of a file without folders, POSIX or Windows, and without quotes around it.

    >>> name_of(r'"X:\data\My series.mrc"')
    'My series.mrc'
    """
    text = written.strip().strip('"').strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1]
    return text.replace("\\", "/").rsplit("/", 1)[-1].strip()


def same_name(one: str, other: str, *, exact: bool = False) -> bool:
    """Return whether two names are those of one file; on Windows case does not matter.

    Parameters
    ----------
    one, other
        The names.
    exact
        Names that differ in case only are those of two files.
    """
    return one == other or (not exact and one.casefold() == other.casefold())


class FolderNames:
    """The visible files of a folder by their names, exactly or but for case."""

    def __init__(self, folder: Path) -> None:
        self.files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name[0] != "."]
        self._exact = {file.name: file for file in self.files}
        self._near = dict[str, list[Path]]()
        for file in self.files:
            self._near.setdefault(file.name.casefold(), []).append(file)

    def find(self, name: str, *, exact: bool = False) -> Path | None:
        """The file of a name; None if there is none.

        Parameters
        ----------
        name
            Name without folders.
        exact
            Case matters. Else a file of exactly this name goes before one that differs in case.

        Raises
        ------
        InputError
            Several files differ from the name in case.
        """
        if (found := self._exact.get(name)) is not None or exact:
            return found
        near = self._near.get(name.casefold(), [])
        if len(near) > 1:
            raise InputError(
                "source",
                name,
                f"is not beside the source, but {' and '.join(f.name for f in near)} are: which of "
                "them is meant is not clear",
                "rename the one that is meant",
            )
        return near[0] if near else None
