"""Draw samples from a trained model.DCGAN, and write them to files."""

import math
import os
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dcgan.data.image_grids import grid_size, save_gif, save_images, save_separately
from dcgan.data.images import FORMATS
from dcgan.data.labels import one_hot
from dcgan.util.errors import UserError
from dcgan.util.files import glob_files, opening, read_errors, utc_timestamp
from dcgan.util.flags import Flag, Group
from dcgan.util.npz import npz_file, read_arrays
from dcgan.util.output import print_path
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

GRID_IMAGES = 1024  # samples on a grid, at most
MAX_SAMPLES_PER_CALL = 256  # on a CPU, this is 10% faster than 64
MAX_PIXELS_PER_CALL = 2**20  # bounds memory; a full training batch is always allowed


def draw(sess, dcgan, z: np.ndarray, labels=None, as_bytes=False) -> np.ndarray:
    """Draw one image for each z [n, z_dim]: float32 [n, h, w, c] in [-1, 1].

    A conditional model needs integer labels [n], and its images are in [0, 1].
    as_bytes: as uint8, with 0 to 255 for the sampler's full range.
    """
    return np.concatenate(list(draw_batches(sess, dcgan, z, labels, as_bytes)))


def draw_batches(sess, dcgan, z, labels=None, as_bytes=False) -> Iterator[np.ndarray]:
    """Yield the images of `draw` batch by batch, so that few of them are in memory.

    A sampler with a fixed batch draws that many, and those beyond z are dropped.
    """
    images = dcgan.sampler_bytes if as_bytes else dcgan.sampler
    for rows, count, feed in split_rows(dcgan, len(z), labels):
        yield sess.run(images, {**feed, dcgan.z: z[rows]})[:count]


