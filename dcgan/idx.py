"""MNIST's file format, and data sets of such files."""

import gzip
import math
import os
import re
import struct
import zlib

import numpy as np
from PIL import Image

from dcgan.errors import UserError
from dcgan.files import atomic_path
from dcgan.images import resize

IDX_NAME = re.compile(r'(?!\.)(.*)(images|labels)[-.]idx\d-ubyte(\.gz)?')
IDX_PART = re.compile('train|test|t10k|val(id(ation)?)?')


def read_idx(path, dims=(1, 3, 4), header_only=False):
    """The array that an IDX file of bytes holds, raw or .gz, or just its shape.

    Raises UserError where the file is unreadable, truncated or something else, or its
    number of dimensions is none of `dims`.
    """
    try:
        with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b'\0\0\x08':
                raise UserError(f'{path}: not an IDX file of unsigned bytes')
            shape = struct.unpack(f'>{magic[3]}I', file.read(4 * magic[3]))
            if len(shape) not in dims or not math.prod(shape):
                raise UserError(f'{path}: holds {shape}, which is not what it should')
            if header_only:
                return shape
            content = np.frombuffer(file.read(), np.uint8)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f'{path}: cannot be read ({error})') from error
    if content.size != math.prod(shape):
        raise UserError(
            f'{path}: damaged or cut short, fetch it again: its header announces '
            f'{math.prod(shape)} bytes, and {content.size} are there'
        )
    return content.reshape(shape)


def write_idx(path, array):
    """Write a uint8 array as an IDX file, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        file.write(struct.pack(f'>I{array.ndim}I', 0x800 + array.ndim, *array.shape))
        file.write(np.ascontiguousarray(array).data)


def idx_pairs(folder):
    """{part: (images, labels) paths} of a folder of IDX files, training part first.

    Raises UserError where one of a pair is missing, or there are several data sets.
    """
    parts = {}
    for name in sorted(os.listdir(folder)):  # 'x' sorts before, and wins over, 'x.gz'
        match = IDX_NAME.fullmatch(name)
        if match:
            part = parts.setdefault(match[1], {})
            part.setdefault(match[2], os.path.join(folder, name))
    for part in parts.values():
        for kind in {'images', 'labels'} - part.keys():
            raise UserError(
                f'{next(iter(part.values()))}: its {kind} file is missing beside it'
            )
    names = {IDX_PART.sub('*', part) for part in parts}
    if len(names) > 1:
        raise UserError(
            f'{folder}: holds several data sets ({", ".join(sorted(names))}); give '
            'each a folder of its own'
        )
    return {
        part.strip('-') or 'all': (parts[part]['images'], parts[part]['labels'])
        for part in sorted(parts, key=lambda part: 'train' not in part)
    }


def idx_summary(folder):
    """(height, width, number of classes) of a folder of IDX files; None for another."""
    pairs = idx_pairs(folder) if os.path.isdir(folder) else {}
    if not pairs:
        return None
    images, _ = next(iter(pairs.values()))
    height, width = read_idx(images, (3, 4), header_only=True)[1:3]
    labels = np.concatenate([read_idx(path, (1,)) for _, path in pairs.values()])
    return height, width, int(np.ptp(labels)) + 1


class IdxSet:
    """Labelled images from all the IDX files of a folder, held in memory as uint8.

    Batches are resized to height x width. Labels count from the lowest there is, which
    is 1 for the letters of EMNIST. Shuffled once, by the seed of the original's
    MNIST loader, which sets NumPy's global stream for all that follows, too.
    Raises UserError for files that are damaged or do not belong together.
    """

    def __init__(self, folder, height, width):
        images, labels = [], []
        pairs = idx_pairs(folder)
        for images_path, labels_path in pairs.values():
            images.append(read_idx(images_path, (3, 4)))
            labels.append(read_idx(labels_path, (1,)))
            if images[-1].shape[1:] != images[0].shape[1:]:
                raise UserError(
                    f'{images_path}: pictures of another size than the rest'
                )
            if images[-1].shape[3:] not in ((), (1,), (3,)):
                raise UserError(
                    f'{images_path}: its pictures have {images[-1].shape[3]} channels, '
                    'and only 1 (grey) or 3 (RGB) can be used'
                )
            if len(images[-1]) != len(labels[-1]):
                raise UserError(
                    f'{images_path}: {len(images[-1])} pictures, '
                    f'but {len(labels[-1])} labels'
                )
        self.images, self.labels = np.concatenate(images), np.concatenate(labels)
        self.labels -= self.labels.min()
        for array in (self.images, self.labels):
            np.random.seed(547)
            np.random.shuffle(array)
        self.order = np.arange(len(self.images), dtype=np.int32)
        self.reshuffles = False
        self.fingerprint = zlib.crc32(self.labels)
        self.size = height, width
        self.c_dim = self.images.shape[3] if self.images.ndim == 4 else 1
        self.classes = int(self.labels.max()) + 1
        self.contents = f'{len(self)} pictures in {self.classes} classes, ' + ', '.join(
            f'{len(part)} of {name}' for name, part in zip(pairs, images)
        )

    def __len__(self):
        return len(self.images)

    def close(self):
        """Nothing to end: no other process takes part."""

    def shuffle(self):
        """Leave the order alone, as the original does."""

    def first_usable(self, count):
        return self.order[:count].copy()

    def take(self, indices):
        images = self.images[indices]
        if images.shape[1:3] != self.size:
            if self.c_dim == 1:
                images = images.reshape(images.shape[:3])
            images = np.stack(
                [resize(Image.fromarray(image), *self.size) for image in images]
            )
        images = images.reshape(-1, *self.size, self.c_dim)
        return images, self.labels[indices]

    def batches(self, size, number, first=0):
        for index in range(first, number):
            yield self.take(self.order[index * size : (index + 1) * size])
