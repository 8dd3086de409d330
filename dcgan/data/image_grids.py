"""Write images as image grids, one by one, and as animations."""

import math
import os
from collections.abc import Iterable, Sequence
from typing import BinaryIO

import numpy as np
from PIL import Image

from dcgan.data.images import bytescale, stretch_contrast
from dcgan.util.files import FREE_SPACE, atomic_path, write_errors


def image_manifold_size(count: int) -> tuple[int, int]:
    """(rows, columns) of a grid of training samples: root of `count`, down and up."""
    root = math.sqrt(count)
    return math.floor(root), math.ceil(root)


def inverse_transform(images: np.ndarray) -> np.ndarray:
    """Map images from [-1, 1] to [0, 1]. Returns a new array."""
    unit = images + 1.0
    unit /= 2.0  # in place, to save memory with many samples
    return unit


def merge(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Arrange images [B, h, w, c] in a grid of (rows, columns), or of more rows.

    Returns [rows * h, columns * w, c] or, for c = 1, without the last dimension; 0
    where there is no image. It is uint8 if the images are, and otherwise float64.
    """
    (count, h, w, c), (rows, columns) = images.shape, map(int, size)
    rows = max(rows, math.ceil(count / columns))
    dtype = np.uint8 if images.dtype == np.uint8 else np.float64
    grid = np.zeros((rows * h, columns * w, c), dtype)
    cells = grid.reshape(rows, h, columns, w, c).swapaxes(1, 2)  # a view
    cells[np.divmod(np.arange(count), columns)] = images
    return grid[..., 0] if c == 1 else grid


def save_images(images: np.ndarray, size: Sequence[int], path: str) -> None:
    """Write images [B, h, w, c], in [-1, 1] or uint8, as a grid of (rows, columns).

    Its contrast is stretched, as in the original. UserError if it cannot be written.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = inverse_transform(images)
    imsave(images, size, path)


def imsave(images: np.ndarray, size: Sequence[int], path: str) -> None:
    """Write images [B, h, w, c] of any range as `save_images` does."""
    save_image(grid_image(images, size), path)


def grid_image(images: np.ndarray, size: Sequence[int]) -> Image.Image:
    """The image grid of images [B, h, w, c] of any range, as `imsave` writes it."""
    grid = merge(images, size)
    if grid.dtype == np.uint8:
        return stretch_contrast(Image.fromarray(grid))
    return Image.fromarray(bytescale(grid))


def one_image(image: np.ndarray) -> Image.Image:
    """The Pillow image of one uint8 image [h, w, c], as it is."""
    return Image.fromarray(merge(image[None], (1, 1)))


def save_image(image: Image.Image, path: str) -> None:
    """Write a Pillow image atomically. Raises UserError if that fails."""
    with write_errors(path), atomic_path(path) as temporary:
        image.save(temporary)


def save_separately(images: np.ndarray, folder: str, names, start: int = 0) -> None:
    """Write uint8 images [n, h, w, c] in a folder, as {index}{name}.png."""
    for index, (image, name) in enumerate(zip(images, names), start):
        path = os.path.join(folder, f'{index:05d}{name}.png')
        save_image(one_image(image), path)


def make_gif(
    images: Sequence[np.ndarray],
    fname: str,
    duration: float = 2,
    true_image: bool = False,
) -> None:
    """Write images, [h, w], [h, w, 1] or [h, w, 3], as a GIF of `duration` seconds.

    They are in [-1, 1] or, if `true_image`, in [0, 255]. Each is shown for at least
    20 ms. Raises UserError if the file cannot be written.
    """
    frames = (image if true_image else (image + 1) / 2 * 255 for image in images)
    frames = (Image.fromarray(np.squeeze(f).astype(np.uint8)) for f in frames)
    save_gif(frames, fname, 1000 * duration // len(images))


def save_gif(images: Iterable[Image.Image], path: str, milliseconds: float) -> None:
    """Write images as `write_gif` does. Raises UserError if the file cannot be."""
    with write_errors(path, advice=FREE_SPACE), atomic_path(path) as temporary:
        write_gif(images, temporary, milliseconds)


def write_gif(
    images: Iterable[Image.Image], file: str | BinaryIO, milliseconds: float
) -> None:
    """Write Pillow images to a path or an open file, as a GIF that repeats for ever.

    Times below 20 milliseconds are raised to 20: many viewers slow down shorter ones.
    """
    images = iter(images)
    options = {'duration': max(20, milliseconds), 'loop': 0}
    next(images).save(file, 'GIF', save_all=True, append_images=images, **options)


def grid_size(count: int, columns: int | None = None) -> tuple[int, int]:
    """(rows, columns) of a grid of `count` images; columns None: a square."""
    side = math.ceil(math.sqrt(count))
    return (math.ceil(count / columns), columns) if columns else (side, side)
