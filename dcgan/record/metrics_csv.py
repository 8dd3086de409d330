"""Write and read metrics.csv, in which each iteration of a training has a row."""

import errno
import itertools
import os
from collections.abc import Sequence

import numpy as np

from dcgan.util.files import read_errors, write_bytes, write_errors

COLUMNS = ['iteration', 'epoch', 'batch', 'seconds']
COLUMNS += ['d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']  # as printed
# means of D(x) and D(G(z)) in the D step, and of D(G(z)) after the iteration
COLUMNS += ['d_real', 'd_fake', 'd_fake_after', 'learning_rate_d', 'learning_rate_g']
VALUES = COLUMNS[4:]
HEADER = f'{",".join(COLUMNS)}\n'.encode()
FILE_NAME = 'metrics.csv'


class MetricsFile:
    """The metrics.csv of a run. Raises UserError if it cannot be read or written."""

    def __init__(self, folder: str, last_iteration: int):
        """Drop rows after `last_iteration`, which a killed process has left."""
        self.path = os.path.join(folder, FILE_NAME)
        self.seconds = 0.0  # time that earlier processes have trained
        lines = []
        if last_iteration and os.path.exists(self.path):
            with read_errors(self.path), open(self.path, 'rb') as file:
                rows = [*itertools.takewhile(is_row, file)][1:]
                lines = [r for r in rows if int(r.split(b',')[0]) <= last_iteration]
                self.seconds = float(lines[-1].split(b',')[3]) if lines else 0.0
        write_bytes(self.path, b''.join([HEADER, *lines]))
        # unbuffered: each row is written as a whole, and a killed run loses none
        self._file = open(self.path, 'ab', buffering=0)  # noqa: SIM115, see close

    def add(self, position: Sequence[int], values: Sequence[float], seconds: float):
        """Add a row: (iteration, epoch, batch), VALUES, and seconds of this process."""
        numbers = ','.join(f'{value:.8g}' for value in values)
        counts = ','.join(map(str, position))
        row = f'{counts},{self.seconds + seconds:.3f},{numbers}\n'.encode()
        with write_errors(self.path):
            if self._file.write(row) < len(row):  # the disk took only a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self._file.close()


def is_row(line: bytes) -> bool:
    """Whether a line of metrics.csv is complete: a killed process may leave a part."""
    return line.count(b',') == len(COLUMNS) - 1 and line.endswith(b'\n')


def read_rows(path: str) -> np.ndarray:
    """The complete rows of metrics.csv: float64 [rows, columns], as in COLUMNS."""
    with read_errors(path), open(path, 'rb') as file:
        rows = [line for line in file if is_row(line)][1:]
        if not rows:  # of which loadtxt warns
            return np.empty((0, len(COLUMNS)))
        return np.loadtxt(rows, delimiter=',', ndmin=2)
