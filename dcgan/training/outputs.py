"""Write what a training leaves: checkpoints, image grids, metrics and summaries."""

import contextlib
import functools
import math
import os
import time

from dcgan.data.image_grids import image_manifold_size, save_images
from dcgan.record.profiler import Profiler, profiled
from dcgan.record.recorder import Recorder
from dcgan.record.tensorboard import SummaryLog
from dcgan.training import checkpoints
from dcgan.training.best import Best
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.weights import todays_names
from dcgan.util.errors import UserError
from dcgan.util.files import remove_leftovers, write_bytes
from dcgan.util.output import Extra


class Outputs:
    """What the chief, or a process that trains alone, writes."""

    reached = 'saved up to'  # in a message, before the number of the last iteration

    def __init__(self, training, checkpoint: str | None):
        """Open the files of a Training that has started, from `checkpoint` or anew."""
        self.training, self.config = training, training.config
        self.dcgan = dcgan = training.dcgan
        counter, options = training.state.at.counter, training.options
        for path in (dcgan.out_dir, dcgan.checkpoint_dir, dcgan.sample_dir):
            remove_leftovers(path)
        self.folder = dcgan.checkpoint_folder(self.config.checkpoint_dir)
        self.folder.protected = []
        self.best = Best(self.folder.folder, dcgan.evaluator, goes_on=counter > 0)
        self.meta = checkpoints.meta_graph(training.state.saver)
        if checkpoint and os.path.dirname(checkpoint) == self.best.folder:
            # as one of the others, none of which is pruned for it
            self.folder.managed = checkpoints.checkpoints(self.folder.folder)[::-1]
            ended = checkpoints.training_state(checkpoint, 'ended')['ended']
            checkpoint = self._write(self.folder, ended, len(self.folder.managed))
        has_meta = checkpoint is None or os.path.exists(f'{checkpoint}.meta')
        if not has_meta and all(n == s for n, s in todays_names(checkpoint).items()):
            write_bytes(f'{checkpoint}.meta', self.meta)  # often left out of copies
        logs, graph = os.path.join(dcgan.out_dir, 'logs'), dcgan.sess.graph
        self.grids = Extra('image grids')
        steps = options.d_steps, options.g_steps
        self.summaries = SummaryLog(logs, graph, counter, *steps)
        dcgan.writer = self.summaries.writer
        is_fused = isinstance(training.iteration, FusedIteration)
        self.recorder = Recorder(dcgan.out_dir, counter, warns_of_d=is_fused)
        if checkpoint is not None:  # last, because nothing fails after this
            folder = dcgan.checkpoint_folder(os.path.dirname(checkpoint))
            folder.take_over(checkpoint)
        self.profiler = Profiler(logs, *profiled(options.profile))
        if counter == 0:  # what D is shown, and what G draws before training
            self._save_grid(training.sample_feed[dcgan.inputs], 'real.png')
            self.save_samples()

    def last_good(self) -> str:
        """The checkpoint to resume from if training ends now."""
        return ['none', *self.folder.protected[:1], *self.folder.managed][-1]

    def log(self, result) -> None:
        """Log an Iteration of arrays as summaries and metrics."""
        at, rates = self.training.state.at, self.training.rates()
        scalars = dict(zip(('learning_rate_d', 'learning_rate_g'), rates))
        found = self.best.measure(at.counter)
        self.summaries.add(result, at.z, at.counter, scalars | found)
        frechet = [value for tag, value in found.items() if tag != 'SWD']
        distances = [*frechet, math.nan][0], found.get('SWD', math.nan)
        values = *result.losses, *result.means, *rates, *distances
        seconds = time.perf_counter() - self.training.started
        self.recorder.add((at.counter, at.epoch, at.batch - 1), values, seconds)

    def keep_best(self, ends: bool) -> None:
        """Save a checkpoint whose samples are the best so far."""
        if self.best.found:
            counter, started = self.training.state.at.counter, self.training.started
            write = functools.partial(self._write, self.best, ends)
            self.best.keep(counter, write, started)
            self.summaries.flush()

    def save_samples(self) -> None:
        """Write the grid of samples of this iteration."""
        dcgan, feed = self.dcgan, self.training.sample_feed
        # alone: a loss in the same run would move the averages that the sampler reads
        samples = dcgan.sess.run(dcgan.sampler, feed)
        counter = self.training.state.at.counter
        self._save_grid(samples, f'train_{counter:08d}.png')
        if counter:
            self.recorder.add_grid(counter, samples, feed[dcgan.inputs])

    def _save_grid(self, images, name):
        path = os.path.join(self.config.sample_dir, name)
        with self.grids:
            save_images(images, image_manifold_size(len(images)), path)

    def save(self, ends: bool) -> None:
        """Write a checkpoint. ends: it is the last one of this training."""
        if ends:
            self.folder.protected = []
        # a final checkpoint off the schedule is one more than max_to_keep
        self._write(self.folder, ends, extra=int(not self.training.is_due('ckpt')))
        self.training.unsaved = None
        self.summaries.flush()

    def _write(self, folder, ends, extra=0, note=None):
        """Write this iteration's checkpoint to a CheckpointFolder; returns its path."""
        state, sess = self.training.state, self.dcgan.sess
        state.write(sess, ends)
        name = f'model.b{self.dcgan.batch_size}-{state.at.counter}'
        folder.write(sess, state.saver, name, self.meta, extra, note)
        return os.path.join(folder.folder, name)

    def close(self, error: BaseException | None) -> None:
        """Close the files at the end of training, or because of an error."""
        result = self.training.unsaved
        is_good = result and not self.training.not_finite(result.losses, result.sums)
        if is_good and isinstance(error, Exception):  # save what it has completed
            if self.training.lacks_sample_losses and self.dcgan.workers.count == 1:
                with contextlib.suppress(Exception):  # as if it had gone on
                    self.training.iteration.sample_losses(self.training.sample_feed)
            with contextlib.suppress(UserError):
                self.save(ends=True)
            if self.training.unsaved is None and isinstance(error, UserError):
                error.note = f'saved up to iteration {self.training.state.at.counter}'
        self.folder.protected = []
        self.summaries.close()
        self.recorder.close()


class NoOutputs(Outputs):
    """What a worker that is not the chief writes: nothing."""

    profiler = Profiler('')  # of no iteration
    reached = 'after'

    def last_good(self):
        return "the chief's"

    def nothing(self, *_):
        pass

    __init__ = log = save_samples = keep_best = save = close = nothing
