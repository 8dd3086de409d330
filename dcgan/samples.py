"""Samples of a trained model: `dcgan`, a model.DCGAN whose weights are in `sess`."""

import math
import os
import random
import re
import zipfile

import numpy as np
from PIL import Image

from dcgan.errors import UserError, short_reason
from dcgan.files import (
    atomic_path,
    glob_files,
    progress_bar,
    utc_timestamp,
    write_errors,
)
from dcgan.images import (
    inverse_transform,
    make_gif,
    merge,
    save_gif,
    save_image,
    save_images,
)

Z_DISTRIBUTIONS = {
    'normal01': np.random.standard_normal,
    'uniform_signed': lambda size: np.random.uniform(-1, 1, size),
    'uniform_unsigned': lambda size: np.random.uniform(0, 1, size),
}
SAMPLES_AT_ONCE = 256  # a tenth faster than 64, on a CPU
POINTS_AT_ONCE = 2**20  # for the sake of memory, if a batch is not more
VISUALIZE_OPTIONS = ('random', 'sweep', 'gif_random', 'gif', 'gif_merged')
VISUALIZE_OPTIONS += ('interpolate', 'classes', 'arithmetic')


def gen_random(mode, size):
    """Draw z of the given shape from NumPy's global stream: float64, by `mode`.

    normal01 is N(0, 1), uniform_signed is [-1, 1), uniform_unsigned is [0, 1).
    Raises UserError for any other mode.
    """
    if mode not in Z_DISTRIBUTIONS:
        raise UserError(f'z_dist {mode!r} is none of {", ".join(Z_DISTRIBUTIONS)}')
    return Z_DISTRIBUTIONS[mode](size=size)


def make_progress_gif(sample_dir):
    """Animate sample_dir/train_*.png, in progress.gif beside them, which is printed.

    Sheets of another size than the last, of another batch, are left out. Raises
    UserError where there is no sheet.
    """
    paths = sorted(glob_files(sample_dir, 'train_*.png'))
    if not paths:
        raise UserError(f'{sample_dir}: has no train_*.png, of which --gif is made')
    size = Image.open(paths[-1]).size
    sheets = (sheet for sheet in map(Image.open, paths) if sheet.size == size)
    path = os.path.join(sample_dir, 'progress.gif')
    save_gif(sheets, path, milliseconds=150)
    print(f' [*] {path}', flush=True)


def one_hot(labels, classes):
    """Integer labels [B] -> float32 [B, classes]."""
    return np.eye(classes, dtype=np.float32)[labels]


def draw(sess, dcgan, z, labels=None):
    """The sampler's images for z [n, z_dim] and, if it is conditional, labels [n]."""
    return np.concatenate(list(draw_batches(sess, dcgan, z, labels)))


