"""Draw the losses of training runs: curves.png, and several runs in one figure."""

import contextlib
import glob
import itertools
import logging
import math
import os

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.record.metrics_csv import COLUMNS, FILE_NAME, read_rows
from dcgan.util.errors import UserError, printable
from dcgan.util.files import atomic_path, expand_path, write_errors
from dcgan.util.output import print_path

# what is drawn: the title of a panel, and the names of its curves with their labels
PANELS = [
    ('losses', {'d_loss': 'D', 'g_loss': 'G'}),
    ('mean of D', {'d_real': 'D(x)', 'd_fake': 'D(G(z))'}),
]
# of samples, where they were evaluated: drawn as points
DISTANCES = {'frechet_distance': 'Frechet distance', 'swd': 'SWD'}
MAX_BINS = 2000  # of iterations in a curve, so that long runs are drawn as fast
SMOOTHED = 50  # a smoothed curve averages over a fiftieth of a run
MAX_EPOCH_LINES = 20
# the names of these values in event files
TAGS = {'d_loss': 'd_loss', 'g_loss': 'g_loss', 'd': 'd_real', 'd_': 'd_fake'}
TAGS |= {'FID': 'frechet_distance', 'SWD': 'swd'}
# {column of metrics.csv: values of all iterations of a run}
History = dict[str, np.ndarray]


def read_history(path: str) -> History:
    """The history in a metrics.csv: all of its columns."""
    return dict(zip(COLUMNS, read_rows(path).T))


def import_figure() -> type:
    """matplotlib's class Figure: without a window or global state, as pyplot has.

    Raises ImportError without matplotlib.
    """
    logging.getLogger('matplotlib').setLevel(logging.ERROR)
    # with the backend or a matplotlibrc of the user, its import may fail
    names = {'MPLBACKEND', 'MATPLOTLIBRC'} & os.environ.keys()
    hidden, exists = {name: os.environ.pop(name) for name in names}, os.path.exists
    os.path.exists = lambda path: (  # so that it looks into no other folder
        exists(path) and ('matplotlibrc' not in str(path) or 'mpl-data' in str(path))
    )
    try:
        from matplotlib.figure import Figure
    finally:
        os.path.exists = exists
        os.environ.update(hidden)
    return Figure


def draw_curves(runs: dict[str, History], path: str) -> None:
    """Draw runs, {name: history}, to a PNG file; a single run has its epochs marked.

    A curve is the smoothed mean of its bins, over their ranges in a light color.
    Raises ImportError without matplotlib, OSError if the file cannot be written.
    """
    values = {n: np.concatenate([run[n] for run in runs.values()]) for n in DISTANCES}
    measured = {n: DISTANCES[n] for n in DISTANCES if np.isfinite(values[n]).any()}
    panels = [*PANELS, ('distance', measured)] if measured else PANELS
    figure = import_figure()(figsize=(10, 3.5 * len(panels)), layout='constrained')
    all_axes = figure.subplots(len(panels), 1, sharex=True)
    for axes, (title, names) in zip(all_axes, panels):
        curves = itertools.product(runs.items(), names.items())
        for i, ((run, history), (name, label)) in enumerate(curves):
            label, color = f'{run}: {label}' if run else label, f'C{i % 10}'
            if name in DISTANCES:
                axes.set_yscale('log')  # SWD is far above most Frechet distances
                found = np.isfinite(history[name])
                points = history['iteration'][found], history[name][found]
                axes.plot(*points, '.-', color=color, label=label if any(found) else '')
                continue
            x, _, _ = in_bins(history['iteration'])
            means, lows, highs = in_bins(history[name])
            axes.fill_between(x, lows, highs, color=color, alpha=0.25, linewidth=0)
            if len(means) == len(history[name]):  # a bin is one iteration
                axes.plot(x, means, color=color, alpha=0.3, linewidth=0.8)
            axes.plot(x, smooth(means), color=color, linewidth=1.8, label=label)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.legend(loc='upper left', bbox_to_anchor=(1, 1), fontsize='small')
    means = [in_bins(run[name])[0] for run in runs.values() for name in PANELS[0][1]]
    losses = np.concatenate(means)
    finite = losses[np.isfinite(losses)]
    highest = 1.15 * np.quantile(finite, 0.99) if len(finite) else 1  # cuts rare peaks
    all_axes[0].set_ylim(0, max(1e-3, highest))
    all_axes[1].set_ylim(0, 1)
    all_axes[-1].set_xlabel('iteration')
    all_axes[-1].ticklabel_format(axis='x', style='plain')
    if len(runs) == 1:
        _mark_epochs(all_axes, *runs.values())
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format='png', dpi=100)


