"""Draw the losses of training runs: curves.png, and several runs in one figure."""

import contextlib
import copy
import glob
import logging
import math
import os
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.record.metrics_csv import COLUMNS, FILE_NAME, VALUES, read_rows
from dcgan.util.errors import UserError, printable, short_reason
from dcgan.util.files import atomic_path, expand_path, write_errors

# what is drawn: the title of a panel, and the names of its curves with their labels
PANELS = [
    ('losses', {'d_loss': 'D', 'g_loss': 'G'}),
    ('mean of D', {'d_real': 'D(x)', 'd_fake': 'D(G(z))'}),
]
DRAWN = [name for _, names in PANELS for name in names]
SMOOTHED = 50  # a smoothed curve averages over a fiftieth of a run
MAX_EPOCH_LINES = 20


class History:
    """Values of all iterations of a run, in at most MAX_BINS bins of iterations.

    When all bins are full, each pair of them is merged, so that a run of any length
    takes the same memory and the same time to draw.

    names   names of the values
    epochs  [(iteration, epoch)], where each epoch begins
    """

    MAX_BINS = 2000

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.epochs: list[tuple[int, int]] = []
        self._width = 1  # iterations in a full bin
        # for each bin, the number of iterations and the sum of their indices; for each
        # value in it, the sum, the minimum and the maximum
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
                self._merge_pairs()
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

    def copy(self) -> 'History':
        """A copy that stays as it is when values are added here."""
        return copy.deepcopy(self)

    def _merge_pairs(self):
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


class CurveDrawer:
    """Draws the curves.png of a run in a thread, while the run trains.

    While the thread is drawing, only the last request waits for it. If matplotlib
    cannot be imported, one line is printed and nothing is drawn. close() raises
    UserError if the file could not be written.
    """

    def __init__(self, path: str):
        self.path = path
        self._wanted: History | None = None
        self._error: Exception | None = None
        self._is_usable, self._is_closed = True, False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def draw(self, history: History) -> None:
        """Draw a copy of the history as it is now."""
        with self._change:
            self._wanted = history.copy()
            self._change.notify()

    def close(self) -> None:
        """Wait until the last request is drawn."""
        with self._change:
            self._is_closed = True
            self._change.notify()
        self._thread.join()
        if self._error is not None:
            with write_errors(self.path, Exception):
                raise self._error

    def _work(self):
        while True:
            with self._change:
                while self._wanted is None and not self._is_closed:
                    self._change.wait()
                history, self._wanted = self._wanted, None
            if history is None:
                return
            if self._is_usable:
                self._draw(history)

    def _draw(self, history):
        try:
            draw_curves({'': history}, self.path)
            self._error = None
        except ImportError as error:
            self._is_usable = False
            print(
                f' [!] No curves: cannot import matplotlib ({short_reason(error)})',
                flush=True,
            )
        except Exception as error:
            self._error = error


def draw_curves(runs: dict[str, History], path: str) -> None:
    """Draw the curves of runs, {name: History}, to a PNG file; one run has its epochs.

    Raises ImportError without matplotlib, OSError if the file cannot be written.
    """
    logging.getLogger('matplotlib').setLevel(logging.WARNING)
    # Figure without pyplot: no window, no global state
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout='constrained')
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axes, (title, names) in zip(all_axes, PANELS):
        number = 0
        for run, history in runs.items():
            for name, label in names.items():
                label = f'{run}: {label}' if run else label
                _draw_curve(axes, history, name, label, f'C{number % 10}')
                number += 1
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
    histories = list(runs.values())
    all_axes[0].set_ylim(0, _highest(histories))
    all_axes[1].set_ylim(0, 1)
    all_axes[-1].set_xlabel('iteration')
    all_axes[-1].ticklabel_format(axis='x', style='plain')
    if len(histories) == 1:
        _mark_epochs(all_axes, histories[0].epochs)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png', dpi=100)


def _draw_curve(axes, history, name, label, color):
    """Draw the range of each bin in light color, and the smoothed mean."""
    x, (means, lows, highs) = history.iterations(), history.of(name)
    axes.fill_between(x, lows, highs, color=color, alpha=0.25, linewidth=0)
    if np.array_equal(lows, highs):  # a bin is one iteration
        axes.plot(x, means, color=color, alpha=0.3, linewidth=0.8)
    axes.plot(x, smooth(means), color=color, linewidth=1.8, label=label)


