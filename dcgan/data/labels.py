"""What lists and folders tell of images: classes, and CelebA's partitions and boxes."""

import csv
import difflib
import os
import re
from collections.abc import Sequence

import numpy as np

from dcgan.data.find_images import class_names
from dcgan.util.errors import UserError, printable
from dcgan.util.files import expand_path, relative_path, stem

PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list
ATTRIBUTES = 'list_attr_celeba.txt'
MAX_ATTRIBUTES = 6  # which make 64 classes
LABEL_HEADERS = {'label', 'labels', 'class', 'category'}
HEADERS = {'name', 'file', 'filename', 'image', 'image_id', 'id', 'path'}


class Classes:
    """The classes of the images in a folder, and their names.

    By the columns of CelebA's list that `attributes` names, as in Male,Smiling: each
    combination is a class, named after the attributes that it has, or none. Or by rows
    `name,label` of the CSV file `labels`, which is found from the working folder, in
    the folder of the images or above it. Otherwise, each subfolder is a class.

    Raises UserError for lists or folders that do not give classes.
    """

    def __init__(self, folder: str, attributes: str = '', labels: str = ''):
        self.folder, self.attributes, self.source = folder, attributes, 'folder'
        self.label_of_name: dict[str, int] | None = None
        if attributes:
            self.source = f'row in {ATTRIBUTES}'
            self.label_of_name = read_attributes(folder, split_attributes(attributes))
            self.names = attribute_names(split_attributes(attributes))
        elif labels:
            path = find_labels(labels, folder)
            self.source = f'row in {path}'
            label_of_name = read_labels(path)
            self.names = sorted(set(label_of_name.values()), key=_numbers_first)
            numbers = {name: number for number, name in enumerate(self.names)}
            self.label_of_name = {n: numbers[x] for n, x in label_of_name.items()}
        else:
            self.names = class_names(folder)

    def folders(self) -> list[str] | None:
        """The folders in the folder that hold the images; None: the folder itself."""
        if self.label_of_name is None:
            return self.names
        folders = sorted({os.path.dirname(name) for name in self.label_of_name})
        for name in folders:
            if not os.path.isdir(os.path.join(self.folder, name)):
                raise UserError(
                    f'{self.source.removeprefix("row in ")}: has images in '
                    f'{printable(name)}, which is no folder in {self.folder}; names '
                    'have to begin there'
                )
        return folders if any(folders) else None

    def of(self, files: Sequence[str]) -> np.ndarray:
        """The labels of images, integers; -1 for those that a list leaves out.

        Prints how many these are. Raises UserError if a class is left without images
        (combinations of attributes may be), or an image is in no class folder.
        """
        label_of = self._label_in_folder if self.label_of_name is None else self._listed
        labels = np.array([label_of(path) for path in files], np.int64)
        unlisted = int((labels < 0).sum())
        if unlisted:
            print(
                f' [!] {self.folder}: {unlisted} images are left out: they have no '
                f'{self.source}',
                flush=True,
            )
        counts = self.counts(labels)
        if unlisted == len(labels) or not (self.attributes or counts.all()):
            raise UserError(
                f'{self.folder}: a class has no images ({self.describe(labels)}); '
                f'{self._advice()}'
            )
        return labels

    def _advice(self):
        if self.label_of_name is None:
            return (
                "remove it, or include subfolders with --input_fname_pattern '**/*.jpg'"
            )
        return 'add images, or leave its rows out of the list'

    def counts(self, labels: np.ndarray) -> np.ndarray:
        """How many images each class has."""
        return np.bincount(labels[labels >= 0], minlength=len(self.names))

    def describe(self, labels: np.ndarray) -> str:
        """A line of the number of images, in all and of each class."""
        counts = self.counts(labels)
        rows = ', '.join(f'{n} {name}' for n, name in zip(counts, self.names))
        return f'{counts.sum()} images: {printable(rows)}'

    def _label_in_folder(self, path):
        name = relative_path(path, self.folder).split(os.sep)[0]
        if name not in self.names:
            raise UserError(
                f'{self.folder}: {name} is in no class folder; move it into one or '
                'remove it'
            )
        return self.names.index(name)

    def _listed(self, path):
        relative = relative_path(path, self.folder).replace(os.sep, '/')
        without_ending = os.path.splitext(relative)[0]
        names = relative, without_ending, os.path.basename(path), stem(path)
        found = (self.label_of_name[n] for n in names if n in self.label_of_name)
        return next(found, -1)


def _numbers_first(label):
    """A sort key: numbers by their value, then other labels."""
    return (0, int(label), '') if label.isdecimal() else (1, 0, label)


