"""Data sets: what they offer, and those of image folders with labels and a cache."""

import collections
import contextlib
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
from PIL import Image

from dcgan.decoding import Workers, decode_images, image_shape
from dcgan.errors import UserError, printable
from dcgan.files import (
    atomic_path,
    file_signature,
    glob_files,
    json_digest,
    lock_or_wait,
    print_line,
    progress_bar,
    relative_path,
    stem,
)
from dcgan.idx import IdxSet, idx_pairs

IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
# files and folders that no one means as images: hidden ones, and those of systems
JUNK = re.compile(r'(^|/)(\.|__MACOSX(/|$)|Thumbs\.db$|desktop\.ini$)', re.IGNORECASE)
PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list


@runtime_checkable
class Dataset(Protocol):
    """The interface of IdxSet and ImageSet. len() is the number of images.

    c_dim        number of channels of its images
    classes      number of classes; None: the images have no labels
    contents     a line that describes the data set to the user
    fingerprint  a number to recognize the same images by, when a run resumes
    order        int32 [len()], indices of the images in the order of this epoch; may
                 be set, to an order that shuffle() has made before
    reshuffles   whether shuffle() changes the order
    """

    c_dim: int
    classes: int | None
    contents: str
    fingerprint: int
    order: np.ndarray
    reshuffles: bool

    def __len__(self) -> int: ...

    def shuffle(self) -> None:
        """Start an epoch. If the set reshuffles, draw a new order, by np.random."""

    def first_usable(self, count: int) -> np.ndarray:
        """Indices of the first `count` images of the epoch that can be decoded."""

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images, uint8 [count, h, w, c_dim], and integer labels [count] or None."""

    def batches(
        self, size: int, number: int, first: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield batches of the epoch as `take` returns them.

        size    images in a batch
        number  batches in the epoch; the last one that is yielded is `number` - 1
        first   index of the batch to start with
        """

    def close(self) -> None:
        """End the processes that decode images, if there are any."""


