"""Read and write IDX, the file format of MNIST; serve sets of IDX files or batches."""

import gzip
import math
import os
import re
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator

import numpy as np
from PIL import Image

from dcgan.data.batches import CIFAR10, CIFAR10_CLASSES, batch_files, read_batch
from dcgan.data.images import resize
from dcgan.util.errors import UserError
from dcgan.util.files import glob_files, json_digest, opening, write_bytes

ALL = slice(None)  # of a batch
MAX_PACKED = 1 << 30  # bytes of the array in a smaller file, which may be packed
ImagesAndLabels = tuple[np.ndarray, np.ndarray | None]  # uint8 [n, h, w, c], int [n]
IDX_FILE_NAME = re.compile(r'(?!\.)(.*)(images|labels)[-.]idx\d-ubyte(\.gz)?')
# the part of a file name that says which split of its data set the file holds
IDX_SPLIT = re.compile('train|test|t10k|val(id(ation)?)?')


def read_idx(
    path: str, dims: Collection[int] = (1, 3, 4), header_only: bool = False
) -> np.ndarray | tuple[int, ...]:
    """Read an IDX file, perhaps .gz: a uint8 array or, if header_only, its shape.

    `dims` are the numbers of dimensions that are allowed. UserError for other files.
    """
    with opening(path, 'cannot be read', 'download it again') as packed:
        file = gzip.GzipFile(fileobj=packed) if path.endswith('.gz') else packed
        magic = file.read(4)
        if len(magic) < 4 or magic[:3] != b'\0\0\x08':
            raise ValueError('not an IDX file of unsigned bytes')
        shape = struct.unpack(f'>{magic[3]}I', file.read(4 * magic[3]))
        size, most = math.prod(shape), max(MAX_PACKED, os.path.getsize(path))
        if len(shape) not in dims or not 0 < size <= most:
            allowed = f'{" or ".join(map(str, dims))} dimension(s), 1 to {most:,} bytes'
            raise ValueError(f'it has shape {shape}; allowed are {allowed}')
        if header_only:
            return shape
        content = np.frombuffer(file.read(size + 1), np.uint8)
        if content.size != size:
            raise ValueError(f'it announces {size} bytes, but {content.size} follow')
        return content.reshape(shape)


def write_idx(path: str, array: np.ndarray) -> None:
    """Write a uint8 array atomically as an IDX file."""
    header = struct.pack(f'>I{array.ndim}I', 0x800 + array.ndim, *array.shape)
    write_bytes(path, header + array.tobytes())


def array_files(folder: str) -> dict[str, tuple[str, str]]:
    """{prefix: (path of images, path of labels)} of IDX files, or else `batch_files`.

    Training comes first. The prefix is for example `train`, or `all` if there is none.
    UserError if a file of a pair is missing, or if a folder holds several data sets.
    """
    paths = {}  # prefix: {'images' or 'labels': path}
    # files precede those in folders, to which some programs unpack; 'x' precedes 'x.gz'
    files = sorted(glob_files(folder, '*')) + sorted(glob_files(folder, '*-ubyte*/*'))
    for path in files:
        if match := IDX_FILE_NAME.fullmatch(os.path.basename(path)):
            paths.setdefault(match[1], {}).setdefault(match[2], path)
    for pair in paths.values():
        for kind in {'images', 'labels'} - pair.keys():
            problem = f'{next(iter(pair.values()))}: its {kind} file is missing'
            raise UserError(f'{problem}; put it into the same folder')
    names = {IDX_SPLIT.sub('*', prefix) for prefix in paths}
    if len(names) > 1:
        problem = f'holds several data sets ({", ".join(sorted(names))})'
        raise UserError(f'{folder}: {problem}; put each into a separate folder')
    return {
        prefix.strip('-') or 'all': (paths[prefix]['images'], paths[prefix]['labels'])
        for prefix in sorted(paths, key=lambda prefix: 'train' not in prefix)
    } or batch_files(folder)


def array_summary(folder: str) -> tuple[int, int, int] | None:
    """(height, width, number of classes) of `array_files`; None: a folder has none."""
    pairs = array_files(folder) if os.path.isdir(folder) else {}
    if not pairs:
        return None
    images, labels = next(iter(pairs.values()))
    if images == labels:
        return 32, 32, 10
    height, width = read_idx(images, (3, 4), header_only=True)[1:3]
    labels = np.concatenate([read_idx(path, (1,)) for _, path in pairs.values()])
    return height, width, int(np.ptp(labels)) + 1


