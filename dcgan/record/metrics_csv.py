"""Write and read metrics.csv, in which each iteration of a training has a row."""

import contextlib
import csv
import errno
import math
import os
import shutil
from collections.abc import Sequence

import numpy as np

from dcgan.util.files import free_path, read_file, write_bytes, write_errors
from dcgan.util.output import print_line
from dcgan.util.tables import Table

COLUMNS = ['iteration', 'epoch', 'batch', 'seconds']
COLUMNS += ['d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']  # as printed
# means of D(x) and D(G(z)) in the D step, and of D(G(z)) after the iteration
COLUMNS += ['d_real', 'd_fake', 'd_fake_after', 'learning_rate_d', 'learning_rate_g']
OLDER = len(COLUMNS)  # of earlier versions
COLUMNS += ['frechet_distance', 'swd']  # of samples, where they are evaluated, else nan
VALUES = COLUMNS[4:]
HEADER, OLDER_HEADER = (f'{",".join(c)}\n'.encode() for c in (COLUMNS, COLUMNS[:OLDER]))
FILE_NAME, MAX_BYTES = 'metrics.csv', 1 << 32


class MetricsFile:
    """The metrics.csv of a run. Raises UserError if it cannot be read or written."""

    def __init__(self, folder: str, last_iteration: int):
        """Drop rows after `last_iteration`, which a killed process has left.

        If the file holds anything else, it is kept aside as metrics.csv.old.
        """
        self.path = os.path.join(folder, FILE_NAME)
        rows = np.empty((0, len(COLUMNS)))
        if last_iteration and os.path.exists(self.path):
            rows, is_ours = read_file(self.path, _parse, most=MAX_BYTES)
            if not is_ours:
                old = free_path(f'{self.path}.old')
                with write_errors(old):
                    shutil.copyfile(self.path, old)
                change = f'another program has changed it: {len(rows)} rows are read'
                print_line(f' [!] {self.path}: {change}; {old} is the file as it was')
        rows = rows[rows[:, 0] <= last_iteration]
        self.seconds = float(rows[:, 3].max(initial=0))  # of earlier processes
        write_bytes(self.path, b''.join([HEADER, *map(as_line, rows.tolist())]))
        # unbuffered: each row is written as a whole, and a killed run loses none
        self._file = open(self.path, 'ab', buffering=0)  # noqa: SIM115, see close

    def add(self, position: Sequence[int], values: Sequence[float], seconds: float):
        """Add a row: (iteration, epoch, batch), VALUES, and seconds of this process."""
        row = as_line([*position, self.seconds + seconds, *values])
        with write_errors(self.path):
            if self._file.write(row) < len(row):  # the disk took only a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self._file.close()


def as_line(row: Sequence[float]) -> bytes:
    """A row of metrics.csv, with the values of COLUMNS."""
    counts, numbers = (f'{n:.0f}' for n in row[:3]), (f'{x:.8g}' for x in row[4:])
    return f'{",".join(counts)},{row[3]:.3f},{",".join(numbers)}\n'.encode()


def read_rows(path: str) -> np.ndarray:
    """The rows of metrics.csv: float64 [rows, columns], as in COLUMNS.

    Where another program has changed the file, rows with an iteration are read; missing
    values are nan. The part of a row that a killed process may leave is no row.
    """
    return read_file(path, _parse, most=MAX_BYTES)[0]


def _parse(content):
    """The rows, and whether there is nothing else than what MetricsFile writes."""
    lines = content.splitlines()
    count = OLDER if content.startswith(OLDER_HEADER) else len(COLUMNS)
    last = content.rpartition(b'\n')[2]  # it may end before or in a nan
    if last and (last.count(b',') < count - 1 or last.endswith((b',', b',n', b',na'))):
        lines.pop()
    if not content or content.startswith((HEADER, OLDER_HEADER)):
        if len(lines) < 2:
            return np.empty((0, len(COLUMNS))), True
        with contextlib.suppress(ValueError):
            rows = np.loadtxt(lines[1:], delimiter=',', ndmin=2, comments=None)
            is_whole = rows.shape[1] == count and (rows[:, :4] >= 0).all()
            if is_whole and (np.diff(rows[:, 0]) > 0).all():
                missing = np.full((len(rows), len(COLUMNS) - count), np.nan)
                return np.hstack([rows, missing]), True
    rows = []
    with contextlib.suppress(ValueError, csv.Error):
        table = Table(content)
        names = [name.lower() for name in table.header]
        for row in table:
            cells = dict(zip(names if any(names) else COLUMNS, row))
            rows.append([_number(cells.get(name, '')) for name in COLUMNS])
    rows = np.array(rows, float).reshape(-1, len(COLUMNS))
    counts = rows[:, :4]
    is_valid = (counts >= 0) & (counts < 1 << 53)
    is_valid[:, :3] &= np.floor(counts[:, :3]) == counts[:, :3]
    counts[~is_valid] = 0
    rows = rows[is_valid[:, 0]][::-1]  # of rows of one iteration, the last counts
    return rows[np.unique(rows[:, 0], return_index=True)[1]], False


def _number(cell):
    """The number in a cell, also with a decimal comma; nan if there is none."""
    with contextlib.suppress(ValueError):
        return float(cell.replace(',', '.'))
    return math.nan
