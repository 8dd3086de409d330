"""Keep the state of a training, and store it in checkpoints."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.training.checkpoints import next_batch
from dcgan.training.ema import PREFIX


class Position(NamedTuple):
    """Where training is when an iteration is done: fields of TrainingState, and z."""

    counter: int
    epoch: int
    batch: int
    ends_epoch: bool
    is_last: bool
    order: np.ndarray
    random_state: tuple
    z: np.ndarray  # float32 [B, z_dim], of this iteration


class TrainingState:
    """How far training has come. Checkpoints hold it beside weights and Adam's slots.

    counter        the iteration that runs, or that was completed last
    epoch, batch   the epoch that runs, from 0, and how many of its batches were drawn
    sample_z       [sample_num, z_dim] float64, z of the sample grids
    sample_files   [sample_num], indices of the images for the losses of samples
    ends_epoch     whether the iteration is the last one of its epoch; a checkpoint
                   then holds the beginning of the next epoch
    is_last        whether the iteration is the last one of all
    order          the data set's order in this epoch
    random_state   NumPy's global random state after z of this iteration was drawn
    finishing      whether training ends with the next checkpoint

    `saver` saves all of it, and each variable that exists when this object is made.
    `restorer` restores what any checkpoint of a training has: all but the averages.
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
        variables = tf.global_variables()
        self.saver = self.restorer = tf.train.Saver(variables, max_to_keep=None)
        raw = [v for v in variables if not v.op.name.startswith(PREFIX)]
        if raw != variables:
            self.restorer = tf.train.Saver(raw, max_to_keep=None)

    def restart(self, sample_z: np.ndarray) -> None:
        """Begin before the first iteration, with this z for the sample grids."""
        self.counter = self.epoch = self.batch = 0
        self.sample_z = sample_z
        self.sample_files = self.data.first_usable(len(sample_z))
        self.ends_epoch = self.is_last = self.finishing = False
        self.order, self.random_state = self.data.order, np.random.get_state()

    def advance(self, position: Position) -> None:
        """Go on to an iteration. The next batches may have been drawn already."""
        self.counter, self.epoch, self.batch = position[:3]
        self.ends_epoch, self.is_last = position.ends_epoch, position.is_last
        self.order, self.random_state = position.order, position.random_state

    def rewind(self) -> None:
        """Undo what was drawn for later iterations."""
        self.data.order = self.order
        np.random.set_state(self.random_state)

    def _arrays(self):
        _, key, position, has_gauss, gauss = self.random_state
        return {
            'counter': np.int64(self.counter),
            'epoch': np.int64(self.epoch + self.ends_epoch),
            'batch': np.int64(0 if self.ends_epoch else self.batch),
            'ended': np.int64(self.finishing),
            'files': np.int64(self.data.fingerprint),
            'order': self.order,
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

    def read(self, sess: tf.Session, train_size: float) -> None:
        """Resume from the state that the variables were restored to; print where.

        train_size is the limit of images in an epoch.
        """
        stored = sess.run(self.variables)
        has_gauss, gauss = stored['random_gauss']
        self.random_state = (
            'MT19937',
            stored['random_key'].astype(np.uint32),
            int(stored['random_position']),
            int(has_gauss),
            gauss,
        )
        self.counter = int(stored['counter'])
        self.epoch, batch = next_batch(stored, train_size)
        where = f'after iteration {self.counter}, in epoch {self.epoch}'
        same_data = stored['files'] == self.data.fingerprint
        if same_data and stored['sample_z'].shape == self.sample_z.shape:
            self.batch = batch
            self.order = stored['order']
            self.sample_z = stored['sample_z']
            self.sample_files = stored['sample_files']
            print(f' [*] Resuming {where}, batch {self.batch}', flush=True)
        else:
            change = 'the batch size' if same_data else 'the data set'
            print(
                f' [!] Resuming {where}, from its beginning: {change} has changed',
                flush=True,
            )
        self.rewind()
