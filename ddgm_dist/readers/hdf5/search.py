"""Find the dataset of an HDF5 file that holds the projections, and what belongs to it.

The layouts are NXtomo (https://manual.nexusformat.org/classes/applications/NXtomo.html) and
DXchange (https://dxfile.readthedocs.io); groups of NeXus are known by their class. In other files
names decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ddgm_dist.errors import InputError
from ddgm_dist.readers.hdf5.tree import Node, Tree, as_text, broken_link, unique
from ddgm_dist.readers.stacks.names import KEY_NAMES, is_reference

if TYPE_CHECKING:
    import h5py

__all__ = [
    "find_beside",
    "find_near",
    "find_projections",
]

_ENTRIES = ("NXentry", "NXsubentry")
_SHOWN = 8


def find_projections(file: h5py.File, tree: Tree, dataset: str | None, source: str) -> Node:
    """The dataset that holds the projections.

    Parameters
    ----------
    file, tree
        The file and what it holds.
    dataset
        Path of the dataset; None looks for it.
    source
        Path of the file, for messages.

    Raises
    ------
    InputError
        There is none, or there are several, or its link is broken.
    """
    if dataset is not None:
        return _named(file, tree, f"/{dataset.strip('/')}", source)
    for rule in (_of_beamlines, _of_detectors, _of_any_name):
        found = unique(node for node in rule(file, tree) if _is_no_reference(node))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                "source",
                source,
                f"holds {len(found)} datasets that may be the projections: {_listed(found)}",
                f"choose one with --dataset, such as --dataset {found[0].path}",
            )
        # The projections may be what a broken link leads to; another dataset is no substitute.
        for path in tree.broken:
            if path.endswith("/data"):
                raise broken_link(tree, path, source)
    lists = [node for node in tree.nodes.values() if node.shape is not None]
    links = "".join(f"; {path} is a link to {to}" for path, to in list(tree.broken.items())[:3])
    raise InputError(
        "source",
        source,
        f"holds no dataset of three axes; it has {_listed(lists) or 'none at all'}{links}",
        "a tilt series is one dataset (tilt, row, column)",
    )


def _named(file: h5py.File, tree: Tree, path: str, source: str) -> Node:
    import h5py

    for link in tree.broken:
        if path == link or path.startswith(f"{link}/"):
            raise broken_link(tree, link, source)
    node = tree.nodes.get(path)
    if node is None and path in file and isinstance(file[path], h5py.Dataset):
        found = file[path]
        node = Node(path, found.id, "", found.shape or (), found.dtype.kind)
    if node is None or node.shape is None:
        what = "is a group" if node is not None else "is not there"
        stacks = _listed(tree.stacks()) or "none"
        raise InputError(
            "dataset", path, f"{what} in {source}", f"datasets of three axes: {stacks}"
        )
    if not node.is_stack:
        raise InputError(
            "dataset",
            path,
            f"must be real numbers with three axes; it is {node.shape} of kind {node.kind!r}",
            f"datasets of three axes: {_listed(tree.stacks()) or 'none'}",
        )
    return node


def _of_beamlines(file: h5py.File, tree: Tree) -> Iterator[Node]:
    """Projections of NXtomo entries, and of the exchange groups of DXchange."""
    entries = [node for node in tree.nodes.values() if node.nx_class in _ENTRIES]
    stated = [e for e in entries if _definition(file, tree, e).lower().startswith("nxtomo")]
    # An entry with a subentry that is NXtomo holds the same images, as the detector wrote them.
    for entry in stated or entries:
        keys = [key for key in tree.below(entry.path) if key.name in KEY_NAMES and key.is_list]
        keyed = [node for key in keys for node in _images(tree, key.parent)]
        yield from keyed or (_detector_data(tree, entry.path) if entry in stated else ())
    for group in tree.nodes.values():
        if group.shape is None and group.parent == "" and group.name.split("_")[0] == "exchange":
            data = tree.nodes.get(f"{group.path}/data")
            if data is not None and data.is_stack:
                yield data


def _definition(file: h5py.File, tree: Tree, entry: Node) -> str:
    path = f"{entry.path}/definition"
    node = tree.nodes.get(path)
    return as_text(file[path][()]) if node is not None and node.shape in ((), (1,)) else ""


def _images(tree: Tree, group: str) -> Iterator[Node]:
    for node in tree.below(group):
        if node.parent == group and node.is_stack and node.name == "data":
            yield node


def _detector_data(tree: Tree, entry: str) -> Iterator[Node]:
    for group in tree.below(entry):
        if group.nx_class == "NXdetector":
            yield from _images(tree, group.path)


def _of_detectors(_: h5py.File, tree: Tree) -> Iterator[Node]:
    """Images of the detectors of all NeXus entries."""
    for entry in tree.nodes.values():
        if entry.nx_class == "NXentry":
            yield from _detector_data(tree, entry.path)


def _of_any_name(_: h5py.File, tree: Tree) -> Iterator[Node]:
    yield from tree.stacks()


def _is_no_reference(node: Node) -> bool:
    names = (node.name, node.parent.rpartition("/")[2])
    return not any(is_reference(name) for name in names)


def find_near(
    tree: Tree, stack: Node, names: Sequence[str], wanted: Callable[[Node], bool]
) -> list[Node]:
    """Datasets that belong to a stack, by their names: the closest group that has any decides.

    The order is that of the names; then those of a sample come first, then those near the group.
    In NeXus files the groups are the entries that the stack is in. In others they are all groups on
    its path; the root counts only where the file has no other stack.
    """
    groups = [g.path for g in tree.ancestors(stack.path) if g.nx_class in _ENTRIES]
    if not groups:
        groups = [group.path for group in tree.ancestors(stack.path)]
        others = [n for n in tree.stacks() if _is_no_reference(n) and n.identity != stack.identity]
        if not others or not groups:
            groups.append("")
    for group in groups:
        hits = [n for n in tree.below(group) if n.name in names and wanted(n)]
        if group == "" and stack.parent == "" and len(tree.stacks()) > 1:
            hits = [n for n in hits if n.parent == ""]
        if hits:
            hits.sort(
                key=lambda n: (names.index(n.name), not _of_sample(tree, n), n.path.count("/"))
            )
            return unique(hits)
    return []


def _of_sample(tree: Tree, node: Node) -> bool:
    return any(g.nx_class == "NXsample" or g.name == "sample" for g in tree.ancestors(node.path))


def find_beside(tree: Tree, stack: Node, names: Sequence[str], source: str) -> Node | None:
    """Reference images of a stack: a dataset beside it, or the data of a detector beside its own.

    Raises
    ------
    InputError
        The link to it is broken.
    """
    beside, detector = stack.parent, str(PurePosixPath(stack.parent or "/").parent).rstrip("/")
    for name in names:
        for path in (f"{beside}/{name}", f"{detector}/{name}/data"):
            if path in tree.broken:
                raise broken_link(tree, path, source)
            node = tree.nodes.get(path)
            if node is not None and node.kind in ("f", "i", "u") and node.shape is not None:
                return node
    return None


def _listed(nodes: Sequence[Node]) -> str:
    shown = ", ".join(f"{node.path} {node.shape}" for node in nodes[:_SHOWN])
    return shown + (f" and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else "")