def smooth(values: np.ndarray) -> np.ndarray:
    """A moving average over a fiftieth of the values, as many on each side."""
    half = len(values) // (2 * SMOOTHED)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, end = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def _highest(histories):
    """The upper end of the losses' axis, which may cut rare peaks."""
    values = [history.of(name)[0] for history in histories for name in PANELS[0][1]]
    finite = np.concatenate(values)
    finite = finite[np.isfinite(finite)]
    return max(1e-3, 1.15 * np.quantile(finite, 0.99)) if len(finite) else 1


def _mark_epochs(all_axes, epochs):
    step = math.ceil(max(1, len(epochs)) / MAX_EPOCH_LINES)
    marked = [(iteration, epoch) for iteration, epoch in epochs[::step] if epoch]
    for axes in all_axes:
        for iteration, _ in marked:
            axes.axvline(iteration, color='gray', linewidth=0.5, alpha=0.6)
    if marked:
        top = all_axes[0].secondary_xaxis('top')
        top.set_xticks([i for i, _ in marked], [str(e) for _, e in marked])
        top.set_xlabel('epoch')


def read_history(path: str) -> History:
    """The history in a metrics.csv."""
    history = History(DRAWN)
    columns = [COLUMNS.index(name) for name in DRAWN]
    for row in read_rows(path):
        history.add(int(row[0]), int(row[1]), [row[column] for column in columns])
    return history


def drawn_values(values: Sequence[float]) -> list[float]:
    """The values that are drawn, out of all VALUES of an iteration."""
    return [values[VALUES.index(name)] for name in DRAWN]


def history_of_run(run_dir: str) -> History:
    """The history of a run, from its metrics.csv or else from its event files.

    The original's runs have event files only. Raises UserError if there are neither.
    """
    path = os.path.join(run_dir, FILE_NAME)
    has_metrics = os.path.exists(path)
    history = read_history(path) if has_metrics else _history_of_events(run_dir)
    if not len(history):
        raise UserError(
            f'{run_dir}: has no {FILE_NAME} and no event files with losses; '
            'give another run to --curves'
        )
    return history


def _history_of_events(run_dir):
    """Means of D come from its histograms; epochs, which are not known, are 0."""
    pattern = f'{glob.escape(run_dir)}/**/events.out.tfevents*'
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(glob.glob(pattern, recursive=True)):
        of_file = _read_events(path)
        # where a run has resumed, later steps of earlier files are void
        first = min(of_file, default=math.inf)
        rows = {step: row for step, row in rows.items() if step < first} | of_file
    history = History(DRAWN)
    for step in sorted(rows):
        values = [rows[step].get(name, math.nan) for name in DRAWN]
        history.add(step, 0, values)
    return history


def _read_events(path):
    """{step: {name: value}} of an event file, as far as it can be read.

    Where an iteration has logged a value twice, in its two steps of G, the first one.
    """
    tags = {'d_loss': 'd_loss', 'g_loss': 'g_loss', 'd': 'd_real', 'd_': 'd_fake'}
    rows: dict[int, dict[str, float]] = {}
    # the last event of a process that was killed may be torn
    with contextlib.suppress(tf.errors.DataLossError):
        for event in tf.train.summary_iterator(path):
            for value in event.summary.value:
                if value.tag in tags:
                    mean, histogram = value.simple_value, value.histo
                    if histogram.num:
                        mean = histogram.sum / histogram.num
                    rows.setdefault(event.step, {}).setdefault(tags[value.tag], mean)
    return rows


def draw_runs(names: str, out_dir: str) -> None:
    """Draw several runs in one figure, out_dir/curves.png, and print its path.

    names  the value of --curves: paths of runs, or their names in out_dir

    Raises UserError if a run has no losses, or the file cannot be written.
    """
    histories = {}
    for name in filter(None, (part.strip() for part in names.split(','))):
        paths = [os.path.join(out_dir, name), expand_path(name)]
        run_dir = next(filter(os.path.isdir, paths), None)
        if run_dir is None:
            raise UserError(f'--curves {printable(name)}: no such run in {out_dir}')
        histories[os.path.basename(os.path.normpath(run_dir))] = history_of_run(run_dir)
    path = os.path.join(out_dir, 'curves.png')
    try:
        with write_errors(path):
            draw_curves(histories, path)
    except ImportError as error:
        raise UserError(
            f'--curves: cannot import matplotlib ({short_reason(error)}); pip install '
            'matplotlib'
        ) from error
    print(f' [*] {path}', flush=True)