class ImageSet:
    """Images of a folder, decoded when they are needed, or ahead of time. A Dataset.

    pattern      a glob in the folder; None: *.jpg or, if there is no such file,
                 IMAGE_EXTENSIONS
    by_class     label the images by class: each subfolder holds one class
    partition    use one part of CelebA: train, val or test, by its list; or all
    bbox         crop to the bounding boxes in CelebA's list
    cache        keep the decoded images in a file in the folder, also for other runs
    num_workers  processes that decode the next batches; 0: decode in this process
    options      keyword arguments of `load_image` for all images

    The order is shuffled on construction and for each epoch, each time from the sorted
    list of files, by NumPy's global random numbers.

    An image that cannot be used is reported once, and replaced by a later one of the
    same epoch. The choice does not depend on `cache` and `num_workers`.

    Raises UserError if more than 1% of the images cannot be used, or if no file
    matches.
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
        **options,
    ):
        self.options = options
        self.c_dim = image_shape(options)[2]
        names = class_names(folder) if by_class else None
        self.files = find_images(folder, pattern, names)
        if partition != 'all':
            self.files = in_partition(self.files, partition, folder)
        boxes = read_list('list_bbox_celeba.txt', folder, 4) if bbox else {}
        default_box = () if bbox else None  # of images that are not in the list
        self.boxes = [boxes.get(stem(path), default_box) for path in self.files]
        self.classes = self.labels = None
        self.contents = f'{len(self)} images'
        if by_class:
            self._assign_labels(folder, names)
        self.unusable = {}  # path: reason
        self.workers = Workers(num_workers, options)
        self.cache = None
        if cache:
            settings = [pattern or '*.jpg', by_class, partition, bbox, options]
            settings.append(PIL.__version__)
            self.cache = self._open_cache(folder, settings)
        self.order = np.arange(len(self), dtype=np.int32)
        paths = '\n'.join(relative_path(path, folder) for path in self.files)
        self.fingerprint = zlib.crc32(os.fsencode(paths))
        self.shuffle()

    def _assign_labels(self, folder, names):
        """Set labels, classes and contents by the class folders `names`."""
        label_of_class = {name: label for label, name in enumerate(names)}
        class_of_file = [
            relative_path(path, folder).split(os.sep)[0] for path in self.files
        ]
        for name in set(class_of_file) - set(names):
            raise UserError(
                f'{folder}: {name} is in no class folder; move it into one or remove it'
            )
        self.labels = np.array([label_of_class[name] for name in class_of_file])
        self.classes = len(names)
        counts = np.bincount(self.labels, minlength=len(names))
        self.contents += ': ' + ', '.join(f'{n} {c}' for n, c in zip(counts, names))
        if not counts.all():
            raise UserError(
                f'{folder}: a class has no images ({self.contents}); remove it, or '
                "include subfolders with --input_fname_pattern '**/*.jpg'"
            )

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """End the decoding processes. The next call of `batches` starts new ones."""
        self.workers.close()

    def shuffle(self) -> None:
        """Start an epoch: draw a new order from NumPy's global random numbers."""
        order = np.sort(self.order)  # a new array: the state of a run holds the old one
        np.random.shuffle(order)
        self.order = order

    def first_usable(self, count: int) -> np.ndarray:
        """Indices of the first `count` images of the epoch, unusable ones replaced."""
        indices = self.order[:count]
        return self._replace(count, indices, *self._decode(indices))[1]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Images, uint8 [count, h, w, c_dim], and labels [count], if there are any."""
        return self._with_labels(*self._replace(0, indices, *self._decode(indices)))

    def batches(
        self, size: int, number: int, first: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the batches `first` to `number` - 1 of the epoch, as `take` does."""
        ends = range((first + 1) * size, (number + 1) * size, size)
        chunks = [self.order[end - size : end] for end in ends]
        for end, indices, decoded in zip(ends, chunks, self._decode_ahead(chunks)):
            yield self._with_labels(*self._replace(end, indices, *decoded))

    def _with_labels(self, images, indices):
        return images, None if self.labels is None else self.labels[indices]

    def _decode(self, indices):
        """Images of these files, and {position: reason} of those that failed."""
        if not self.cache:
            return decode_images(self._jobs(indices), self.options)
        pixels, failed = self.cache
        images, failures = pixels[indices], {}
        for position, index in enumerate(indices) if failed else ():
            if index in failed:  # try again: the file may be readable now
                (images[position],), failure = decode_images(
                    self._jobs([index]), self.options
                )
                failures.update({position: failure[0]} if failure else {})
        return images, failures

    def _decode_ahead(self, chunks):
        """An iterator of what `_decode` returns for each of these arrays of indices."""
        if self.cache or not self.workers.count:
            return map(self._decode, chunks)
        return self.workers.map(map(self._jobs, chunks))

    def _jobs(self, indices):
        return [(self.files[i], self.boxes[i]) for i in indices]

    def _replace(self, end, indices, images, failures):
        """Replace failures by the usable images that follow `end` in the epoch.

        Returns (images, indices).
        """
        indices = indices.copy()
        following = itertools.cycle(np.roll(self.order, -end)) if failures else ()
        for position, reason in failures.items():
            self._report_unusable(indices[position], reason)
            for index in following:
                image, failed = self._decode([index])
                if not failed:
                    images[position], indices[position] = image[0], index
                    break
                self._report_unusable(index, failed[0])
        return images, indices

    def _report_unusable(self, index, reason):
        """Print why an image is left out. Raises UserError if there are too many."""
        path = self.files[index]
        if path in self.unusable:
            return
        self.unusable[path] = reason
        count = len(self.unusable)
        print_line(f' [!] Image left out, {count} so far: {printable(reason)}')
        if count > len(self) / 100:
            paths = printable(', '.join(sorted(self.unusable)))
            raise UserError(
                f'{count} of {len(self)} images cannot be used, which is more than 1%; '
                f'fix or remove them: {paths}'
            )

    def _open_cache(self, folder, settings):
        """Open the cache file, and build it first if there is none.

        Its name holds two digests: one of the settings, and one of the image files.
        Returns what `read_cache` returns.
        """
        files = [
            [relative_path(path, folder), box, *file_signature(path)]
            for path, box in zip(self.files, self.boxes)
        ]
        settings_digest = json_digest(settings)
        cache_dir = os.path.join(folder, '.cache')
        path = os.path.join(cache_dir, f'{settings_digest}-{json_digest(files)}')
        shape = (len(self), *image_shape(self.options))
        try:
            cache = read_cache(path, shape)
            if not cache:
                os.makedirs(cache_dir, exist_ok=True)
                with open(os.path.join(cache_dir, 'lock'), 'w') as lock:
                    lock_or_wait(lock, 'another process is building this cache')
                    cache = read_cache(path, shape)
                    if not cache:
                        self._build_cache(path, settings_digest)
                        cache = read_cache(path, shape)
        except OSError as error:
            raise UserError(
                f'{cache_dir}: cannot be used ({error.strerror}); leave out --cache'
            ) from error
        return cache

    def _build_cache(self, path, settings_digest):
        """Write the pixels of all images, then, as JSON, the indices of failed ones."""
        # remove incomplete caches, and those of older image files, of these settings
        for name in os.listdir(os.path.dirname(path)):
            if settings_digest in name:
                os.remove(os.path.join(os.path.dirname(path), name))
        chunks = np.array_split(np.arange(len(self)), math.ceil(len(self) / 64))
        all_failed = []
        with (
            contextlib.closing(self.workers),  # all images are decoded after this
            atomic_path(path) as temporary,
            open(temporary, 'wb') as file,
            progress_bar('cache', len(self), ' images') as bar,
        ):
            for indices, decoded in zip(chunks, self._decode_ahead(chunks)):
                images, failures = decoded
                for position, reason in failures.items():
                    self._report_unusable(indices[position], reason)
                    all_failed.append(int(indices[position]))
                file.write(images.data)
                bar.update(len(images))
            file.write(json.dumps(all_failed).encode())
            file.flush()
            os.fsync(file.fileno())


