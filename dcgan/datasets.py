"""Data sets: folders of images, their labels, lists and cache."""

import collections
import contextlib
import itertools
import json
import math
import os
import re
import zlib

import numpy as np
import PIL
from PIL import Image

from dcgan.decoding import Workers, decode_images, image_shape
from dcgan.errors import UserError, printable
from dcgan.files import (
    atomic_path,
    checksum,
    file_signature,
    glob_files,
    lock_or_wait,
    path_inside,
    progress_bar,
    stem,
)
from dcgan.idx import IdxSet, idx_pairs

IMAGE_TYPES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')
PARTITIONS = ('train', 'val', 'test')  # 0, 1 and 2 in CelebA's list


class ImageSet:
    """Pictures of a folder, decoded when they are needed, or ahead of it.

    pattern      a glob in the folder; None: *.jpg or, without any, PICTURE_TYPES
    by_class     label them by the folders in the folder, each with its own pictures
    partition    of CelebA's list: all, train, val or test
    bbox         crop to the boxes of CelebA's list
    cache        keep what is decoded in a file under the folder, for other runs, too
    num_workers  processes that decode the coming batches; 0: decode what is asked for

    `options` are those of `load_image`. Shuffled on construction and for each epoch,
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
        self.c_dim = image_shape(options)[2]
        names = class_names(folder) if by_class else None
        self.files = find_images(folder, pattern, names)
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
        names = '\n'.join(path_inside(folder, path) for path in self.files)
        self.fingerprint = zlib.crc32(os.fsencode(names))
        self.shuffle()

    def _label(self, folder, names):
        number = {name: label for label, name in enumerate(names)}
        of_class = [path_inside(folder, path).split(os.sep)[0] for path in self.files]
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
            return decode_images(self._jobs(indices), self.options)
        pixels, failed = self.cache
        images, failures = pixels[indices], {}
        for position, index in enumerate(indices) if failed else ():
            if index in failed:  # perhaps it can be read by now
                (images[position],), why = decode_images(
                    self._jobs([index]), self.options
                )
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
        print(f' [!] Left out, {count} so far: {printable(why)}', flush=True)
        if count > len(self) / 100:
            paths = printable(', '.join(sorted(self.unreadable)))
            raise UserError(
                f'{count} of {len(self)} pictures cannot be used, which is above 1%; '
                f'mend or remove them: {paths}'
            )

    def _open_cache(self, folder, settings):
        """Pixels [n, h, w, c] of all files, mapped, and which of them failed.

        The name of the cache's file has a sum of the settings, and one of the files.
        """
        files = [
            [path_inside(folder, path), box, *file_signature(path)]
            for path, box in zip(self.files, self.boxes)
        ]
        prefix = checksum(settings)
        cache_dir = os.path.join(folder, '.cache')
        path = os.path.join(cache_dir, f'{prefix}-{checksum(files)}')
        shape = (len(self), *image_shape(self.options))
        try:
            cache = read_cache(path, shape)
            if not cache:
                os.makedirs(cache_dir, exist_ok=True)
                with open(os.path.join(cache_dir, 'lock'), 'w') as lock:
                    lock_or_wait(lock, 'another run builds this cache')
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
            atomic_path(path) as temporary,
            open(temporary, 'wb') as file,
            progress_bar('cache', len(self), ' pictures') as bar,
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


def find_images(folder, pattern, classes=None):
    """Sorted paths of the files that match a glob, or are in `classes`; see ImageSet.

    Says what it took and left if it had to choose. Raises UserError where none is.
    """
    if not pattern:
        folders = [os.path.join(folder, name) for name in classes or ()] or [folder]
        files = [path for place in folders for path in default_images(place)]
    else:
        if classes and '/' not in pattern:
            pattern = f'*/{pattern}'
        files = glob_files(folder, pattern)
    if not files:
        raise UserError(
            f'{folder}: no file matches {pattern or "*.jpg"!r}{suggest_pattern(folder)}'
        )
    return sorted(files)


def default_images(folder):
    """The *.jpg in a folder or, without any, all PICTURE_TYPES; says what it left."""
    known = [p for p in glob_files(folder, '*') if p.lower().endswith(IMAGE_TYPES)]
    files = [path for path in known if path.endswith('.jpg')] or known
    others = count_types(path for path in known if not path.endswith('.jpg'))
    if others and files is known:
        print(f' [*] {folder}: no *.jpg, so {others} are used', flush=True)
    elif others:
        print(
            f' [!] {folder}: only *.jpg is used, not {others}; '
            "--input_fname_pattern '*' takes all files",
            flush=True,
        )
    return files


def count_types(paths):
    """How many files of each ending there are, in words."""
    counts = collections.Counter(f'*{os.path.splitext(path)[1]}' for path in paths)
    return ', '.join(f'{n} {ending}' for ending, n in counts.most_common())


def suggest_pattern(folder):
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
    """The data set in a folder: an IdxSet where it holds IDX files, else an ImageSet.

    Sizes are (height, width) in pixels; by_class and `reading` are ImageSet's.
    Raises UserError where there is nothing to use.
    """
    require_folder(folder)
    folder = os.path.normpath(folder)
    if idx_pairs(folder):
        return IdxSet(folder, *output_size)
    return ImageSet(
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
