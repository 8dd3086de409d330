"""What surrounds the training loop: its state, its summaries, its checks and lines."""

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.data.image_grids import image_manifold_size, save_images
from dcgan.record.profiler import Profiler
from dcgan.record.recorder import Recorder
from dcgan.record.tensorboard import SummaryLog
from dcgan.training.checkpoints import (
    check_shapes,
    has_training_state,
    meta_graph,
    newest_checkpoint,
    restore,
    step_of,
    write_meta,
)
from dcgan.training.options import Ways
from dcgan.training.prefetch import Batch, Feeder
from dcgan.training.pretrain import build_pretraining
from dcgan.training.state import Position, TrainingState
from dcgan.util.errors import Interrupted, UserError, short_reason
from dcgan.util.files import remove_leftovers
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

LOSSES = ['d_loss_fake', 'd_loss_real', 'g_loss']  # the losses of Iteration
FEW_IMAGES, SMALL_BATCH = 1000, 16  # below these, training is known to fail


class Training:
    """What surrounds the loop of one call of DCGAN.train.

    It starts or resumes the run, yields batches, writes summaries, lines, sample grids
    and checkpoints, and checks the results. As a context manager, it closes its files
    and the data set. `dcgan` is a model.DCGAN, `config` what its train() takes.
    """

    def __init__(self, dcgan, config, state: TrainingState, checkpoint: str | None):
        """Initialize the weights, or restore them and `state` from `checkpoint`."""
        self.dcgan, self.config, self.state = dcgan, config, state
        self.sess, self.data, self.workers = dcgan.sess, dcgan.data, dcgan.workers
        self.ways = Ways.of(config)
        self.epoch_batches = self._count_batches()
        self.folder = dcgan.checkpoint_folder(config.checkpoint_dir)
        self.folder.protected = []
        self.feeder = None  # made by batches()
        self.unsaved = None  # the Iteration that is completed but not saved
        sample_shape = dcgan.sample_num, dcgan.z_dim
        state.restart(gen_random(config.z_dist, sample_shape))
        if self.workers.is_chief:
            for path in (dcgan.out_dir, dcgan.checkpoint_dir, dcgan.sample_dir):
                remove_leftovers(path)
        self._start(checkpoint)
        self._take_over_from_chief()
        self.first = state.counter
        self._feed_samples(*self.data.take(state.sample_files))
        self.profiler = Profiler('')  # of no iteration
        if self.workers.is_chief:
            self._open_files(checkpoint)
        self.started = time.perf_counter()
        # (iteration, time) from which the pace is measured: without compilation
        self.pace_from = self.first, self.started

    def _take_over_from_chief(self):
        """Let all workers begin with the weights and the state of the chief."""
        if self.workers.count == 1:
            return
        self.state.write(self.sess)
        share = self.workers.share(tf.global_variables())
        self.sess.run(share, options=self.workers.run_options)
        if not self.workers.is_chief:
            self.state.read(self.sess, self.config.train_size)

    def _feed_samples(self, images, labels):
        """Set the feeds for sample grids, and for their losses."""
        z = self.state.sample_z
        self.sample_feed = self.loss_feed = self.dcgan.feed(images, labels, z)
        if self.workers.count > 1:
            part = self.workers.slice
            labels = None if labels is None else labels[part]
            batch = Batch(images[part], labels, z[part])
            self.loss_feed = self.dcgan.batches.feed(batch)

    def _open_files(self, checkpoint):
        """Open what the run writes, after `checkpoint`."""
        dcgan, config, counter = self.dcgan, self.config, self.state.counter
        logs = os.path.join(dcgan.out_dir, 'logs')
        graph, with_images = self.sess.graph, config.G_img_sum
        steps = self.ways.d_steps, self.ways.g_steps
        self.summaries = SummaryLog(logs, graph, counter, with_images, steps)
        if checkpoint is not None:  # last, because nothing fails after this
            folder = dcgan.checkpoint_folder(os.path.dirname(checkpoint))
            folder.take_over(checkpoint)
        self.recorder = Recorder(dcgan.out_dir, counter)
        self.profiler = Profiler(logs, *self.ways.profiled())
        if counter == 0:
            self._save_beginning()

    def _count_batches(self):
        """The number of batches in an epoch. Warns of settings known to fail."""
        images, limit = len(self.data), self.config.train_size
        epochs = self.config.epoch if self.data.reshuffles else 1
        warn_of_settings(int(min(images, limit * epochs)), self.dcgan.batch_size)
        return int(min(images, limit)) // self.dcgan.batch_size

    def _start(self, checkpoint):
        is_ours = checkpoint is not None and has_training_state(checkpoint)
        if not is_ours:
            self.sess.run(tf.global_variables_initializer())
        if self.workers.is_chief:
            self.meta = meta_graph(self.state.saver)
        if checkpoint is None:
            if self.dcgan.averages:
                self.sess.run(self.dcgan.averages.start)
            print(f' [*] No checkpoint yet in {self.dcgan.checkpoint_dir}', flush=True)
            return
        if is_ours:
            restore(self.sess, self.state.restorer, checkpoint)
            self.state.read(self.sess, self.config.train_size)
        else:  # the original's: resume as it does, at its number, with epoch 0
            restore(self.sess, self.dcgan.saver, checkpoint)
            self.state.counter = step_of(checkpoint) - 1
            print(
                ' [*] It holds only weights: epochs and Adam start from the beginning',
                flush=True,
            )
        if self.dcgan.averages:
            self.dcgan.averages.restore(self.sess, checkpoint)
        if not os.path.exists(f'{checkpoint}.meta'):  # often left out of copies
            write_meta(checkpoint, self.meta)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self.feeder is not None:
            self.feeder.close()
            self.state.rewind()
        self.profiler.close()
        self.data.close()
        if not self.workers.is_chief:
            return
        note = self._save_completed() if isinstance(error, Exception) else ''
        self.folder.protected = []
        self.summaries.close(ignore_errors=error is not None)
        with contextlib.suppress(UserError) if error else contextlib.nullcontext():
            self.recorder.close()
        if isinstance(error, UserError):
            error.note = note

    def _save_completed(self):
        """Save what was completed before an error ends training; returns a note of it.

        Not where it is not finite, and not where the disk is the reason.
        """
        if self.unsaved is None or not is_finite(self.unsaved):
            return ''
        with contextlib.suppress(UserError):
            self.save(stop=True)
        is_saved = self.unsaved is None
        return f'saved up to iteration {self.state.counter}' if is_saved else ''

    def batches(self) -> Iterator[np.ndarray]:
        """Yield z of each iteration that is left, when its batch is in the queue.

        Keeps the state.
        """
        self.feeder = Feeder(self.sess, self.dcgan.batches, self._draw())
        for position in self.feeder:
            self.unsaved = None  # until this one is completed
            self.state.advance(position)
            self.profiler.begin(position.counter)
            yield position.z
            self.profiler.end(position.counter)

    def _draw(self):
        """Yield (Batch, Position) of each iteration that is left.

        Draws random numbers in the original's order.
        """
        size, epochs = self.dcgan.batch_size, self.config.epoch
        counter, first = self.state.counter, self.state.batch
        part = self.workers.slice
        for epoch in range(self.state.epoch, epochs):
            if first == 0:
                self.data.shuffle()
            data = self.data.batches(size, self.epoch_batches, first, part)
            for batch, (images, labels) in enumerate(data, first + 1):
                z = gen_random(self.config.z_dist, (size, self.dcgan.z_dim))
                z, counter = z.astype(np.float32), counter + 1
                images, seed = self.ways.vary(images, size, part)
                ends_epoch = batch == self.epoch_batches
                is_last = ends_epoch and epoch + 1 == epochs
                position = Position(
                    *(counter, epoch, batch, ends_epoch, is_last),
                    *(self.data.order, np.random.get_state(), z),
                )
                yield Batch(images, labels, z[part], seed), position
            first = 0

    def rates(self) -> list[float]:
        """The learning rates of D and of G in this iteration."""
        config, epoch = self.config, self.state.epoch
        return self.ways.rates(config.learning_rate, epoch, config.epoch)

    def pretrain(self, signals: list[int]) -> None:
        """Train D alone, before the first iteration of a new run.

        Raises Interrupted where one of `signals` came.
        """
        total = 0 if self.first else self.ways.pretrain_d
        if not total:
            return
        d_loss = build_pretraining(self.dcgan, self.config)
        size, part = self.dcgan.batch_size, self.workers.slice
        options = self.workers.run_options
        with progress_bar('D alone', total, ' iterations') as bar:
            while bar.n < total:
                self.data.shuffle()
                data = self.data.batches(size, self.epoch_batches, part=part)
                for images, labels in itertools.islice(data, total - bar.n):
                    z = gen_random(self.config.z_dist, (size, self.dcgan.z_dim))
                    images, seed = self.ways.vary(images, size, part)
                    batch = Batch(images, labels, z[part], seed)
                    feed = self.dcgan.batches.feed(batch)
                    feed[self.dcgan.learning_rates] = self.rates()
                    feed[self.dcgan.stop] = bool(signals)
                    loss, stop = self.sess.run(d_loss, feed, options)
                    bar.set_postfix(d_loss=f'{loss:.4f}')
                    bar.update()
                    if self.stops(stop, signals):
                        raise Interrupted(
                            signals[0], 'interrupted before the first iteration'
                        )
        self.state.random_state = np.random.get_state()
        self.state.order = self.data.order

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Around each iteration: XLA compiles it in the first one; print how long."""
        if not self.dcgan.xla or self.pace_from[0] > self.first:
            yield
            return
        print(' [*] XLA compiles the iteration', flush=True)
        start = time.perf_counter()
        try:
            yield
        except tf.errors.OpError as error:
            raise UserError(
                f'the first iteration failed under XLA ({short_reason(error)}); '
                '--noxla trains without XLA'
            ) from error
        end = time.perf_counter()
        self.pace_from = self.state.counter, end
        print(f' [*] XLA has compiled it, in {end - start:.1f} s', flush=True)

    def print_losses(self, result) -> None:
        """Print the original's line of an iteration; add it to metrics.csv."""
        self.unsaved = result
        d_loss_fake, d_loss_real, g_loss = result.losses
        state, seconds = self.state, time.perf_counter() - self.started
        print_line(
            f'[{state.counter:8d} Epoch:[{state.epoch:2d}/{self.config.epoch:2d}] '
            f'[{state.batch - 1:4d}/{self.epoch_batches:4d}] time: {seconds:4.4f}, '
            f'd_loss: {d_loss_fake + d_loss_real:.8f}, g_loss: {g_loss:.8f}'
        )

    def check_finite(self, result, variables: list) -> None:
        """Raise UserError for a loss, or the sum of a variable, that is not finite."""
        if is_finite(result):
            return
        names = not_finite(LOSSES, result.losses)
        names = names or not_finite([v.op.name for v in variables], result.sums)
        raise self._not_finite(names)

    def stops(self, stop: float, signals: list[int]) -> bool:
        """Whether a signal asks to end: of several workers, all in one iteration.

        stop  of a Iteration of arrays
        """
        if self.workers.count == 1:
            return bool(signals)
        if stop and not signals:
            signals.append(signal.SIGTERM)
        return bool(stop)

    def log(self, result, z: np.ndarray) -> None:
        """Log an iteration, a Iteration of arrays, as summaries and metrics."""
        if not self.workers.is_chief:
            return
        self.summaries.add(result, z, self.state.counter, self.rates())
        state, (d_loss_fake, d_loss_real, g_loss) = self.state, result.losses
        losses = d_loss_fake + d_loss_real, d_loss_real, d_loss_fake, g_loss
        position = state.counter, state.epoch, state.batch - 1
        seconds = time.perf_counter() - self.started
        self.recorder.add(position, (*losses, *result.means, *self.rates()), seconds)

    def is_time_for_samples(self) -> bool:
        """Whether a grid of samples is due."""
        return self._is_due(self.config.sample_freq, 'sample_epochs')

    def _is_due(self, freq, epochs_name):
        """Each `freq` iterations, and at the end of each N-th epoch, if N is set."""
        state, every = self.state, getattr(self.ways, epochs_name)
        ends = every and state.ends_epoch and (state.epoch + 1) % every == 0
        return bool(ends) or state.counter % freq == 0

    def save_samples(self) -> None:
        """Write the grid of samples of this iteration."""
        if not self.workers.is_chief:
            return
        # The sampler runs alone: a loss in the same run would update the moving
        # averages while the sampler reads them.
        samples = self.sess.run(self.dcgan.sampler, self.sample_feed)
        self._save_grid(samples, f'train_{self.state.counter:08d}.png')
        if self.state.counter:
            images = self.sample_feed[self.dcgan.inputs]
            self.recorder.add_grid(self.state.counter, samples, images)

    def _save_grid(self, images, name):
        path = os.path.join(self.config.sample_dir, name)
        save_images(images, image_manifold_size(len(images)), path)

    def _save_beginning(self):
        """Write the grids of what D is shown, and of what G draws before training."""
        self._save_grid(self.sample_feed[self.dcgan.inputs], 'real.png')
        self.save_samples()

    def print_sample_losses(self) -> None:
        """Print the original's line of losses on the sample batch."""
        d_loss, g_loss = self.sess.run(
            self.dcgan.sample_losses, self.loss_feed, self.workers.run_options
        )
        print_line(f'[Sample] d_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}')
        names = not_finite(['d_loss', 'g_loss'], [d_loss, g_loss])
        if names:
            raise self._not_finite(names)

    def print_pace(self, result) -> None:
        """Print iterations a second, the time that is left, and the means of D."""
        first, started = self.pace_from
        state, seconds = self.state, time.perf_counter() - started
        done = state.counter - first
        if not done:  # the only iteration has been compiled, too
            return
        remaining = (self.config.epoch - state.epoch) * self.epoch_batches - state.batch
        left = timedelta(seconds=round(remaining * seconds / done))
        d_real, d_fake = result.means[:2]
        print_line(
            f' [*] {done / seconds:.2f} iterations/s, {left} left, D(x) {d_real:.2f}, '
            f'D(G(z)) {d_fake:.2f}'
        )

    def save(self, stop: bool) -> bool:
        """Save if a checkpoint is due or training ends. Returns whether it ends.

        It ends after the last iteration, or where it is to `stop`.
        """
        state = self.state
        state.finishing = state.is_last or stop
        is_due = self._is_due(self.config.ckpt_freq, 'ckpt_epochs')
        if state.finishing:
            self.folder.protected = []
        if not self.workers.is_chief:
            self.unsaved = None
        elif is_due or state.finishing:
            state.write(self.sess)
            name = f'model.b{self.dcgan.batch_size}-{state.counter}'
            # a final checkpoint off the schedule is one more than max_to_keep
            extra = int(not is_due)
            self.folder.write(self.sess, state.saver, name, self.meta, extra)
            self.unsaved = None
            self.summaries.flush()
        return state.finishing

    def finish(self) -> None:
        """Leave a grid of samples of the last iteration of all; print where it is."""
        state, config = self.state, self.config
        if state.counter == self.first:
            print(
                f' [*] All {config.epoch} epochs are done; a higher --epoch resumes '
                'training'
            )
        if state.counter == self.first or not state.is_last:
            return
        if not self.is_time_for_samples():
            self.save_samples()
        print(
            f' [*] Trained: see {config.sample_dir}/train_{state.counter:08d}.png',
            flush=True,
        )

    def _not_finite(self, names):
        last_good = self.folder.last_good() if self.workers.is_chief else "the chief's"
        advice = f'the last good checkpoint is {last_good}'
        if last_good is None:
            advice = 'no checkpoint was saved yet'
        return UserError(
            f'iteration {self.state.counter}: not finite: {", ".join(names)}; training '
            f'stops; {advice}; try a lower --learning_rate'
        )


