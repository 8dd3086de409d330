"""Serve the images of a folder as a data set, with labels and a cache of pixels."""

import contextlib
import itertools
import json
import math
import os
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import PIL

from dcgan.data.celeba import boxes_of, in_partition
from dcgan.data.decoding import Decoded, Decoders, decode_images, image_shape
from dcgan.data.find_images import find_images
from dcgan.data.idx import ALL, ImagesAndLabels
from dcgan.data.images import MAX_PIXELS, parse_color
from dcgan.data.labels import Classes
from dcgan.util.errors import UserError, printable
from dcgan.util.files import (
    atomic_path,
    file_signature,
    json_digest,
    opening,
    relative_path,
    remove,
    write_bytes,
)
from dcgan.util.lock import lock_folder
from dcgan.util.output import Extra, print_line
from dcgan.util.progress import progress_bar

CACHE_FOLDER = '.cache'  # in the folder of a data set
DECODING = 2  # increment it when decoded pixels change: this invalidates caches
MAX_NAMED = 10  # more images than these are named in a file, not in the message


class UnusableImages(UserError):
    """More than 1% of the images of an ImageSet cannot be used."""

    def __init__(self, data: 'ImageSet'):
        super().__init__(data.name_unusable())
        self.data = data

    def name_all(self, folder: str) -> UserError:
        """Decode the whole set; the error that names them, or folder/unusable.txt."""
        parts = ['More than 1% of the images cannot be used', self.note]
        print_line(f' [!] {"; ".join(filter(None, parts))}; looking through the rest')
        self.data.find_unusable()
        error = UserError(self.data.name_unusable(f'{folder}/unusable.txt'))
        error.note = self.note
        return error


