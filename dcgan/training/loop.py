"""Run the training loop: resume, train on batches, log, draw samples, save."""

import contextlib
import itertools
import os
import time
from datetime import timedelta

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.session import lacks_memory
from dcgan.record.profiler import profiled
from dcgan.training import checkpoints, user_model
from dcgan.training.augment import check_kinds
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.inputs import flip
from dcgan.training.options import DEFAULTS, Options
from dcgan.training.original_iteration import OriginalIteration
from dcgan.training.outputs import NoOutputs, Outputs
from dcgan.training.prefetch import Batch, fed_ahead
from dcgan.training.state import Position, TrainingState
from dcgan.training.weights import check_weights, load_adam, load_weights
from dcgan.util.errors import Interrupted, UserError, short_reason
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar
from dcgan.util.signals import deferred_signals
from dcgan.util.z import gen_random

FEW_IMAGES, SMALL_BATCH = 1000, 16  # below these, training is known to fail


class Training(contextlib.AbstractContextManager):
    """What one call of `train` needs; at the end of its block, it closes its files."""

    def __init__(self, dcgan, config, checkpoint: str | None):
        """Initialize the weights, or restore them and the state from `checkpoint`."""
        self.dcgan, self.config = dcgan, config
        self.state, self.iteration = state, _ = prepare(dcgan, config)
        self.sess, self.data, self.workers = dcgan.sess, dcgan.data, dcgan.workers
        self.options = Options.of(config)
        self.epoch_batches = self._count_batches()
        self.feeder = fed_ahead(self.sess, self.iteration.batches, self._draw())
        self.unsaved = None  # the Iteration that is completed but not saved
        self.lacks_sample_losses = False  # whose pass updates moving averages
        self.z_dist = getattr(config, 'z_dist', 'uniform_signed')
        state.restart(gen_random(self.z_dist, (dcgan.sample_num, dcgan.z_dim)))
        self._start(checkpoint)
        if self.workers.share(self.sess, state.write):  # the variables of the chief
            state.read(self.sess, config.train_size)
        self.first = state.at.counter
        images, labels = self.data.take(state.sample_files)
        self.sample_feed = dcgan.feed(images, labels, state.sample_z)
        outputs = Outputs if self.workers.is_chief else NoOutputs
        self.outputs = outputs(self, checkpoint)
        self.started = time.perf_counter()
        # (iteration, time) from which the pace is measured: without compilation
        self.pace_from = self.first, self.started

    def _count_batches(self):
        """The number of batches in an epoch. Warns of settings known to fail."""
        images, limit = len(self.data), self.config.train_size
        batch_size = self.dcgan.batch_size
        epochs = self.config.epoch if self.data.reshuffles else 1
        in_all = int(min(images, limit * epochs))
        if in_all < FEW_IMAGES and not self.options.augment:
            why = 'D will memorize them and G will stop learning'
            advice = f'use {FEW_IMAGES} or more, or --augment translation'
            print(f' [!] Only {in_all} images: {why}; {advice}')
        if batch_size < SMALL_BATCH:
            why = 'is small: the statistics of batch norm will be mostly noise'
            print(f' [!] A batch of {batch_size} {why}; use {SMALL_BATCH} or more')
        return int(min(images, limit)) // batch_size

    def _start(self, checkpoint):
        is_ours = checkpoint is not None and checkpoints.has_training_state(checkpoint)
        if not is_ours:
            self.sess.run(tf.global_variables_initializer())
        if checkpoint is None:
            print_line(f' [*] No checkpoint yet in {self.dcgan.checkpoint_dir}')
        elif is_ours:
            checkpoints.restore(self.sess, self.state.restorer, checkpoint)
            self.state.read(self.sess, self.config.train_size)
        else:  # the original's: resume as it does, at its number, with epoch 0
            load_weights(self.sess, self.dcgan.variables, checkpoint)
            counter = checkpoints.step_of(checkpoint) - 1
            self.state.at = self.state.at._replace(counter=counter)
            has_adam = load_adam(self.sess, checkpoint)
            line = 'and Adam only: epochs' if has_adam else 'only: epochs and Adam'
            print(f' [*] It holds weights {line} start anew')
        if self.dcgan.averages:
            self.dcgan.averages.restore(self.sess, checkpoint)

    def __exit__(self, kind, error, traceback):
        self.feeder.close()
        self.state.rewind()
        self.outputs.profiler.close()
        self.data.close()
        self.outputs.close(error)

    def _draw(self):
        """Yield (Batch, Position) of each iteration that is left."""
        epochs, at = self.config.epoch, self.state.at
        counter, first = at.counter, at.batch
        for epoch in range(at.epoch, epochs):
            if first == 0:
                self.data.shuffle()
            for number, (batch, z) in enumerate(self._draw_epoch(first), first + 1):
                counter += 1
                ends_epoch = number == self.epoch_batches
                is_last = ends_epoch and epoch + 1 == epochs
                drawn = self.data.order, np.random.get_state(), z
                at = Position(counter, epoch, number, ends_epoch, is_last, *drawn)
                yield batch, at
            first = 0

    def _draw_epoch(self, first=0):
        """Yield (this worker's Batch, z of all), with the original's random numbers."""
        size, part = self.dcgan.batch_size, self.workers.slice
        for images, labels in self.data.batches(size, self.epoch_batches, first, part):
            z = gen_random(self.z_dist, (size, self.dcgan.z_dim))
            z, seed = z.astype(np.float32), None
            if self.options.flip:
                images = flip(images, size, part)
            if self.iteration.batches.next.seed is not None:
                seed = np.random.randint(0, 2**31 - 1, 2, np.int32)
            yield Batch(images, labels, z[part], seed), z

    def rates(self) -> list[float]:
        """The learning rates of D and of G in this iteration."""
        config, epoch = self.config, self.state.at.epoch
        return self.options.rates(config.learning_rate, epoch, config.epoch)

    def pretrain(self, signals: list[int]) -> None:
        """Train D alone, before a new run. Raises Interrupted for one of `signals`."""
        total, done = 0 if self.first else self.options.pretrain_d, 0
        if not total:
            return
        with progress_bar('D alone', total, ' iterations') as bar:
            while done < total:
                self.data.shuffle()
                for batch, _ in itertools.islice(self._draw_epoch(), total - done):
                    stop = bool(signals)
                    d_loss, stop = self.iteration.pretrain(batch, self.rates(), stop)
                    bar.set_postfix(d_loss=f'{d_loss:.4f}')
                    bar.update()
                    done += 1
                    if self.workers.common_stop(stop, signals):
                        text = 'interrupted before the first iteration'
                        raise Interrupted(signals[0], text)
        drawn = {'order': self.data.order, 'random_state': np.random.get_state()}
        self.state.at = self.state.at._replace(**drawn)

    def iterate(self, position: Position, stop: bool):
        """The result of an iteration; print how long XLA compiles the first one."""
        self.unsaved, self.state.at = None, position
        self.outputs.profiler.begin(position.counter)
        if not self.dcgan.xla or self.pace_from[0] > self.first:
            return self.iteration(self.rates(), stop)
        print(' [*] XLA compiles the iteration')
        start = time.perf_counter()
        try:
            result = self.iteration(self.rates(), stop)
        except tf.errors.OpError as error:
            if lacks_memory(error):
                raise
            problem = f'the first iteration failed under XLA ({short_reason(error)})'
            raise UserError(f'{problem}; --noxla trains without XLA') from error
        self.pace_from = self.state.at.counter, time.perf_counter()
        print(f' [*] XLA has compiled it, in {self.pace_from[1] - start:.1f} s')
        return result

    def print_losses(self, result) -> None:
        """Print the original's line of an iteration."""
        self.unsaved, self.lacks_sample_losses = result, self.is_due('sample')
        d_loss, _, _, g_loss = result.losses
        at, seconds = self.state.at, time.perf_counter() - self.started
        print_line(
            f'[{at.counter:8d} Epoch:[{at.epoch:2d}/{self.config.epoch:2d}] '
            f'[{at.batch - 1:4d}/{self.epoch_batches:4d}] time: {seconds:4.4f}, '
            f'd_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}'
        )

    def not_finite(self, losses, sums=()) -> list[str]:
        """The losses or else, by their `sums`, the variables that are not finite."""
        # a model of a user may lack the others
        found = {'d_loss': losses[0], 'g_loss': losses[-1]}
        names = [name for name, loss in found.items() if not np.isfinite(loss)]
        broken = np.flatnonzero(~np.isfinite(sums))
        return names or [self.dcgan.variables[i].op.name for i in broken]

    def check_finite(self, losses, sums=()) -> None:
        """Raise UserError for a loss, or the sum of a variable, that is not finite."""
        if names := self.not_finite(losses, sums):
            problem = f'not finite: {", ".join(names)}; training stops'
            saved = f'last good checkpoint: {self.outputs.last_good()}'
            advice = f'{saved}; try a lower --learning_rate'
            raise UserError(f'iteration {self.state.at.counter}: {problem}; {advice}')

    def is_due(self, kind: str) -> bool:
        """Whether a grid (`sample`) or a checkpoint (`ckpt`) is due."""
        at, every = self.state.at, getattr(self.options, f'{kind}_epochs')
        ends = bool(every) and at.ends_epoch and (at.epoch + 1) % every == 0
        return ends or at.counter % getattr(self.config, f'{kind}_freq', 200) == 0

    def print_sample_losses(self) -> None:
        """Print the original's line of losses on the sample batch."""
        d_loss, g_loss = self.iteration.sample_losses(self.sample_feed)
        self.lacks_sample_losses = False
        print_line(f'[Sample] d_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}')
        self.check_finite([d_loss, g_loss])

    def print_pace(self, result) -> None:
        """Print iterations a second, the time that is left, and the means of D."""
        first, started = self.pace_from
        at, seconds = self.state.at, time.perf_counter() - started
        done = at.counter - first
        if not done:  # the only iteration has been compiled, too
            return
        remaining = (self.config.epoch - at.epoch) * self.epoch_batches - at.batch
        left = timedelta(seconds=round(remaining * seconds / done))
        means = f'D(x) {result.means[0]:.2f}, D(G(z)) {result.means[1]:.2f}'
        print_line(f' [*] {done / seconds:.2f} iterations/s, {left} left, {means}')

    def save(self, stop: bool) -> bool:
        """Save if that is due or training ends; returns whether it ends."""
        ends = self.state.at.is_last or stop
        self.outputs.keep_best(ends)
        if ends or self.is_due('ckpt'):
            self.outputs.save(ends)
        return ends

    def finish(self) -> None:
        """Leave a grid of samples of the last iteration of all; print where it is."""
        at, config = self.state.at, self.config
        if at.counter == self.first:
            done = f'All {config.epoch} epochs are done'
            print(f' [*] {done}; a higher --epoch resumes training')
        elif at.is_last:
            if not self.is_due('sample'):
                self.outputs.save_samples()
            grid = f'{config.sample_dir}/train_{at.counter:08d}.png'
            found = grid if os.path.isfile(grid) else config.checkpoint_dir
            print_line(f' [*] Trained: see {found}')


