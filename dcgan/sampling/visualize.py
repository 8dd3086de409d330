"""Draw how images depend on z: sweeps, interpolations, ...; what D responds to."""

import math
import os
import random
import re

import numpy as np

from dcgan.data.image_grids import inverse_transform, make_gif, merge
from dcgan.sampling.samples import draw, parse_labels, read_z_file, save_grid
from dcgan.util.errors import UserError
from dcgan.util.files import utc_timestamp
from dcgan.util.flags import Flag, Group
from dcgan.util.output import print_path
from dcgan.util.z import gen_random

# the position of a name is the number of the option; 0 to 4 are the original's
VISUALIZE_OPTIONS = ('random', 'sweep', 'gif_random', 'gif', 'gif_merged')
VISUALIZE_OPTIONS += ('interpolate', 'classes', 'arithmetic', 'filters')
BY_NUMBER = {str(number): name for number, name in enumerate(VISUALIZE_OPTIONS)}
ROWS, COLUMNS = 8, 10  # of the grids of interpolations and of classes
NOISE = 0.25  # largest change of a number of z around the result of the arithmetic


def visualize(sess, dcgan, config, option=1, sample_dir='samples') -> None:
    """Show how images depend on z, or D on images, in files; print their paths.

    `option` is a name in VISUALIZE_OPTIONS or its number, see docs/samples.md; another
    is a UserError. In 0 to 4, config.batch_size is the number of images of a grid and
    of frames of an animation, and `config` may lack `label`, for all classes.
    """
    name = BY_NUMBER.get(str(option), option)
    if name not in VISUALIZE_OPTIONS:
        known = f'0 to {len(BY_NUMBER) - 1} or one of {", ".join(VISUALIZE_OPTIONS)}'
        raise UserError(f'visualize_option {option!r} is unknown; choose {known}')
    classes = parse_labels(getattr(config, 'label', ''), dcgan.y_dim)
    grids = {'interpolate': draw_interpolations, 'classes': draw_classes}
    grids['arithmetic'] = draw_arithmetic
    if name == 'filters':
        from dcgan.sampling.filters import draw_filters  # TensorFlow takes seconds

        if dcgan.data is None:
            raise UserError('--visualize_option filters: build DCGAN with data_dir')
        both, time = draw_filters(sess, dcgan), utc_timestamp()
        for images, kind in zip(both, (name, f'{name}_images')):
            save_grid(images, os.path.join(sample_dir, f'test_{kind}_{time}.png'), 1)
    elif name in grids:
        images, columns = grids[name](sess, dcgan, config, classes)
        path = os.path.join(sample_dir, f'test_{name}_{utc_timestamp()}.png')
        save_grid(images, path, columns)
    else:
        draw_sweeps(sess, dcgan, config, classes, name, sample_dir)


def draw_sweeps(sess, dcgan, config, classes, option: str, sample_dir: str) -> None:
    """Options 0 to 4 of `visualize`, as in the original."""
    z_shape = batch_size, z_dim = config.batch_size, dcgan.z_dim
    sweep = np.arange(0, 1, 1.0 / batch_size)[:batch_size]

    def write_grid(z, name):
        labels = np.random.choice(classes, batch_size)
        save_grid(draw(sess, dcgan, z, labels), os.path.join(sample_dir, name))

    def write_gif(frames, name, duration=2):
        path = os.path.join(sample_dir, name)
        make_gif(frames, path, duration, true_image=True)
        print_path(path)

    def write_sweep_gif(z, dim):
        z[:, dim] = sweep
        labels = np.full(batch_size, classes[dim % len(classes)])
        images = draw(sess, dcgan, z, labels)
        frames = (images if dcgan.y_dim else inverse_transform(images)) * 255
        write_gif(frames, f'test_gif_{dim}.gif')
        return frames

    if option == 'random':
        z = np.random.uniform(-0.5, 0.5, z_shape)
        write_grid(z, f'test_{utc_timestamp()}.png')
    elif option == 'sweep':
        for dim in range(z_dim):
            z = np.random.uniform(-1, 1, z_shape)
            z[:, dim] = sweep
            write_grid(z, f'test_arange_{dim}.png')
    elif option == 'gif_random':
        for dim in [random.randrange(z_dim) for _ in range(z_dim)]:
            z = np.random.uniform(-0.2, 0.2, z_dim)
            write_sweep_gif(np.tile(z, (batch_size, 1)), dim)
    else:
        sweeps = [write_sweep_gif(np.zeros(z_shape), dim) for dim in range(z_dim)]
        if option == 'gif_merged':
            side = math.ceil(math.sqrt(z_dim))
            steps = np.stack(sweeps, axis=1)  # [batch_size, z_dim, h, w, c]
            grids = [merge(images, (side, side)) for images in steps]
            write_gif(grids + grids[::-1], 'test_gif_merged.gif', duration=8)


