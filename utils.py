"""Pictures, data sets, sheets and files, in NumPy and Pillow; no TensorFlow here."""

import collections
import contextlib
import ctypes
import errno
import fcntl
import functools
import glob
import gzip
import hashlib
import itertools
import json
import math
import os
import pickle
import queue
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import weakref
import zipfile
import zlib
from concurrent import futures

import numpy as np
import PIL
from PIL import Image, ImageOps
from tqdm import tqdm

Z_DISTRIBUTIONS = {
    'normal01': np.random.standard_normal,
    'uniform_signed': lambda size: np.random.uniform(-1, 1, size),
    'uniform_unsigned': lambda size: np.random.uniform(0, 1, size),
}
IDX_NAME = re.compile(r'(?!\.)(.*)(images|labels)[-.]idx\d-ubyte(\.gz)?')
IDX_PART = re.compile('train|test|t10k|val(id(ation)?)?')
PICTURE_TYPES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
# these say nothing about a file: the disk fails, memory or file descriptors run out
SYSTEM_ERRORS = {errno.ENOMEM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
PARTITIONS = ('train', 'val', 'test')  # 0, 1 and 2 in CelebA's list
TEMPORARY = '.dcgan-'  # begins the names of files and folders that are being written
DAY = 24 * 60 * 60  # seconds
SAMPLES_AT_ONCE = 256  # a tenth faster than 64, on a CPU
POINTS_AT_ONCE = 2**20  # for the sake of memory, if a batch is not more
VISUALIZE_OPTIONS = ('random', 'sweep', 'gif_random', 'gif', 'gif_merged')
VISUALIZE_OPTIONS += ('interpolate', 'classes', 'arithmetic')


class UserError(ValueError):
    """A mistake that only the user can mend, in one line that names the way out."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came: `number`. The text says what became of the work."""

    def __init__(self, number, text='interrupted; what was saved before is kept'):
        super().__init__(text)
        self.number = number


def gen_random(mode, size):
    """Draw z of the given shape from NumPy's global stream: float64, by `mode`.

    normal01 is N(0, 1), uniform_signed is [-1, 1), uniform_unsigned is [0, 1).
    Raises UserError for any other mode.
    """
    if mode not in Z_DISTRIBUTIONS:
        raise UserError(f'z_dist {mode!r} is none of {", ".join(Z_DISTRIBUTIONS)}')
    return Z_DISTRIBUTIONS[mode](size=size)


# Pictures


def imread(path, grayscale=False):
    """Read any picture that Pillow knows: float64 in 0..255, [h, w, 3]; grey: [h, w].

    Colour follows OpenCV, with which the original read: three channels whatever the
    file holds (alpha dropped, palettes and grey expanded, 16 bits cut to 8), turned
    upright as EXIF says. Grey follows SciPy: Pillow's mode F. Raises UserError.
    """
    return np.asarray(open_picture(path, grayscale), np.float64)


def ignore_pillow_warnings():
    """Pillow warns of malformed files that it reads all the same."""
    warnings.filterwarnings('ignore', module='PIL')


def open_picture(path, grayscale=False):
    """What `imread` reads, as a Pillow picture of mode RGB or, grey, F."""
    try:
        with Image.open(path) as image:
            limit = Image.MAX_IMAGE_PIXELS  # of which Pillow itself only warns at first
            if limit and image.width * image.height > limit:
                raise UserError(f'{path}: larger than {limit} pixels, likely a bomb')
            if image.mode == 'I' and image.format != 'PNG':
                raise UserError(
                    f'{path}: 32-bit greys cannot be used; convert it to 8 or 16 bits'
                )
            if image.mode.startswith('I'):  # 16 bits, which Pillow would clip at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            if grayscale:
                return image.convert('RGB').convert('F')
            if image.format != 'JPEG' or image.info.keys() & {'exif', 'xmp'}:
                ImageOps.exif_transpose(image, in_place=True)  # slow even for nothing
            image.load()  # before the file is closed
            return image if image.mode == 'RGB' else image.convert('RGB')
    except (UserError, MemoryError):
        raise
    except Exception as error:  # on a corrupt file Pillow may raise nearly anything
        if getattr(error, 'errno', None) in SYSTEM_ERRORS:
            raise OSError(
                error.errno, error.strerror, path
            ) from error  # it may be good
        raise UserError(f'{path}: not a picture that can be read ({error})') from error


def bytescale(x):
    """Stretch an array of any shape to uint8, its least value 0 and its greatest 255.

    SciPy 1.1's function of that name, which stood inside `imresize` and `imsave`: the
    original stretches every crop before resizing and every sheet before saving.
    A constant array becomes 0.
    """
    low, high = x.min(), x.max()
    scale = 255.0 / ((high - low) or 1)
    return (((x - low) * scale).clip(0, 255) + 0.5).astype(np.uint8)


@functools.lru_cache(maxsize=4096)
def stretch_table(low, high):
    """What `bytescale` makes of each of the 256 bytes, these being the extremes."""
    table = np.zeros(256, np.uint8)
    table[low : high + 1] = bytescale(np.arange(low, high + 1.0))
    return table.tobytes()


def stretch(image):
    """`bytescale` of a Pillow picture: RGB stays RGB, F becomes L.

    Bytes go through a table, which gives the same and spares NumPy's floats.
    """
    if image.mode == 'F':
        return Image.fromarray(bytescale(np.asarray(image, np.float64)))
    content = image.tobytes()
    if b'\x00' in content and b'\xff' in content:
        return image  # it would stay as it is
    pixels = np.frombuffer(content, np.uint8)
    table = stretch_table(int(pixels.min()), int(pixels.max()))
    return Image.frombytes(image.mode, image.size, content.translate(table))


def center_crop(image, crop_h, crop_w=None):
    """The middle crop_h x crop_w (None: square) of a Pillow picture, at most all."""
    w, h = image.size
    crop_h, crop_w = min(crop_h, h), min(crop_w or crop_h, w)
    j, i = int(round((h - crop_h) / 2.0)), int(round((w - crop_w) / 2.0))
    return image.crop((i, j, i + crop_w, j + crop_h))


def box_crop(image, box):
    """The part of a Pillow picture in a box (x, y, width, height), or None."""
    x, y, width, height = box
    left, upper = max(x, 0), max(y, 0)
    right, lower = min(x + width, image.width), min(y + height, image.height)
    if right <= left or lower <= upper:
        return None
    return image.crop((left, upper, right, lower))


def resize(image, height, width):
    """A Pillow picture -> uint8 [height, width(, 3)], by Pillow's bilinear filter."""
    return np.asarray(image.resize((width, height), Image.BILINEAR))


def load_picture(
    path,
    input_height,
    input_width=None,
    resize_height=64,
    resize_width=64,
    crop=True,
    grayscale=False,
    box=None,
):
    """Read, crop (or not), stretch the contrast and resize, to uint8 [h, w(, 3)].

    box (x, y, width, height), in pixels, is cropped to instead of the centre.
    """
    image = open_picture(path, grayscale)
    if box is not None:
        image = box_crop(image, box) if box else None
        if image is None:
            raise UserError(f'{path}: no part of it is in its box {box or "(none)"}')
    elif crop:
        image = center_crop(image, input_height, input_width)
    return resize(stretch(image), resize_height, resize_width)


def get_image(*args, **kwargs):
    """`load_picture`, same arguments, as float64 in [-1, 1], as a network is fed."""
    return load_picture(*args, **kwargs) / 127.5 - 1.0


# Sheets


def image_manifold_size(count):
    """Rows and columns of the sheet of training samples: floor and ceil of the root."""
    root = math.sqrt(count)
    return math.floor(root), math.ceil(root)


def inverse_transform(images):
    """[-1, 1] -> [0, 1]."""
    unit = images + 1.0
    unit /= 2.0  # in place, for the sake of many samples
    return unit


def merge(images, size):
    """Lay images [B, h, w, c] out, row by row, on a sheet of size (rows, columns).

    Returns float64 [rows * h, columns * w(, c if not 1)], 0 where no image is. There
    are more rows than asked for if the images need them. Bytes stay bytes.
    """
    count, h, w, c = images.shape
    columns = size[1]
    rows = max(size[0], math.ceil(count / columns))
    kind = np.uint8 if images.dtype == np.uint8 else np.float64
    sheet = np.zeros((rows * h, columns * w, c), kind)
    for index, image in enumerate(images):
        j, i = index // columns * h, index % columns * w
        sheet[j : j + h, i : i + w] = image
    return sheet[..., 0] if c == 1 else sheet


def save_images(images, size, path):
    """Write images [B, h, w, c] in [-1, 1], or uint8, as a sheet of (rows, columns).

    The contrast of the whole sheet is stretched to 0..255, as in the original.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        sheet = stretch(Image.fromarray(merge(images, size)))
    else:
        sheet = Image.fromarray(bytescale(merge(inverse_transform(images), size)))
    save_picture(sheet, path)


def save_picture(picture, path):
    """Write a Pillow picture, whole or not at all. Raises UserError."""
    with writing(path), replacing(path) as temporary:
        picture.save(temporary)


def make_gif(frames, path, duration=2):
    """Write frames, each [h, w], [h, w, 1] or [h, w, 3] in 0 to 255, as an animation.

    It loops for ever, once in `duration` seconds or, as viewers want 20 ms a frame, in
    more if there are above 50 frames a second.
    """
    pictures = (Image.fromarray(np.squeeze(f).astype(np.uint8)) for f in frames)
    save_gif(pictures, path, 1000 * duration // len(frames))


def save_gif(pictures, path, milliseconds):
    """Write an iterable of Pillow pictures as an animation that loops for ever."""
    pictures = iter(pictures)
    with writing(path), replacing(path) as temporary:
        next(pictures).save(
            temporary,
            'GIF',
            save_all=True,
            append_images=pictures,
            duration=max(20, milliseconds),  # of each frame; viewers want 20
            loop=0,
        )


def make_progress_gif(sample_dir):
    """Animate sample_dir/train_*.png, in progress.gif beside them, which is printed.

    Sheets of another size than the last, of another batch, are left out. Raises
    UserError where there is no sheet.
    """
    paths = sorted(matches(sample_dir, 'train_*.png'))
    if not paths:
        raise UserError(f'{sample_dir}: has no train_*.png, of which --gif is made')
    size = Image.open(paths[-1]).size
    sheets = (sheet for sheet in map(Image.open, paths) if sheet.size == size)
    path = os.path.join(sample_dir, 'progress.gif')
    save_gif(sheets, path, milliseconds=150)
    print(f' [*] {path}', flush=True)


# Data sets. Both kinds have the same face: len(), c_dim, classes (None: no labels),
# reshuffles (whether epochs differ), contents (a line to print), fingerprint (a number,
# of which pictures), shuffle() at the start of an epoch, order (indices of the epoch's
# pictures), first_usable(count) of them, take(indices), which gives uint8 images
# [count, h, w, c_dim] and labels [count] or None, batches(size, number, first), which
# yields such batches from `first` to `number`, and close().


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
    with replacing(path) as temporary, open(temporary, 'wb') as file:
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


class PictureSet:
    """Pictures of a folder, decoded when they are needed, or ahead of it.

    pattern      a glob in the folder; None: *.jpg or, without any, PICTURE_TYPES
    by_class     label them by the folders in the folder, each with its own pictures
    partition    of CelebA's list: all, train, val or test
    bbox         crop to the boxes of CelebA's list
    cache        keep what is decoded in a file under the folder, for other runs, too
    num_workers  processes that decode the coming batches; 0: decode what is asked for

    `options` are those of `load_picture`. Shuffled on construction and for each epoch,
    each time from the sorted list, by NumPy's global stream.

    What cannot be decoded is named once, and replaced by pictures from further on in
    the epoch, the same ones whatever `cache` and `num_workers` are.
    Raises UserError where that is above 1% of the set, and where no file matches.
    """

    def __init__(
        self,
        folder,
        pattern,
        by_class=False,
        partition='all',
        bbox=False,
        cache=False,
        num_workers=0,
        **options,
    ):
        self.options = options
        self.c_dim = picture_shape(options)[2]
        names = class_names(folder) if by_class else None
        self.files = find_pictures(folder, pattern, names)
        if partition != 'all':
            self.files = in_partition(self.files, partition, folder)
        boxes = read_list('list_bbox_celeba.txt', folder, 4) if bbox else {}
        missing = () if bbox else None
        self.boxes = [boxes.get(stem(path), missing) for path in self.files]
        self.classes = self.labels = None
        self.contents = f'{len(self)} pictures'
        if by_class:
            self._label(folder, names)
        self.unreadable = {}  # path: why
        self.workers = Workers(num_workers, options)
        self.cache = None
        if cache:
            settings = [pattern or '*.jpg', by_class, partition, bbox, options]
            settings.append(PIL.__version__)
            self.cache = self._open_cache(folder, settings)
        self.order = np.arange(len(self), dtype=np.int32)
        self.reshuffles = True
        names = '\n'.join(inside(folder, path) for path in self.files)
        self.fingerprint = zlib.crc32(os.fsencode(names))
        self.shuffle()

    def _label(self, folder, names):
        number = {name: label for label, name in enumerate(names)}
        of_class = [inside(folder, path).split(os.sep)[0] for path in self.files]
        for name in set(of_class) - set(names):
            raise UserError(f'{folder}: {name} is in no class folder')
        self.labels = np.array([number[name] for name in of_class])
        self.classes = len(names)
        counts = np.bincount(self.labels, minlength=len(names))
        self.contents += ': ' + ', '.join(f'{n} {c}' for n, c in zip(counts, names))
        if not counts.all():
            raise UserError(
                f'{folder}: a class has no pictures: {self.contents}; remove it, or '
                'see --input_fname_pattern: **/*.jpg looks further down'
            )

    def __len__(self):
        return len(self.files)

    def close(self):
        """End the decoding processes. Batches that are asked for start new ones."""
        self.workers.close()

    def shuffle(self):
        self.order.sort()
        np.random.shuffle(self.order)

    def first_usable(self, count):
        indices = self.order[:count]
        return self._replace(count, indices, *self._decode(indices))[1]

    def take(self, indices):
        return self._labelled(*self._replace(0, indices, *self._decode(indices)))

    def batches(self, size, number, first=0):
        ends = range((first + 1) * size, (number + 1) * size, size)
        chunks = [self.order[end - size : end] for end in ends]
        for end, indices, decoded in zip(ends, chunks, self._decode_ahead(chunks)):
            yield self._labelled(*self._replace(end, indices, *decoded))

    def _labelled(self, images, indices):
        return images, None if self.labels is None else self.labels[indices]

    def _decode(self, indices):
        """Images of these files, and {position: why} of those that fail."""
        if not self.cache:
            return decode(self._jobs(indices), self.options)
        pixels, failed = self.cache
        images, failures = pixels[indices], {}
        for position, index in enumerate(indices) if failed else ():
            if index in failed:  # perhaps it can be read by now
                (images[position],), why = decode(self._jobs([index]), self.options)
                failures.update({position: why[0]} if why else {})
        return images, failures

    def _decode_ahead(self, chunks):
        if self.cache or not self.workers.count:
            return map(self._decode, chunks)
        return self.workers.map(map(self._jobs, chunks))

    def _jobs(self, indices):
        return [(self.files[i], self.boxes[i]) for i in indices]

    def _replace(self, end, indices, images, failures):
        """Images and indices, failures replaced by what follows `end` in the epoch."""
        indices = indices.copy()
        following = itertools.cycle(np.roll(self.order, -end)) if failures else ()
        for position, why in failures.items():
            self._leave_out(indices[position], why)
            for index in following:
                image, failed = self._decode([index])
                if not failed:
                    images[position], indices[position] = image[0], index
                    break
                self._leave_out(index, failed[0])
        return images, indices

    def _leave_out(self, index, why):
        path = self.files[index]
        if path in self.unreadable:
            return
        self.unreadable[path] = why
        count = len(self.unreadable)
        print(f' [!] Left out, {count} so far: {one_line(why)}', flush=True)
        if count > len(self) / 100:
            paths = one_line(', '.join(sorted(self.unreadable)))
            raise UserError(
                f'{count} of {len(self)} pictures cannot be used, which is above 1%; '
                f'mend or remove them: {paths}'
            )

    def _open_cache(self, folder, settings):
        """Pixels [n, h, w, c] of all files, mapped, and which of them failed.

        The name of the cache's file has a sum of the settings, and one of the files.
        """
        files = [
            [inside(folder, path), box, *size_and_time(path)]
            for path, box in zip(self.files, self.boxes)
        ]
        prefix = checksum(settings)
        cache_dir = os.path.join(folder, '.cache')
        path = os.path.join(cache_dir, f'{prefix}-{checksum(files)}')
        shape = (len(self), *picture_shape(self.options))
        try:
            cache = read_cache(path, shape)
            if not cache:
                os.makedirs(cache_dir, exist_ok=True)
                with open(os.path.join(cache_dir, 'lock'), 'w') as lock:
                    wait_for(lock, 'another run builds this cache')
                    cache = read_cache(path, shape)
                    if not cache:
                        self._build_cache(path, prefix)
                        cache = read_cache(path, shape)
        except OSError as error:
            raise UserError(
                f'{cache_dir}: cannot be used ({error.strerror}); leave out --cache'
            ) from error
        return cache

    def _build_cache(self, path, prefix):
        """Write the pixels of all files, then the indices of those that failed."""
        for name in os.listdir(os.path.dirname(path)):  # of older files, or half built
            if prefix in name:
                os.remove(os.path.join(os.path.dirname(path), name))
        chunks = np.array_split(np.arange(len(self)), math.ceil(len(self) / 64))
        all_failed = []
        with (
            contextlib.closing(self.workers),  # nothing is decoded after this
            replacing(path) as temporary,
            open(temporary, 'wb') as file,
            progress('cache', len(self), ' pictures') as bar,
        ):
            for indices, decoded in zip(chunks, self._decode_ahead(chunks)):
                images, failures = decoded
                for position, why in failures.items():
                    self._leave_out(indices[position], why)
                    all_failed.append(int(indices[position]))
                file.write(images.data)
                bar.update(len(images))
            file.write(json.dumps(all_failed).encode())
            file.flush()
            os.fsync(file.fileno())


def read_cache(path, shape):
    """(pixels, set of indices that failed) of a cache's file; None if it is no good."""
    try:
        with open(path, 'rb') as file:
            file.seek(math.prod(shape))
            failed = set(json.load(file))
        return np.memmap(path, np.uint8, 'r', shape=shape), failed
    except (FileNotFoundError, ValueError):
        return None


def picture_shape(options):
    """(height, width, channels) of what `load_picture` makes by these options."""
    channels = 1 if options['grayscale'] else 3
    return options['resize_height'], options['resize_width'], channels


def decode(jobs, options):
    """Load (path, box) pairs: uint8 [n, h, w, c], and {position: why} of what fails."""
    images = np.empty((len(jobs), *picture_shape(options)), np.uint8)
    failures = {}
    for position, (path, box) in enumerate(jobs):
        try:
            image = load_picture(path, box=box, **options)
            images[position] = image.reshape(images.shape[1:])
        except UserError as error:
            images[position], failures[position] = 0, str(error)
    return images, failures


class Workers:
    """Processes that decode images, until close() or until this process ends.

    They are not multiprocessing's, which would import the script that was started, and
    with it TensorFlow, into each. A thread waits for each of them.
    """

    def __init__(self, count, options):
        self.count, self.options = count, options
        self.processes = []

    def map(self, batches):
        """Yield decode(jobs, options) for each of the batches, in order.

        Starts the processes if they are not running. At most two batches for each
        process are being decoded or wait to be yielded.
        """
        if not self.processes:
            self.idle = queue.SimpleQueue()
            self.processes = [self._start() for _ in range(self.count)]
            self.threads = futures.ThreadPoolExecutor(self.count)
            # also runs when this object is dropped without close()
            self._end = weakref.finalize(
                self, end_workers, self.processes, self.threads
            )
        ahead = collections.deque()
        for jobs in batches:
            if len(ahead) == 2 * self.count:
                yield ahead.popleft().result()
            ahead.append(self.threads.submit(decode_in_one, self.idle, jobs))
        while ahead:
            yield ahead.popleft().result()

    def close(self):
        """End the processes and wait for them. map() would start new ones."""
        if self.processes:
            self._end()
            self.processes = []

    def _start(self):
        process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the process that is served
        )
        pickle.dump(self.options, process.stdin)
        self.idle.put(process)
        return process


