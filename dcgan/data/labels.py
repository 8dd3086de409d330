"""Label images by class folders, a CSV file or CelebA's attributes."""

import itertools
import json
import os
from collections.abc import Sequence

import numpy as np

from dcgan.data.celeba import read_list
from dcgan.data.find_images import class_folder_of, class_folders
from dcgan.data.names import match_rows, normal_form
from dcgan.util.errors import UserError, printable
from dcgan.util.files import all_folders, expand_path, first_file, read_file
from dcgan.util.output import print_line
from dcgan.util.tables import LABEL_HEADS, MAX_BYTES, Table, composed

ATTRIBUTE_LIST = 'list_attr_celeba.txt'
MAX_ATTRIBUTES = 6  # they make 64 classes
# in a run folder, a list of the names of classes; in older ones, each in a line
CLASS_FILE, OLDER_CLASS_FILE = 'classes.json', 'classes.txt'


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
            rows = read_list(ATTRIBUTE_LIST, folder, chosen, are_attributes=True)
            # bit i of a label is attribute i
            self.label_of_name = {
                name: sum((value == 1) << i for i, value in enumerate(row))
                for name, row in rows.items()
            }
        elif labels:
            self.list = find_labels(labels, folder)
            rows = read_labels(self.list)
            self.names = sorted({*rows.values()}, key=label_order)
            numbers = {name: number for number, name in enumerate(self.names)}
            self.label_of_name = {n: numbers[x] for n, x in rows.items()}
        else:
            self._folders = class_folders(folder)
            self.names = [*dict.fromkeys(map(composed, self._folders))]
            if not self.names:
                advice = '--conditional needs one for each class'
                raise UserError(f'{folder}: has no class folders; {advice}')
            self.label_of_name = {name: i for i, name in enumerate(self.names)}

    def folders(self) -> list[str] | None:
        """The subfolders with the images; None: the folder itself has them."""
        if not self.list:
            return [os.path.join(self.folder, name) for name in self._folders]
        if not any('/' in normal_form(name) for name in self.label_of_name):
            return None
        return sorted(all_folders([self.folder]))

    def of(self, files: Sequence[str]) -> tuple[list[str], np.ndarray]:
        """The images that are in the list, and their labels, integers [n].

        Raises UserError if a class is empty; combinations of attributes may be.
        """
        if self.list:
            labels = match_rows(files, self.folder, self.label_of_name, self.list)
        else:
            labels = [self._label(path) for path in files]
            others = {*next(os.walk(self.folder))[1]} - {*self._folders}
            others = sorted(name for name in others if name[0] != '.')
            if others:
                line = f'{len(others)} folders hold no images of the set, such as'
                print_line(f' [*] {self.folder}: {line} {printable(others[0])}')
        listed = [i for i, label in enumerate(labels) if label is not None]
        labels = np.array([labels[i] for i in listed], np.int64)
        if np.unique(labels).size < (1 if self.attributes else len(self.names)):
            pattern = "--input_fname_pattern '**/*.jpg'"
            way = f'remove it, or include subfolders with {pattern}'
            if self.list:
                way = 'add images, or leave its rows out of the list'
            problem = f'a class has no images ({self.describe(labels)})'
            raise UserError(f'{self.folder}: {problem}; {way}')
        return [files[i] for i in listed], labels

    def describe(self, labels: np.ndarray) -> str:
        """A line with the number of images, in all and of each class."""
        counts = np.bincount(labels, minlength=len(self.names))
        rows = ', '.join(f'{n} {name}' for n, name in zip(counts, self.names))
        return f'{sum(counts)} images: {printable(rows)}'

    def _label(self, path):
        name = composed(class_folder_of(path, self.folder))
        if name not in self.label_of_name:
            problem = f'{self.folder}: {name} is in no class folder'
            raise UserError(f'{problem}; move it into one or remove it')
        return self.label_of_name[name]


def split_attributes(text: str) -> list[str]:
    """The names in --attributes. Raises UserError for too many, or one twice."""
    names = [name.strip() for name in text.split(',') if name.strip()]
    if not names or len(names) > MAX_ATTRIBUTES or len(set(names)) < len(names):
        advice = f'give 1 to {MAX_ATTRIBUTES} different names, such as Male,Smiling'
        raise UserError(f'--attributes {text}: {advice}')
    return names


def find_labels(labels: str, folder: str, is_given: bool = False) -> str:
    """The path of --labels, first from here if it `is_given`. UserError for none."""
    folders = [''] * is_given + [folder, '', os.path.dirname(folder)]
    if path := first_file(folders, [expand_path(labels)]):
        return path
    places = f'in the working folder, in {folder} or above it'
    raise UserError(f'--labels {labels}: no such file, {places}')


def read_labels(path: str) -> dict[str, str]:
    """{name of an image: label} of a table. Raises UserError if it is invalid."""

    def parse(content):
        table, labels = Table(content), {}
        heads = {i: table.header[i].lower() for i in table.others}
        named = [i for i in heads if heads[i] in LABEL_HEADS]
        named = named or [i for i in heads if any(h in heads[i] for h in LABEL_HEADS)]

        def convert(cells):
            name, label = filter(None, cells)
            return name, composed(label)

        for name, label in table.records([table.images, *(named or heads)], convert):
            if '..' in normal_form(name).split('/'):
                raise ValueError(f'{printable(name)} leads out of the folder')
            if '\n' in label:
                raise ValueError(f'a quote has no end after {printable(name)}')
            if labels.setdefault(name, label) != label:
                raise ValueError(f'{printable(name)} has two labels')
        if len({*labels.values()}) < 2:
            raise ValueError('it has fewer than two labels')
        return labels

    problem, advice = 'not a list of labels', 'rows have to be name,label'
    return read_file(path, parse, problem, advice, most=MAX_BYTES)


def label_order(label: str) -> tuple[bool, int, str]:
    """A key that sorts numbers by their value, before other labels."""
    is_number = label.isdecimal() and len(label) < 100
    return not is_number, int(label) if is_number else 0, label


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Integer labels [B] -> float32 [B, classes]."""
    return np.eye(classes, dtype=np.float32)[labels]


def class_names_in(run_dir: str) -> list[str]:
    """The names of the classes that a run has learned; [] if they have only numbers."""
    path, older = (os.path.join(run_dir, n) for n in (CLASS_FILE, OLDER_CLASS_FILE))
    if os.path.exists(path):
        return read_file(path, lambda content: [*map(composed, json.loads(content))])
    if os.path.exists(older):
        text = read_file(older, os.fsdecode).replace('\r\n', '\n')  # by git or editors
        return composed(text.removesuffix('\n')).split('\n')
    return []


def class_names_of(dcgan) -> list[str]:
    """The names of the classes of a model in its run: numbers where it has no names."""
    return class_names_in(dcgan.out_dir) or [*map(str, range(dcgan.y_dim or 0))]