def draw_interpolations(sess, dcgan, config, classes) -> tuple[np.ndarray, int]:
    """Images, and columns of their grid: each row goes from one z to another.

    The z lie on a straight line (paper, figure 4). Rows cycle through the classes. The
    ends are random or, with config.z_file, each z there and the next one, in the class
    of the first. Raises UserError for a file without two z.
    """
    if config.z_file:
        z, labels = read_z_file(config.z_file, dcgan, classes)
        if len(z) < 2:
            raise UserError(f'{config.z_file}: has one z, and ends are two; give more')
        first, last, labels = z[:-1, None], z[1:, None], labels[:-1]
    else:
        first, last = gen_random(config.z_dist, (2, ROWS, 1, dcgan.z_dim))
        labels = np.resize(classes, ROWS)
    weights = np.linspace(0, 1, COLUMNS)[:, None]
    z = first + weights * (last - first)  # [rows, columns, z_dim]
    labels = labels.repeat(COLUMNS)
    return draw(sess, dcgan, z.reshape(-1, dcgan.z_dim), labels), COLUMNS


def draw_classes(sess, dcgan, config, classes) -> tuple[np.ndarray, int]:
    """Images, and columns of their grid: each row is one z, each column one class."""
    if not dcgan.y_dim:
        problem = 'this model has no classes; choose another option'
        raise UserError(f'--visualize_option classes: {problem}')
    z = gen_random(config.z_dist, (ROWS, dcgan.z_dim)).repeat(len(classes), axis=0)
    return draw(sess, dcgan, z, np.tile(classes, ROWS)), len(classes)


def draw_arithmetic(sess, dcgan, config, classes) -> tuple[np.ndarray, int]:
    """Images, and columns of their grid: A - B + C on z (paper, section 6.3.2).

    The numbers in config.arithmetic are indices of the z in config.z_file or, without
    it, seeds, each for the first z that it draws. Three rows show A, B and C, and their
    means, the last one the result, and eight z around it, by uniform NOISE. All show
    the first class. Raises UserError for an invalid calculation or file.
    """
    text = config.arithmetic.replace(' ', '')
    match = re.fullmatch(r'([\d,]+)-([\d,]+)\+([\d,]+)', text)
    terms = match and [[int(n) for n in t.split(',') if n] for t in match.groups()]
    if not terms or not all(terms) or (largest := max(map(max, terms))) >= 2**32:
        problem = 'must have the form A-B+C, such as 0,1,2-3,4,5+6,7,8, all below 2**32'
        raise UserError(f'--arithmetic {config.arithmetic!r}: {problem}')
    if config.z_file:
        stored, _ = read_z_file(config.z_file, dcgan, classes)
        if largest >= len(stored):
            problem = f'has no z with index {largest}'
            advice = f'--arithmetic can use indices 0 to {len(stored) - 1}'
            raise UserError(f'{config.z_file}: {problem}; {advice}')
    else:
        stored = {}
        for seed in [*terms[0], *terms[1], *terms[2]]:
            np.random.seed(seed)
            stored[seed] = gen_random(config.z_dist, (1, dcgan.z_dim))[0]
    vectors = [np.array([stored[number] for number in term]) for term in terms]
    rows = [np.vstack([z, z.mean(axis=0)]) for z in vectors]
    result = rows[0][-1] - rows[1][-1] + rows[2][-1]
    neighbours = result + np.random.uniform(-NOISE, NOISE, (8, dcgan.z_dim))
    rows.append(np.vstack([result, neighbours]))
    columns = max(map(len, rows))
    cells = np.zeros((len(rows), columns, *dcgan.sampler.shape.as_list()[1:]), np.uint8)
    for row_of_cells, z in zip(cells, rows):
        labels = np.full(len(z), classes[0])
        row_of_cells[: len(z)] = draw(sess, dcgan, z, labels, as_bytes=True)
    return cells.reshape(-1, *cells.shape[2:]), columns


# fmt: off
FLAGS = Group(
    'Visualization',
    'images along z, docs/samples.md: --visualize_option, ...',
    Flag('visualize_option', '1', 'Latent-space visualization, or filters of D: a '
         'number or name, docs/samples.md', choices=(*BY_NUMBER, *VISUALIZE_OPTIONS)),
    Flag('arithmetic', '0,1,2-3,4,5+6,7,8', 'Vectors of --visualize_option arithmetic: '
         'sets of seeds or, with --z_file, of indices'),
)