def decode_in_one(idle, jobs):
    """Let one of the idle processes decode a batch; raise what it raises."""
    process = idle.get()
    try:
        pickle.dump(jobs, process.stdin)
        process.stdin.flush()
        decoded = pickle.load(process.stdout)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        with contextlib.suppress(OSError):
            process.stdin.close()  # what it did not take would be flushed later
        raise UserError(
            f'a process that decodes pictures ended ({process.wait()}); if not for '
            'what it printed, for want of memory: lower --num_workers'
        ) from error
    finally:
        idle.put(process)
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


def end_workers(processes, threads):
    for process in processes:
        process.kill()  # it holds nothing that could be lost
    threads.shutdown(wait=False, cancel_futures=True)  # this may be one of them
    for process in processes:
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # flushes what the process did not take
            process.stdin.close()


def serve_decoding():
    """Be one of the Workers: decode what comes in until there is no more."""
    ignore_pillow_warnings()
    with contextlib.suppress(EOFError, BrokenPipeError):
        options = pickle.load(sys.stdin.buffer)
        while True:
            jobs = pickle.load(sys.stdin.buffer)
            try:
                decoded = decode(jobs, options)
            except (OSError, MemoryError) as error:
                decoded = error
            pickle.dump(decoded, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    os._exit(0)  # without a last flush to a reader that may be gone


def find_pictures(folder, pattern, classes=None):
    """Sorted paths of the files that match a glob, or are in `classes`; see PictureSet.

    Says what it took and left if it had to choose. Raises UserError where none is.
    """
    if not pattern:
        folders = [os.path.join(folder, name) for name in classes or ()] or [folder]
        files = [path for place in folders for path in usual_pictures(place)]
    else:
        if classes and '/' not in pattern:
            pattern = f'*/{pattern}'
        files = matches(folder, pattern)
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{other_types(folder)}'
        )
    return sorted(files)