def read_cache(path: str, shape: tuple[int, ...]) -> tuple[np.ndarray, set] | None:
    """Open a cache file.

    shape  [n, h, w, c] of all images

    Returns the pixels, a uint8 array that is mapped from the file, and the set of the
    indices of images that failed; None if the file is missing or incomplete.
    """
    try:
        with open(path, 'rb') as file:
            file.seek(math.prod(shape))
            failed = set(json.load(file))
        return np.memmap(path, np.uint8, 'r', shape=shape), failed
    except (FileNotFoundError, ValueError):
        return None


def find_images(
    folder: str, pattern: str | None, classes: Iterable[str] | None = None
) -> list[str]:
    """Sorted paths of the image files of a data set; prints what it had to choose.

    pattern  a glob in the folder; None: the default_images of the folder
    classes  names of class folders, to search instead of the folder itself

    Raises UserError if there is no such file.
    """
    if not pattern:
        folders = [os.path.join(folder, name) for name in classes or ()] or [folder]
        files = [path for parent in folders for path in default_images(parent)]
    else:
        if classes and '/' not in pattern:
            pattern = f'*/{pattern}'
        files = without_junk(folder, glob_files(folder, any_case(pattern)))
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{suggest_pattern(folder)}'
        )
    return sorted(files)


def any_case(pattern: str) -> str:
    """A glob that also matches its extension in other cases: *.JPG for *.jpg."""

    def both_cases(match):
        return ''.join(f'[{c.lower()}{c.upper()}]' for c in match[0])

    return re.sub(r'(?<=\.)[a-zA-Z]+$', both_cases, pattern)


def without_junk(folder: str, files: Sequence[str]) -> list[str]:
    """The files, without those that systems leave in folders; prints how many."""
    kept = [
        path
        for path in files
        if not JUNK.search(relative_path(path, folder).replace(os.sep, '/'))
    ]
    if len(kept) < len(files):
        count = len(files) - len(kept)
        print(f' [*] {folder}: {count} files of the system are left out', flush=True)
    return kept


def default_images(folder: str) -> list[str]:
    """The *.jpg files of a folder or, if there are none, all with IMAGE_EXTENSIONS.

    Prints which other images it uses or ignores.
    """
    images = [
        path
        for path in glob_files(folder, '*')
        if path.lower().endswith(IMAGE_EXTENSIONS)
    ]
    files = [path for path in images if path.lower().endswith('.jpg')] or images
    others = count_extensions(p for p in images if not p.lower().endswith('.jpg'))
    if others and files is images:
        print(f' [*] {folder}: no *.jpg files, so {others} are used', flush=True)
    elif others:
        print(
            f' [!] {folder}: only *.jpg files are used, not {others}; for all files, '
            "set --input_fname_pattern '*'",
            flush=True,
        )
    return files


def count_extensions(paths: Iterable[str]) -> str:
    """How many files have each extension, for example '3 *.png, 1 *.bmp'."""
    counts = collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    return ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())


