"""Complete pictures: find samples that fit around holes, and blend them in.

Yeh et al., 2017, https://arxiv.org/abs/1607.07539.
"""

import functools
import os

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dcgan.data.image_grids import grid_image, grid_size, save_gif, save_separately
from dcgan.data.images import open_image
from dcgan.inversion.invert import FRAMES, How, invert, print_distances
from dcgan.inversion.pictures import Pictures, beside, save_found
from dcgan.sampling.samples import draw, save_grid
from dcgan.util.errors import UserError
from dcgan.util.files import remove, stem
from dcgan.util.output import Extra, print_path

MASKS = ('center', 'left', 'full', 'random', 'grid')  # as bamos calls them
WINDOW = 7  # pixels around one, in which holes make it count
GRAY = 127  # holes in grids


def holes_of(mask: str, pictures: Pictures) -> np.ndarray:
    """Where pictures are to be completed, bool [n, h, w], by --mask.

    center is half of each side, left the left half, full everything, random a fifth of
    the pixels, grid all but one in 4x4. Otherwise the path of a picture that is white
    there, or of a folder with one for each picture. Raises UserError for others.
    """
    shape = n, h, w = pictures.images.shape[:3]
    y, x = np.ogrid[:h, :w]
    center = (y >= h // 4) & (y < h - h // 4) & (x >= w // 4) & (x < w - w // 4)
    drawn = np.random.random_sample(shape) < 0.2 if mask == 'random' else None
    shapes = center, x < w // 2, np.True_, drawn, (y % 4 > 0) | (x % 4 > 0)
    if mask in MASKS:
        return np.broadcast_to(dict(zip(MASKS, shapes))[mask], shape)
    paths, holes = [mask] * n, {}
    if os.path.isdir(mask):
        bases = (os.path.splitext(name)[0] for name in pictures.names)
        paths = [os.path.join(mask, f'{base}.png') for base in bases]
    for path in dict.fromkeys(paths):
        if not os.path.exists(path):
            advice = f'paint it, or give one of {", ".join(MASKS)}'
            raise UserError(f'--mask {path}: no such file; {advice}')
        holes[path] = np.asarray(open_image(path, grayscale=True)) > 127
        if holes[path].shape != (h, w):
            size = '{1}x{0}'.format(*holes[path].shape)
            problem = f'has {size} pixels, images of the model {w}x{h}'
            raise UserError(f'--mask {path}: {problem}; scale it')
        if not holes[path].any():
            raise UserError(f'--mask {path}: is black; paint in white what to complete')
    return np.stack([holes[path] for path in paths])


def importance(holes: np.ndarray) -> np.ndarray:
    """What pixels count, float32 [n, h, w, 1]: the share of holes in a WINDOW around.

    A hole counts nothing; where there is none, or nothing else, all pixels count 1.
    """
    around = (0, 0), (WINDOW // 2, WINDOW // 2), (WINDOW // 2, WINDOW // 2)
    windows = sliding_window_view(np.pad(holes, around), (WINDOW, WINDOW), (1, 2))
    near = windows.mean((3, 4))
    is_mixed = holes.any((1, 2), keepdims=True) & ~holes.all((1, 2), keepdims=True)
    return np.where(is_mixed, near * ~holes, 1)[..., None].astype(np.float32)


def fill(images, samples, holes, blend: str) -> np.ndarray:
    """Images with samples in their holes, uint8 [n, h, w, c]; blend: none or poisson.

    Blended, a hole has the sample's differences between neighbours, and joins what is
    around it (Perez, Gangnet and Blake, 2003).
    """
    filled = np.where(holes[..., None], samples, images)
    for i, hole in enumerate(holes):
        if blend == 'poisson' and hole.any() and not hole.all():
            near, solve = _blender(hole.tobytes(), hole.shape)
            inside, pair = hole.ravel(), (images[i], samples[i])
            image, sample = (x.reshape(hole.size, -1) / 1.0 for x in pair)
            solved = solve(near @ sample - near[:, ~inside] @ image[~inside])
            filled[i][hole] = solved.clip(0, 255).round()
    return filled


@functools.lru_cache(maxsize=64)
def _blender(hole, size):
    """The rows of a hole in the Laplacian of an image, and a solver for its pixels."""
    from scipy import sparse  # takes time and memory
    from scipy.sparse.linalg import splu

    hole = np.frombuffer(hole, bool)
    steps = [sparse.diags([-1.0, 1.0], [0, 1], (n - 1, n)) for n in reversed(size)]
    near = sparse.kronsum(*(step.T @ step for step in steps), 'csr')[hole]
    return near, splu(near[:, hole].tocsc()).solve


def complete(dcgan, config, how: How, pictures: Pictures, holes: np.ndarray) -> None:
    """Write completed.npz and .png, and what --gif and --separate_images ask for.

    The grid shows pictures with holes, completed, and as they were.
    """
    path = os.path.join(config.sample_dir, 'completed')
    originals, labels, weights = pictures.images, pictures.labels, importance(holes)
    how = how._replace(frames=FRAMES if config.gif else 1)
    found = invert(dcgan, originals, labels, weights, how, 'complete')
    print_distances('pictures, around the holes', found.distances, found.first)
    images = fill(originals, found.images, holes, config.blend)
    save_found(f'{path}.npz', pictures, found, images)
    masked = np.where(holes[..., None], GRAY, originals).astype(np.uint8)
    columns, shown = config.sheet_columns, beside(config, masked, images, originals)
    save_grid(shown, f'{path}.png', columns)
    if config.gif:
        frames = []
        for z in found.path.swapaxes(0, 1):
            samples = draw(dcgan.sess, dcgan, z, found.labels, as_bytes=True)
            on_the_way = fill(originals, samples, holes, config.blend)
            cells = beside(config, masked, on_the_way, originals)
            frames.append(grid_image(cells, grid_size(len(cells), columns)))
        with Extra(f'{path}.gif'):  # the side of a GIF has a limit
            save_gif(frames, f'{path}.gif', milliseconds=150)
            print_path(f'{path}.gif')
    if config.separate_images:
        remove(path)  # files of an earlier call
        save_separately(images, path, (f'_{stem(n):.50}' for n in pictures.names))
        print_path(f'{path}: {len(images)} images')