def matches(folder, pattern):
    """The files in a folder, but no folders, that match a glob."""
    found = glob.glob(os.path.join(glob.escape(folder), pattern), recursive=True)
    return [path for path in found if not os.path.isdir(path)]


def usual_pictures(folder):
    """The *.jpg in a folder or, without any, all PICTURE_TYPES; says what it left."""
    known = [p for p in matches(folder, '*') if p.lower().endswith(PICTURE_TYPES)]
    files = [path for path in known if path.endswith('.jpg')] or known
    others = type_counts(path for path in known if not path.endswith('.jpg'))
    if others and files is known:
        print(f' [*] {folder}: no *.jpg, so {others} are used', flush=True)
    elif others:
        print(
            f' [!] {folder}: only *.jpg is used, not {others}; '
            "--input_fname_pattern '*' takes all files",
            flush=True,
        )
    return files


def type_counts(paths):
    """How many files of each ending there are, in words."""
    counts = collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    return ', '.join(f'{n} {ending}' for ending, n in counts.most_common())


def other_types(folder):
    """What to say of the pictures in a folder when none matches the pattern."""
    counts, known = collections.Counter(), Image.registered_extensions()
    for path, _, names in os.walk(folder):
        endings = [os.path.splitext(name)[1] for name in names]
        nested = '' if path == folder else '**/'
        counts.update(f'{nested}*{e}' for e in endings if e.lower() in known)
    if not counts:
        return ', and no other pictures are there'
    there = ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())
    most = counts.most_common(1)[0][0]
    classes = ' or, if the folders are classes, --conditional' if '/' in most else ''
    return f"; there are {there}: try --input_fname_pattern '{most}'{classes}"