def is_finite(result) -> bool:
    """Whether the losses and the weights of a Iteration of arrays are finite."""
    return bool(np.isfinite(result.losses).all() and np.isfinite(result.sums).all())


def not_finite(names: list[str], values: np.ndarray) -> list[str]:
    """The names of the values that are NaN or infinite."""
    return [names[i] for i in np.flatnonzero(~np.isfinite(values))]


def warn_of_settings(images: int, batch_size: int) -> None:
    """Warn of settings with which training is known to fail."""
    if images < FEW_IMAGES:
        print(
            f' [!] Only {images} images: D will memorize them and G will stop '
            f'learning; use {FEW_IMAGES} or more'
        )
    if batch_size < SMALL_BATCH:
        print(
            f' [!] A batch of {batch_size} is small: the statistics of batch norm will '
            f'be mostly noise; use {SMALL_BATCH} or more'
        )


def check_training(dcgan, config) -> str | None:
    """Raise UserError where dcgan.train(config) could not start. Writes nothing.

    Returns the path prefix of the checkpoint from which it would resume, or None.
    """
    if dcgan.data is None:
        raise UserError('no data to train on: the model was built with data_dir None')
    Ways.of(config).check(config.epoch)
    if config.epoch < 1:
        raise UserError(f'epoch {config.epoch} has to be positive')
    if dcgan.sample_num != dcgan.batch_size:
        raise UserError(
            f'sample_num {dcgan.sample_num} has to be batch_size, {dcgan.batch_size}'
        )
    if config.train_size < dcgan.batch_size:
        raise UserError(
            f'train_size {config.train_size} is less than a batch of '
            f'{dcgan.batch_size}; raise --train_size or lower --batch_size'
        )
    dcgan.workers.split_batch(dcgan.batch_size)
    # data that cannot be decoded fails now, before there is a run folder
    dcgan.data.first_usable(dcgan.sample_num)
    if not dcgan.workers.is_chief:
        return None  # what it goes on from, the chief sends
    resume_step = getattr(config, 'resume_step', None)
    path = newest_checkpoint(dcgan.checkpoint_dir, resume_step)
    if path:
        check_shapes(path, dcgan.variables)
    return path