def draw_batches(sess, dcgan, z, labels=None):
    """Yield the images of `draw`, SAMPLES_AT_ONCE at a time, of large ones fewer."""
    points = dcgan.output_height * dcgan.output_width
    count = max(dcgan.batch_size, min(SAMPLES_AT_ONCE, POINTS_AT_ONCE // points))
    for start in range(0, len(z), count):
        part = slice(start, start + count)
        feed = {dcgan.z: z[part]}
        if dcgan.y is not None:
            feed[dcgan.sampler_y] = one_hot(labels[part], dcgan.y_dim)
        yield sess.run(dcgan.sampler, feed)


def to_uint8(dcgan, images):
    """Images of the sampler as uint8: its whole range is 0 to 255."""
    pixels = (images if dcgan.y_dim else inverse_transform(images)) * 255
    return np.rint(pixels, out=pixels).astype(np.uint8)


def read_labels(text, classes):
    """The classes in a text such as 0,1,2, all where it is empty; None for no classes.

    Raises UserError for what is none of them.
    """
    if not classes:
        if text:
            raise UserError(f'--label {text}: this model has no classes')
        return None
    labels = text.replace(' ', '').strip(',').split(',') if text else range(classes)
    if not all(str(label) in map(str, range(classes)) for label in labels):
        raise UserError(
            f'--label {text}: the classes of this model are 0 to {classes - 1}'
        )
    return np.array([int(label) for label in labels])


def save_samples(sess, dcgan, config, sample_dir):
    """Draw samples from the training distribution, to files that are printed.

    test_{UTC time}.png is a sheet of config.generate_test_images of them, as many of
    each class in config.label. With config.separate_images there is a folder of that
    name with a file of each, with config.npz an .npz with images (uint8, [n, h, w, c],
    0 to 255 the sampler's range), labels ([n], -1 without classes), z ([n, z_dim]).
    """
    count = config.generate_test_images
    classes = read_labels(config.label, dcgan.y_dim)
    labels = np.full(count, -1) if classes is None else np.resize(classes, count)
    z = gen_random(config.z_dist, (count, dcgan.z_dim)).astype(np.float32)
    images = np.empty((count, *dcgan.sampler.shape[1:]), np.uint8)
    with progress_bar('samples', count, ' pictures', delay=2) as bar:
        for batch in draw_batches(sess, dcgan, z, labels):
            images[bar.n : bar.n + len(batch)] = to_uint8(dcgan, batch)
            bar.update(len(batch))
    name = f'test_{utc_timestamp()}'
    save_test_grid(images, f'{name}.png', sample_dir)
    path = os.path.join(sample_dir, name)
    if config.separate_images:
        for i, (image, label) in enumerate(zip(images, labels)):
            ending = '' if classes is None else f'_{label}'
            picture = Image.fromarray(
                np.squeeze(image, 2) if dcgan.c_dim == 1 else image
            )
            save_image(picture, os.path.join(path, f'{i:05d}{ending}.png'))
        print(f' [*] {path}: {count} pictures', flush=True)
    if config.npz:
        path = f'{path}.npz'
        with (
            write_errors(path),
            atomic_path(path) as part,
            open(part, 'wb') as file,
        ):
            np.savez(file, images=images, labels=labels, z=z)
        print(f' [*] {path}', flush=True)


def save_test_grid(images, name, sample_dir, columns=None):
    """Write images to a sheet, the smallest square unless told, and print where."""
    side = math.ceil(math.sqrt(len(images)))
    path = os.path.join(sample_dir, name)
    save_images(images, (1, columns) if columns else (side, side), path)
    print(f' [*] {path}', flush=True)


def visualize(sess, dcgan, config, option=1, sample_dir='samples'):
    """Draw what z does, to files under sample_dir that are printed.

    0 random       test_{UTC time}.png    z uniform in [-0.5, 0.5)
    1 sweep        test_arange_{dim}.png  z uniform in [-1, 1), dim swept from 0 to 1
    2 gif_random   test_gif_{dim}.gif     one z in [-0.2, 0.2), random dimensions swept
    3 gif          test_gif_{dim}.gif     z zero, dim swept
    4 gif_merged   as 3, and test_gif_merged.gif of all dimensions, there and back
    5 interpolate, 6 classes, 7 arithmetic: see their functions

    Sheets of a conditional model have random labels, an animation shows one class;
    config.label, if it is there, says of which. `config` gives batch_size.
    Raises UserError for another option.
    """
    if str(option) in VISUALIZE_OPTIONS:
        option = VISUALIZE_OPTIONS.index(option)
    if str(option) not in map(str, range(len(VISUALIZE_OPTIONS))):
        raise UserError(
            f'visualize option {option!r} is none of {", ".join(VISUALIZE_OPTIONS)}'
        )
    others = {5: draw_interpolations, 6: draw_classes, 7: draw_arithmetic}
    if int(option) in others:
        others[int(option)](sess, dcgan, config, sample_dir)
    else:
        draw_sweeps(sess, dcgan, config, int(option), sample_dir)


def draw_sweeps(sess, dcgan, config, option, sample_dir):
    """Options 0 to 4 of `visualize`, those of the original."""
    batch, z_dim = config.batch_size, dcgan.z_dim
    classes = read_labels(getattr(config, 'label', ''), dcgan.y_dim)
    classes = [0] if classes is None else classes
    shape = (batch, z_dim)

    def swept(z, dim):
        z[:, dim] = np.arange(0, 1, 1.0 / batch)[:batch]
        return z

    def sheet(z, name):
        labels = np.random.choice(classes, batch)
        save_test_grid(draw(sess, dcgan, z, labels), name, sample_dir)

    def animation(z, dim):
        images = draw(
            sess, dcgan, swept(z, dim), np.full(batch, classes[dim % len(classes)])
        )
        frames = (images if dcgan.y_dim else inverse_transform(images)) * 255
        write_gif(frames, f'test_gif_{dim}.gif')
        return frames

    def write_gif(frames, name, duration=2):
        path = os.path.join(sample_dir, name)
        make_gif(frames, path, duration)
        print(f' [*] {path}', flush=True)

    if option == 0:
        sheet(np.random.uniform(-0.5, 0.5, shape), f'test_{utc_timestamp()}.png')
    elif option == 1:
        for dim in range(z_dim):
            z = np.random.uniform(-1, 1, shape)
            sheet(swept(z, dim), f'test_arange_{dim}.png')
    elif option == 2:
        for dim in [random.randrange(z_dim) for _ in range(z_dim)]:
            z = np.random.uniform(-0.2, 0.2, z_dim)
            animation(np.tile(z, (batch, 1)), dim)
    else:
        swept_dims = [animation(np.zeros(shape), dim) for dim in range(z_dim)]
        if option == 4:
            side = math.ceil(math.sqrt(z_dim))
            sheets = [
                merge(step, (side, side)) for step in np.stack(swept_dims, axis=1)
            ]
            write_gif(sheets + sheets[::-1], 'test_gif_merged.gif', duration=8)


def draw_interpolations(sess, dcgan, config, sample_dir, rows=8, columns=10):
    """A sheet, test_interpolate_{UTC time}.png: each row goes from one z to another.

    In a straight line between two of the training distribution (paper, figure 4). A
    conditional model draws each row in one class, the next of config.label.
    """
    ends = gen_random(config.z_dist, (2, rows, 1, dcgan.z_dim))
    z = ends[0] + np.linspace(0, 1, columns)[:, None] * (ends[1] - ends[0])
    classes = read_labels(config.label, dcgan.y_dim)
    labels = None if classes is None else np.resize(classes, rows).repeat(columns)
    images = draw(sess, dcgan, z.reshape(-1, dcgan.z_dim), labels)
    save_test_grid(
        images, f'test_interpolate_{utc_timestamp()}.png', sample_dir, columns
    )


def draw_classes(sess, dcgan, config, sample_dir, rows=8):
    """A sheet, test_classes_{UTC time}.png: each row is one z, each column one class.

    The classes are those of config.label. Raises UserError where the model has none.
    """
    classes = read_labels(config.label, dcgan.y_dim)
    if classes is None:
        raise UserError('--visualize_option classes: this model has no classes')
    z = gen_random(config.z_dist, (rows, dcgan.z_dim)).repeat(len(classes), axis=0)
    images = draw(sess, dcgan, z, np.tile(classes, rows))
    save_test_grid(
        images, f'test_classes_{utc_timestamp()}.png', sample_dir, len(classes)
    )


def draw_arithmetic(sess, dcgan, config, sample_dir, noise=0.25):
    """A sheet, test_arithmetic_{UTC time}.png, of mean z added (paper, section 6.3.2).

    config.arithmetic is A-B+C, each a set of numbers as 0,1,2. They are indices of z in
    config.z_file, an .npz of save_samples; without it seeds, of which each stands for
    the first sample that --seed draws. A row for each set shows its z and, last, their
    mean. Below are mean A - mean B + mean C and, as in the paper, 8 z beside it, by
    uniform noise in +-0.25. A conditional model draws the first class of config.label.
    Raises UserError for what is no such text, file or index.
    """
    text = config.arithmetic.replace(' ', '')
    sets = re.fullmatch(r'([\d,]+)-([\d,]+)\+([\d,]+)', text)
    sets = sets and [[int(n) for n in part.split(',') if n] for part in sets.groups()]
    if not sets or not all(sets) or max(map(max, sets)) >= 2**32:
        raise UserError(
            f'--arithmetic {config.arithmetic!r}: has to be as 0,1,2-3,4,5+6,7,8'
        )
    vectors = [read_z(config, dcgan.z_dim, numbers) for numbers in sets]
    means = [z.mean(axis=0) for z in vectors]
    result = means[0] - means[1] + means[2]
    around = result + np.random.uniform(-noise, noise, (8, dcgan.z_dim))
    rows = [np.vstack([z, mean]) for z, mean in zip(vectors, means)]
    rows.append(np.vstack([result, around]))
    classes = read_labels(config.label, dcgan.y_dim)
    columns = max(len(row) for row in rows)
    images = np.zeros((len(rows), columns, *dcgan.sampler.shape[1:]), np.uint8)
    for cells, z in zip(images, rows):
        labels = None if classes is None else np.full(len(z), classes[0])
        cells[: len(z)] = to_uint8(dcgan, draw(sess, dcgan, z, labels))
    images = images.reshape(-1, *images.shape[2:])
    save_test_grid(
        images, f'test_arithmetic_{utc_timestamp()}.png', sample_dir, columns
    )


def read_z(config, z_dim, numbers):
    """z [n, z_dim] of these indices in config.z_file or, without it, these seeds."""
    if not config.z_file:
        rows = []
        for seed in numbers:
            np.random.seed(seed)
            rows.append(gen_random(config.z_dist, (1, z_dim))[0])
        return np.array(rows)
    try:
        with np.load(config.z_file) as file:
            z = file['z']
    except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{config.z_file}: not an .npz of samples ({short_reason(error)})'
        ) from error
    if z.shape[1:] != (z_dim,):
        raise UserError(f'{config.z_file}: has z {z.shape}, the model [n, {z_dim}]')
    if max(numbers) >= len(z):
        raise UserError(
            f'{config.z_file}: has no index {max(numbers)} for --arithmetic, its last '
            f'is {len(z) - 1}'
        )
    return z[numbers]
