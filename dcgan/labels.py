"""What lists tell of images: partitions and boxes of CelebA."""

import os
import re
from collections.abc import Sequence

from dcgan.errors import UserError
from dcgan.files import stem

PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list


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
