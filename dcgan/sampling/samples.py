"""Draw samples from a trained model, and write them to files.

In every function here, `sess` is the TensorFlow session that holds the trained weights
and `dcgan` is the model.DCGAN whose sampler draws the images.
"""

import os
import zipfile
from collections.abc import Iterator

import numpy as np
from PIL import Image

from dcgan.data.image_grids import grid_size, save_image, save_images
from dcgan.data.labels import one_hot
from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import utc_timestamp
from dcgan.util.flags import Flag, Group
from dcgan.util.npz import npz_file
from dcgan.util.output import print_path
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

GRID_IMAGES = 1024  # samples on a grid, at most
MAX_SAMPLES_PER_CALL = 256  # on a CPU, this is 10% faster than 64
MAX_PIXELS_PER_CALL = 2**20  # bounds memory; a full training batch is always allowed


def draw(sess, dcgan, z: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Draw one image for each z [n, z_dim].

    A conditional model needs integer labels [n]; other models ignore them. The result
    is float32 [n, h, w, c], in [0, 1] if the model is conditional, else in [-1, 1].
    """
    return np.concatenate(list(draw_batches(sess, dcgan, z, labels)))


def draw_batches(
    sess, dcgan, z: np.ndarray, labels: np.ndarray | None = None, as_bytes: bool = False
) -> Iterator[np.ndarray]:
    """Yield the images of `draw` batch by batch, so that few of them are in memory.

    as_bytes  as uint8, with 0 to 255 for the sampler's full range

    A batch has MAX_SAMPLES_PER_CALL images, or fewer if the images are large, but
    always at least dcgan.batch_size. A sampler with a fixed batch draws that many, of
    which those beyond the last z are dropped.
    """
    count, images = images_per_call(dcgan), dcgan.sampler_bytes
    images = images if as_bytes else dcgan.sampler
    for start in range(0, len(z), count):
        drawn = np.arange(start, min(start + count, len(z)))
        rows = np.resize(drawn, count) if fixed_batch(dcgan) else drawn
        feed = {dcgan.z: z[rows]}
        if dcgan.y is not None:
            feed[dcgan.sampler_y] = one_hot(labels[rows], dcgan.y_dim)
        yield sess.run(images, feed)[: len(drawn)]


def fixed_batch(dcgan) -> int | None:
    """The batch of the sampler, if a user has built it for one size; else None."""
    tensors = [dcgan.sampler] if dcgan.y is None else [dcgan.sampler, dcgan.sampler_y]
    return next((tensor.shape[0] for tensor in tensors if tensor.shape[0]), None)


def images_per_call(dcgan) -> int:
    """How many images are drawn at once, see `draw_batches`."""
    if fixed_batch(dcgan):
        return fixed_batch(dcgan)
    pixels_per_image = dcgan.output_height * dcgan.output_width
    affordable = min(MAX_SAMPLES_PER_CALL, MAX_PIXELS_PER_CALL // pixels_per_image)
    return max(dcgan.batch_size, affordable)


def parse_labels(text: str, classes: int | None) -> np.ndarray | None:
    """Parse the value of --label, such as 0,1,2, to an array of class numbers.

    An empty text means every class. For a model without classes (`classes` is None),
    the result is None. Raises UserError if the text names a class that does not exist.
    """
    if not classes:
        if text:
            raise UserError(
                f'--label {text}: this model has no classes; leave --label out'
            )
        return None
    labels = text.replace(' ', '').strip(',').split(',') if text else range(classes)
    if not all(str(label) in map(str, range(classes)) for label in labels):
        raise UserError(
            f'--label {text}: the classes of this model are 0 to {classes - 1}'
        )
    return np.array([int(label) for label in labels])


def save_samples(sess, dcgan, config, sample_dir: str) -> None:
    """Draw samples with z from the training distribution and write them to files.

    test_{UTC time}.png in sample_dir is a grid of config.generate_test_images samples,
    or of the first config.sheet_images (1,024) of them, with config.sheet_columns
    columns. A conditional model cycles through the classes of config.label, so that
    each has the same number of samples. With config.z_file, an .npz file that this
    function wrote, the samples have its z and classes. Two settings write more, under
    the same name without .png:

    config.separate_images   a folder with one image file for each sample
    config.npz               an .npz file with three arrays: images (uint8 [n, h, w, c];
                             0 to 255 is the full range of the sampler), labels
                             (integers [n], -1 if the model has no classes) and z
                             (float32 [n, z_dim])

    The samples are not held in memory, so only the disk limits their number. The path
    of everything written is printed. Raises UserError for an invalid label, or if a
    file cannot be written.
    """
    count, draw_z, classes = _choose_samples(config, dcgan)
    size = images_per_call(dcgan)
    chunks = [range(i, min(i + size, count)) for i in range(0, count, size)]
    on_grid = min(count, getattr(config, 'sheet_images', GRID_IMAGES))
    grid = np.empty((on_grid, *dcgan.sampler.shape[1:]), np.uint8)
    path = os.path.join(sample_dir, f'test_{utc_timestamp()}')
    random_state = np.random.get_state()

    with (
        npz_file(f'{path}.npz' if config.npz else None) as add_array,
        progress_bar('samples', count, ' images', delay=2) as bar,
    ):
        with add_array('images', (count, *grid.shape[1:]), np.uint8) as write:
            for chunk in chunks:
                z, labels = draw_z(chunk), cycle_classes(classes, chunk)
                (images,) = draw_batches(sess, dcgan, z, labels, as_bytes=True)
                write(images)
                seen = images[: max(0, on_grid - chunk.start)]
                grid[chunk.start : chunk.start + len(seen)] = seen
                if config.separate_images:
                    _save_each(images, labels, chunk, path)
                bar.update(len(images))
        with add_array('labels', (count,), np.int64) as write:
            for chunk in chunks:
                write(cycle_classes(classes, chunk))
        if config.npz:  # draw the same z again
            np.random.set_state(random_state)
            with add_array('z', (count, dcgan.z_dim), np.float32) as write:
                for chunk in chunks:
                    write(draw_z(chunk))
    name = f'{os.path.basename(path)}.png'
    save_test_grid(grid, name, sample_dir, getattr(config, 'sheet_columns', None))
    if on_grid < count:
        limits = f'the first {on_grid} of {count} samples; --sheet_images N shows N'
        print(f' [*] It shows {limits}', flush=True)
    if config.separate_images:
        print_path(f'{path}: {count} images')
    if config.npz:
        print_path(f'{path}.npz')


def _choose_samples(config, dcgan):
    """(count, function of a range of indices that returns its z, classes or None)."""
    classes = parse_labels(config.label, dcgan.y_dim)
    if getattr(config, 'z_file', ''):
        z, classes = read_samples(config.z_file, dcgan, classes)
        return len(z), lambda chunk: z[chunk.start : chunk.stop], classes

    def draw_z(chunk):
        return gen_random(config.z_dist, (len(chunk), dcgan.z_dim)).astype(np.float32)

    return config.generate_test_images, draw_z, classes


def cycle_classes(classes: np.ndarray | None, chunk: range) -> np.ndarray:
    """Labels of the samples with indices `chunk`, cycling through classes.

    Without classes (None), they are -1.
    """
    if classes is None:
        return np.full(len(chunk), -1)
    return classes[np.arange(chunk.start, chunk.stop) % len(classes)]


def _save_each(images, labels, chunk, folder):
    """Write images as {index}.png or, if they have labels, {index}_{label}.png."""
    for i, image, label in zip(chunk, images, labels):
        suffix = '' if label < 0 else f'_{label}'
        pixels = np.squeeze(image, 2) if image.shape[2] == 1 else image
        save_image(
            Image.fromarray(pixels), os.path.join(folder, f'{i:05d}{suffix}.png')
        )


def save_test_grid(
    images: np.ndarray, name: str, sample_dir: str, columns: int | None = None
) -> None:
    """Write images [n, h, w, c] as a grid to sample_dir/name, and print its path.

    The grid has `columns` columns; by default it is the smallest square that holds all
    images. The images are uint8 or floats; `save_images` stretches their contrast.
    """
    path = os.path.join(sample_dir, name)
    save_images(images, grid_size(len(images), columns), path)
    print_path(path)


def read_z_file(path: str, z_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Read z [n, z_dim] and labels [n] from an .npz file of samples.

    Labels are -1 without classes. Raises UserError if it is no such file, or has
    another z_dim.
    """
    try:
        with np.load(path) as file:
            z = file['z']
            labels = file['labels'] if 'labels' in file else np.full(len(z), -1)
            if not (len(z) and z.dtype.kind == 'f' and np.isfinite(z).all()):
                raise ValueError('z has to be finite numbers')
            if labels.shape != z.shape[:1] or labels.dtype.kind not in 'iu':
                raise ValueError('a label for each z is missing')
    except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{path}: not an .npz file of samples ({short_reason(error)}); --npz '
            'writes one'
        ) from error
    if z.shape[1:] != (z_dim,):
        raise UserError(
            f'{path}: z has shape {z.shape}, but this model needs [n, {z_dim}]; choose '
            'another --z_file'
        )
    return z, labels


