"""Read CelebA's lists: partitions, bounding boxes and attributes."""

import difflib
import os
from collections.abc import Sequence

from dcgan.data.names import match_rows
from dcgan.util.errors import UserError, printable
from dcgan.util.files import first_file, read_file, stem
from dcgan.util.tables import MAX_BYTES, Table

PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list
PARTITION_LIST, BOX_LIST = 'list_eval_partition.txt', 'list_bbox_celeba.txt'


def in_partition(files: Sequence[str], partition: str, folder: str) -> list[str]:
    """The files in a partition of CelebA, by its list. UserError if there are none."""
    rows = read_list(PARTITION_LIST, folder, ['partition'])
    row = (PARTITIONS.index(partition),)
    found = match_rows(files, folder, rows, PARTITION_LIST)
    files = [path for path, own in zip(files, found) if own == row]
    if not files:
        problem = f'has no images of partition {partition}'
        raise UserError(f'{folder}: {problem}; choose another --partition')
    return files


def boxes_of(files: Sequence[str], folder: str) -> list[tuple[int, ...]]:
    """The bounding boxes of images, by CelebA's list; () where it has none."""
    rows = read_list(BOX_LIST, folder, ['x_1', 'y_1', 'width', 'height'])
    return [row or () for row in match_rows(files, folder, rows, BOX_LIST)]


def read_list(
    name: str, folder: str, columns: list[str], are_attributes: bool = False
) -> dict[str, tuple[int, ...]]:
    """{name of an image: its numbers in `columns`}, from one of CelebA's lists.

    It is .txt or .csv, in `folder` or in its parent folder. Attributes are -1, 0 or 1,
    and are found by their names. Raises UserError for invalid lists.
    """
    path = first_file([folder, os.path.dirname(folder)], [name, f'{stem(name)}.csv'])
    if path is None:
        problem = f'{folder}: {name} is missing, here and in the parent folder'
        raise UserError(f'{problem}; for CelebA, "download.py celebA" downloads it')

    def parse(content):
        table = Table(content)
        header = [table.header[i] for i in table.others]
        for column in columns if are_attributes and any(header) else ():
            if column not in table.header:
                close = difflib.get_close_matches(column, header, 3, 0.3) or header
                problem = f'{name} has no {printable(column)}'
                there = printable(', '.join(close))
                raise UserError(f'--attributes: {problem}; it has {there}')
        places = [header.index(column) for column in columns if column in header]
        if not (places or are_attributes) and len(header) == len(columns):
            places = range(len(columns))  # whatever they are called

        def convert(cells):
            name, *cells = [cell.removesuffix('.0') for cell in cells]
            is_valid = not are_attributes or {*cells} <= {'-1', '0', '1'}
            if not is_valid or len(places) < len(columns):
                raise ValueError('it has other numbers')
            return name, tuple(int(cells[i]) for i in places)

        rows = dict(table.records([table.images, *table.others], convert))
        expected = 1 if table.count is None else table.count
        if len(rows) < expected:
            raise ValueError(f'truncated: {len(rows)} rows instead of {expected}')
        return rows

    problem, advice = "not one of CelebA's lists", 'download it again'
    return read_file(path, parse, problem, advice, most=MAX_BYTES)
