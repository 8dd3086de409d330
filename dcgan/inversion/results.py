"""Write what inversions have found: arrays, and grids of pictures beside samples."""

import math

import numpy as np
from PIL import Image

from dcgan.data.image_grids import merge, save_image
from dcgan.inversion.invert import Found
from dcgan.inversion.pictures import Pictures
from dcgan.util.files import FREE_SPACE, write_errors
from dcgan.util.npz import write_arrays
from dcgan.util.output import print_line, print_path

GAP = 2  # pixels between the rows of pictures that belong together


def save_arrays(
    path: str, pictures: Pictures, found: Found, images: np.ndarray
) -> None:
    """Write an .npz file of images, z, labels, distances and names; print its path."""
    arrays = {'images': images, 'z': found.z, 'labels': found.labels}
    arrays |= {'distances': found.distances, 'names': pictures.names}
    with write_errors(path, advice=FREE_SPACE):
        write_arrays(path, arrays)
    print_path(path)


def beside(config, *parts: np.ndarray) -> Image.Image:
    """A grid that has image i of all parts side by side, and a gap between those.

    Parts are uint8 [n, h, w, c]; where one has colors, gray ones are shown in them. As
    many are shown as config.sheet_images says, config.sheet_columns in a row.
    """
    channels = max(part.shape[3] for part in parts)
    shown = [np.broadcast_to(p, (*p.shape[:3], channels)) for p in parts]
    rows = np.concatenate(shown, axis=2)[: config.sheet_images]
    rows = np.pad(rows, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    columns = config.sheet_columns or math.ceil(math.sqrt(len(rows) / len(parts)))
    return Image.fromarray(merge(rows, (math.ceil(len(rows) / columns), columns)))


def heat(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Differences of images [n, h, w, c] as uint8 [n, h, w, 3]: from black over red and
    yellow to white, which is the whole range.
    """
    difference = np.abs(images.astype(float) - others).mean(3, keepdims=True) / 127.5
    return (255 * (3 * difference - [0, 1, 2]).clip(0, 1)).astype(np.uint8)


def save_beside(path: str, config, *parts: np.ndarray) -> None:
    """Write the grid of `beside`; print its path."""
    save_image(beside(config, *parts), path)
    print_path(path)


def print_distance(what: str, distances: np.ndarray, first: np.ndarray) -> None:
    """Print how near a search came to pictures, and how near random samples are."""
    line = f'mean distance {distances.mean():.4f}, of random samples {first.mean():.4f}'
    print_line(f' [*] {len(distances)} {what}: {line}')
