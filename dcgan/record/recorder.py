"""Record a training run: metrics.csv, curves.png and warnings of failures."""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from dcgan.record.curves import draw_curves, read_history
from dcgan.record.metrics_csv import VALUES, MetricsFile, read_rows
from dcgan.record.warnings import WON_ITERATIONS, FailureWarnings
from dcgan.util.output import Extra

D_LOSS = VALUES.index('d_loss')


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