def class_names(folder):
    """The folders in a folder, sorted. Raises UserError where there is none."""
    require_folder(folder)
    with os.scandir(folder) as entries:
        names = sorted(
            e.name for e in entries if e.is_dir() and not e.name.startswith('.')
        )
    if not names:
        raise UserError(f'{folder}: has no class folders, which --conditional needs')
    return names


def in_partition(files, partition, folder):
    """The files that CelebA's list has in a partition: train, val or test."""
    rows = read_list('list_eval_partition.txt', folder, 1)
    row = (PARTITIONS.index(partition),)
    unknown = [path for path in files if stem(path) not in rows]
    if unknown:
        print(
            f' [!] {len(unknown)} pictures are not in the list of partitions',
            flush=True,
        )
    files = [path for path in files if rows.get(stem(path)) == row]
    if not files:
        raise UserError(f'{folder}: none of its pictures is in partition {partition}')
    return files


def read_list(name, folder, columns):
    """{picture's name without its ending: numbers in its row} of one of CelebA's lists.

    It is in the folder of the pictures or the one above; spaces or commas part columns.
    Raises UserError where it is missing, damaged or cut short.
    """
    paths = [os.path.join(place, name) for place in (folder, os.path.dirname(folder))]
    path = next(filter(os.path.isfile, paths), None)
    if path is None:
        raise UserError(
            f'{folder}: {name} is neither there nor in the folder above; for CelebA, '
            '"download.py celebA" fetches it'
        )
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = [line.replace(',', ' ').split() for line in file if line.strip()]
    count, rows = 1, {}
    for i, row in enumerate(lines):
        numbers = [int(x) for x in row[1:] if re.fullmatch(r'-?\d+', x)]
        if len(numbers) == len(row) - 1 == columns:
            rows[stem(row[0])] = tuple(numbers)
        elif i == 0 and len(row) == 1 and row[0].isdigit():
            count = int(row[0])
        elif i > 1 or numbers or len(row) == 1:  # no heading either
            raise UserError(f'{path}: not a list of CelebA: {" ".join(row)[:60]!r}')
    if len(rows) < count:
        raise UserError(f'{path}: cut short, {len(rows)} rows are there of {count}')
    return rows


