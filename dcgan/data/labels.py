"""Label images by class folders, a CSV file or CelebA's attributes."""

import csv
import difflib
import itertools
import os
from collections.abc import Sequence

import numpy as np

from dcgan.data.celeba import HEADERS, read_list
from dcgan.data.find_images import class_folders
from dcgan.util.errors import UserError, printable
from dcgan.util.files import expand_path, first_file, relative_path, stem
from dcgan.util.output import print_line

ATTRIBUTE_LIST = 'list_attr_celeba.txt'
MAX_ATTRIBUTES = 6  # they make 64 classes
LABEL_HEADERS = {'label', 'labels', 'class', 'category'}


class Classes:
    """The classes of the images in a folder: its subfolders, unless others are given.

    `attributes` are columns of CelebA's list, such as Male,Smiling: each combination is
    a class. `labels` is the path of a CSV file with rows `name,label`: each label is a
    class. Raises UserError for lists or folders that do not give classes.
    """

    def __init__(self, folder: str, attributes: str = '', labels: str = ''):
        self.folder, self.attributes = folder, attributes
        self.list = None  # the path or the name of the list, if there is one
        if attributes:
            self.list, chosen = ATTRIBUTE_LIST, split_attributes(attributes)
            # none, Male, Smiling, Male+Smiling
            bits = itertools.product((0, 1), repeat=len(chosen))
            parts = [itertools.compress(chosen, number[::-1]) for number in bits]
            self.names = ['+'.join(names) or 'none' for names in parts]
            self.label_of_name = read_attributes(folder, chosen)
        elif labels:
            self.list = find_labels(labels, folder)
            rows = read_labels(self.list)
            # numbers, by their value, come before other labels
            order = {x: (0, int(x)) if x.isdecimal() else (1, x) for x in rows.values()}
            self.names = sorted(order, key=order.get)
            numbers = {name: number for number, name in enumerate(self.names)}
            self.label_of_name = {n: numbers[x] for n, x in rows.items()}
        else:
            self.names = class_folders(folder)
            if not self.names:
                raise UserError(
                    f'{folder}: has no class folders; --conditional needs one for each '
                    'class'
                )
            self.label_of_name = {name: i for i, name in enumerate(self.names)}

    def folders(self) -> list[str] | None:
        """Names of the subfolders with the images; None: the folder itself has them."""
        if not self.list:
            return self.names
        folders = sorted({os.path.dirname(name) for name in self.label_of_name})
        for name in folders:
            if not os.path.isdir(os.path.join(self.folder, name)):
                raise UserError(
                    f'{self.list}: has images in {printable(name)}, which is no folder '
                    f'in {self.folder}; names have to begin there'
                )
        return folders if any(folders) else None

    def of(self, files: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """The images that are in the list, and their labels, integers [n].

        Raises UserError if a class is empty; combinations of attributes may be.
        """
        labels = np.array([self._label(path) for path in files], np.int64)
        listed = np.flatnonzero(labels >= 0)
        if unlisted := len(files) - len(listed):
            print_line(
                f' [!] {self.folder}: {unlisted} images are left out: they have no row '
                f'in {self.list}'
            )
        labels = labels[listed]
        if np.unique(labels).size < (1 if self.attributes else len(self.names)):
            pattern = "--input_fname_pattern '**/*.jpg'"
            way = f'remove it, or include subfolders with {pattern}'
            if self.list:
                way = 'add images, or leave its rows out of the list'
            raise UserError(
                f'{self.folder}: a class has no images ({self.describe(labels)}); {way}'
            )
        return [files[i] for i in listed], labels

    def describe(self, labels: np.ndarray) -> str:
        """A line with the number of images, in all and of each class."""
        counts = np.bincount(labels, minlength=len(self.names))
        rows = ', '.join(f'{n} {name}' for n, name in zip(counts, self.names))
        return f'{sum(counts)} images: {printable(rows)}'

    def _label(self, path):
        relative = relative_path(path, self.folder).replace(os.sep, '/')
        if self.list:
            without_extension = os.path.splitext(relative)[0]
            names = relative, without_extension, os.path.basename(path), stem(path)
            found = (self.label_of_name[n] for n in names if n in self.label_of_name)
            return next(found, -1)
        name = relative.split('/')[0]
        if name not in self.label_of_name:
            raise UserError(
                f'{self.folder}: {name} is in no class folder; move it into one or '
                'remove it'
            )
        return self.label_of_name[name]


def split_attributes(text: str) -> list[str]:
    """The names in --attributes. Raises UserError for too many, or one twice."""
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names or len(names) > MAX_ATTRIBUTES or len(set(names)) < len(names):
        raise UserError(
            f'--attributes {text}: give 1 to {MAX_ATTRIBUTES} different names, such as '
            'Male,Smiling'
        )
    return names


def read_attributes(folder: str, attributes: list[str]) -> dict[str, int]:
    """{name of an image, without extension: label}, from CelebA's list of attributes.

    Bit i of a label is attribute i. Raises UserError if the list has no such attribute.
    """
    header, rows = read_list(ATTRIBUTE_LIST, folder)
    for name in attributes:
        if name not in header:
            close = difflib.get_close_matches(name, header, 3, 0.3) or header
            raise UserError(
                f'--attributes: {ATTRIBUTE_LIST} has no {printable(name)}; it has '
                f'{printable(", ".join(close))}'
            )
    columns = [header.index(name) for name in attributes]
    return {
        name: sum((row[column] == 1) << i for i, column in enumerate(columns))
        for name, row in rows.items()
    }


def find_labels(labels: str, folder: str) -> str:
    """The path of the file --labels. Raises UserError if it does not exist."""
    labels = expand_path(labels)
    path = first_file(['', folder, os.path.dirname(folder)], [labels])
    if path is None:
        raise UserError(
            f'--labels {labels}: no such file, in the working folder, in {folder} or '
            'above it'
        )
    return path


def read_labels(path: str) -> dict[str, str]:
    """{name of an image: label} of a CSV file. Raises UserError if it is invalid."""
    labels = {}
    try:
        with open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    except csv.Error as error:
        raise UserError(f'{path}: not a CSV file ({error})') from error
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(row):
            text = printable(','.join(row))[:60]
            raise UserError(
                f'{path}: row {number}, {text!r}: rows have to be name,label'
            )
        name, label = row
        if number == 1 and (name.lower() in HEADERS or label.lower() in LABEL_HEADERS):
            continue
        name = name.replace('\\', '/').removeprefix('./')
        if labels.setdefault(name, label) != label:
            raise UserError(f'{path}: {printable(name)} has two labels; leave one out')
    if len(set(labels.values())) < 2:
        raise UserError(f'{path}: has fewer than two labels; rows are name,label')
    return labels


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Integer labels [B] -> float32 [B, classes]."""
    return np.eye(classes, dtype=np.float32)[labels]
