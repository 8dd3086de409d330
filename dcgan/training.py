"""What surrounds the training loop: its state, its summaries, its checks and lines."""

import contextlib
import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.checkpoints import (
    check_shapes,
    has_training_state,
    meta_graph,
    newest_checkpoint,
    restore,
    step_of,
    write_meta,
)
from dcgan.errors import UserError, short_reason
from dcgan.files import remove_leftovers, write_errors
from dcgan.images import image_manifold_size, save_images
from dcgan.samples import gen_random

FEW_IMAGES, SMALL_BATCH = 1000, 16  # below these, training is known to fail


class TrainingState:
    """How far training has come. Checkpoints hold it beside weights and Adam's slots.

    counter        the iteration that runs, or that was completed last
    epoch, batch   the epoch that runs, from 0, and how many of its batches were drawn
    sample_z       [sample_num, z_dim] float64, z of the sample grids
    sample_files   [sample_num], indices of the images for the losses of samples
    is_last        whether the iteration is the last one of all
    finishing      whether training ends with the next checkpoint

    The order of the epoch is the data set's, the random state NumPy's global one; a
    checkpoint holds both. `saver` saves all of it, and each variable that exists when
    this object is made.
    """

    def __init__(self, data):
        self.data = data
        self.restart(np.zeros((0, 0)))
        self.variables = {}
        with tf.device('/cpu:0'):
            for name, array in self._arrays().items():
                # of any shape: the data set may have changed when it is restored
                initial = tf.placeholder_with_default(np.zeros((), array.dtype), None)
                self.variables[name] = tf.Variable(
                    initial,
                    trainable=False,
                    validate_shape=False,
                    name=f'training/{name}',
                )
        self.saver = tf.train.Saver(tf.global_variables(), max_to_keep=None)

    def restart(self, sample_z: np.ndarray) -> None:
        """Begin before the first iteration, with this z for the sample grids."""
        self.counter = self.epoch = self.batch = 0
        self.sample_z = sample_z
        self.sample_files = self.data.first_usable(len(sample_z))
        self.is_last = self.finishing = False

    def _arrays(self):
        _, key, position, has_gauss, gauss = np.random.get_state()
        return {
            'counter': np.int64(self.counter),
            'epoch': np.int64(self.epoch),
            'batch': np.int64(self.batch),
            'ended': np.int64(self.finishing),
            'files': np.int64(self.data.fingerprint),
            'order': self.data.order,
            'sample_files': self.sample_files,
            'sample_z': self.sample_z,
            'random_key': key.astype(np.int64),
            'random_position': np.int64(position),
            'random_gauss': np.float64([has_gauss, gauss]),
        }

    def write(self, sess: tf.Session) -> None:
        """Set the variables, so that `saver` saves the state."""
        feed = {
            self.variables[name].initializer.inputs[1]: array
            for name, array in self._arrays().items()
        }
        sess.run([v.initializer for v in self.variables.values()], feed)

    def read(self, sess: tf.Session) -> None:
        """Resume from the state that the variables were restored to; print where."""
        stored = sess.run(self.variables)
        has_gauss, gauss = stored['random_gauss']
        np.random.set_state(
            (
                'MT19937',
                stored['random_key'].astype(np.uint32),
                int(stored['random_position']),
                int(has_gauss),
                gauss,
            )
        )
        self.counter, self.epoch = int(stored['counter']), int(stored['epoch'])
        where = f'after iteration {self.counter}, in epoch {self.epoch}'
        same_data = stored['files'] == self.data.fingerprint
        if same_data and stored['sample_z'].shape == self.sample_z.shape:
            self.batch = int(stored['batch'])
            self.data.order[:] = stored['order']
            self.sample_z = stored['sample_z']
            self.sample_files = stored['sample_files']
            print(f' [*] Resuming {where}, batch {self.batch}', flush=True)
        else:
            change = 'the batch size' if same_data else 'the data set'
            print(
                f' [!] Resuming {where}, from its beginning: {change} has changed',
                flush=True,
            )


