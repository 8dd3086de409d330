"""Draw synthetic digits, a stand-in for MNIST."""

import os

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from dcgan.data.idx import array_summary, write_idx
from dcgan.util.errors import UserError
from dcgan.util.files import atomic_path, require_writable
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar

MOVE_AWAY = 'move it away, or choose another --data_dir'


def make_digits(data_dir: str, counts: tuple[int, int] = (60000, 10000)) -> None:
    """Draw labelled digits, 28x28, white on black, as IDX files in data_dir/digits.

    `counts` are the numbers of training and test images. Existing digits are kept.
    Raises UserError if the folder holds anything else.
    """
    folder = os.path.join(data_dir, 'digits')
    if array_summary(folder):
        print_line(f'{folder}: already there')
        return
    if os.path.exists(folder) and os.listdir(folder):
        raise UserError(f'{folder}: holds something other than digits; {MOVE_AWAY}')
    require_writable(data_dir, 'choose another --data_dir')
    rng = np.random.RandomState(0)
    labels = rng.randint(0, 10, sum(counts)).astype(np.uint8)
    glyphs, images = np.stack([glyph_distances(digit) for digit in range(10)]), []
    with progress_bar('digits', len(labels), ' images') as bar:
        for chunk in np.split(labels, range(250, len(labels), 250)):
            images.extend(draw_digits(glyphs, chunk, rng))
            bar.update(len(chunk))
    with atomic_path(folder) as staging:  # so the data set is never there in part
        parts = {'train': slice(counts[0]), 't10k': slice(counts[0], None)}
        for name, part in parts.items():
            prefix = os.path.join(staging, name)
            write_idx(f'{prefix}-images-idx3-ubyte', np.stack(images[part]))
            write_idx(f'{prefix}-labels-idx1-ubyte', labels[part])
    print_line(f'digits: written to {folder}')


def glyph_distances(digit: int) -> np.ndarray:
    """Signed distance to a digit's outline, positive inside: float64 [160, 160]."""
    canvas = Image.new('L', (160, 160))
    font = ImageFont.load_default(112)  # 80 pixels high, 20 in images, as in MNIST
    ImageDraw.Draw(canvas).text((80, 80), str(digit), 255, font, anchor='mm')
    is_ink = np.asarray(canvas) > 127
    inside, outside = map(ndimage.distance_transform_edt, (is_ink, ~is_ink))
    return inside - outside


def draw_digits(
    glyphs: np.ndarray, labels: np.ndarray, rng: np.random.RandomState
) -> np.ndarray:
    """Draw a different image of a digit for each label: [n] -> uint8 [n, 28, 28].

    Each pixel looks up its distance to the outline in `glyphs`, [10, 160, 160], at a
    position that is randomly shifted, elastically warped (Simard et al., 2003),
    rotated, sheared and scaled. With a random stroke width, this gives its intensity.
    """

    def uniform(low, high):
        return rng.uniform(low, high, (len(labels), 1, 1))

    y, x = np.mgrid[0:28, 0:28] - 13.5
    noise = rng.uniform(-1, 1, (2, len(labels), 28, 28))
    warp = ndimage.gaussian_filter(noise, (0, 0, 4.5, 4.5), mode='wrap')
    warp /= 0.036  # the filtered noise's standard deviation, which becomes 1
    warp *= uniform(0, 1.2)  # pixels
    y, x = y - uniform(-1.5, 1.5) + warp[0], x - uniform(-1.5, 1.5) + warp[1]
    angle = uniform(-0.2, 0.2)  # radians
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + uniform(-0.1, 0.35) * y  # shear
    size, aspect = uniform(0.85, 1.1), np.exp(uniform(-0.2, 0.2))
    y, x = y / size, x / (size * aspect)
    glyph_indices = np.broadcast_to(labels[:, None, None], y.shape)
    distances = ndimage.map_coordinates(
        glyphs, (glyph_indices, 4 * y + 79.5, 4 * x + 79.5), order=1, mode='nearest'
    )
    # with a random stroke width; + 0.5: on the outline a pixel is half covered
    coverage = (distances / 4 * size + uniform(-0.45, 0.8)) * 1.1 + 0.5
    return (coverage.clip(0, 1) * uniform(170, 255) + 0.5).astype(np.uint8)
