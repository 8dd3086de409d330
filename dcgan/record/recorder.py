"""Record a training run: metrics.csv, curves.png and warnings of failures."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dcgan.record.curves import draw_curves, read_history
from dcgan.record.metrics_csv import VALUES, MetricsFile, read_rows
from dcgan.util.files import remove
from dcgan.util.output import Extra, print_line

D_LOSS = VALUES.index('d_loss')
# D has won: its loss stays below WON_LOSS for WON_ITERATIONS
WON_LOSS, WON_ITERATIONS = 0.01, 200
# G draws one picture: on two consecutive grids, its samples vary by less than 5% of the
# variation of real images; not in the first iterations, in which any G does so
ONE_PICTURE, ONE_PICTURE_GRIDS, FIRST_ITERATIONS = 0.05, 2, 500
ADVICE = 'In a new run, try --recipe best or more images'


class FailureWarnings:
    """Prints a warning of each failure once, and keeps it in a run's warnings.txt."""

    def __init__(self, folder: str, is_new: bool, warns_of_d: bool):
        """Drop earlier warnings if is_new. warns_of_d: d_loss is the cross entropy."""
        self.file = Extra(os.path.join(folder, 'warnings.txt'))
        self.warns_of_d, self._won_for, self._equal_grids = warns_of_d, 0, 0
        if is_new:
            with self.file:
                remove(self.file.name)

    def check_loss(self, iteration: int, d_loss: float) -> None:
        """Take the loss of D in an iteration; warn if D has won."""
        is_low = self.warns_of_d and d_loss < WON_LOSS
        self._won_for = self._won_for + 1 if is_low else 0
        if self._won_for == WON_ITERATIONS:
            self._warn(
                f'Iteration {iteration}: D has won: its loss was below {WON_LOSS} for '
                f'{WON_ITERATIONS} iterations, so that G learns nothing more. Usual '
                'causes are few or uniform images, and a D that learns too fast'
            )

    def check_samples(self, iteration: int, samples, images) -> None:
        """Warn if G draws one picture; both arrays: [B, h, w, c] in the same range."""
        drawn, real = (array.std(axis=0).mean() for array in (samples, images))
        is_equal = drawn < ONE_PICTURE * real and iteration > FIRST_ITERATIONS
        self._equal_grids = self._equal_grids + 1 if is_equal else 0
        if self._equal_grids == ONE_PICTURE_GRIDS:
            self._warn(
                f'Iteration {iteration}: G draws one picture: its samples are nearly '
                'equal. Usual causes are too large steps of D, and few images'
            )

    def _warn(self, line):
        """Print a warning and keep it in the file, unless it is there already."""
        line, what = f'{line}. {ADVICE}', line.split(':')[1]
        with self.file, open(self.file.name, 'a+') as file:
            file.seek(0)
            if f':{what}: ' in file.read():
                return
            file.write(f'{line}\n')
        print_line(f' [!] {line}')


class Recorder:
    """Writes a run's metrics.csv, warnings.txt and, in a thread, curves.png."""

    def __init__(self, folder: str, last_iteration: int, warns_of_d: bool = True):
        """Continue the files after `last_iteration`; drop later rows of metrics.csv."""
        self.metrics = MetricsFile(folder, last_iteration)
        self.warnings = FailureWarnings(folder, not last_iteration, warns_of_d)
        for row in read_rows(self.metrics.path)[-WON_ITERATIONS:]:
            self.warnings.check_loss(int(row[0]), row[4 + D_LOSS])
        self.curves = Extra(os.path.join(folder, 'curves.png'))
        self._thread = ThreadPoolExecutor(1)
        self._drawing: Future | None = None

    def add(self, position: Sequence[int], values: Sequence[float], seconds: float):
        """Add an iteration, see MetricsFile.add; warn if D has won."""
        self.metrics.add(position, values, seconds)
        self.warnings.check_loss(position[0], values[D_LOSS])

    def add_grid(self, iteration: int, samples: np.ndarray, images: np.ndarray) -> None:
        """Draw the curves; warn if G draws one picture. Both arrays: [B, h, w, c]."""
        is_busy = self._drawing is not None and not self._drawing.done()
        if self.curves.works and not is_busy:
            with self.curves:
                self._drawing = self._thread.submit(self._draw)
        self.warnings.check_samples(iteration, samples, images)

    def close(self) -> None:
        """Draw the last curves."""
        self.metrics.close()
        self._thread.shutdown()
        self._draw()
        self.curves.works = False

    def _draw(self):
        with self.curves:
            history = read_history(self.metrics.path)
            if len(history['iteration']):
                draw_curves({'': history}, self.curves.name)