class Training:
    """What surrounds the loop of one call of DCGAN.train.

    It starts or resumes the run, yields batches, writes summaries, lines, sample grids
    and checkpoints, and checks the results. As a context manager, it closes its files
    and the data set. `dcgan` is a model.DCGAN, `config` what its train() takes.
    """

    def __init__(self, dcgan, config, state: TrainingState, checkpoint: str | None):
        """Initialize the weights, or restore them and `state` from `checkpoint`."""
        self.dcgan, self.config, self.state = dcgan, config, state
        self.sess, self.data = dcgan.sess, dcgan.data
        self.epoch_batches = self._count_batches()
        self.folder = dcgan.checkpoint_folder(config.checkpoint_dir)
        self.folder.protected = []
        sample_shape = dcgan.sample_num, dcgan.z_dim
        state.restart(gen_random(config.z_dist, sample_shape))
        for path in (dcgan.out_dir, dcgan.checkpoint_dir, dcgan.sample_dir):
            remove_leftovers(path)
        self._start(checkpoint)
        self.first = state.counter
        self.sample_feed = dcgan.feed(
            *self.data.take(state.sample_files), state.sample_z
        )
        logs = os.path.join(dcgan.out_dir, 'logs')
        self.summaries = SummaryLog(logs, self.sess.graph, state.counter)
        if checkpoint is not None:  # last, because nothing fails after this
            folder = dcgan.checkpoint_folder(os.path.dirname(checkpoint))
            folder.take_over(checkpoint)
        self.started = time.perf_counter()

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
        self.meta = meta_graph(self.state.saver)
        if checkpoint is None:
            print(f' [*] No checkpoint yet in {self.dcgan.checkpoint_dir}', flush=True)
            return
        if is_ours:
            restore(self.sess, self.state.saver, checkpoint)
            self.state.read(self.sess)
        else:  # the original's: resume as it does, at its number, with epoch 0
            restore(self.sess, self.dcgan.saver, checkpoint)
            self.state.counter = step_of(checkpoint) - 1
            print(
                ' [*] It holds only weights: epochs and Adam start from the beginning',
                flush=True,
            )
        if not os.path.exists(f'{checkpoint}.meta'):  # often left out of copies
            write_meta(checkpoint, self.meta)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.data.close()
        self.summaries.close(ignore_errors=error is not None)
        loss = None
        if isinstance(error, tf.errors.InvalidArgumentError):
            loss = nan_loss(error)
        not_finite = self._not_finite([loss]) if loss else None
        self.folder.protected = []
        if not_finite:
            raise not_finite from error

    def batches(self) -> Iterator[tuple]:
        """Yield uint8 images, labels or None, and z of each iteration that is left.

        Keeps the state. Draws random numbers in the original's order.
        """
        state, size, epochs = self.state, self.dcgan.batch_size, self.config.epoch
        while state.epoch < epochs:
            if state.batch == 0:
                self.data.shuffle()
            data = self.data.batches(size, self.epoch_batches, state.batch)
            for images, labels in data:
                z = gen_random(self.config.z_dist, (size, self.dcgan.z_dim))
                state.counter, state.batch = state.counter + 1, state.batch + 1
                state.is_last = (state.epoch + 1, state.batch) == (
                    epochs,
                    self.epoch_batches,
                )
                yield images, labels, z
            state.epoch, state.batch = state.epoch + 1, 0

    def log(self, result) -> None:
        """Write the summaries of an iteration, a model.Iteration of values."""
        self.summaries.add(result.summaries, self.state.counter)

    def print_losses(self, result) -> None:
        """Print the original's line of an iteration."""
        state, seconds = self.state, time.perf_counter() - self.started
        print(
            f'[{state.counter:8d} Epoch:[{state.epoch:2d}/{self.config.epoch:2d}] '
            f'[{state.batch - 1:4d}/{self.epoch_batches:4d}] time: {seconds:4.4f}, '
            f'd_loss: {result.d_loss_fake + result.d_loss_real:.8f}, '
            f'g_loss: {result.g_loss:.8f}',
            flush=True,
        )

    def check_finite(self, result, variables: list) -> None:
        """Raise UserError for a loss, or the sum of a variable, that is not finite."""
        losses = ('d_loss_fake', 'd_loss_real', 'g_loss')
        names = [name for name in losses if not np.isfinite(getattr(result, name))]
        names = names or [
            variable.op.name
            for variable, total in zip(variables, result.sums)
            if not np.isfinite(total)
        ]
        if names:
            raise self._not_finite(names)

    def save_samples(self) -> None:
        """Write the grid of samples of this iteration."""
        # The sampler runs alone: a loss in the same run would update the moving
        # averages while the sampler reads them.
        samples = self.sess.run(self.dcgan.sampler, self.sample_feed)
        name = f'train_{self.state.counter:08d}.png'
        path = os.path.join(self.config.sample_dir, name)
        save_images(samples, image_manifold_size(len(samples)), path)

    def print_sample_losses(self) -> None:
        """Print the original's line of losses on the sample batch."""
        d_loss, g_loss = self.sess.run(self.dcgan.sample_losses, self.sample_feed)
        print(f'[Sample] d_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}', flush=True)
        losses = {'d_loss': d_loss, 'g_loss': g_loss}
        names = [name for name, loss in losses.items() if not np.isfinite(loss)]
        if names:
            raise self._not_finite(names)

    def print_pace(self) -> None:
        """Print iterations a second and the time that the remaining ones will take."""
        state, seconds = self.state, time.perf_counter() - self.started
        done = state.counter - self.first
        remaining = (self.config.epoch - state.epoch) * self.epoch_batches - state.batch
        left = timedelta(seconds=round(remaining * seconds / done))
        print(f' [*] {done / seconds:.2f} iterations/s, {left} left', flush=True)

    def save(self, stop: bool) -> bool:
        """Save if a checkpoint is due or training ends. Returns whether it ends.

        It ends after the last iteration, or where it is to `stop`.
        """
        state = self.state
        state.finishing = state.is_last or stop
        is_due = state.counter % self.config.ckpt_freq == 0
        if state.finishing:
            self.folder.protected = []
        if is_due or state.finishing:
            state.write(self.sess)
            name = f'model.b{self.dcgan.batch_size}-{state.counter}'
            # a final checkpoint off the schedule is one more than max_to_keep
            extra = int(not is_due)
            self.folder.write(self.sess, state.saver, name, self.meta, extra)
            self.summaries.flush()
        return state.finishing

    def finish(self) -> None:
        """Leave a grid of samples of the last iteration of all; print where it is."""
        state, config = self.state, self.config
        if state.counter == self.first and state.epoch >= config.epoch:
            print(
                f' [*] All {config.epoch} epochs are done; a higher --epoch resumes '
                'training'
            )
        if state.counter == self.first or not state.is_last:
            return
        if state.counter % config.sample_freq:
            self.save_samples()
        print(
            f' [*] Trained: see {config.sample_dir}/train_{state.counter:08d}.png',
            flush=True,
        )

    def _not_finite(self, names):
        last_good = self.folder.last_good()
        advice = f'the last good checkpoint is {last_good}'
        if last_good is None:
            advice = 'no checkpoint was saved yet'
        return UserError(
            f'iteration {self.state.counter}: not finite: {", ".join(names)}; training '
            f'stops; {advice}; try a lower --learning_rate'
        )