class ArraySet:
    """All `array_files` of a folder, resized. ImageSet has the same methods.

    As in the original, it is shuffled only once, here, and this seeds NumPy's global
    random numbers with 547. Raises UserError for files that do not belong together.
    """

    reshuffles = False  # whether shuffle() changes the order
    class_names: list[str] | None = None  # None: classes have only numbers

    def __init__(self, folder: str, height: int, width: int, by_class: bool = True):
        pairs, images, labels = array_files(folder), [], []
        for images_path, labels_path in pairs.values():
            if is_batch := images_path == labels_path:
                pair = read_batch(images_path)
            else:
                pair = read_idx(images_path, (3, 4)), read_idx(labels_path, (1,))
            images.append(pair[0])
            labels.append(pair[1])
            shape, first_shape = images[-1].shape[1:], images[0].shape[1:]
            if shape != first_shape:
                problem = f'its images have shape {shape}, the others {first_shape}'
                advice = 'put them into separate folders'
                raise UserError(f'{images_path}: {problem}; {advice}')
            if shape[2:] not in ((), (1,), (3,)):
                problem = f'its images have {shape[2]} channels'
                raise UserError(f'{images_path}: {problem}, not 1 (gray) or 3 (RGB)')
            if len(images[-1]) != len(labels[-1]):
                count, name = len(labels[-1]), os.path.basename(labels_path)
                problem = f'{len(images[-1])} images, but {count} labels in {name}'
                raise UserError(f'{images_path}: {problem}')
        self.images, self.labels = np.concatenate(images), np.concatenate(labels)
        self.labels -= 0 if is_batch else self.labels.min()  # 1 in EMNIST's letters
        if by_class and {*pairs} & {*CIFAR10}:
            self.class_names = CIFAR10_CLASSES
        self.rows = np.arange(len(self.images))  # where an image is in the files
        for array in (self.images, self.labels, self.rows):
            np.random.seed(547)
            np.random.shuffle(array)
        # indices in the order of this epoch; can be set
        self.order = np.arange(len(self.images), dtype=np.int32)
        self.fingerprint = zlib.crc32(self.labels)  # a resumed run has the same
        self.size = height, width
        self.c_dim = self.images.shape[3] if self.images.ndim == 4 else 1
        self.classes = 10 if is_batch else int(self.labels.max()) + 1  # None: no labels
        self.contents = f'{len(self)} images in {self.classes} classes: ' + ', '.join(
            f'{len(array)} in {prefix}' for prefix, array in zip(pairs, images)
        )

    def __len__(self) -> int:
        return len(self.images)

    def close(self) -> None:
        """End the processes that decode images, if there are any."""

    def shuffle(self) -> None:
        """Start an epoch. If the set reshuffles, draw a new order by np.random."""

    def first_usable(self, count: int) -> np.ndarray:
        """Indices of the first `count` images of the epoch that can be decoded."""
        return self.order[:count].copy()

    def take(self, indices: np.ndarray) -> ImagesAndLabels:
        images = self.images[indices]
        if images.shape[1:3] != self.size:
            if self.c_dim == 1:
                images = images.reshape(images.shape[:3])
            images = np.stack([resize(Image.fromarray(x), *self.size) for x in images])
        return images.reshape(-1, *self.size, self.c_dim), self.labels[indices]

    def batches(
        self, size: int, number: int, first: int = 0, part: slice = ALL
    ) -> Iterator[ImagesAndLabels]:
        """Yield a part of each batch, `first` to `number` - 1, of `size` images."""
        ends = range((first + 1) * size, (number + 1) * size, size)
        return self.read([self.order[end - size : end][part] for end in ends])

    def read(self, chunks: Iterable[np.ndarray]) -> Iterator[ImagesAndLabels]:
        """Yield what `take` returns for each of these arrays of indices."""
        return map(self.take, chunks)

    def digest(self, by_time: bool = True) -> str:
        """A digest of images and labels; `by_time`: also of the files' times."""
        parts = (self.images.data, self.labels.data)
        return json_digest([self.size, *map(zlib.crc32, parts)])
