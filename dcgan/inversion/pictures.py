"""Read pictures as in training, with their classes; write what is found for them."""

import os
from typing import NamedTuple

import numpy as np

from dcgan.data.dataset import read_images
from dcgan.data.idx import ArraySet, array_files
from dcgan.data.image_folder import ImageSet, UnusableImages
from dcgan.data.labels import class_names_of
from dcgan.inversion.invert import Found
from dcgan.runs.settings import OWN_DATA
from dcgan.sampling.samples import parse_labels
from dcgan.util.errors import UserError
from dcgan.util.files import FREE_SPACE, relative_path, write_errors
from dcgan.util.npz import write_arrays
from dcgan.util.output import print_path
from dcgan.util.tables import composed

GAP = 2  # pixels between groups of pictures


class Pictures(NamedTuple):
    """Pictures as the model would have seen them in training."""

    names: np.ndarray  # of files, with subfolders; of other sets, rows
    images: np.ndarray  # uint8 [n, h, w, c]
    labels: np.ndarray  # [n]; -1 if unknown or without classes


def read_pictures(source, dcgan, config, limit=np.inf, first=0) -> Pictures | None:
    """Read a file, a folder with its subfolders, `array_files`, or OWN_DATA.

    limit    how many of more pictures are read, always the same ones
    first    index, in the set, of the first one that may be; None if it has none

    Classes are those of an ArraySet or of the run's data set, or folders that are named
    as classes of the model; config.label goes before them. A file that cannot be used
    is left out, with a line. Raises UserError for pictures that do not fit the model.
    """
    state = np.random.get_state()  # which opening a set changes
    data = _open(source, dcgan, config)
    np.random.set_state(state)
    indices = np.arange(min(first, len(data)), len(data), dtype=int)
    if not len(indices):
        return None
    if len(indices) > limit:
        indices = np.sort(np.random.RandomState(0).permutation(indices)[: int(limit)])
    if isinstance(data, ArraySet):
        indices = indices[np.argsort(data.rows[indices])]
    else:
        data.tolerated = len(data) - 1  # may be left out
    try:
        chunks = [images for images, _ in read_images(data, indices, 'pictures', 2)]
    except UnusableImages as error:
        raise UserError(next(iter(data.unusable.values()))) from error
    images = np.concatenate(chunks)
    if images.shape[3] != dcgan.c_dim:
        problem = f'its images have {images.shape[3]} channel(s)'
        raise UserError(f'{source}: {problem}, those of the model {dcgan.c_dim}')
    if isinstance(data, ArraySet):
        names = [f'{row:05d}' for row in data.rows[indices]]
    else:  # others stand where some cannot be used
        used = np.array([data.files[i] not in data.unusable for i in indices])
        if not used.any():
            raise UserError(data.unusable[data.files[indices[0]]])
        images, indices = images[used], indices[used]
        files = [data.files[i] for i in indices]
        names = [relative_path(f, data.folder) or os.path.basename(f) for f in files]
    if config.label:
        given = parse_labels(config.label, dcgan.y_dim)
        labels = np.full(len(names), given[0] if len(given) == 1 else -1)
    elif data.classes and data.classes == dcgan.y_dim:  # otherwise some are missing
        labels = data.labels[indices]
    else:
        classes = class_names_of(dcgan)
        folders = [composed(name.split(os.sep)[0]) for name in names]
        labels = np.array([classes.index(x) if x in classes else -1 for x in folders])
    return Pictures(np.array(names), images, labels)


def _open(source, dcgan, config):
    """The Dataset of a file or a folder."""
    if source == OWN_DATA and dcgan.data:
        return dcgan.data
    if array_files(source):
        return ArraySet(source, dcgan.output_height, dcgan.output_width)
    options = {**reading_options(dcgan, config), 'background': config.background}
    return ImageSet(os.path.normpath(source), '**/*', **options)


def reading_options(dcgan, config) -> dict:
    """The arguments of load_image that say how the run reads images of data."""
    names = 'crop', 'input_height', 'input_width', 'max_pixels'
    options = {name: getattr(config, name) for name in names}
    size = {'resize_height': dcgan.output_height, 'resize_width': dcgan.output_width}
    return {**options, **size, 'grayscale': dcgan.c_dim == 1}


def save_found(path: str, pictures: Pictures, found: Found, images: np.ndarray) -> None:
    """Write an .npz file of images, z, labels, distances and names; print its path."""
    arrays = {'images': images, 'z': found.z, 'labels': found.labels}
    arrays |= {'distances': found.distances, 'names': pictures.names}
    with write_errors(path, advice=FREE_SPACE):
        write_arrays(path, arrays)
    print_path(path)


def beside(config, *parts: np.ndarray) -> np.ndarray:
    """Images i of all parts, uint8 [n, h, w, c], side by side, with a gap behind.

    They are config.sheet_images at most.
    """
    channels = max(part.shape[3] for part in parts)
    colored = [np.broadcast_to(part, (*part.shape[:3], channels)) for part in parts]
    gaps = (0, 0), (0, GAP), (0, GAP), (0, 0)
    images = np.concatenate(colored, axis=2)[: config.sheet_images]
    return np.pad(images, gaps, constant_values=255)


def heat(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How images [n, h, w, c] differ, as uint8 [n, h, w, 3]: black, red, yellow, white.

    White is half of the range or more.
    """
    difference = np.abs(images.astype(float) - others).mean(3, keepdims=True) / 127.5
    return (255 * (3 * difference - [0, 1, 2]).clip(0, 1)).astype(np.uint8)