def split_rows(dcgan, number: int, labels) -> Iterator[tuple[np.ndarray, int, dict]]:
    """Split `number` rows of z for runs of the sampler.

    Yields indices, how many they are, and a feed of the labels, if the model has them.
    A sampler with a fixed batch gets that many: behind `how many`, they repeat others.
    """
    y = getattr(dcgan, 'sampler_y', getattr(dcgan, 'y', None))  # also of other models
    tensors = [t for t in (dcgan.sampler, y) if t is not None]
    fixed = next(filter(None, (t.shape.as_list()[0] for t in tensors)), None)
    pixels = math.prod(dcgan.sampler.shape.as_list()[1:3])
    affordable = min(MAX_SAMPLES_PER_CALL, MAX_PIXELS_PER_CALL // pixels)
    size = fixed or max(dcgan.batch_size, affordable)
    for part in np.split(np.arange(number), range(size, number, size)):
        rows = np.resize(part, size) if fixed else part
        feed = {} if y is None else {y: one_hot(labels[rows], dcgan.y_dim)}
        yield rows, len(part), feed


def parse_labels(text: str, classes: int | None) -> np.ndarray:
    """The class numbers of --label, such as 0,1,2; empty: all; [-1] without classes.

    Raises UserError for a class that does not exist.
    """
    if not classes and text:
        raise UserError(f'--label {text}: this model has no classes; leave --label out')
    if not text:
        return np.arange(classes) if classes else np.array([-1])
    labels = text.replace(' ', '').strip(',').split(',')
    if not {*labels} <= {*map(str, range(classes))}:
        problem = f'the classes of this model are 0 to {classes - 1}'
        raise UserError(f'--label {text}: {problem}')
    return np.array(labels, int)


def save_samples(sess, dcgan, config, sample_dir: str) -> None:
    """Draw samples with z from the training distribution and write them to files.

    test_{UTC time}.png in sample_dir is a grid of config.generate_test_images samples,
    or of the first config.sheet_images. A conditional model cycles through the classes
    of config.label. config.npz adds an .npz file of images (uint8 [n, h, w, c]), labels
    ([n], -1 without classes) and z (float32 [n, z_dim]), which config.z_file reads.
    config.separate_images adds a folder of {index}.png or {index}_{label}.png. Paths
    are printed. UserError for an invalid label, or if a file cannot be written.
    """
    classes = parse_labels(config.label, dcgan.y_dim)
    if config.z_file:
        z, labels = read_z_file(config.z_file, dcgan, classes)
    else:
        labels = np.resize(classes, config.generate_test_images)
        z = gen_random(config.z_dist, (len(labels), dcgan.z_dim)).astype(np.float32)
    count, start, shown = len(z), 0, []
    on_grid = min(count, config.sheet_images)
    path = os.path.join(sample_dir, f'test_{utc_timestamp()}')
    with (
        npz_file(f'{path}.npz' if config.npz else None) as add_array,
        progress_bar('samples', count, ' images', delay=2) as bar,
    ):
        shape = count, *dcgan.sampler.shape.as_list()[1:]
        with add_array('images', shape, np.uint8) as write:
            for images in draw_batches(sess, dcgan, z, labels, as_bytes=True):
                write(images)
                if start < on_grid:
                    shown.append(images)
                if config.separate_images:
                    of_images = labels[start : start + len(images)]
                    names = ('' if label < 0 else f'_{label}' for label in of_images)
                    save_separately(images, path, names, start)
                start += len(images)
                bar.update(len(images))
        for name, array, dtype in (('labels', labels, np.int64), ('z', z, np.float32)):
            with add_array(name, array.shape, dtype) as write:
                write(array)
    save_grid(np.concatenate(shown)[:on_grid], f'{path}.png', config.sheet_columns)
    if on_grid < count:
        limits = f'the first {on_grid} of {count} samples; --sheet_images N shows N'
        print(f' [*] It shows {limits}')
    if config.separate_images:
        print_path(f'{path}: {count} images')
    if config.npz:
        print_path(f'{path}.npz')


def save_grid(images: np.ndarray, path: str, columns: int | None = None) -> None:
    """Write images [n, h, w, c] as a grid, by default square, and print its path."""
    save_images(images, grid_size(len(images), columns), path)
    print_path(path)


def make_progress_gif(sample_dir: str) -> None:
    """Animate sample_dir/train_*.png as progress.gif there, and print its path.

    Leaves out grids of another batch size than the last one's. UserError without grids.
    """
    paths = sorted(glob_files(sample_dir, 'train_*.png'))
    if not paths:
        problem = f'{sample_dir}: no image grids (train_*.png) for --gif'
        raise UserError(f'{problem}; train the run, or choose another --sample_dir')

    def read(path):
        with opening(path) as file:
            return Image.open(file, formats=FORMATS).copy()

    last_size = read(paths[-1]).size
    grids = (grid for grid in map(read, paths) if grid.size == last_size)
    gif_path = os.path.join(sample_dir, 'progress.gif')
    save_gif(grids, gif_path, milliseconds=150)
    print_path(gif_path)


def read_z_file(path: str, dcgan, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read z, float32 [n, z_dim], and labels [n] from an .npz file of samples.

    Where it has no labels, the model's, they are `classes` in turn. Raises UserError if
    it is no such file, or has another z_dim or more classes than the model.
    """
    problem = f'not an .npz file of samples, with z of shape [n, {dcgan.z_dim}]'
    shapes = {'z': (None, dcgan.z_dim), 'labels': [None]}
    how = problem, '--npz writes one'
    with read_errors(path, *how), np.errstate(over='raise'):
        arrays = read_arrays(path, shapes, *how)
        z = arrays['z'].astype(np.float32)
        labels = arrays.get('labels', np.full(len(z), -1))
        if len(labels) != len(z) or labels.dtype.kind not in 'iu':
            raise ValueError('a label for each z is missing')
    if not dcgan.y_dim or labels.min() < 0:
        return z, np.resize(classes, len(z))
    if labels.max() >= dcgan.y_dim:
        found = f'class {labels.max()}, and this model has 0 to {dcgan.y_dim - 1}'
        raise UserError(f'{path}: has {found}; choose another --z_file')
    return z, labels


# fmt: off
FLAGS = Group(
    'Samples',
    'how many, of which classes, docs/samples.md: --label, --npz, ...',
    Flag('generate_test_images', 100, 'Samples to draw, as one image grid', 'samples',
         least=1, most=10**6),
    Flag('sheet_images', GRID_IMAGES, 'Samples on the image grid, at most; files have '
         'all of them', least=1, most=2**16),
    Flag('sheet_columns', None, 'Columns of the image grid of samples; default: a '
         'square', type=int, least=1, most=4096),
    Flag('label', '', 'Classes of the samples, by number or name, such as 7 or 0,1,2; '
         'default: all'),
    Flag('separate_images', False, 'Also write a file for each sample', 'samples'),
    Flag('npz', False, 'Also write samples, labels and z as arrays', 'samples'),
    Flag('z_file', '', 'File that --npz or --invert wrote; draws its samples, or its z '
         'for --arithmetic and interpolations', 'path'),
)