def read_samples(
    path: str, dcgan, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """z, float32, and labels of a file of samples, for this model.

    classes  to cycle through if the file has no labels; None: the model has no classes

    Raises UserError as read_z_file does, and for classes that the model does not have.
    """
    z, labels = read_z_file(path, dcgan.z_dim)
    if classes is None or labels.min() < 0:
        labels = classes
    elif labels.max() >= dcgan.y_dim:
        raise UserError(
            f'{path}: has class {labels.max()}, but the classes of this model are 0 to '
            f'{dcgan.y_dim - 1}; choose another --z_file'
        )
    return z.astype(np.float32), labels


# fmt: off
FLAGS = Group(
    'Samples',
    'how many, of which classes, docs/samples.md: --label, --npz, ...',
    Flag('generate_test_images', 100, 'Samples to draw, as one image grid', 'samples',
         least=1),
    Flag('sheet_images', GRID_IMAGES, 'Samples on the image grid, at most; files have '
         'all of them', least=1),
    Flag('sheet_columns', None, 'Columns of the image grid of samples; default: a '
         'square', type=int, least=1),
    Flag('label', '', 'Classes of the samples, by number or name, such as 7 or 0,1,2; '
         'default: all'),
    Flag('separate_images', False, 'Also write a file for each sample', 'samples'),
    Flag('npz', False, 'Also write samples, labels and z as arrays', 'samples'),
    Flag('z_file', '', 'File that --npz wrote; draws its samples, or its z for '
         '--arithmetic', 'path'),
)
