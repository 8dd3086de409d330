"""Trace some iterations for TensorBoard's profiler."""

import re

from tensorflow.profiler import experimental as profiler

from dcgan.util.errors import UserError
from dcgan.util.output import Extra


def profiled(text: str) -> tuple[int, int]:
    """The first and the last iteration that --profile names; (0, 0) for none."""
    match = re.fullmatch(r'(\d+),(\d+)', text or '0,0')
    first, last = map(int, match.groups()) if match else (1, 0)
    if first > last or (text and not first):
        advice = 'give the first and the last iteration, as in 100,110'
        raise UserError(f'--profile {text}: {advice}')
    return first, last


class Profiler:
    """Writes a trace of iterations `first` to `last` (0: none) to a folder of logs."""

    def __init__(self, folder: str, first: int = 0, last: int = 0):
        self.folder, self.first, self.last = folder, first, last
        self._trace, self._is_tracing = Extra(f'trace in {folder}'), False

    def begin(self, iteration: int) -> None:
        """Call this before each iteration."""
        if iteration > self.last:
            self.close()
        elif iteration == self.first:
            with self._trace:
                profiler.start(self.folder)
                self._is_tracing = True

    def close(self) -> None:
        """Write the trace, if there is one, and print its path."""
        if self._is_tracing:
            self._is_tracing = False
            with self._trace:
                profiler.stop()
                print(f' [*] Trace in {self.folder}/plugins/profile')
