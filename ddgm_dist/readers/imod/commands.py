"""Geometry in IMOD's command files: ``tilt.com`` (reconstruction), ``newst.com`` (aligned stack)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.readers.imod.lists import parse_views
from ddgm_dist.readers.imod.options import Options, Program, read_options

__all__ = ["NewstackCommand", "TiltCommand", "read_newstack_command", "read_tilt_command"]

_log = logging.getLogger("ddgm_dist")

_TILT = Program(
    ("tilt",),
    """
    input:InputProjections output:OutputFile TILTFILE XTILTFILE ZFACTORFILE LOCALFILE
    BoundaryInfoFile WeightAngleFile WeightFile WIDTH SLICE TOTALSLICES THICKNESS OFFSET SHIFT
    ANGLES XAXISTILT COMPFRACTION COMPRESS FULLIMAGE SUBSETSTART IMAGEBINNED LOCALSCALE LOG
    RADIAL FalloffIsTrueSigma? MultiplyByGaussian? HammingLikeFilter DENSWEIGHT ExactFilterSize
    FakeSIRTiterations INCLUDE EXCLUDELIST2 COSINTERP XTILTINTERP UseGPU ActionIfGPUFails MODE
    SCALE MASK PERPENDICULAR? PARALLEL? RotateBy90? AdjustOrigin? TITLE BaseRecFile BaseNumViews
    SubtractFromBase MinMaxMean REPROJECT ViewsToReproject recfile:RecFileToReproject
    xminmax:XMinAndMaxReproj yminmax:YMinAndMaxReproj zminmax:ZMinAndMaxReproj
    threshold:ThresholdedReproj FlatFilterFraction SIRTIterations SIRTSubtraction?
    StartingIteration VertBoundaryFile VertSliceOutputFile VertForSIRTInput? ConstrainSign
    ProjectModel AngleOutputFile AlignTransformFile DefocusFile PixelForDefocus FBPINTERP
    REPLICATE debug:DebugOutput? internal:InternalSIRTSlices param:ParameterFile
    TextureType help:usage?
    """,
    any_case=True,
    reads_input=True,
)
_NEWSTACK = Program(
    ("newstack", "colornewst", "newst"),
    """
    input:InputFile output:OutputFile fileinlist:FileOfInputs fileoutlist:FileOfOutputs
    reverse:ReverseInputFileOrder split:SplitStartingNumber append:AppendExtension
    format:FormatOfOutputFile compression:HDFCompressionIndex volumes:VolumesToRead
    3d:Store3DVolumes chunk:ChunkSizesInXYZ mdoc:UseMdocFiles? remove:RemoveForMdocName
    addback:AddBackForMdocName pixel:PixelSizeFromMdoc? tilt:TiltAngleFile
    reorder:ReorderByTiltAngle angle:AngleFileToReorder newangle:NewAngleOutputFile
    secs:SectionsToRead samesec:SameSectionsToRead? fromone:NumberedFromOne?
    exclude:ExcludeSections twodir:TwoDirectionTiltSeries? skip:SkipSectionIncrement
    numout:NumberToOutput replace:ReplaceSections blank:BlankOutput? offset:OffsetsInXandY
    applyfirst:ApplyOffsetsFirst? xform:TransformFile uselines:UseTransformLines
    onexform:OneTransformPerFile? phase:PhaseShiftFFT? rotate:RotateByAngle
    expand:ExpandByFactor shrink:ShrinkByFactor antialias:AntialiasFilter bin:BinByFactor
    oddeven:AllowOddEvenChange? ftreduce:FourierReduceByFactor ftexpand:FourierExpandByFactor
    noise:NoisePadForFFT? distort:DistortionField imagebinned:ImagesAreBinned fields:UseFields
    subarea:SubareaOffsetsXandY gradient:GradientFile origin:AdjustOrigin?
    linear:LinearInterpolation? nearest:NearestNeighbor? size:SizeToOutputInXandY
    mode:ModeToOutput bytes:BytesSignedInOutput strip:StripExtraHeader? float:FloatDensities
    meansd:MeanAndStandardDeviation contrast:ContrastBlackWhite scale:ScaleMinAndMax
    map:MapFromRange multadd:MultiplyAndAdd fixrange:FixRangeIfNeeded rfparam:RangeFixingParams
    fill:FillValue taper:TaperAtFill memory:MemoryLimit test:TestLimits megasec:MaxMegaSections
    quiet:QuietOutput? print:PrintXYSizeAndExit? verbose:VerboseOutput param:ParameterFile
    help:usage?
    """,
)
# What changes where things are, or which, and is not among the attributes of NewstackCommand.
_NEWSTACK_GEOMETRY = {
    *("FileOfInputs", "ReverseInputFileOrder", "VolumesToRead", "ReorderByTiltAngle"),
    *("SectionsToRead", "ExcludeSections", "TwoDirectionTiltSeries", "SkipSectionIncrement"),
    *("ReplaceSections", "BlankOutput", "ApplyOffsetsFirst", "UseTransformLines"),
    *("OneTransformPerFile", "RotateByAngle", "ExpandByFactor", "ShrinkByFactor"),
    *("FourierReduceByFactor", "FourierExpandByFactor", "SubareaOffsetsXandY", "UseFields"),
}
_TILT_GEOMETRY = {
    *("COMPFRACTION", "COMPRESS", "WIDTH", "SLICE", "TOTALSLICES", "LOCALSCALE", "REPLICATE"),
    *("BaseRecFile", "SubtractFromBase", "REPROJECT", "RecFileToReproject", "ProjectModel"),
    *("PARALLEL", "RotateBy90"),
}


@dataclass(frozen=True)
class TiltCommand:
    """Options of IMOD's tilt, which reconstructs; sizes and shifts in unbinned pixels.

    Attributes
    ----------
    input_projections, output_file
        Aligned stack and reconstruction, as they are written; None if not given.
    excluded, included
        Views (from 1) to leave out, and the only views to use; empty if not given.
    thickness
        Slices in z; None if not given.
    angle_offset_deg
        Added to all tilt angles; positive turns slices anticlockwise.
    axis_offset_px
        Position of the tilt axis minus the middle of the image, along x.
    x_axis_tilt_deg
        Tilt of the section about the x axis.
    image_binned
        Binning of the aligned stack, by which the sizes here are to be divided.
    full_image
        Width and height of the images before alignment.
    subset_start
        Index of the aligned stack's lower left pixel within these images, x and y.
    shift_x, shift_z
        Shift of the slice before it is cut out.
    log
        Value added to pixels before their logarithm is taken; None if it is not taken.
    local_file, xtilt_file, zfactor_file, tilt_file
        Names of further files, as they are written.
    angles
        Tilt angles, degrees, that the command file gives itself; empty if not given.
    geometry_not_read
        Options that change the geometry and are not among these attributes.
    unknown
        Names that are no options of the versions of tilt that are known.
    """

    input_projections: str | None
    output_file: str | None
    excluded: tuple[int, ...]
    included: tuple[int, ...]
    thickness: int | None
    angle_offset_deg: float
    axis_offset_px: float
    x_axis_tilt_deg: float
    image_binned: int
    full_image: tuple[int, int] | None
    subset_start: tuple[int, int] | None
    shift_x: float
    shift_z: float
    log: float | None
    local_file: str | None
    xtilt_file: str | None
    zfactor_file: str | None
    tilt_file: str | None
    angles: tuple[float, ...]
    geometry_not_read: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True)
class NewstackCommand:
    """Options of IMOD's newstack, which makes the aligned stack.

    Attributes
    ----------
    input_file, output_file, transform_file, distortion_file, gradient_file
        Names of files, as they are written; None if not given.
    bin_by
        Factor by which images are binned before anything else is done to them.
    images_are_binned
        Binning of the input; it only matters to the distortion and gradient files.
    size_out
        Width and height of the output, binned pixels; None for that of the input, divided by
        ``bin_by``.
    offsets
        Of the area's centre from the image's, x and y, unbinned pixels. It is applied after the
        transforms: positive ones move the image to the left, and down.
    geometry_not_read
        Options that change the geometry or the choice of views and are not among these attributes.
    unknown
        Names that are no options of the versions of newstack that are known.
    """

    input_file: str | None
    output_file: str | None
    transform_file: str | None
    bin_by: int
    images_are_binned: float
    size_out: tuple[int, int] | None
    offsets: tuple[float, float]
    distortion_file: str | None
    gradient_file: str | None
    geometry_not_read: tuple[str, ...]
    unknown: tuple[str, ...]


def read_tilt_command(path: Path) -> TiltCommand:
    """Read a ``tilt.com``, of any version of Etomo, or written by hand.

    Raises
    ------
    InputError
        The file is no text, or does not run tilt exactly once; it has both EXCLUDELIST and INCLUDE
        entries; or the value of an option that is read is not of its type.
    """
    options = read_options(path, _TILT)
    excluded, included = _views(options, "EXCLUDELIST2"), _views(options, "INCLUDE")
    if excluded and included:
        raise InputError(
            "command file", str(path), "has both EXCLUDELIST and INCLUDE entries, as IMOD forbids"
        )
    offset = options.numbers("OFFSET", 1, 2) or (0.0,)
    shift = options.numbers("SHIFT", 1, 2) or (0.0,)
    files = [*options.files, None, None]
    return TiltCommand(
        input_projections=options.text("InputProjections") or files[0],
        output_file=options.text("OutputFile") or files[1],
        excluded=excluded,
        included=included,
        thickness=(options.integers("THICKNESS", 1) or (None,))[0],
        angle_offset_deg=offset[0],
        axis_offset_px=offset[1] if len(offset) > 1 else 0.0,
        x_axis_tilt_deg=(options.numbers("XAXISTILT", 1) or (0.0,))[0],
        image_binned=(options.integers("IMAGEBINNED", 1) or (1,))[0],
        full_image=_pair(options.integers("FULLIMAGE", 2)),
        subset_start=_pair(options.integers("SUBSETSTART", 2, least=-(10**9))),
        shift_x=shift[0],
        shift_z=shift[1] if len(shift) > 1 else 0.0,
        log=(options.numbers("LOG", 1) or (None,))[0],
        local_file=options.text("LOCALFILE"),
        xtilt_file=options.text("XTILTFILE"),
        zfactor_file=options.text("ZFACTORFILE"),
        tilt_file=options.text("TILTFILE"),
        angles=_series(options, "ANGLES"),
        geometry_not_read=_not_read(options, _TILT_GEOMETRY),
        unknown=_unknown(options),
    )


def read_newstack_command(path: Path) -> NewstackCommand:
    """Read a ``newst.com``, with options in its input or on its command line.

    Raises
    ------
    InputError
        The file is no text, or does not run newstack exactly once; it joins several stacks, or shifts
        each section on its own; or the value of an option that is read is not of its type.
    """
    options = read_options(path, _NEWSTACK)
    inputs = [value for value, _ in options.all("InputFile")] + options.files[:-1]
    outputs = [value for value, _ in options.all("OutputFile")] + options.files[-1:]
    for several, what in ((inputs, "joins"), (outputs, "writes")):
        if len(several) > 1:
            raise InputError(
                "command file", str(path), f"{what} {len(several)} stacks, one is wanted"
            )
    if len(options.all("OffsetsInXandY")) > 1:
        raise options.error("OffsetsInXandY", "each section has its own: one pair is read")
    offsets = options.numbers("OffsetsInXandY", 2) or (0.0, 0.0)
    binned = (options.numbers("ImagesAreBinned", 1) or (1.0,))[0]
    if binned <= 0:
        raise options.error("ImagesAreBinned", "it must be positive")
    return NewstackCommand(
        input_file=inputs[0] if inputs else None,
        output_file=outputs[0] if outputs else None,
        transform_file=options.text("TransformFile"),
        bin_by=(options.integers("BinByFactor", 1) or (1,))[0],
        images_are_binned=binned,
        size_out=_pair(options.integers("SizeToOutputInXandY", 2)),
        offsets=(offsets[0], offsets[1]),
        distortion_file=options.text("DistortionField"),
        gradient_file=options.text("GradientFile"),
        geometry_not_read=_not_read(options, _NEWSTACK_GEOMETRY),
        unknown=_unknown(options),
    )


def _views(options: Options, name: str) -> tuple[int, ...]:
    """Views of all lists of an option, sorted."""
    views: set[int] = set()
    for value, line in options.all(name):
        views.update(parse_views(value, f"{name}, line {line} of {options.path}"))
    return tuple(sorted(views))


def _series(options: Options, name: str) -> tuple[float, ...]:
    """Numbers of all values of an option, in order."""
    numbers: list[float] = []
    for value, line in options.all(name):
        one = Options(options.path, {name: [(value, line)]})
        numbers += one.numbers(name, 1, 100_000) or ()
    return tuple(numbers)


def _pair(numbers: tuple[int, ...] | None) -> tuple[int, int] | None:
    return None if numbers is None else (numbers[0], numbers[1])


def _not_read(options: Options, geometry: set[str]) -> tuple[str, ...]:
    return tuple(name for name in options.values if name in geometry)


def _unknown(options: Options) -> tuple[str, ...]:
    """Unknown options, with a warning: one that is misspelt would be missed."""
    if options.unknown:
        _log.warning("%s: not read, since unknown: %s", options.path, ", ".join(options.unknown))
    return tuple(options.unknown)