def stem(path):
    """The name of a file without its ending."""
    return os.path.splitext(os.path.basename(path))[0]


def inside(folder, path):
    """What follows the folder in the path of something in it."""
    return path[len(os.path.join(folder, '')) :]


def size_and_time(path):
    """Bytes, and nanoseconds of the last change; zeros where it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def one_line(text):
    """A text that may hold names of files, on one line that any terminal can show."""
    return ' '.join(str(text).encode('ascii', 'backslashreplace').decode().split())


def checksum(content):
    """A short name for what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def wait_for(file, reason):
    """Lock an open file, saying why if another process has it first."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f' [*] Waiting: {reason}', flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def require_folder(folder):
    """Raise UserError where there is no such folder of data."""
    if not os.path.isdir(folder):
        raise UserError(
            f'{folder}: no such data folder; download.py makes those of mnist, celebA, '
            'lsun and digits, --data_dir tells where they are'
        )


def open_dataset(
    folder, pattern, output_size, input_size, crop, grayscale, by_class=False, **reading
):
    """The data set in a folder: an IdxSet where it holds IDX files, else a PictureSet.

    Sizes are (height, width) in pixels; by_class and `reading` are PictureSet's.
    Raises UserError where there is nothing to use.
    """
    require_folder(folder)
    folder = os.path.normpath(folder)
    if idx_pairs(folder):
        return IdxSet(folder, *output_size)
    return PictureSet(
        folder,
        pattern,
        by_class,
        **reading,
        grayscale=grayscale,
        input_height=input_size[0],
        input_width=input_size[1],
        resize_height=output_size[0],
        resize_width=output_size[1],
        crop=crop,
    )


def one_hot(labels, classes):
    """Integer labels [B] -> float32 [B, classes]."""
    return np.eye(classes, dtype=np.float32)[labels]


# Samples of a trained model. `dcgan` is model.DCGAN, its weights restored in `sess`.


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


def in_bytes(dcgan, images):
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
    with progress('samples', count, ' pictures', delay=2) as bar:
        for batch in draw_batches(sess, dcgan, z, labels):
            images[bar.n : bar.n + len(batch)] = in_bytes(dcgan, batch)
            bar.update(len(batch))
    name = f'test_{utc_time()}'
    save_test_sheet(images, f'{name}.png', sample_dir)
    path = os.path.join(sample_dir, name)
    if config.separate_images:
        for i, (image, label) in enumerate(zip(images, labels)):
            ending = '' if classes is None else f'_{label}'
            picture = Image.fromarray(
                np.squeeze(image, 2) if dcgan.c_dim == 1 else image
            )
            save_picture(picture, os.path.join(path, f'{i:05d}{ending}.png'))
        print(f' [*] {path}: {count} pictures', flush=True)
    if config.npz:
        path = f'{path}.npz'
        with writing(path), replacing(path) as part, open(part, 'wb') as file:
            np.savez(file, images=images, labels=labels, z=z)
        print(f' [*] {path}', flush=True)


def save_test_sheet(images, name, sample_dir, columns=None):
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
        save_test_sheet(draw(sess, dcgan, z, labels), name, sample_dir)

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
        sheet(np.random.uniform(-0.5, 0.5, shape), f'test_{utc_time()}.png')
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
    save_test_sheet(images, f'test_interpolate_{utc_time()}.png', sample_dir, columns)


def draw_classes(sess, dcgan, config, sample_dir, rows=8):
    """A sheet, test_classes_{UTC time}.png: each row is one z, each column one class.

    The classes are those of config.label. Raises UserError where the model has none.
    """
    classes = read_labels(config.label, dcgan.y_dim)
    if classes is None:
        raise UserError('--visualize_option classes: this model has no classes')
    z = gen_random(config.z_dist, (rows, dcgan.z_dim)).repeat(len(classes), axis=0)
    images = draw(sess, dcgan, z, np.tile(classes, rows))
    save_test_sheet(images, f'test_classes_{utc_time()}.png', sample_dir, len(classes))


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
        cells[: len(z)] = in_bytes(dcgan, draw(sess, dcgan, z, labels))
    images = images.reshape(-1, *images.shape[2:])
    save_test_sheet(images, f'test_arithmetic_{utc_time()}.png', sample_dir, columns)


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
            f'{config.z_file}: not an .npz of samples ({reason(error)})'
        ) from error
    if z.shape[1:] != (z_dim,):
        raise UserError(f'{config.z_file}: has z {z.shape}, the model [n, {z_dim}]')
    if max(numbers) >= len(z):
        raise UserError(
            f'{config.z_file}: has no index {max(numbers)} for --arithmetic, its last '
            f'is {len(z) - 1}'
        )
    return z[numbers]


# Processes


def stop_signals():
    """The signals that ask a run to save and end: Ctrl-C, SIGTERM, a closed terminal.

    Without those that are ignored, as SIGHUP is under nohup, or that C code handles.
    """
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    return [n for n in numbers if signal.getsignal(n) not in (signal.SIG_IGN, None)]


def interrupt(number, frame):
    """A handler of signals: raise Interrupted."""
    raise Interrupted(number)


@contextlib.contextmanager
def deferred_signals():
    """Give a list to which stop signals are added, instead of what they do.

    A second one does it at once. Elsewhere than in the main thread, which alone gets
    signals, the list stays empty.
    """
    caught = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    handlers = {n: signal.getsignal(n) for n in stop_signals()}

    def restore():
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def catch(number, frame):
        caught.append(number)
        restore()

    for number in handlers:
        signal.signal(number, catch)
    try:
        yield caught
    finally:
        restore()


def usable_cores():
    """How many cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def lock_run(run_dir):
    """Have a run folder for oneself while the file that is returned stays open.

    The system frees it when the process ends, however it does. Raises UserError that
    names the process that has it.
    """
    path = os.path.join(run_dir, 'lock')
    file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115, it stays open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = one_line(file.read()) or 'another process'
        file.close()
        raise UserError(
            f'{run_dir}: {owner} trains this run; wait for it to end, stop it, or '
            'choose another --out_name'
        ) from None
    except OSError as error:
        print(f' [!] {run_dir}: cannot be locked here ({error.strerror})', flush=True)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    return file


