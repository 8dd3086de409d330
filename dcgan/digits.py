"""Digits that are drawn, as a stand-in for MNIST."""

import os
import tempfile

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from dcgan.errors import UserError
from dcgan.files import progress_bar
from dcgan.idx import idx_summary, write_idx


def make_digits(data_dir, counts=(60000, 10000), seed=0):
    """Draw a stand-in for MNIST to data_dir/digits, in its files, sizes and numbers.

    White on black, 28x28, labelled by the digit; the same on every run.
    """
    folder = os.path.join(data_dir, 'digits')
    if idx_summary(folder):
        print(f'{folder}: already there')
        return
    if os.path.exists(folder) and os.listdir(folder):
        raise UserError(f'{folder}: holds something else; move it, or use --data_dir')
    os.makedirs(data_dir, exist_ok=True)
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, 10, sum(counts)).astype(np.uint8)
    images = np.empty((len(labels), 28, 28), np.uint8)
    glyphs = np.stack([glyph_distances(digit) for digit in range(10)])
    with progress_bar('digits', len(labels), ' pictures') as bar:
        for start in range(0, len(labels), 250):
            chunk = slice(start, start + 250)
            images[chunk] = draw_digits(glyphs, labels[chunk], rng)
            bar.update(len(labels[chunk]))

    with tempfile.TemporaryDirectory(dir=data_dir, prefix='.digits-') as temporary:
        made = os.path.join(temporary, 'digits')
        for name, part in (
            ('train', slice(counts[0])),
            ('t10k', slice(counts[0], None)),
        ):
            prefix = os.path.join(made, name)
            write_idx(f'{prefix}-images-idx3-ubyte', images[part])
            write_idx(f'{prefix}-labels-idx1-ubyte', labels[part])
        try:
            os.rename(made, folder)  # the set is there whole, or not at all
        except OSError:
            if not idx_summary(folder):
                raise
            print(f'{folder}: already there')  # another process was faster
            return
    print(f'digits: written to {folder}')


def glyph_distances(digit):
    """Distance inside a digit of each of 160x160 points (minus: outside), in points.

    The digit is drawn in Pillow's own font, 80 points high. Four points make a pixel of
    the pictures, in which it is 20 pixels high, as in MNIST.
    """
    canvas = Image.new('L', (160, 160))
    font = ImageFont.load_default(112)
    ImageDraw.Draw(canvas).text((80, 80), str(digit), 255, font, anchor='mm')
    ink = np.asarray(canvas) > 127
    inside, outside = map(ndimage.distance_transform_edt, (ink, ~ink))
    return inside - outside


def draw_digits(glyphs, labels, rng):
    """Draw a digit for each label [n], every one different: uint8 [n, 28, 28].

    Each pixel asks `glyphs`, [10, 160, 160] of `glyph_distances`, at a point that is
    moved, bent elastically (Simard et al., 2003), turned, slanted and scaled; how deep
    that is in the stroke, less or more a random thickness, makes its ink.
    """
    n = len(labels)

    def uniform(low, high):
        return rng.uniform(low, high, n)[:, None, None]

    y, x = np.mgrid[0:28, 0:28] - 13.5
    noise = rng.uniform(-1, 1, (2, n, 28, 28))
    bend = ndimage.gaussian_filter(noise, (0, 0, 4.5, 4.5), mode='wrap')
    bend /= 0.036  # its deviation, so that it becomes 1
    bend *= uniform(0, 1.2)  # pixels
    y, x = y - uniform(-1.5, 1.5) + bend[0], x - uniform(-1.5, 1.5) + bend[1]
    angle = uniform(-0.2, 0.2)  # radians
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + uniform(-0.1, 0.35) * y  # slant
    size, width = uniform(0.85, 1.1), np.exp(uniform(-0.2, 0.2))
    y, x = y / size, x / (size * width)
    glyph = np.broadcast_to(labels[:, None, None], y.shape)
    depth = ndimage.map_coordinates(
        glyphs, (glyph, 4 * y + 79.5, 4 * x + 79.5), order=1, mode='nearest'
    )
    ink = (depth / 4 * size + uniform(-0.45, 0.8)) * 1.1 + 0.5
    return (ink.clip(0, 1) * uniform(170, 255) + 0.5).astype(np.uint8)
