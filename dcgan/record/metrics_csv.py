"""Write and read metrics.csv, in which each iteration of a training has a row."""

import errno
import os
from collections.abc import Iterator, Sequence

from dcgan.util.files import write_errors

COLUMNS = ['iteration', 'epoch', 'batch', 'seconds']
COLUMNS += ['d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']  # as printed
# means of D(x) and D(G(z)) in the D step, and of D(G(z)) after the iteration
COLUMNS += ['d_real', 'd_fake', 'd_fake_after', 'learning_rate_d', 'learning_rate_g']
VALUES = COLUMNS[4:]
FILE_NAME = 'metrics.csv'


class MetricsFile:
    """The metrics.csv of a run, to which rows are added while it trains.

    A row is in the file when `add` returns, so that a killed run loses none. Raises
    UserError if the file cannot be read or written.

    seconds  time that earlier processes have trained, from the last row that is kept
    """

    def __init__(self, folder: str, last_iteration: int):
        """Drop rows after `last_iteration`, which a killed process has left."""
        self.path = os.path.join(folder, FILE_NAME)
        self.seconds = 0.0
        with write_errors(self.path):
            size = 0
            if last_iteration and os.path.exists(self.path):
                size = self._kept_size(last_iteration)
            # unbuffered: each row is written as a whole
            self._file = open(self.path, 'ab', buffering=0)  # noqa: SIM115, see close
            self._file.truncate(size)
            if not size:
                self._file.write(f'{",".join(COLUMNS)}\n'.encode())

    def _kept_size(self, last_iteration):
        """The bytes up to the row of `last_iteration`, without torn rows."""
        with open(self.path, 'rb') as file:
            size = len(file.readline())
            for line in file:
                row = parse_row(line)
                if row is None or row[0] > last_iteration:
                    break
                size, self.seconds = size + len(line), row[3]
        return size

    def add(self, position: Sequence[int], values: Sequence[float], seconds: float):
        """Add a row.

        position  (iteration, epoch, batch)
        values    in the order of VALUES
        seconds   time that this process has trained
        """
        numbers = ','.join(f'{value:.8g}' for value in values)
        counts = ','.join(map(str, position))
        row = f'{counts},{self.seconds + seconds:.3f},{numbers}\n'.encode()
        with write_errors(self.path):
            if self._file.write(row) < len(row):  # the disk took only a part of it
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def parse_row(line: bytes) -> list[float] | None:
    """The numbers of a row of metrics.csv; None for column names or a torn row."""
    try:
        row = [float(cell) for cell in line.split(b',')]
    except ValueError:
        return None
    return row if len(row) == len(COLUMNS) and line.endswith(b'\n') else None


def read_rows(path: str) -> Iterator[list[float]]:
    """Yield the rows of metrics.csv, in the order of COLUMNS."""
    with open(path, 'rb') as file:
        yield from filter(None, map(parse_row, file))
