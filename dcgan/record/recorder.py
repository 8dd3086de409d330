"""Record a training run: metrics.csv, curves.png and warnings of its two failures."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dcgan.record.curves import draw_curves, read_history
from dcgan.record.metrics_csv import VALUES, MetricsFile, read_rows
from dcgan.util.errors import short_reason
from dcgan.util.files import remove, write_errors
from dcgan.util.output import print_line

D_LOSS = VALUES.index('d_loss')
# D has won: its loss stays below WON_LOSS for WON_ITERATIONS
WON_LOSS, WON_ITERATIONS = 0.01, 200
D_HAS_WON = (
    f'D has won: its loss was below {WON_LOSS} for {WON_ITERATIONS} iterations, so '
    'that G learns nothing more. The usual causes are few or uniform images, and a D '
    'that learns too fast. In a new run, try --recipe best or more images'
)
# G draws one picture: on two consecutive grids, its samples vary by less than 5% of the
# variation of real images; not in the first iterations, in which any G does so
ONE_PICTURE, ONE_PICTURE_GRIDS, FIRST_ITERATIONS = 0.05, 2, 500
G_DRAWS_ONE_PICTURE = (
    'G draws one picture: its samples are nearly equal. The usual causes are steps of '
    'D that are too large, and few images. In a new run, try --recipe best or more '
    'images'
)


class Recorder:
    """Writes a run's metrics.csv, warnings.txt and, in a thread, curves.png."""

    def __init__(self, folder: str, last_iteration: int, warns_of_d: bool = True):
        """Continue the files after `last_iteration`; drop later rows of metrics.csv."""
        self.folder, self.metrics = folder, MetricsFile(folder, last_iteration)
        if not last_iteration:
            remove(os.path.join(folder, 'warnings.txt'))
        self.warns_of_d = warns_of_d  # whether d_loss is the cross entropy
        self._won_for, self._equal_grids = 0, 0
        for row in read_rows(self.metrics.path)[-WON_ITERATIONS:]:
            self._check_loss(int(row[0]), row[4 + D_LOSS])
        self._thread = ThreadPoolExecutor(1)
        self._drawing: Future | None = None
        self._can_draw = True  # until it is closed, or matplotlib is missing

    def add(
        self, position: Sequence[int], values: Sequence[float], seconds: float
    ) -> None:
        """Add an iteration, see MetricsFile.add; warn if D has won."""
        self.metrics.add(position, values, seconds)
        self._check_loss(position[0], values[D_LOSS])

    def _check_loss(self, iteration, d_loss):
        self._won_for = self._won_for + 1 if d_loss < WON_LOSS else 0
        if self._won_for == WON_ITERATIONS and self.warns_of_d:
            self._warn(iteration, D_HAS_WON)

    def add_grid(self, iteration: int, samples: np.ndarray, images: np.ndarray) -> None:
        """Draw the curves; warn if G draws one picture.

        samples, images  [B, h, w, c] in the same range
        """
        is_busy = self._drawing is not None and not self._drawing.done()
        if self._can_draw and not is_busy:
            self._drawing = self._thread.submit(self._draw)
        drawn, real = (array.std(axis=0).mean() for array in (samples, images))
        is_equal = drawn < ONE_PICTURE * real and iteration > FIRST_ITERATIONS
        self._equal_grids = self._equal_grids + 1 if is_equal else 0
        if self._equal_grids >= ONE_PICTURE_GRIDS:
            self._warn(iteration, G_DRAWS_ONE_PICTURE)

    def _warn(self, iteration, warning):
        """Print a warning and keep it in warnings.txt, unless it is there already."""
        line, path = f'Iteration {iteration}: {warning}', f'{self.folder}/warnings.txt'
        with write_errors(path), open(path, 'a+') as file:
            file.seek(0)
            if f': {warning}\n' in file.read():
                return
            file.write(f'{line}\n')
        print_line(f' [!] {line}')

    def close(self) -> None:
        """Draw the last curves. Raises UserError if they cannot be written."""
        self.metrics.close()
        self._thread.shutdown()
        with write_errors(os.path.join(self.folder, 'curves.png'), Exception):
            self._draw()
        self._can_draw = False

    def _draw(self):
        history = read_history(self.metrics.path)
        if not len(history['iteration']) or not self._can_draw:
            return
        try:
            draw_curves({'': history}, os.path.join(self.folder, 'curves.png'))
        except ImportError as error:
            self._can_draw = False
            print(
                f' [!] No curves: cannot import matplotlib ({short_reason(error)})',
                flush=True,
            )