def train(dcgan, config, checkpoint: str | None = None) -> int:
    """Train a model.DCGAN from the newest checkpoint; returns the last iteration.

    `config` has learning_rate, beta1, epoch (the total), train_size, sample_dir,
    checkpoint_dir and, optionally, z_dist, sample_freq, ckpt_freq, G_img_sum,
    resume_step and the options of options.py. `checkpoint` is check_training's. Another
    call needs the same losses, beta1 and G_img_sum. Raises UserError where it cannot
    start or write, or meets a loss or weight that is not finite; Interrupted for a
    signal, after the iteration is saved.
    """
    # without one, look again: another process may have trained this run meanwhile
    training = Training(dcgan, config, checkpoint or check_training(dcgan, config))
    with deferred_signals() as signals, training:
        training.pretrain(signals)
        for position in training.feeder:  # when its batch is in the queue
            result = training.iterate(position, bool(signals))
            training.print_losses(result)
            training.check_finite(result.losses, result.sums)
            training.outputs.log(result)
            if training.is_due('sample'):
                training.outputs.save_samples()
                training.print_sample_losses()
                training.print_pace(result)
            if training.save(stop=dcgan.workers.common_stop(result.stop, signals)):
                break
    training.finish()
    counter = training.state.at.counter
    if signals:
        reached = f'{training.outputs.reached} iteration {counter}'
        raise Interrupted(signals[0], f'interrupted; {reached}')
    return counter


