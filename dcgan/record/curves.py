"""Curves of training runs: curves.png, and several runs in one figure."""

import contextlib
import glob
import logging
import math
import os
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.record.metrics_csv import COLUMNS, FILE_NAME, VALUES, Course, read_rows
from dcgan.util.errors import UserError, printable, short_reason
from dcgan.util.files import atomic_path, expand_path, write_errors

# what is drawn: the title of a panel, and the names of its curves with their labels
PANELS = [
    ('losses', {'d_loss': 'D', 'g_loss': 'G'}),
    ('mean of D', {'d_real': 'D(x)', 'd_fake': 'D(G(z))'}),
]
DRAWN = [name for _, names in PANELS for name in names]
SMOOTHED = 50  # a smoothed curve averages over this part of a run: a fiftieth
MAX_EPOCH_LINES = 20


class CurveDrawer:
    """Draws curves.png of a run in a thread, while the run trains.

    A request that comes while the thread is drawing waits for it; a later one takes its
    place. Where matplotlib cannot be imported, a line says so, once, and nothing is
    drawn. Errors of writing are raised by close(), as UserError.
    """

    def __init__(self, path: str):
        self.path = path
        self._wanted: Course | None = None
        self._error: Exception | None = None
        self._is_usable, self._is_closed = True, False
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def draw(self, course: Course) -> None:
        """Draw a course as it is now."""
        with self._change:
            self._wanted = course.copy()
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
                course, self._wanted = self._wanted, None
            if course is None:
                return
            if self._is_usable:
                self._draw(course)

    def _draw(self, course):
        try:
            draw_curves({'': course}, self.path)
            self._error = None
        except ImportError as error:
            self._is_usable = False
            print(
                f' [!] No curves: cannot import matplotlib ({short_reason(error)})',
                flush=True,
            )
        except Exception as error:
            self._error = error


def draw_curves(runs: dict[str, Course], path: str) -> None:
    """Draw the curves of runs, {name: Course}, as PNG; of one run also its epochs.

    Raises ImportError without matplotlib, OSError where the file cannot be written.
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
        for run, course in runs.items():
            for name, label in names.items():
                label = f'{run}: {label}' if run else label
                _draw_curve(axes, course, name, label, f'C{number % 10}')
                number += 1
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
    courses = list(runs.values())
    all_axes[0].set_ylim(0, _highest(courses))
    all_axes[1].set_ylim(0, 1)
    all_axes[-1].set_xlabel('iteration')
    all_axes[-1].ticklabel_format(axis='x', style='plain')
    if len(courses) == 1:
        _mark_epochs(all_axes, courses[0].epochs)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png', dpi=100)


def _draw_curve(axes, course, name, label, color):
    """The range of each bin in light color, and the smoothed mean."""
    x, (means, lows, highs) = course.iterations(), course.of(name)
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


def _highest(courses):
    """The upper end of the losses' axis: without rare peaks."""
    values = [course.of(name)[0] for course in courses for name in PANELS[0][1]]
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


def read_course(path: str) -> Course:
    """The course of metrics.csv."""
    course = Course(DRAWN)
    columns = [COLUMNS.index(name) for name in DRAWN]
    for row in read_rows(path):
        course.add(int(row[0]), int(row[1]), [row[column] for column in columns])
    return course


def drawn_values(values: Sequence[float]) -> list[float]:
    """Of VALUES, those of DRAWN."""
    return [values[VALUES.index(name)] for name in DRAWN]


def course_of_run(run_dir: str) -> Course:
    """The course of a run: by metrics.csv or, of the original's, by its event files.

    Raises UserError where there are neither.
    """
    path = os.path.join(run_dir, FILE_NAME)
    has_metrics = os.path.exists(path)
    course = read_course(path) if has_metrics else _course_of_events(run_dir)
    if not len(course):
        raise UserError(
            f'{run_dir}: has no {FILE_NAME} and no event files with losses; '
            'give another run to --curves'
        )
    return course


def _course_of_events(run_dir):
    """The means of D come from the sums of its histograms; epochs are not known."""
    pattern = f'{glob.escape(run_dir)}/**/events.out.tfevents*'
    rows: dict[int, dict[str, float]] = {}
    for path in sorted(glob.glob(pattern, recursive=True)):
        of_file = _read_events(path)
        # where a run has resumed, the steps of the file before are void from there on
        first = min(of_file, default=math.inf)
        rows = {step: row for step, row in rows.items() if step < first} | of_file
    course = Course(DRAWN)
    for step in sorted(rows):
        values = [rows[step].get(name, math.nan) for name in DRAWN]
        course.add(step, 0, values)
    return course


def _read_events(path):
    """{step: {name: value}} of an event file, as far as it can be read.

    Of values that an iteration logs twice, as in the two steps of G, the first.
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
    """Draw runs, named as for --curves, in out_dir/curves.png; print its path.

    A run is a path, or a name in out_dir. Raises UserError where one has no numbers,
    or the file cannot be written.
    """
    courses = {}
    for name in filter(None, (part.strip() for part in names.split(','))):
        paths = [os.path.join(out_dir, name), expand_path(name)]
        run_dir = next(filter(os.path.isdir, paths), None)
        if run_dir is None:
            raise UserError(f'--curves {printable(name)}: no such run in {out_dir}')
        courses[os.path.basename(os.path.normpath(run_dir))] = course_of_run(run_dir)
    path = os.path.join(out_dir, 'curves.png')
    try:
        with write_errors(path):
            draw_curves(courses, path)
    except ImportError as error:
        raise UserError(
            f'--curves: cannot import matplotlib ({short_reason(error)}); pip install '
            'matplotlib'
        ) from error
    print(f' [*] {path}', flush=True)
