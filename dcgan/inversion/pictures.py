"""Read the pictures that are to be inverted, as in training, with their classes."""

import glob
import os
from typing import NamedTuple

import numpy as np

from dcgan.data.dataset import read_images
from dcgan.data.idx import IdxSet, idx_pairs
from dcgan.data.image_folder import ImageSet, UnusableImages
from dcgan.runs.run import class_names_in
from dcgan.runs.settings import OWN_DATA
from dcgan.sampling.samples import parse_labels
from dcgan.util.errors import UserError


class Pictures(NamedTuple):
    """Pictures as the model would have seen them in training."""

    names: np.ndarray  # of files, with subfolders; of IDX files, rows
    images: np.ndarray  # uint8 [n, h, w, c]
    labels: np.ndarray  # [n]; -1 if unknown or without classes


def read_pictures(source, dcgan, config, limit=np.inf, first=0) -> Pictures | None:
    """Read a file, a folder with its subfolders, IDX files, or OWN_DATA.

    limit    how many of more pictures are read, always the same ones
    first    index of the first one that may be, in the order of the set; None is
             returned if there is none

    Classes are those of IDX files or of the run's data set, or folders that are named
    as classes of the model; config.label goes before them. A file that cannot be used
    is left out, with a line. Raises UserError for pictures that do not fit the model.
    """
    state = np.random.get_state()  # which opening a set changes
    own = dcgan.data if source == OWN_DATA else None
    data = own or _open(source, dcgan, config)
    np.random.set_state(state)
    indices = np.arange(min(first, len(data)), len(data), dtype=int)
    if not len(indices):
        return None
    if len(indices) > limit:
        indices = np.sort(np.random.RandomState(0).permutation(indices)[: int(limit)])
    if isinstance(data, IdxSet):
        indices = indices[np.argsort(data.rows[indices])]
    else:
        data.tolerated = len(data) - 1  # may be left out
    try:
        images = np.concatenate(
            [x for x, _ in read_images(data, indices, 'pictures', 2)]
        )
    except UnusableImages as error:
        raise UserError(next(iter(data.unusable.values()))) from error
    if isinstance(data, IdxSet):
        names = [f'{row:05d}' for row in data.rows[indices]]
    else:  # others stand where some cannot be used
        used = np.array([data.files[i] not in data.unusable for i in indices])
        images, indices = images[used], indices[used]
        names = [os.path.relpath(data.files[i], data.folder) for i in indices]
    if data.classes and data.classes == dcgan.y_dim:  # otherwise some are missing
        labels = data.labels[indices]
    else:
        classes = class_names_in(dcgan.out_dir) or [*map(str, range(dcgan.y_dim or 0))]
        numbers = {name: number for number, name in enumerate(classes)}
        labels = np.array([numbers.get(name.split(os.sep)[0], -1) for name in names])
    if images.shape[3] != dcgan.c_dim:
        problem = f'its images have {images.shape[3]} channel(s)'
        raise UserError(f'{source}: {problem}, those of the model {dcgan.c_dim}')
    if config.label:
        given = parse_labels(config.label, dcgan.y_dim)
        labels = np.full(len(names), given[0] if len(given) == 1 else -1)
    return Pictures(np.array(names), images, labels)


def _open(source, dcgan, config):
    """The Dataset of a file or a folder."""
    size = dcgan.output_height, dcgan.output_width
    if not os.path.exists(source):
        raise UserError(f'{source}: no such file or folder of pictures')
    folder, pattern = source, '**/*'
    if not os.path.isdir(source):
        folder, name = os.path.split(source)
        folder, pattern = folder or os.curdir, glob.escape(name)
    elif idx_pairs(source):
        return IdxSet(source, *size)
    names = 'crop', 'input_height', 'input_width', 'background', 'max_pixels'
    options = {name: getattr(config, name) for name in names}
    options |= {'resize_height': size[0], 'resize_width': size[1]}
    return ImageSet(
        os.path.normpath(folder), pattern, grayscale=dcgan.c_dim == 1, **options
    )