def suggest_pattern(folder: str) -> str:
    """The end of an error message: the images in a folder, and a pattern for them."""
    counts, known = collections.Counter(), Image.registered_extensions()
    for path, _, names in os.walk(folder):
        extensions = [os.path.splitext(name)[1] for name in names]
        nested = '' if path == folder else '**/'
        counts.update(f'{nested}*{e}' for e in extensions if e.lower() in known)
    if not counts:
        return ', and the folder holds no other images'
    found = ', '.join(f'{n} {pattern}' for pattern, n in counts.most_common())
    most = counts.most_common(1)[0][0]
    classes = ' or, if the folders are classes, --conditional' if '/' in most else ''
    return f"; the folder holds {found}: try --input_fname_pattern '{most}'{classes}"


def class_names(folder: str) -> list[str]:
    """Sorted names of the folders in a folder. Raises UserError if there are none."""
    require_folder(folder)
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir())
    names = [name for name in names if not JUNK.search(name)]
    if not names:
        raise UserError(
            f'{folder}: has no class folders; --conditional needs one for each class'
        )
    return names


def in_partition(files: Sequence[str], partition: str, folder: str) -> list[str]:
    """The files that belong to a partition of CelebA, by its list.

    Prints how many files are not in the list. Raises UserError if no file belongs to
    the partition, or if the list is missing or invalid.
    """
    list_name = 'list_eval_partition.txt'
    rows = read_list(list_name, folder, 1)
    row = (PARTITIONS.index(partition),)
    unlisted = [path for path in files if stem(path) not in rows]
    if unlisted:
        print(
            f' [!] {len(unlisted)} images are left out: they are not in {list_name}',
            flush=True,
        )
    files = [path for path in files if rows.get(stem(path)) == row]
    if not files:
        raise UserError(
            f'{folder}: has no images of partition {partition}; choose another '
            '--partition'
        )
    return files


def read_list(name: str, folder: str, columns: int) -> dict[str, tuple[int, ...]]:
    """Read one of CelebA's lists: {name of an image, without extension: its numbers}.

    name     file name of the list, which is in the folder or in its parent folder
    folder   the folder of the images
    columns  how many numbers each row holds, separated by spaces or commas

    Raises UserError if the list is missing, invalid or truncated.
    """
    paths = [os.path.join(parent, name) for parent in (folder, os.path.dirname(folder))]
    path = next(filter(os.path.isfile, paths), None)
    if path is None:
        raise UserError(
            f'{folder}: {name} is missing, here and in the parent folder; for CelebA, '
            '"download.py celebA" downloads it'
        )
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = [line.replace(',', ' ').split() for line in file if line.strip()]
    expected, rows = 1, {}
    for i, row in enumerate(lines):
        numbers = [int(x) for x in row[1:] if re.fullmatch(r'-?\d+', x)]
        if len(numbers) == len(row) - 1 == columns:
            rows[stem(row[0])] = tuple(numbers)
        elif i == 0 and len(row) == 1 and row[0].isdigit():  # some begin with the count
            expected = int(row[0])
        elif i > 1 or numbers or len(row) == 1:  # not the column names, either
            text = ' '.join(row)[:60]
            raise UserError(
                f"{path}: not one of CelebA's lists: invalid row {text!r}; download it "
                'again'
            )
    if len(rows) < expected:
        raise UserError(
            f'{path}: truncated: {len(rows)} rows instead of {expected}; download it '
            'again'
        )
    return rows


def require_folder(folder: str) -> None:
    """Raise UserError if a folder of data does not exist."""
    if not os.path.isdir(folder):
        raise UserError(
            f'{folder}: no such data folder; download.py makes those of mnist, celebA, '
            'lsun and digits; --data_dir sets the folder that they are in'
        )


def open_dataset(
    folder: str,
    pattern: str | None,
    output_size: tuple[int, int],
    input_size: tuple[int, int | None],
    crop: bool,
    grayscale: bool,
    by_class: bool = False,
    **dataset_options,
) -> Dataset:
    """Open the data set in a folder: an IdxSet if it holds IDX files, or an ImageSet.

    output_size        (height, width) of the images, in pixels
    input_size         (height, width) of the center crop, in pixels, if `crop` is set
    pattern, by_class  see ImageSet
    dataset_options    further arguments of ImageSet: partition, bbox, cache and
                       num_workers

    Only the output size applies to IDX files. Raises UserError if the folder is missing
    or holds no usable data.
    """
    require_folder(folder)
    folder = os.path.normpath(folder)
    if idx_pairs(folder):
        return IdxSet(folder, *output_size)
    return ImageSet(
        folder,
        pattern,
        by_class,
        **dataset_options,
        grayscale=grayscale,
        input_height=input_size[0],
        input_width=input_size[1],
        resize_height=output_size[0],
        resize_width=output_size[1],
        crop=crop,
    )