def split_attributes(text: str) -> list[str]:
    """The names in --attributes. Raises UserError for too many, or one twice."""
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names or len(names) > MAX_ATTRIBUTES or len(set(names)) < len(names):
        raise UserError(
            f'--attributes {text}: give 1 to {MAX_ATTRIBUTES} different names, such as '
            'Male,Smiling'
        )
    return names


def attribute_names(attributes: list[str]) -> list[str]:
    """The names of classes: none, Male, Smiling, Male+Smiling. Label: bits in turn."""
    return [
        '+'.join(name for bit, name in enumerate(attributes) if label >> bit & 1)
        or 'none'
        for label in range(2 ** len(attributes))
    ]


def read_attributes(folder: str, attributes: list[str]) -> dict[str, int]:
    """{name of an image, without extension: label} by CelebA's list of attributes.

    Bit i of a label is attribute i. Raises UserError if the list is missing, has no
    such attribute, or is invalid.
    """
    path, labels, columns = find_list(ATTRIBUTES, folder), {}, None
    expected = 1
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            row = line.replace(',', ' ').split()
            if columns is None and len(row) == 1 and row[0].isdecimal():
                expected = int(row[0])
            elif columns is None and len(row) > 1:  # after the count, if there is one
                header = row[1:] if row[0] in HEADERS else row
                columns = [_column(name, header, path) for name in attributes]
            elif columns is not None and row:
                if len(row) != len(header) + 1 or set(row[1:]) - {'1', '-1', '0'}:
                    raise invalid_list(path, row)
                bits = [row[1 + column] == '1' for column in columns]
                labels[stem(row[0])] = sum(bit << i for i, bit in enumerate(bits))
    if columns is None:
        raise invalid_list(path, [])
    require_rows(path, len(labels), expected)
    return labels


def _column(name, header, path):
    if name in header:
        return header.index(name)
    close = difflib.get_close_matches(name, header, 3, 0.3) or header
    raise UserError(
        f'--attributes: {path} has no {printable(name)}; it has '
        f'{printable(", ".join(close))}'
    )


def find_labels(labels: str, folder: str) -> str:
    """The path of --labels. Raises UserError if it is not there."""
    labels = expand_path(labels)
    path = _first_file(['', folder, os.path.dirname(folder)], [labels])
    if path is None:
        raise UserError(
            f'--labels {labels}: no such file, in the working folder, in {folder} or '
            'above it'
        )
    return path


def _first_file(folders, names):
    """The path of the first file with one of the names, or None."""
    paths = (os.path.join(folder, name) for folder in folders for name in names)
    return next(filter(os.path.isfile, paths), None)


def read_labels(path: str) -> dict[str, str]:
    """{name of an image: label} of a CSV file with rows `name,label`.

    A first row of column names is left out. Raises UserError for other rows.
    """
    labels = {}
    try:
        with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
            rows = [row for row in csv.reader(file) if row]
    except csv.Error as error:
        raise UserError(f'{path}: not a CSV file ({error})') from error
    for number, row in enumerate(rows, 1):
        name, label = (cell.strip() for cell in row[:2]) if len(row) == 2 else ('', '')
        if not name or not label:
            raise UserError(
                f'{path}: row {number}, {printable(",".join(row))[:60]!r}: rows have '
                'to be name,label'
            )
        if number == 1 and (name.lower() in HEADERS or label.lower() in LABEL_HEADERS):
            continue
        name = name.replace('\\', '/').removeprefix('./')
        if labels.setdefault(name, label) != label:
            raise UserError(f'{path}: {printable(name)} has two labels; leave one out')
    if len(set(labels.values())) < 2:
        raise UserError(f'{path}: has fewer than two labels; rows are name,label')
    return labels


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
    path = find_list(name, folder)
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
            raise invalid_list(path, row)
    require_rows(path, len(rows), expected)
    return rows


def require_rows(path: str, count: int, expected: int) -> None:
    """Raise UserError if one of CelebA's lists has fewer rows than it says."""
    if count < expected:
        raise UserError(
            f'{path}: truncated: {count} rows instead of {expected}; download it again'
        )


def find_list(name: str, folder: str) -> str:
    """The path of one of CelebA's lists, as .txt or .csv, in a folder or above it.

    Raises UserError if it is missing.
    """
    names = [name, f'{stem(name)}.csv']
    path = _first_file([folder, os.path.dirname(folder)], names)
    if path is None:
        raise UserError(
            f'{folder}: {name} is missing, here and in the parent folder; for CelebA, '
            '"download.py celebA" downloads it'
        )
    return path


def invalid_list(path: str, row: list[str]) -> UserError:
    """The error for a row that is none of CelebA's lists."""
    text = ' '.join(row)[:60]
    return UserError(
        f"{path}: not one of CelebA's lists: invalid row {text!r}; download it again"
    )