# Files


def progress(name, total, unit, done=0, delay=0):
    """tqdm's bar of how far something is, its rate, and the time that is left.

    To be closed by `with`. total None stands for not known; `done` was there before.
    It is not shown before `delay` seconds.
    """
    return tqdm(
        desc=name,
        total=total,
        unit=unit,
        initial=done,
        delay=delay,
        unit_scale=True,
        mininterval=1,
        miniters=1,
    )


@contextlib.contextmanager
def replacing(path):
    """Yield a temporary path; move it over `path` when the block succeeds.

    A file or folder that stood at `path` stays whole until then, and for good if the
    block fails: no process ever finds half of either.
    """
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        if os.path.isdir(temporary) and os.path.isdir(path):
            exchange(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        remove(temporary)


def temporary_path(path):
    """A hidden name beside `path`, of this process on this host alone."""
    folder, name = os.path.split(path)
    owner = f'{os.getpid()}@{socket.gethostname()}'
    return os.path.join(folder, f'{TEMPORARY}{owner}-{name}')


def remove_leftovers(folder):
    """Remove temporary files and folders of processes that were killed.

    Whether a process of another host still runs cannot be seen from here: what is a day
    old is removed in any case.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f'{TEMPORARY}*')):
        owner = re.match(r'(\d+)@(.*)', os.path.basename(path)[len(TEMPORARY) :])
        if not owner:
            continue
        with contextlib.suppress(FileNotFoundError):
            is_old = time.time() - os.stat(path).st_mtime > DAY
            is_ours = owner[2].startswith(f'{socket.gethostname()}-')
            if is_old or (is_ours and not is_running(int(owner[1]))):
                remove(path)


def is_running(pid):
    """Whether a process of this host is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def exchange(new, old):
    """Put folder `new` in the place of folder `old`, and `old` where `new` was.

    In one step where the system can. Where it cannot, `old` is moved aside for an
    instant, under a name of its own, and then has to be removed.
    """
    with contextlib.suppress(AttributeError, OSError):  # no such function here
        libc = ctypes.CDLL(None, use_errno=True)
        here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        paths = os.fsencode(new), os.fsencode(old)
        if libc.renameat2(here, paths[0], here, paths[1], swap) == 0:
            return
    aside = temporary_path(f'{old}-before')
    os.rename(old, aside)
    os.rename(new, old)
    os.rename(aside, new)


def remove(path):
    """Remove a file, or a folder with all that is in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def writing(path, errors=OSError):
    """Turn these errors of whatever writes `path` into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        raise UserError(
            f'{path}: cannot be written ({reason(error)}); what was saved before is '
            'kept'
        ) from error


def reason(error):
    """The line that matters of what the system or TensorFlow says of an error."""
    text = getattr(error, 'strerror', None) or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    nodes = [i for i, line in enumerate(lines[:-1]) if line.startswith("Node: '")]
    return lines[nodes[-1] + 1] if nodes else (lines or [type(error).__name__])[0]


def sync(path):
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def expand_path(path):
    """Expand ~ and $VARS."""
    return os.path.expanduser(os.path.expandvars(path))


def timestamp():
    """Local time for the name of a run."""
    return time.strftime('%Y%m%d.%H%M%S')


def utc_time():
    """UTC time for the name of a test sheet."""
    return time.strftime('%Y%m%d%H%M%S', time.gmtime())


def write_json(path, content):
    """Write a dict as sorted JSON, indented by 4, whole or not at all.

    Numbers that JSON cannot hold, which are not finite, become strings such as "inf".
    """
    content = {
        key: str(value)
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in content.items()
    }
    with replacing(path) as temporary:
        with open(temporary, 'w', encoding='utf-8') as file:
            json.dump(
                content,
                file,
                indent=4,
                sort_keys=True,
                ensure_ascii=False,
                allow_nan=False,
            )
        sync(temporary)


def recorded_flags(run_dir):
    """The flags that FLAGS.json of a run folder holds; empty where there is none."""
    path = os.path.join(run_dir, 'FLAGS.json')
    try:
        with open(path, encoding='utf-8') as file:
            flags = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        flags = None
    if not isinstance(flags, dict):
        raise UserError(f'{path}: not the flags of a run; mend it or remove it')
    return flags


def recorded_folder(recorded, name, default):
    """A folder in a run folder, by the run's flags, which hold its path at the time."""
    try:
        return os.path.relpath(recorded[name], recorded['out_dir'])
    except (KeyError, TypeError, ValueError):
        return default


def newest_run(out_dir, dataset, checkpoint_dir):
    """The run folder of that data set under out_dir whose checkpoint is the newest.

    Raises UserError where there is none.
    """
    runs = []
    for name in os.listdir(out_dir) if os.path.isdir(out_dir) else []:
        run_dir = os.path.join(out_dir, name)
        with contextlib.suppress(UserError):  # a broken record is not this data set's
            recorded = recorded_flags(run_dir)
            if recorded.get('dataset') == dataset:
                folder = recorded_folder(recorded, 'checkpoint_dir', checkpoint_dir)
                for index in matches(os.path.join(run_dir, folder), '*.index'):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        runs.append((os.stat(index).st_mtime_ns, run_dir))
    if not runs:
        raise UserError(
            f'{out_dir}: no trained run of dataset {dataset} is there; '
            'train one with --train, or name one with --out_dir and --out_name'
        )
    return max(runs)[1]


if __name__ == '__main__':
    serve_decoding()
