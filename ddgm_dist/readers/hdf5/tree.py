"""The groups and datasets of an HDF5 file, as a flat list that can be searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["Node", "Tree", "as_text", "broken_link", "read_tree", "unique"]

_MOST, _DEEP = 20_000, 12


@dataclass(frozen=True)
class Node:
    """A group or a dataset.

    Attributes
    ----------
    path
        Path in the file, as it was reached.
    identity
        Equal for two paths that lead to the same object.
    nx_class
        Class of a NeXus group; empty for others.
    shape
        Of a dataset; None for a group.
    kind
        Letter of a dataset's kind of values, as numpy writes it.
    """

    path: str
    identity: Any
    nx_class: str = ""
    shape: tuple[int, ...] | None = None
    kind: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> str:
        """Path of the group that it is in; empty for the root."""
        return self.path.rpartition("/")[0]

    @property
    def is_stack(self) -> bool:
        """True for a dataset of real numbers with three axes, besides those of extent one."""
        if self.shape is None or self.kind not in "fiu" or len(self.shape) < 3:
            return False
        return len(self.shape) == 3 or sum(n != 1 for n in self.shape) == 3

    @property
    def is_list(self) -> bool:
        """True for a dataset of real numbers with one axis, besides one of extent one."""
        if not self.shape or self.kind not in "fiu" or len(self.shape) > 2:
            return False
        return len(self.shape) == 1 or 1 in self.shape


@dataclass
class Tree:
    """Groups and datasets of a file.

    Attributes
    ----------
    nodes
        By their paths; those near the root come first.
    broken
        Links that lead nowhere: path, and what each leads to.
    is_whole
        False where the file holds more than was looked at.
    """

    nodes: dict[str, Node] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    is_whole: bool = True

    def below(self, path: str) -> Iterator[Node]:
        """Groups and datasets below a group, those near to it first."""
        return (node for node in self.nodes.values() if node.path.startswith(f"{path}/"))

    def ancestors(self, path: str) -> Iterator[Node]:
        """The groups that a path lies in, the closest first; not the root."""
        while path := path.rpartition("/")[0]:
            if path in self.nodes:
                yield self.nodes[path]

    def stacks(self) -> list[Node]:
        """Datasets that may hold images, each once."""
        return unique(node for node in self.nodes.values() if node.is_stack)


def unique(nodes: Iterable[Node]) -> list[Node]:
    """Nodes without those that are the same object as one before."""
    found: dict[Any, Node] = {}
    for node in nodes:
        found.setdefault(node.identity, node)
    return list(found.values())


def read_tree(file: h5py.File) -> Tree:
    """List a file's groups and datasets; links are followed, but no group is entered twice."""
    import h5py

    tree, seen = Tree(), set()
    level: list[tuple[str, h5py.Group]] = [("", file)]
    for _ in range(_DEEP):
        below: list[tuple[str, h5py.Group]] = []
        for path, group in level:
            if group.id in seen:
                continue
            seen.add(group.id)
            for name in group:
                if len(tree.nodes) >= _MOST:
                    tree.is_whole = False
                    return tree
                inner = f"{path}/{name}"
                try:
                    item = group[name]
                except (KeyError, OSError, RuntimeError):
                    tree.broken[inner] = _target(group, name)
                    continue
                if isinstance(item, h5py.Group):
                    nx_class = as_text(item.attrs.get("NX_class", ""))
                    tree.nodes[inner] = Node(inner, item.id, nx_class)
                    below.append((inner, item))
                elif isinstance(item, h5py.Dataset):
                    kind = item.dtype.kind if item.shape is not None else "V"
                    tree.nodes[inner] = Node(inner, item.id, "", item.shape or (), kind)
        level = below
    tree.is_whole = not level
    return tree


def as_text(value: object) -> str:
    """Text that HDF5 gives as text, as bytes, or as an array of one of them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    if isinstance(value, str):
        return value.strip()
    if getattr(value, "size", 0) == 1 and hasattr(value, "item"):
        inner = value.item()
        return as_text(inner) if isinstance(inner, str | bytes) else ""
    return ""


def _target(group: h5py.Group, name: str) -> str:
    import h5py

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path} of the file {link.filename}"
    if isinstance(link, h5py.SoftLink):
        return f"{link.path}"
    return "an object of an unknown kind"


def broken_link(tree: Tree, path: str, source: str) -> InputError:
    """The error of a link that is needed and leads nowhere."""
    return InputError(
        "source",
        f"{source}:{path}",
        f"is a link to {tree.broken[path]}, which is missing or cannot be read",
        "copy the missing file beside this one",
    )