def prepare(dcgan, config) -> tuple:
    """(TrainingState, iteration) of a model, built by the first of its trainings."""
    names = ['beta1', 'G_img_sum', 'd_steps', 'g_steps', 'd_dropout', 'label_smoothing']
    names += ['r1', 'augment']
    settings = {n: getattr(config, n, DEFAULTS.get(n)) for n in names}
    settings['losses'] = [dcgan.d_loss.name, dcgan.g_loss.name]
    if dcgan.training is None:
        build = OriginalIteration if user_model.print_changes(dcgan) else FusedIteration
        iteration = build(dcgan, config)
        dcgan.training = TrainingState(dcgan.data), settings, iteration
    state, built, iteration = dcgan.training
    if built != settings:
        problem = f'cannot change {built} to {settings} between two calls'
        raise UserError(f'train() {problem}; build another DCGAN')
    return state, iteration


def check_training(dcgan, config) -> str | None:
    """Raise UserError where dcgan.train(config) could not start. Writes nothing.

    Returns the path prefix of the checkpoint from which it would resume, or None.
    """
    if dcgan.data is None:
        raise UserError('no data to train on: the model was built with data_dir None')
    options = Options.of(config)
    options.check_schedule(config.epoch)
    check_kinds(options.augment)
    profiled(options.profile)
    user_model.check_options(dcgan, options)
    if config.epoch < 1:
        raise UserError(f'epoch {config.epoch} has to be positive')
    if dcgan.sample_num != dcgan.batch_size:
        problem = f'sample_num {dcgan.sample_num} has to be batch_size'
        raise UserError(f'{problem}, {dcgan.batch_size}')
    if config.train_size < dcgan.batch_size:
        problem = f'is less than a batch of {dcgan.batch_size}'
        advice = 'raise --train_size or lower --batch_size'
        raise UserError(f'train_size {config.train_size} {problem}; {advice}')
    # data that cannot be decoded fails now, before there is a run folder
    dcgan.data.first_usable(dcgan.sample_num)
    if not dcgan.workers.is_chief:  # it gets the variables of the chief
        return None
    if path := checkpoints.newest_checkpoint(dcgan.checkpoint_dir, options.resume_step):
        check_weights(path, dcgan.variables)
    return path
