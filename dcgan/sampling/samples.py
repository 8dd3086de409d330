"""Draw samples and visualizations from a trained model.

In every function here, `sess` is the TensorFlow session that holds the trained weights
and `dcgan` is the model.DCGAN whose sampler draws the images.
"""

import contextlib
import math
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from dcgan.data.images import (
    inverse_transform,
    make_gif,
    merge,
    save_gif,
    save_image,
    save_images,
)
from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import (
    atomic_path,
    glob_files,
    progress_bar,
    utc_timestamp,
    write_errors,
)

Z_DISTRIBUTIONS: dict[str, Callable[..., np.ndarray]] = {
    'normal01': np.random.standard_normal,
    'uniform_signed': lambda size: np.random.uniform(-1, 1, size),
    'uniform_unsigned': lambda size: np.random.uniform(0, 1, size),
}
# the position of a name is the number of the option; 0 to 4 are the original's
VISUALIZE_OPTIONS: tuple[str, ...] = (
    'random',
    'sweep',
    'gif_random',
    'gif',
    'gif_merged',
    'interpolate',
    'classes',
    'arithmetic',
)
SHEET_IMAGES = 1024  # samples on a sheet, at most
MAX_SAMPLES_PER_CALL = 256  # on a CPU, this is 10% faster than 64
MAX_PIXELS_PER_CALL = 2**20  # bounds memory; a full training batch is always allowed


def gen_random(mode: str, size: int | tuple[int, ...]) -> np.ndarray:
    """Draw z from the distribution `mode`, using NumPy's global random state.

    normal01 is N(0, 1), uniform_signed is uniform in [-1, 1), and uniform_unsigned is
    uniform in [0, 1). The result is float64 of shape `size`.
    Raises UserError if `mode` is none of these. From the original.
    """
    if mode not in Z_DISTRIBUTIONS:
        raise UserError(
            f'z_dist {mode!r} is unknown; choose one of {", ".join(Z_DISTRIBUTIONS)}'
        )
    return Z_DISTRIBUTIONS[mode](size=size)


def make_progress_gif(sample_dir: str) -> None:
    """Animate the training's image grids, sample_dir/train_*.png, as progress.gif.

    The file is written to sample_dir and its path is printed. A grid whose size differs
    from that of the last one is left out: it comes from another batch size.
    Raises UserError if there is no grid.
    """
    paths = sorted(glob_files(sample_dir, 'train_*.png'))
    if not paths:
        raise UserError(
            f'{sample_dir}: no image grids (train_*.png) for --gif; train the run '
            'first or choose another --sample_dir'
        )
    last_size = Image.open(paths[-1]).size
    grids = (grid for grid in map(Image.open, paths) if grid.size == last_size)
    gif_path = os.path.join(sample_dir, 'progress.gif')
    save_gif(grids, gif_path, milliseconds=150)
    print_path(gif_path)


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Integer labels [B] -> float32 [B, classes]."""
    return np.eye(classes, dtype=np.float32)[labels]


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
    always at least dcgan.batch_size.
    """
    count = images_per_call(dcgan)
    for start in range(0, len(z), count):
        batch = slice(start, start + count)
        feed = {dcgan.z: z[batch]}
        if dcgan.y is not None:
            feed[dcgan.sampler_y] = one_hot(labels[batch], dcgan.y_dim)
        yield sess.run(dcgan.sampler_bytes if as_bytes else dcgan.sampler, feed)


