"""Read CelebA's lists: partitions, bounding boxes and attributes."""

import difflib
import os
import re
from collections.abc import Sequence

from dcgan.util.errors import UserError, printable
from dcgan.util.files import first_file, stem

PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list
ATTRIBUTES = 'list_attr_celeba.txt'
MAX_ATTRIBUTES = 6  # they make 64 classes
HEADERS = {'name', 'file', 'filename', 'image', 'image_id', 'id', 'path'}


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
    """Names of the classes, by label: none, Male, Smiling, Male+Smiling."""
    return [
        '+'.join(name for bit, name in enumerate(attributes) if label >> bit & 1)
        or 'none'
        for label in range(2 ** len(attributes))
    ]


def read_attributes(folder: str, attributes: list[str]) -> dict[str, int]:
    """{name of an image, without extension: label}, from CelebA's list of attributes.

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
    """{name of an image, without extension: its numbers}, from one of CelebA's lists.

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
        elif i > 1 or numbers or len(row) == 1:  # it is not a row of column names
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
    path = first_file([folder, os.path.dirname(folder)], names)
    if path is None:
        raise UserError(
            f'{folder}: {name} is missing, here and in the parent folder; for CelebA, '
            '"download.py celebA" downloads it'
        )
    return path


def invalid_list(path: str, row: list[str]) -> UserError:
    """The error for a row that does not belong to one of CelebA's lists."""
    text = ' '.join(row)[:60]
    return UserError(
        f"{path}: not one of CelebA's lists: invalid row {text!r}; download it again"
    )