@np.errstate(invalid='ignore')  # where no value is finite, the mean is nan
def in_bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(means, minima, maxima) of finite values [n] in at most MAX_BINS equal bins."""
    starts = np.arange(0, len(values), math.ceil(len(values) / MAX_BINS))
    is_finite = np.isfinite(values)
    finite = np.where(is_finite, values, np.nan)
    counts = np.add.reduceat(is_finite, starts, dtype=float)
    means = np.add.reduceat(np.where(is_finite, values, 0), starts) / counts
    return means, np.fmin.reduceat(finite, starts), np.fmax.reduceat(finite, starts)


@np.errstate(invalid='ignore')
def smooth(values: np.ndarray) -> np.ndarray:
    """A moving average over a fiftieth of the finite values, as many on each side."""
    weights = np.ones(2 * (len(values) // (2 * SMOOTHED)) + 1)
    is_finite = np.isfinite(values)
    counts = np.convolve(is_finite, weights, 'same')
    return np.convolve(np.where(is_finite, values, 0), weights, 'same') / counts


def _mark_epochs(all_axes, history):
    epochs = history['epoch'].astype(int)
    starts = np.flatnonzero(np.diff(epochs, prepend=-1))
    starts = starts[:: math.ceil(len(starts) / MAX_EPOCH_LINES)]
    starts = starts[epochs[starts] > 0]
    for axes in all_axes:
        for iteration in history['iteration'][starts]:
            axes.axvline(iteration, color='gray', linewidth=0.5, alpha=0.6)
    if len(starts):
        top = all_axes[0].secondary_xaxis('top')
        top.set_xticks(history['iteration'][starts], epochs[starts])
        top.set_xlabel('epoch')


def history_of_run(run_dir: str) -> History:
    """The history of a run, from its metrics.csv or else from its event files.

    The original's runs have event files only. Raises UserError if there are neither.
    """
    path = os.path.join(run_dir, FILE_NAME)
    history = read_history(path) if os.path.exists(path) else {'iteration': ()}
    if not len(history['iteration']):
        history = _history_of_events(run_dir)
    if not len(history['iteration']):
        problem = f'has no {FILE_NAME} and no event files with losses'
        raise UserError(f'{run_dir}: {problem}; give another run to --curves')
    return history


def _history_of_events(run_dir):
    """Means of D come from its histograms; epochs, which are not known, are 0."""
    pattern = f'{glob.escape(run_dir)}/**/events.out.tfevents*'
    rows: dict[int, dict[str, float]] = {}
    for path in filter(os.path.isfile, sorted(glob.glob(pattern, recursive=True))):
        of_file: dict[int, dict[str, float]] = {}
        # the last event of a process that was killed may be torn
        with contextlib.suppress(tf.errors.DataLossError):
            for event in tf.train.summary_iterator(path):
                for value in event.summary.value:
                    if value.tag in TAGS:  # the first value if a step has two
                        mean, histogram = value.simple_value, value.histo
                        if histogram.num:
                            mean = histogram.sum / histogram.num
                        elif value.HasField('tensor'):  # of TensorFlow 2
                            array = tf.make_ndarray(value.tensor)
                            is_scalar = array.dtype.kind == 'f' and array.size == 1
                            mean = array.item() if is_scalar else math.nan
                        of_file.setdefault(event.step, {}).setdefault(value.tag, mean)
        # where a run has resumed, later steps of earlier files are void
        first = min(of_file, default=math.inf)
        rows = {step: row for step, row in rows.items() if step < first} | of_file
    steps = sorted(rows)
    history = {'iteration': np.array(steps), 'epoch': np.zeros(len(steps))}
    for tag, name in TAGS.items():
        history[name] = np.array([rows[step].get(tag, math.nan) for step in steps])
    return history


def draw_runs(names: str, out_dir: str) -> None:
    """Draw the runs of --curves, paths or names in out_dir, to out_dir/curves.png.

    Raises UserError if a run has no losses, or the file cannot be written.
    """
    histories = {}
    for name in filter(None, (part.strip() for part in names.split(','))):
        paths = [os.path.join(out_dir, name), expand_path(name)]
        run_dir = next(filter(os.path.isdir, paths), None)
        if run_dir is None:
            raise UserError(f'--curves {printable(name)}: no such run in {out_dir}')
        label = os.path.basename(os.path.normpath(run_dir))
        histories[name if label in histories else label] = history_of_run(run_dir)
    path = os.path.join(out_dir, 'curves.png')
    how = ImportError, 'pip install matplotlib', 'cannot import matplotlib'
    with write_errors(path), write_errors('--curves', *how):
        draw_curves(histories, path)
    print_path(path)