def images_per_call(dcgan) -> int:
    """How many images are drawn at once, see `draw_batches`."""
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
    columns. A conditional model draws the classes of config.label in turn, which gives
    each the same number of samples. With config.z_file, the samples are those of a file
    that this function wrote: of its z and its classes. Two settings write more, under
    the same name without .png:

    config.separate_images   a folder with one image file for each sample
    config.npz               an .npz file with three arrays: images (uint8 [n, h, w, c];
                             0 to 255 is the full range of the sampler), labels
                             (integers [n], -1 if the model has no classes) and z
                             (float32 [n, z_dim])

    The samples are not held in memory, so their number is limited by the disk only.
    The path of everything written is printed. Raises UserError for an invalid label or
    if a file cannot be written.
    """
    count, draw_z, classes = _choose_samples(config, dcgan)
    size = images_per_call(dcgan)
    chunks = [range(i, min(i + size, count)) for i in range(0, count, size)]
    on_sheet = min(count, getattr(config, 'sheet_images', SHEET_IMAGES))
    sheet = np.empty((on_sheet, *dcgan.sampler.shape[1:]), np.uint8)
    path = os.path.join(sample_dir, f'test_{utc_timestamp()}')
    random_state = np.random.get_state()

    with (
        npz_file(f'{path}.npz' if config.npz else None) as add_array,
        progress_bar('samples', count, ' images', delay=2) as bar,
    ):
        with add_array('images', (count, *sheet.shape[1:]), np.uint8) as write:
            for chunk in chunks:
                z, labels = draw_z(chunk), in_turn(classes, chunk)
                (images,) = draw_batches(sess, dcgan, z, labels, as_bytes=True)
                write(images)
                seen = images[: max(0, on_sheet - chunk.start)]
                sheet[chunk.start : chunk.start + len(seen)] = seen
                if config.separate_images:
                    _save_each(images, labels, chunk, path)
                bar.update(len(images))
        with add_array('labels', (count,), np.int64) as write:
            for chunk in chunks:
                write(in_turn(classes, chunk))
        if config.npz:  # draw the same z again
            np.random.set_state(random_state)
            with add_array('z', (count, dcgan.z_dim), np.float32) as write:
                for chunk in chunks:
                    write(draw_z(chunk))
    name = f'{os.path.basename(path)}.png'
    save_test_grid(sheet, name, sample_dir, getattr(config, 'sheet_columns', None))
    if on_sheet < count:
        limits = f'the first {on_sheet} of {count} samples; --sheet_images N shows N'
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


def in_turn(classes: np.ndarray | None, chunk: range) -> np.ndarray:
    """Labels of the samples with the indices `chunk`; -1 without classes."""
    if classes is None:
        return np.full(len(chunk), -1)
    return classes[np.arange(chunk.start, chunk.stop) % len(classes)]


def _save_each(images, labels, chunk, folder):
    """Write images as {index}.png or, of a model with classes, {index}_{label}.png."""
    for i, image, label in zip(chunk, images, labels):
        suffix = '' if label < 0 else f'_{label}'
        pixels = np.squeeze(image, 2) if image.shape[2] == 1 else image
        save_image(
            Image.fromarray(pixels), os.path.join(folder, f'{i:05d}{suffix}.png')
        )


@contextlib.contextmanager
def npz_file(path: str | None) -> Iterator[Callable]:
    """Write an .npz file atomically, whose arrays need not be in memory as a whole.

    Yields a function (name, shape, dtype) -> context manager of a function that writes
    the next rows of that array. Path None: they write nothing. Raises UserError if the
    file cannot be written.
    """
    if path is None:
        yield lambda name, shape, dtype: contextlib.nullcontext(lambda rows: None)
        return

    with (
        write_errors(path),
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, 'w') as archive,
    ):
        yield arrays_in(archive)


def arrays_in(archive: zipfile.ZipFile) -> Callable:
    """The function that npz_file yields, for an archive that is open."""

    @contextlib.contextmanager
    def add_array(name, shape, dtype):
        with archive.open(f'{name}.npy', 'w', force_zip64=True) as member:
            descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
            header = {'descr': descr, 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(member, header)
            yield lambda rows: member.write(np.ascontiguousarray(rows, dtype).data)

    return add_array


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


def grid_size(count: int, columns: int | None = None) -> tuple[int, int]:
    """(rows, columns) of a grid of `count` images: so many columns, or a square."""
    side = math.ceil(math.sqrt(count))
    return (math.ceil(count / columns), columns) if columns else (side, side)


def print_path(path):
    print(f' [*] {path}', flush=True)


def visualize(
    sess, dcgan, config, option: int | str = 1, sample_dir: str = 'samples'
) -> None:
    """Show how the images depend on z, in files under sample_dir.

    `option` is a number or a name:

    0 random       test_{UTC time}.png    z uniform in [-0.5, 0.5)
    1 sweep        test_arange_{dim}.png  z uniform in [-1, 1), dim swept from 0 to 1
    2 gif_random   test_gif_{dim}.gif     one z in [-0.2, 0.2), random dimensions swept
    3 gif          test_gif_{dim}.gif     z zero, dim swept
    4 gif_merged   the files of 3, and test_gif_merged.gif: all the sweeps side by side,
                   forward and then backward
    5 interpolate  see draw_interpolations
    6 classes      see draw_classes
    7 arithmetic   see draw_arithmetic

    Options 0 to 4 are the original's. If the model is conditional, the grids of 0 and 1
    have random labels and each animation shows one class; these classes come from
    config.label if `config` has it, else they are all the classes of the model.
    config.batch_size is the number of images of such a grid, and of frames of such an
    animation. Options 5 to 7 need the further settings that their functions name.
    The path of every file is printed. Raises UserError if the option is unknown.
    """
    if str(option) in VISUALIZE_OPTIONS:
        option = VISUALIZE_OPTIONS.index(option)
    if str(option) not in map(str, range(len(VISUALIZE_OPTIONS))):
        raise UserError(
            f'visualize_option {option!r} is unknown; choose 0 to '
            f'{len(VISUALIZE_OPTIONS) - 1} or one of {", ".join(VISUALIZE_OPTIONS)}'
        )
    grid_options = {5: draw_interpolations, 6: draw_classes, 7: draw_arithmetic}
    if int(option) in grid_options:
        grid_options[int(option)](sess, dcgan, config, sample_dir)
    else:
        draw_sweeps(sess, dcgan, config, int(option), sample_dir)


def draw_sweeps(sess, dcgan, config, option: int, sample_dir: str) -> None:
    """Options 0 to 4 of `visualize`, as in the original."""
    batch_size, z_dim = config.batch_size, dcgan.z_dim
    classes = parse_labels(getattr(config, 'label', ''), dcgan.y_dim)
    classes = [0] if classes is None else classes
    z_shape = (batch_size, z_dim)

    def sweep(z, dim):
        z[:, dim] = np.arange(0, 1, 1.0 / batch_size)[:batch_size]
        return z

    def write_grid(z, name):
        labels = np.random.choice(classes, batch_size)
        save_test_grid(draw(sess, dcgan, z, labels), name, sample_dir)

    def write_sweep_gif(z, dim):
        labels = np.full(batch_size, classes[dim % len(classes)])
        images = draw(sess, dcgan, sweep(z, dim), labels)
        frames = (images if dcgan.y_dim else inverse_transform(images)) * 255
        write_gif(frames, f'test_gif_{dim}.gif')
        return frames

    def write_gif(frames, name, duration=2):
        path = os.path.join(sample_dir, name)
        make_gif(frames, path, duration, true_image=True)
        print_path(path)

    if option == 0:
        z = np.random.uniform(-0.5, 0.5, z_shape)
        write_grid(z, f'test_{utc_timestamp()}.png')
    elif option == 1:
        for dim in range(z_dim):
            z = np.random.uniform(-1, 1, z_shape)
            write_grid(sweep(z, dim), f'test_arange_{dim}.png')
    elif option == 2:
        for dim in [random.randrange(z_dim) for _ in range(z_dim)]:
            z = np.random.uniform(-0.2, 0.2, z_dim)
            write_sweep_gif(np.tile(z, (batch_size, 1)), dim)
    else:
        sweeps = [write_sweep_gif(np.zeros(z_shape), dim) for dim in range(z_dim)]
        if option == 4:
            side = math.ceil(math.sqrt(z_dim))
            steps = np.stack(sweeps, axis=1)  # [batch_size, z_dim, h, w, c]
            grids = [merge(images, (side, side)) for images in steps]
            write_gif(grids + grids[::-1], 'test_gif_merged.gif', duration=8)


def draw_interpolations(
    sess, dcgan, config, sample_dir: str, rows: int = 8, columns: int = 10
) -> None:
    """Draw a grid in which each row interpolates between two z (paper, figure 4).

    Writes test_interpolate_{UTC time}.png. The two z of a row come from the training
    distribution, config.z_dist, and the z between them lie on a straight line. If the
    model is conditional, each row shows one class, and the rows take the classes of
    config.label in turn.
    """
    first, last = gen_random(config.z_dist, (2, rows, 1, dcgan.z_dim))
    weights = np.linspace(0, 1, columns)[:, None]
    z = first + weights * (last - first)  # [rows, columns, z_dim]
    classes = parse_labels(config.label, dcgan.y_dim)
    labels = None if classes is None else np.resize(classes, rows).repeat(columns)
    images = draw(sess, dcgan, z.reshape(-1, dcgan.z_dim), labels)
    name = f'test_interpolate_{utc_timestamp()}.png'
    save_test_grid(images, name, sample_dir, columns)


def draw_classes(sess, dcgan, config, sample_dir: str, rows: int = 8) -> None:
    """Draw a grid in which each row is one z and each column one class.

    Writes test_classes_{UTC time}.png. The columns are the classes of config.label.
    Raises UserError if the model has no classes.
    """
    classes = parse_labels(config.label, dcgan.y_dim)
    if classes is None:
        raise UserError(
            '--visualize_option classes: this model has no classes; choose another '
            'option'
        )
    z = gen_random(config.z_dist, (rows, dcgan.z_dim)).repeat(len(classes), axis=0)
    images = draw(sess, dcgan, z, np.tile(classes, rows))
    name = f'test_classes_{utc_timestamp()}.png'
    save_test_grid(images, name, sample_dir, len(classes))


def draw_arithmetic(sess, dcgan, config, sample_dir: str, noise: float = 0.25) -> None:
    """Draw a grid of vector arithmetic on z: A - B + C (paper, section 6.3.2).

    Writes test_arithmetic_{UTC time}.png. config.arithmetic has the form A-B+C, in
    which A, B and C are lists of numbers such as 0,1,2. If config.z_file is given, an
    .npz file that `save_samples` wrote, the numbers are indices of its z. Otherwise
    they are seeds: a seed stands for the first sample that a run of main.py with this
    --seed draws.

    The first three rows show the z of A, B and C and, at the end, the mean of each. The
    last row shows mean A - mean B + mean C and, as in the paper, eight z around it, to
    which uniform noise in [-noise, noise) is added. If the model is conditional, all
    images show the first class of config.label.
    Raises UserError if config.arithmetic, the file or an index is invalid.
    """
    text = config.arithmetic.replace(' ', '')
    match = re.fullmatch(r'([\d,]+)-([\d,]+)\+([\d,]+)', text)
    terms = match and [[int(n) for n in t.split(',') if n] for t in match.groups()]
    if not terms or not all(terms) or max(map(max, terms)) >= 2**32:
        raise UserError(
            f'--arithmetic {config.arithmetic!r}: must have the form A-B+C, such as '
            '0,1,2-3,4,5+6,7,8, with numbers below 2**32'
        )
    vectors = [read_vectors(config, dcgan.z_dim, numbers) for numbers in terms]
    means = [z.mean(axis=0) for z in vectors]
    result = means[0] - means[1] + means[2]
    neighbours = result + np.random.uniform(-noise, noise, (8, dcgan.z_dim))
    rows = [np.vstack([z, mean]) for z, mean in zip(vectors, means)]
    rows.append(np.vstack([result, neighbours]))
    classes = parse_labels(config.label, dcgan.y_dim)
    columns = max(len(row) for row in rows)
    cells = np.zeros((len(rows), columns, *dcgan.sampler.shape[1:]), np.uint8)
    for row_of_cells, z in zip(cells, rows):
        labels = None if classes is None else np.full(len(z), classes[0])
        images = draw_batches(sess, dcgan, z, labels, as_bytes=True)
        row_of_cells[: len(z)] = np.concatenate(list(images))
    images = cells.reshape(-1, *cells.shape[2:])
    name = f'test_arithmetic_{utc_timestamp()}.png'
    save_test_grid(images, name, sample_dir, columns)


def read_vectors(config, z_dim: int, numbers: Sequence[int]) -> np.ndarray:
    """Return the z [n, z_dim] that the numbers of --arithmetic stand for.

    They are indices of z in config.z_file or, without that file, seeds.
    Raises UserError if the file or an index is invalid.
    """
    if not config.z_file:
        vectors = []
        for seed in numbers:
            np.random.seed(seed)
            vectors.append(gen_random(config.z_dist, (1, z_dim))[0])
        return np.array(vectors)
    z, _ = read_z_file(config.z_file, z_dim)
    if max(numbers) >= len(z):
        raise UserError(
            f'{config.z_file}: has no z with index {max(numbers)}; --arithmetic can '
            f'use indices 0 to {len(z) - 1}'
        )
    return z[numbers]


def read_z_file(path: str, z_dim: int) -> tuple[np.ndarray, np.ndarray]:
    """z [n, z_dim] and labels [n] of an .npz file of samples; labels -1: no classes.

    Raises UserError if it is no such file, or one of a model with another z_dim.
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

    classes  those to draw in turn where the file has none; None: the model has none

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
