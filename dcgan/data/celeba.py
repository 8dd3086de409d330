"""Read CelebA's lists: partitions, bounding boxes and attributes."""

import os
from collections.abc import Sequence

from dcgan.util.errors import UserError
from dcgan.util.files import first_file, stem
from dcgan.util.output import print_line

PARTITIONS = ('train', 'val', 'test')  # numbered 0, 1 and 2 in CelebA's list
PARTITION_LIST = 'list_eval_partition.txt'
HEADERS = {'name', 'file', 'filename', 'image', 'image_id', 'id', 'path'}


def in_partition(files: Sequence[str], partition: str, folder: str) -> list[str]:
    """The files in a partition of CelebA, by its list. UserError if there are none."""
    _, rows = read_list(PARTITION_LIST, folder, 1)
    if unlisted := sum(stem(path) not in rows for path in files):
        print_line(
            f' [!] {unlisted} images are left out: they are not in {PARTITION_LIST}'
        )
    row = (PARTITIONS.index(partition),)
    files = [path for path in files if rows.get(stem(path)) == row]
    if not files:
        raise UserError(
            f'{folder}: has no images of partition {partition}; choose another '
            '--partition'
        )
    return files


def read_list(
    name: str, folder: str, width: int | None = None
) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Read one of CelebA's lists, .txt or .csv, from `folder` or its parent folder.

    Each row has `width` numbers; None: an attribute, -1, 0 or 1, for each name in the
    header. Returns these names and {name of an image, without extension: numbers}.
    Raises UserError for invalid lists.
    """
    path = first_file([folder, os.path.dirname(folder)], [name, f'{stem(name)}.csv'])
    if path is None:
        raise UserError(
            f'{folder}: {name} is missing, here and in the parent folder; for CelebA, '
            '"download.py celebA" downloads it'
        )
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = [line.replace(',', ' ') for line in file if line.strip()]
    expected, header, rows = 1, [], {}
    if lines and lines[0].strip().isdecimal():  # some lists begin with the count
        expected = int(lines.pop(0))
    cells = lines[0].split() if lines else []
    if len(cells) > 1 and not any(x.lstrip('-').isdecimal() for x in cells[1:]):
        header = cells[1:] if cells[0] in HEADERS else cells
        del lines[0]
    for line in lines:
        image, *cells = line.split()
        try:
            row = rows[stem(image)] = tuple(map(int, cells))
            is_valid = bool(width) or {*row} <= {-1, 0, 1}
        except ValueError:
            is_valid = False
        if not is_valid or not cells or len(cells) != (width or len(header)):
            text = line.strip()[:60]
            raise UserError(
                f"{path}: not one of CelebA's lists: invalid row {text!r}; download it "
                'again'
            )
    if len(rows) < expected:
        raise UserError(
            f'{path}: truncated: {len(rows)} rows instead of {expected}; download it '
            'again'
        )
    return header, rows
