"""Fetch or make data sets, to folders that main.py takes as --dataset.

python download.py mnist      28x28 digits (LeCun, Cortes, Burges), to data/mnist
python download.py digits     70,000 drawn digits of the same format; no network needed
"""

import argparse
import gzip
import hashlib
import os
import sys
import tempfile
import time
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from six.moves import urllib
from six.moves.http_client import HTTPException

from utils import UserError, expand_path, idx_summary, replacing, write_idx

MNIST_MIRRORS = (
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
)
MNIST_MD5 = {  # of the unpacked files
    'train-images-idx3-ubyte': '6bbc9ace898e44ae57da46a324031adb',
    'train-labels-idx1-ubyte': 'a25bea736e30d166cdddb491f175f624',
    't10k-images-idx3-ubyte': '2646ac647ad5339dbf082846283269ea',
    't10k-labels-idx1-ubyte': '27ae3e4e09519cfbb04c329615203637',
}
BY_HAND = {
    'celebA': 'get img_align_celeba.zip from '
    'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and move the pictures in it',
    'lsun': 'get a category from https://github.com/fyu/lsun and export the pictures',
}


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('datasets', nargs='+', choices=['mnist', 'digits', *BY_HAND])
    parser.add_argument('--data_dir', default='./data', help='where to (%(default)s)')
    parser.add_argument('--mirror', help='URL that serves the files of mnist by name')
    args = parser.parse_args(args)
    args.data_dir = expand_path(args.data_dir)
    for name in args.datasets:
        if name == 'mnist':
            fetch_mnist(args.data_dir, [args.mirror] if args.mirror else MNIST_MIRRORS)
        elif name == 'digits':
            make_digits(args.data_dir)
        else:
            folder = os.path.join(args.data_dir, name)
            raise UserError(
                f'{name} has to be fetched by hand: {BY_HAND[name]} to {folder}'
            )


class Progress:
    """A line that tells how far something is, how fast it goes and what is left.

    total 0 stands for not known.
    """

    def __init__(self, name, total, unit):
        self.name, self.total, self.unit = name, total, unit
        self.start = self.shown = time.time()

    def show(self, done):
        """Print it, at most once a second, and when all is done."""
        now = time.time()
        if now - self.shown < 1 and done != self.total:
            return
        self.shown = now
        rate = done / max(now - self.start, 1e-9)
        line = f'{self.name}: {done:,} {self.unit}, {rate:,.0f} a second'
        if self.total:
            left = (self.total - done) / max(rate, 1e-9)
            line += f', {left:.0f} s left of {self.total:,}'
        over_itself = sys.stdout.isatty() and done < self.total
        print(line.ljust(79), end='\r' if over_itself else '\n', flush=True)


# MNIST


def fetch_mnist(data_dir, mirrors, checksums=MNIST_MD5):
    """Put the unpacked files under data_dir/mnist; checksums is {name: its MD5}.

    Files that are there and whole are left alone. Tries one mirror (a URL) after the
    other; raises UserError where none has a file.
    """
    for name, md5 in checksums.items():
        path = os.path.join(data_dir, 'mnist', name)
        if os.path.exists(path) and md5_of_file(path) == md5:
            print(f'{path}: already there')
            continue
        content = fetch_unpacked(f'{name}.gz', md5, mirrors)
        with replacing(path) as temporary, open(temporary, 'wb') as file:
            file.write(content)


def fetch_unpacked(name, md5, mirrors):
    """Content of the .gz file of that name, from the first mirror that has it right."""
    failures = []
    for mirror in mirrors:
        url = mirror.rstrip('/') + '/' + name
        try:
            content = gzip.decompress(read_url(url))
            if md5_of(content) == md5:
                return content
            failures.append(f'{url} has other content than it should')
        except (OSError, EOFError, ValueError, zlib.error, HTTPException) as error:
            failures.append(f'{url}: {error}')
    raise UserError(
        f'{"; ".join(failures)}; try --mirror with a URL that serves {name}'
    )


def read_url(url):
    """Everything behind a URL, with progress."""
    content = b''
    with urllib.request.urlopen(url, timeout=30) as response:
        size = int(response.headers.get('Content-Length', 0))
        progress = Progress(url.rsplit('/', 1)[1], size, 'bytes')
        while chunk := response.read(1 << 16):
            content += chunk
            progress.show(len(content))
    return content


def md5_of_file(path):
    with open(path, 'rb') as file:
        return md5_of(file.read())


def md5_of(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# Digits


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
    progress = Progress('digits', len(labels), 'pictures')
    for start in range(0, len(labels), 250):
        chunk = slice(start, start + 250)
        images[chunk] = draw_digits(glyphs, labels[chunk], rng)
        progress.show(min(start + 250, len(labels)))

    with tempfile.TemporaryDirectory(dir=data_dir, prefix='.digits-') as temporary:
        made = os.path.join(temporary, 'digits')
        for name, part in (
            ('train', slice(counts[0])),
            ('t10k', slice(counts[0], None)),
        ):
            prefix = os.path.join(made, name)
            write_idx(f'{prefix}-images-idx3-ubyte', images[part])
            write_idx(f'{prefix}-labels-idx1-ubyte', labels[part])
        os.rename(made, folder)  # the set is there whole, or not at all
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


if __name__ == '__main__':
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f'download.py: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