class SummaryLog:
    """Summaries of a training run for TensorBoard, in a folder.

    Raises UserError where the folder cannot be written.
    """

    def __init__(self, folder: str, graph: tf.Graph, last_step: int):
        """Events after `last_step`, by a process that was killed, become void."""
        self.folder = folder
        with self._write_errors():
            # with a suffix, because names hold the time in seconds: a second call of
            # train() would overwrite the file of the first
            suffix = f'.{last_step}' if last_step else ''
            self.writer = tf.summary.FileWriter(folder, graph, filename_suffix=suffix)
        if last_step:
            start = tf.SessionLog(status=tf.SessionLog.START)
            self.writer.add_session_log(start, last_step + 1)

    def add(self, summaries: list[bytes], step: int) -> None:
        """Log serialized summaries of an iteration."""
        with self._write_errors():
            for summary in summaries:
                self.writer.add_summary(summary, step)

    def flush(self) -> None:
        """Wait until the file holds all that was logged."""
        with self._write_errors():
            self.writer.flush()

    def close(self, ignore_errors=False) -> None:
        """Close the file. Errors are ignored where another one matters more."""
        with contextlib.suppress(Exception) if ignore_errors else self._write_errors():
            self.writer.close()

    def _write_errors(self):
        return write_errors(self.folder, Exception)  # its thread may fail with any


def nan_loss(error: Exception) -> str | None:
    """The loss that is NaN, where TensorFlow's histogram summary met the NaN first."""
    match = re.match('Nan in summary histogram for: .*/(d_?)$', short_reason(error))
    return {'d': 'd_loss_real', 'd_': 'd_loss_fake'}[match[1]] if match else None


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
    # data that cannot be decoded fails now, before there is a run folder
    dcgan.data.first_usable(dcgan.sample_num)
    resume_step = getattr(config, 'resume_step', None)
    path = newest_checkpoint(dcgan.checkpoint_dir, resume_step)
    if path:
        check_shapes(path, dcgan.variables)
    return path
