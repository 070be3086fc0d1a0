"""HDF5 files in the layouts of beamlines, written by h5py from the formats' documentation."""

import h5py
import numpy as np

RNG = np.random.default_rng(3)
PROJECTIONS = RNG.integers(100, 60_000, (7, 4, 6)).astype(np.uint16)
FLATS = RNG.integers(60_000, 65_000, (3, 4, 6)).astype(np.uint16)
DARKS = RNG.integers(0, 100, (2, 4, 6)).astype(np.uint16)
ANGLES = np.linspace(-60, 60, 7)
# Two darks and a flat first, flats between the projections, as a scan takes them.
KEY = np.array([2, 2, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1])


def in_one_array(key=KEY):
    """All images in one array, and their angles, by the image key."""
    images = np.zeros((len(key), 4, 6), np.uint16)
    angles = np.full(len(key), -90.0)
    for value, part in ((0, PROJECTIONS), (1, FLATS), (2, DARKS)):
        images[key == value] = part
    angles[key == 0] = ANGLES
    return images, angles


def group(file, path, nx_class):
    made = file.require_group(path)
    made.attrs["NX_class"] = nx_class
    return made


def diamond(path, angles=None, key=KEY, **units):
    """Diamond Light Source: a subentry that is NXtomo, beside the detector that wrote the images."""
    images, own = in_one_array()
    with h5py.File(path, "w") as file:
        group(file, "entry1", "NXentry")
        group(file, "entry1/instrument", "NXinstrument")
        group(file, "entry1/instrument/pco1", "NXdetector")["data"] = images
        group(file, "entry1/tomo_entry", "NXsubentry")["definition"] = "NXtomo"
        group(file, "entry1/tomo_entry/instrument", "NXinstrument")
        detector = group(file, "entry1/tomo_entry/instrument/detector", "NXdetector")
        detector["data"] = h5py.SoftLink("/entry1/instrument/pco1/data")
        detector["image_key"] = key
        sample = group(file, "entry1/tomo_entry/sample", "NXsample")
        sample["rotation_angle"] = own if angles is None else angles
        sample["rotation_angle"].attrs.update(units)
        data = group(file, "entry1/tomo_entry/data", "NXdata")
        data.attrs["signal"] = "data"
        data["data"] = h5py.SoftLink("/entry1/tomo_entry/instrument/detector/data")
        data["rotation_angle"] = sample["rotation_angle"]
        data["image_key"] = detector["image_key"]
        group(file, "entry1/tomo_entry/control", "NXmonitor")["data"] = np.ones(len(images))
    return path


def esrf(path, entries=("entry0000",), key=KEY):
    """ESRF: an entry of its own for each scan, two keys, a virtual dataset, sizes in metres."""
    images, angles = in_one_array()
    with h5py.File(path.with_name("raw.h5"), "w") as raw:
        raw["measurement/pcolinux"] = images
    layout = h5py.VirtualLayout(images.shape, images.dtype)
    layout[:] = h5py.VirtualSource("raw.h5", "measurement/pcolinux", images.shape)
    with h5py.File(path, "w") as file:
        for entry in entries:
            group(file, entry, "NXentry")["definition"] = "NXtomo"
            group(file, f"{entry}/instrument", "NXinstrument")
            detector = group(file, f"{entry}/instrument/detector", "NXdetector")
            detector.create_virtual_dataset("data", layout)
            detector["image_key_control"] = key
            detector["image_key"] = np.where(key == -1, 0, key)
            for axis in "xy":
                detector[f"{axis}_pixel_size"] = 6.5e-6
                detector[f"{axis}_pixel_size"].attrs["units"] = "m"
            sample = group(file, f"{entry}/sample", "NXsample")
            sample["rotation_angle"] = angles
            sample["rotation_angle"].attrs["units"] = "degree"
            sample["x_translation"] = np.linspace(0, 1e-5, len(key))
            diode = group(file, f"{entry}/instrument/diode", "NXdetector")
            diode["data"] = np.ones(len(key))
            data = group(file, f"{entry}/data", "NXdata")
            data.attrs["signal"] = "data"
            data["data"] = h5py.SoftLink(f"/{entry}/instrument/detector/data")
    return path


def aps(path, *, units="deg", axes="theta:y:x", angles=ANGLES, **arrays):
    """Advanced Photon Source: an exchange group of DXchange, sizes in microns."""
    arrays = {"data": PROJECTIONS, "data_white": FLATS, "data_dark": DARKS, **arrays}
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange:measurement:process"
        exchange = file.create_group("exchange")
        for name, values in arrays.items():
            if values is None:
                continue
            exchange[name] = values
            if axes is not None:
                exchange[name].attrs["axes"] = axes.replace("theta", f"theta{name[4:]}")
            exchange[name].attrs["units"] = "counts"
        if angles is not None:
            exchange["theta"] = angles
        if angles is not None and units is not None:
            exchange["theta"].attrs["units"] = units
        detector = file.create_group("measurement/instrument/detector")
        detector["actual_pixel_size_x"] = 1.3
        detector["actual_pixel_size_y"] = 1.3
        for name in ("actual_pixel_size_x", "actual_pixel_size_y"):
            detector[name].attrs["units"] = "microns"
    return path
