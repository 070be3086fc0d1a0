"""Files beside a stack that say how it was recorded and aligned.

The names are those that SerialEM, IMOD's etomo and AreTomo give. Of ``NAME.st``, ``NAME.mrc``,
``NAME.ali`` and ``NAME_ali.mrc`` the base is ``NAME``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from ddgm_dist.acquisition.written_names import FolderNames, same_name
from ddgm_dist.errors import InputError

__all__ = [
    "Companions",
    "companions_within",
    "find_companions",
    "stack_of_folder",
    "without_order",
]

STACK_SUFFIXES = (".st", ".mrc", ".mrcs", ".map", ".ali", ".preali", ".rec")
# All formats of stacks that files beside them may belong to.
_STACKS = (*STACK_SUFFIXES, ".tif", ".tiff", ".npy")
# Endings of the names that etomo gives to what it makes of a stack.
_ALIGNED, _PREALIGNED = "_ali", "_preali"
_MADE = ("_ali", "_preali", "_rec", "_full_rec", "_bin", "_dose-filt", "_fid", "_sirt")


@dataclass(frozen=True)
class Companions:
    """Files that belong to a stack.

    Attributes
    ----------
    base
        Base of the names.
    aligned
        The stack is one that IMOD has aligned, by its name.
    prealigned
        It is one that IMOD has aligned coarsely.
    tlt, rawtlt, xtilt, xf, aln, mdoc, tilt_command, newstack_command
        Paths; None where there is no such file.
    other
        Files that look as if they belonged to it, and are of no use here.
    case_matters
        Another stack, of any format and aligned or not, lies beside it, and the bases of their names
        differ in case only. Else names that differ in case
        are those of one file, as on Windows.
    """

    base: str
    aligned: bool = False
    prealigned: bool = False
    tlt: Path | None = None
    rawtlt: Path | None = None
    xtilt: Path | None = None
    xf: Path | None = None
    aln: Path | None = None
    mdoc: Path | None = None
    tilt_command: Path | None = None
    newstack_command: Path | None = None
    other: tuple[Path, ...] = field(default=())
    case_matters: bool = False

    @property
    def files(self) -> list[Path]:
        """All files that were found."""
        found = (self.tlt, self.rawtlt, self.xtilt, self.xf, self.aln, self.mdoc)
        both = (*found, self.tilt_command, self.newstack_command)
        return [path for path in both if path is not None] + list(self.other)


def find_companions(stack: Path) -> Companions:
    """The files beside a stack.

    Parameters
    ----------
    stack
        Path of the stack; it need not exist.
    """
    stem, suffix = stack.stem, stack.suffix.lower()
    aligned = suffix == ".ali" or stem.lower().endswith(_ALIGNED)
    prealigned = suffix == ".preali" or stem.lower().endswith(_PREALIGNED)
    base = _base(stem)
    folder = FolderNames(stack.parent)
    # Stacks that IMOD has aligned have companions of their own, too.
    rivals = (_base(file.stem) for file in folder.files if file.suffix.lower() in _STACKS)
    case_matters = any(r != base and same_name(r, base) for r in rivals)

    def first(*candidates: str, exact: bool = case_matters) -> Path | None:
        found = (folder.find(name, exact=exact) for name in candidates)
        return next((path for path in found if path is not None), None)

    axis = base[-1:].lower() if base[-1:].lower() in ("a", "b") else ""
    # These belong to the folder, whatever the stack is called.
    tilt = first(f"tilt{axis}.com", "tilt.com", exact=False)
    newstack = first(f"newst{axis}.com", "newst.com", exact=False)
    near = [f"{base}.xtilt", f"{base}local.xf", f"{base}.zfac", f"{base}.prexf", f"{base}.prexg"]
    near += [
        f"{base}_st.xf",
        f"{base}.tltxf",
        f"{base}_nonfid.xf",
        f"{base}.seed",
        f"{base}.fid.xyz",
    ]
    other = [first(name) for name in near[1:]]
    xf, fine = first(f"{base}.xf"), first(f"{base}_fid.xf")
    other.append(fine if xf is not None else None)
    xf = xf or fine
    return Companions(
        base=base,
        aligned=aligned,
        prealigned=prealigned,
        tlt=first(f"{base}.tlt", f"{stack.name}.tlt"),
        rawtlt=first(f"{base}.rawtlt", f"{stack.name}.rawtlt"),
        xtilt=first(near[0]),
        xf=xf,
        aln=first(f"{base}.aln", f"{stack.name}.aln", f"{base}.mrc.aln", f"{base}.st.aln"),
        mdoc=first(f"{stack.name}.mdoc", f"{base}.mdoc", f"{base}.mrc.mdoc", f"{base}.st.mdoc"),
        tilt_command=tilt,
        newstack_command=newstack,
        other=tuple(path for path in other if path is not None),
        case_matters=case_matters,
    )


def without_order(found: Companions) -> Companions:
    """Files beside single images: those that go by the order of a stack are of no use."""
    ordered = (found.tlt, found.rawtlt, found.xtilt, found.tilt_command, found.newstack_command)
    other = tuple(path for path in ordered if path is not None)
    return Companions(found.base, xf=found.xf, aln=found.aln, other=(*other, *found.other))


def companions_within(folder: Path) -> Companions:
    """Files about geometry in a folder of images."""

    def all_of(*suffixes: str) -> list[Path]:
        files = [f for f in sorted(folder.iterdir()) if f.name[0] != "."]
        return [f for f in files if f.suffix.lower() in suffixes]

    xf, aln = all_of(".xf"), all_of(".aln")
    other = [*xf[1:], *aln[1:], *all_of(".tlt", ".rawtlt", ".xtilt", ".mdoc", ".com")]
    return Companions(
        folder.name,
        xf=xf[0] if xf else None,
        aln=aln[0] if aln else None,
        other=tuple(other),
    )


def _base(stem: str) -> str:
    """The name without what etomo adds for an aligned stack."""
    ending = next((e for e in (_PREALIGNED, _ALIGNED) if stem.lower().endswith(e)), "")
    return stem[: len(stem) - len(ending)]


def _is_recorded(file: Path) -> bool:
    """Return whether a file is an MRC stack by its name, and was not made by etomo of another one."""
    stem = file.stem.lower()
    made = stem.endswith(_MADE) or re.search(r"_bin\d*$", stem) is not None
    return file.suffix.lower() in STACK_SUFFIXES[:4] and not made


def _stacks_in(folder: Path) -> list[Path]:
    """MRC stacks of a folder that were recorded, not made by etomo of another one."""
    return [file for file in FolderNames(folder).files if _is_recorded(file)]


def stack_of_folder(folder: Path) -> Path | None:
    """The stack of a folder that etomo works in; None where it is no such folder.

    Raises
    ------
    InputError
        It is one, but which stack is meant is not clear.
    """
    names = [f.name.lower() for f in folder.iterdir() if f.is_file()]
    projects = [n for n in names if n.endswith((".edf", ".mdoc"))]
    if not (projects or "tilt.com" in names or "tilta.com" in names):
        return None
    stacks = _stacks_in(folder)
    if len(stacks) == 1:
        return stacks[0]
    named = [s for s in stacks if f"{s.stem}.edf".lower() in names]
    if len(named) == 1:
        return named[0]
    if not stacks:
        return None
    raise InputError(
        "source",
        str(folder),
        f"holds {len(stacks)} stacks: {', '.join(s.name for s in stacks[:5])}",
        "give the path of the one to be read",
    )