class ImageSet:
    """A Dataset (see dataset.py) of a folder, decoded when needed or ahead of time.

    See `find_images` for `pattern`, Classes for `attributes` and `labels`, FLAGS of
    dataset.py for other arguments; `options` are keyword arguments of `load_image`.

    The order is shuffled on construction and for each epoch, each time from the sorted
    list of files, by NumPy's global random numbers. An image that cannot be used is
    reported once, and replaced by the next usable one of the epoch; in `read`, of the
    list of files. The choice does not depend on `cache` and `num_workers`.

    Raises UnusableImages if more than 1% of the images cannot be used, UserError if no
    file matches.
    """

    reshuffles = True

    def __init__(
        self,
        folder: str,
        pattern: str | None,
        by_class: bool = False,
        partition: str = 'all',
        bbox: bool = False,
        cache: bool = False,
        num_workers: int = 0,
        background: str = '',
        attributes: str = '',
        labels: str = '',
        max_pixels: int = MAX_PIXELS,
        **options,
    ):
        if background:
            options['background'] = parse_color(background)
        # not in `options`, on which caches depend: it changes no pixels
        self.options = {**options, 'max_pixels': max_pixels}
        self.c_dim = image_shape(options)[2]
        classes = Classes(folder, attributes, labels) if by_class else None
        self.files = find_images(folder, pattern, classes and classes.folders())
        if partition != 'all':
            self.files = in_partition(self.files, partition, folder)
        self.classes = self.labels = self.class_names = None
        self.contents = f'{len(self)} images'
        if by_class:
            self.files, self.labels = classes.of(self.files)
            self.contents = classes.describe(self.labels)
            self.class_names, self.classes = classes.names, len(classes.names)
        self.boxes = boxes_of(self.files, folder) if bbox else [None] * len(self)
        self.folder, self.noted, self.cache = folder, set(), None
        self.unusable = {}  # path: reason
        self.tolerated = len(self) // 100  # how many may be unusable
        self.decoders = Decoders(num_workers, self.options)
        settings = [pattern or '*.jpg', by_class, partition, bbox, options]
        self.settings = [*settings, PIL.__version__, DECODING]
        if cache:
            self.cache = self._open_cache()
        self.order = np.arange(len(self), dtype=np.int32)
        paths = '\n'.join(relative_path(path, folder) for path in self.files)
        self.fingerprint = zlib.crc32(os.fsencode(paths))
        self.shuffle()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """The path of an image of this epoch, or the paths of a slice of them."""
        files = [self.files[i] for i in np.atleast_1d(self.order[index])]
        return files if isinstance(index, slice) else files[0]

    def close(self) -> None:
        self.decoders.close()

    def shuffle(self) -> None:
        # a new array: the state of a run holds the old one
        self.order = np.random.permutation(np.sort(self.order))

    def first_usable(self, count: int) -> np.ndarray:
        return self._replace(count, self.order[:count])[1]

    def take(self, indices: np.ndarray) -> ImagesAndLabels:
        return self._with_labels(*self._replace(0, indices))

    def batches(
        self, size: int, number: int, first: int = 0, part: slice = ALL
    ) -> Iterator[ImagesAndLabels]:
        ends = range((first + 1) * size, (number + 1) * size, size)
        chunks = [self.order[end - size : end] for end in ends]
        ahead = self._decode_ahead([chunk[part] for chunk in chunks])
        for end, indices, decoded in zip(ends, chunks, ahead):
            if decoded.failures and part != ALL:
                # the replacements depend on the failures in other parts of the batch
                whole = self._replace(end, indices)
                yield self._with_labels(*(array[part] for array in whole))
            else:
                yield self._with_labels(*self._replace(end, indices[part], decoded))

    def read(self, chunks: Sequence[np.ndarray]) -> Iterator[ImagesAndLabels]:
        files = np.arange(len(self))
        for indices, decoded in zip(chunks, self._decode_ahead(chunks)):
            end = indices[min(decoded.failures, default=0)]
            yield self._with_labels(*self._replace(end, indices, decoded, files))

    def _with_labels(self, images, indices):
        return images, None if self.labels is None else self.labels[indices]

    def _decode(self, indices):
        if not self.cache:
            return decode_images(self._jobs(indices), self.options)
        pixels, failed = self.cache
        images, indices = pixels[indices], np.asarray(indices)
        positions = np.flatnonzero(np.isin(indices, failed))  # may be readable now
        again = decode_images(self._jobs(indices[positions]), self.options)
        images[positions] = again.images
        failures = {positions[i]: reason for i, reason in again.failures.items()}
        return Decoded(images, failures, set())

    def _decode_ahead(self, chunks):
        """Yield what `_decode` returns for each of these arrays of indices."""
        if self.cache or not self.decoders.count:
            return map(self._decode, chunks)
        return self.decoders.map(map(self._jobs, chunks))

    def _jobs(self, indices):
        return [(self.files[i], self.boxes[i]) for i in indices]

    def _replace(self, end, indices, decoded=None, order=None):
        """Replace failures by usable images that follow position `end` of `order`."""
        decoded = decoded or self._decode(indices)
        images, indices = decoded.images, indices.copy()
        self._report_notes(decoded.notes)
        order = self.order if order is None else order
        following = itertools.cycle(np.roll(order, -end))
        for position, reason in decoded.failures.items():
            self._report_unusable(indices[position], reason)
            for index in following:
                other = self._decode([index])
                if not other.failures:
                    images[position], indices[position] = other.images[0], index
                    break
                self._report_unusable(index, other.failures[0])
        return images, indices

    def _report_notes(self, notes):
        """Print each note once for the set."""
        for note in sorted(notes - self.noted):
            print_line(f' [*] {os.path.basename(self.folder)}: {note}')
        self.noted |= notes

    def _report_unusable(self, index, reason):
        """Print why an image is left out. Raises UserError if there are too many."""
        path = self.files[index]
        if path not in self.unusable:
            self.unusable[path] = reason
            count = len(self.unusable)
            print_line(f' [!] Image left out, {count} so far: {printable(reason)}')
            if count > self.tolerated:
                raise UnusableImages(self)

    def find_unusable(self) -> None:
        """Decode all images, with a progress bar; `unusable` then has all reasons."""
        for indices, decoded in self._decode_all('check'):
            for position, reason in decoded.failures.items():
                self.unusable[self.files[indices[position]]] = reason

    def _decode_all(self, name):
        """Yield (indices, Decoded) of all images; then end the decoding processes."""
        chunks = np.array_split(np.arange(len(self)), math.ceil(len(self) / 64))
        with (
            contextlib.closing(self.decoders),
            progress_bar(name, len(self), ' images') as bar,
        ):
            for indices, decoded in zip(chunks, self._decode_ahead(chunks)):
                self._report_notes(decoded.notes)
                yield indices, decoded
                bar.update(len(indices))

    def name_unusable(self, path: str = '') -> str:
        """A line that names the unusable images; above ten, it names a list, `path`."""
        names = sorted(self.unusable)
        problem = 'cannot be used'
        if len(names) > self.tolerated:
            problem = 'cannot be used, which is more than 1%'
        line = f'{len(names)} of {len(self)} images {problem}'
        first = printable(', '.join(names[:MAX_NAMED]))
        if len(names) <= MAX_NAMED:
            return f'{line}; fix or remove them: {first}'
        if not path:
            return f'{line}; fix or remove them, such as {first}'
        reasons = [self.unusable[name].removeprefix(f'{name}: ') for name in names]
        rows = [f'{name}\t{printable(why)}\n' for name, why in zip(names, reasons)]
        write_bytes(path, os.fsencode(''.join(rows)))
        return f'{line}; fix or remove those in {printable(path)}'

    def digest(self, by_time: bool = True) -> str:
        labels = [] if self.labels is None else self.labels.tolist()
        return json_digest([self.settings, self._signatures(by_time), labels])

    def _signatures(self, by_time=True):
        """[path, box, size, time] of each image file, to see whether it has changed."""
        paths = [relative_path(path, self.folder) for path in self.files]
        parts = [file_signature(path)[: 1 + by_time] for path in self.files]
        return [[path, box, *x] for path, box, x in zip(paths, self.boxes, parts)]

    def _open_cache(self):
        """The cache's pixels and failed indices, if it exists or can be built."""
        cache_dir = os.path.join(self.folder, CACHE_FOLDER)
        digests = json_digest(self.settings), json_digest(self._signatures())
        path = os.path.join(cache_dir, '-'.join(digests))
        shape = (len(self), *image_shape(self.options))
        with Extra(f'--cache in {cache_dir}', OSError), contextlib.ExitStack() as stack:
            if not read_cache(path, shape):
                os.makedirs(cache_dir, exist_ok=True)
                reason = 'another process is building this cache'
                stack.callback(lock_folder(cache_dir, reason))
                if not read_cache(path, shape):
                    self._build_cache(path)
            if not (cache := read_cache(path, shape)):
                raise OSError('it cannot be read')
            self._report_notes(cache[2])
            return cache[:2]

    def _build_cache(self, path):
        """Write the pixels of all images, then their failures and notes as JSON."""
        # remove caches of these settings: incomplete ones, and ones of older files
        cache_dir, settings_digest = os.path.dirname(path), json_digest(self.settings)
        for name in os.listdir(cache_dir):
            if settings_digest in name:
                remove(os.path.join(cache_dir, name))
        with (
            atomic_path(path) as temporary,
            open(temporary, 'wb') as file,
            contextlib.closing(self._decode_all('cache')) as chunks,
        ):
            for indices, decoded in chunks:
                for position, reason in decoded.failures.items():
                    self._report_unusable(indices[position], reason)
                file.write(decoded.images.data)
            failed = [i for i, path in enumerate(self.files) if path in self.unusable]
            about = {'failed': failed, 'notes': sorted(self.noted)}
            file.write(json.dumps(about).encode())
            file.flush()
            os.fsync(file.fileno())


def read_cache(
    path: str, shape: tuple[int, ...]
) -> tuple[np.ndarray, list[int], set[str]] | None:
    """Open a cache file: the pixels, the indices of images that failed, and notes.

    The pixels are uint8 of `shape`, [n, h, w, c]. None if there is no such file.
    """
    with contextlib.suppress(UserError), opening(path) as file:
        file.seek(math.prod(shape))
        about = json.loads(file.read(1 << 24))
        failed = [range(shape[0])[index] for index in about['failed']]
        pixels = np.memmap(file, np.uint8, 'r', shape=shape)
        return pixels, failed, set(map(str, about['notes']))
    return None
