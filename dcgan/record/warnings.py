"""What a run tells of its training: metrics.csv, curves.png, and known failures."""

import os
from collections.abc import Sequence

import numpy as np

from dcgan.record.curves import DRAWN, CurveDrawer, drawn_values
from dcgan.record.metrics_csv import FILE_NAME, VALUES, Course, MetricsFile, read_rows
from dcgan.util.files import remove, write_errors
from dcgan.util.output import print_line

# D has won when its loss stays below this for so many iterations
WON_LOSS, WON_ITERATIONS = 0.01, 200
# G draws one picture when its samples vary less than this share of what real images do,
# on so many sheets in turn, after the first iterations, in which any G does so
ONE_PICTURE, ONE_PICTURE_SHEETS, FIRST_ITERATIONS = 0.05, 2, 500


class Report:
    """metrics.csv and curves.png of a run; a line, once, where training has failed."""

    def __init__(self, folder: str, last_iteration: int):
        """Go on after `last_iteration`; what was told of later ones is dropped."""
        self.metrics = MetricsFile(folder, last_iteration)
        self.course = Course(DRAWN)
        self.drawer = CurveDrawer(os.path.join(folder, 'curves.png'))
        self._won_for, self._equal_sheets = 0, 0
        self._warnings = os.path.join(folder, 'warnings.txt')
        if not last_iteration:
            remove(self._warnings)  # of an earlier run in this folder
        for row in read_rows(os.path.join(folder, FILE_NAME)):
            self._take(int(row[0]), int(row[1]), row[4:])

    def add(
        self, position: Sequence[int], values: Sequence[float], seconds: float
    ) -> None:
        """Add an iteration, see MetricsFile.add; print a line when D has won."""
        self.metrics.add(position, values, seconds)
        if self._take(*position[:2], values):
            self._warn(
                position[0],
                'D has won',
                f'its loss was below {WON_LOSS} for {WON_ITERATIONS} iterations, so '
                'that G learns nothing more. The usual causes are few or uniform '
                'images, and a D that learns too fast. In a new run, try --recipe '
                'best or more images',
            )

    def _take(self, iteration, epoch, values):
        """Take an iteration; returns whether D has won in it."""
        self.course.add(iteration, epoch, drawn_values(values))
        d_loss = values[VALUES.index('d_loss')]
        self._won_for = self._won_for + 1 if d_loss < WON_LOSS else 0
        return self._won_for == WON_ITERATIONS

    def _warn(self, iteration, what, why):
        """Print a warning and keep it in warnings.txt, unless it is there already."""
        line = f'Iteration {iteration}: {what}: {why}'
        with (
            write_errors(self._warnings),
            open(self._warnings, 'a+', encoding='utf-8') as file,
        ):
            file.seek(0)
            if f': {what}: ' in file.read():
                return
            file.write(f'{line}\n')
        print_line(f' [!] {line}')

    def sheet(self, iteration: int, samples: np.ndarray, images: np.ndarray) -> None:
        """Draw the curves; print a line when G draws one picture.

        samples, images  of G and of the data, [B, h, w, c] in the same range
        """
        self.drawer.draw(self.course)
        spreads = [array.std(axis=0).mean() for array in (samples, images)]
        is_equal = spreads[0] < ONE_PICTURE * spreads[1]
        is_equal = is_equal and iteration > FIRST_ITERATIONS
        self._equal_sheets = self._equal_sheets + 1 if is_equal else 0
        if self._equal_sheets >= ONE_PICTURE_SHEETS:
            self._warn(
                iteration,
                'G draws one picture',
                'its samples are nearly equal. The usual causes are steps of D that '
                'are too large, and few images. In a new run, try --recipe best or '
                'more images',
            )

    def close(self) -> None:
        """Write what is left. Raises UserError where the curves cannot be written."""
        if len(self.course):
            self.drawer.draw(self.course)
        self.metrics.close()
        self.drawer.close()
