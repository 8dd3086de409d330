"""Measure samples while a model trains, and keep the best checkpoint."""

import json
import math
import os
import time
from collections.abc import Callable

from dcgan.training import checkpoints
from dcgan.util.files import read_file, remove_leftovers
from dcgan.util.output import Extra, print_line


class Best(checkpoints.CheckpointFolder):
    """The folder `best` in a folder of checkpoints, and what measures samples for it.

    evaluator: None, or an object with `every`, iterations between two evaluations;
    `about`, such as '2,000 samples'; and measure(), which returns {tag: value}, such as
    {'FID': 12.3}: lower is better, and the first value decides. It leaves NumPy's
    global random state alone, from which a thread draws for later iterations.
    note: {'tag', 'value', 'about', 'iteration'}, what the checkpoint is best in.
    """

    def __init__(self, checkpoint_dir: str, evaluator, goes_on: bool):
        """goes_on: what is there is compared with; not where a training begins."""
        super().__init__(os.path.join(checkpoint_dir, checkpoints.BEST), max_to_keep=1)
        remove_leftovers(self.folder)
        self.evaluator, self.measuring = evaluator, Extra('evaluation while training')
        self.found, self.seconds, self.seconds_in_all = {}, 0.0, 0.0
        self.managed = checkpoints.checkpoints(self.folder)[::-1]
        self.note, self.kept = {}, Extra('best checkpoint')
        path = os.path.join(self.folder, checkpoints.NOTE)
        if goes_on and evaluator and self.managed and os.path.exists(path):
            how = 'cannot be read', 'the best checkpoint is chosen anew'
            with Extra(path):
                self.note = read_file(path, _parse_note, *how)

    def measure(self, iteration: int) -> dict[str, float]:
        """{tag: value}; {} where no evaluation is due, and once one has failed."""
        start, evaluator, self.found = time.perf_counter(), self.evaluator, {}
        if evaluator and self.measuring.works and iteration % evaluator.every == 0:
            with self.measuring:
                self.found = {t: float(x) for t, x in evaluator.measure().items()}
        self.seconds = time.perf_counter() - start
        return self.found

    def keep(self, iteration: int, write: Callable, started: float) -> None:
        """Write the best checkpoint, by write(note=note); print what was found.

        `started`: when the training did, by time.perf_counter.
        """
        start, about = time.perf_counter(), self.evaluator.about
        note = dict(zip(('tag', 'value'), next(iter(self.found.items()))))
        note |= {'about': about, 'iteration': iteration}
        if self.is_beaten(note):
            with self.kept:
                write(note=note)
                self.note = note
            listed = {*self.managed}  # the others have been written in part
            for path in {*checkpoints.checkpoints(self.folder)} - listed:
                checkpoints.delete_checkpoint(path)
        now = time.perf_counter()
        self.seconds += now - start
        self.seconds_in_all += self.seconds
        share = self.seconds_in_all / (now - started)
        found = ', '.join(f'{tag} {value:.4g}' for tag, value in self.found.items())
        found += f' of {about}{", the best so far" if self.note is note else ""}'
        print_line(f' [*] {found}; {self.seconds:.1f} s, {share:.1%} of the training')

    def is_beaten(self, note: dict) -> bool:
        """Whether a checkpoint with this note would be better, or the first."""
        is_same = all(self.note.get(name) == note[name] for name in ('tag', 'about'))
        is_worse = is_same and note['value'] >= self.note['value']
        return math.isfinite(note['value']) and not is_worse


def _parse_note(content):
    note = json.loads(content)
    return {**note, 'value': float(note['value'])}
