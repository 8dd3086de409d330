"""Numbers of a training run: metrics.csv, a row an iteration, and their course."""

import copy
import errno
import os
from collections.abc import Iterator, Sequence

import numpy as np

from dcgan.util.files import write_errors

COLUMNS = ['iteration', 'epoch', 'batch', 'seconds']
COLUMNS += ['d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']  # as printed
# means of D(x) and D(G(z)) in the D step, and of D(G(z)) after the iteration
COLUMNS += ['d_real', 'd_fake', 'd_fake_after', 'learning_rate_d', 'learning_rate_g']
VALUES = COLUMNS[4:]
FILE_NAME = 'metrics.csv'


class MetricsFile:
    """metrics.csv of a run, to which rows are added while it trains.

    A row is in the file when `add` returns, so that a killed run loses none. Raises
    UserError where the file cannot be read or written.

    seconds  of training before this process, by the last row that is kept
    """

    def __init__(self, folder: str, last_iteration: int):
        """Rows after `last_iteration`, of a process that was killed, are dropped."""
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
        """The size of the whole rows up to an iteration."""
        with open(self.path, 'rb') as file:
            size = len(file.readline())
            for line in file:
                row = parse_row(line)
                if row is None or row[0] > last_iteration:
                    break
                size, self.seconds = size + len(line), row[3]
        return size

    def add(self, position: Sequence[int], values: Sequence[float], seconds: float):
        """Add a row: (iteration, epoch, batch), VALUES, and seconds of this process."""
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


class Course:
    """The course of some values over a run, in at most MAX_BINS bins of iterations.

    Where the bins are full, pairs of them become one, so that a run of any length takes
    the same memory and the same time to draw.

    names   of the values
    epochs  [(iteration, epoch)], where each epoch begins
    """

    MAX_BINS = 2000

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.epochs: list[tuple[int, int]] = []
        self._width = 1  # iterations in a full bin
        # of each bin: how many iterations, the sum of their numbers, and of each value
        # the sum, the minimum and the maximum
        self._counts = np.zeros(self.MAX_BINS)
        self._iterations = np.zeros(self.MAX_BINS)
        self._sums, self._lows, self._highs = np.zeros(
            (3, self.MAX_BINS, len(self.names))
        )
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, iteration: int, epoch: int, values: Sequence[float]) -> None:
        """Add the values of an iteration, in the order of `names`."""
        if not self.epochs or self.epochs[-1][1] != epoch:
            self.epochs.append((iteration, epoch))
        if not self._used or self._counts[self._used - 1] == self._width:
            if self._used == self.MAX_BINS:
                self._halve()
            self._used += 1
            i = self._used - 1
            self._counts[i], self._iterations[i], self._sums[i] = 0, 0, 0
            self._lows[i], self._highs[i] = np.inf, -np.inf
        i = self._used - 1
        self._counts[i] += 1
        self._iterations[i] += iteration
        self._sums[i] += values
        np.minimum(self._lows[i], values, out=self._lows[i])
        np.maximum(self._highs[i], values, out=self._highs[i])

    def copy(self) -> 'Course':
        """A copy that stays as it is when values are added here."""
        return copy.deepcopy(self)

    def _halve(self):
        half = self.MAX_BINS // 2
        for array in (self._counts, self._iterations, self._sums):
            array[:half] = array[::2] + array[1::2]
        self._lows[:half] = np.minimum(self._lows[::2], self._lows[1::2])
        self._highs[:half] = np.maximum(self._highs[::2], self._highs[1::2])
        self._used, self._width = half, 2 * self._width

    def iterations(self) -> np.ndarray:
        """The mean iteration of each bin."""
        return self._iterations[: self._used] / self._counts[: self._used]

    def of(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(mean, minimum, maximum) of a value in each bin."""
        i, used = self.names.index(name), slice(self._used)
        means = self._sums[used, i] / self._counts[used]
        return means, self._lows[used, i], self._highs[used, i]
