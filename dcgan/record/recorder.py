"""Record a training run: metrics.csv, curves.png and warnings of failures."""

import os
from collections.abc import Sequence

import numpy as np

from dcgan.record.curves import DRAWN, CurveDrawer, History, drawn_values
from dcgan.record.metrics_csv import FILE_NAME, VALUES, MetricsFile, read_rows
from dcgan.record.warnings import FailureWarnings

D_LOSS = VALUES.index('d_loss')


class Recorder:
    """Writes a run's metrics.csv, curves.png and warnings.txt."""

    def __init__(self, folder: str, last_iteration: int):
        """Continue the files after `last_iteration`; drop later rows of metrics.csv."""
        self.metrics = MetricsFile(folder, last_iteration)
        self.history = History(DRAWN)
        self.drawer = CurveDrawer(os.path.join(folder, 'curves.png'))
        self.warnings = FailureWarnings(folder, is_new=not last_iteration)
        for row in read_rows(os.path.join(folder, FILE_NAME)):
            values = row[4:]
            self.history.add(int(row[0]), int(row[1]), drawn_values(values))
            self.warnings.count(values[D_LOSS])  # an earlier process has warned

    def add(
        self, position: Sequence[int], values: Sequence[float], seconds: float
    ) -> None:
        """Add an iteration, see MetricsFile.add; warn if D has won."""
        self.metrics.add(position, values, seconds)
        iteration, epoch, _ = position
        self.history.add(iteration, epoch, drawn_values(values))
        self.warnings.check_loss(iteration, values[D_LOSS])

    def add_grid(self, iteration: int, samples: np.ndarray, images: np.ndarray) -> None:
        """Draw the curves, with each grid of samples; warn if G draws one picture.

        samples, images  of G and of the data, [B, h, w, c] in the same range
        """
        self.drawer.draw(self.history)
        self.warnings.check_samples(iteration, samples, images)

    def close(self) -> None:
        """Draw the last curves. Raises UserError if they cannot be written."""
        if len(self.history):
            self.drawer.draw(self.history)
        self.metrics.close()
        self.drawer.close()
