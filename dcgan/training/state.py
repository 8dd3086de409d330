"""Keep the state of a training, and store it in checkpoints."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.training.checkpoints import next_batch
from dcgan.training.ema import PREFIX


class Position(NamedTuple):
    """An iteration: where it is in the training, and what was drawn for it."""

    counter: int  # its number, from 1
    epoch: int  # from 0
    batch: int  # how many batches of the epoch were drawn, with this one
    ends_epoch: bool  # the last one of its epoch
    is_last: bool  # the last one of all
    order: np.ndarray  # the data set's order in this epoch
    random_state: tuple  # NumPy's global random state after z was drawn
    z: np.ndarray | None = None  # float32 [B, z_dim]


class TrainingState:
    """How far training has come: `at`, the Position that runs or was completed last.

    sample_z, float64 [sample_num, z_dim], is of the sample grids, and sample_files are
    the indices of the images for the losses of samples. `saver` saves all of it and
    each variable made before this object; `restorer` leaves out the averages.
    """

    def __init__(self, data):
        self.data = data
        self.restart(np.zeros((0, 0)))
        self.variables = {}
        with tf.device('/cpu:0'):
            for name, array in self._arrays().items():
                # of any shape: the data set may have changed when it is restored
                initial = tf.placeholder_with_default(np.zeros((), array.dtype), None)
                options = {'name': f'training/{name}', 'validate_shape': False}
                self.variables[name] = tf.Variable(initial, trainable=False, **options)
        variables = tf.global_variables()
        self.saver = self.restorer = tf.train.Saver(variables, max_to_keep=None)
        raw = [v for v in variables if not v.op.name.startswith(PREFIX)]
        if len(raw) < len(variables):
            self.restorer = tf.train.Saver(raw, max_to_keep=None)

    def restart(self, sample_z: np.ndarray) -> None:
        """Begin before the first iteration, with this z for the sample grids."""
        start = self.data.order, np.random.get_state()
        self.at = Position(0, 0, 0, False, False, *start)
        self.sample_z = sample_z
        self.sample_files = self.data.first_usable(len(sample_z))

    def rewind(self) -> None:
        """Undo what was drawn for later iterations."""
        self.data.order = self.at.order
        np.random.set_state(self.at.random_state)

    def _arrays(self, ends=False):
        at = self.at
        _, key, position, has_gauss, gauss = at.random_state
        return {
            'counter': np.int64(at.counter),
            # after the last batch of an epoch, the beginning of the next one
            'epoch': np.int64(at.epoch + at.ends_epoch),
            'batch': np.int64(0 if at.ends_epoch else at.batch),
            'ended': np.int64(ends),
            'files': np.int64(self.data.fingerprint),
            'order': at.order,
            'sample_files': self.sample_files,
            'sample_z': self.sample_z,
            'random_key': key.astype(np.int64),
            'random_position': np.int64(position),
            'random_gauss': np.float64([has_gauss, gauss]),
        }

    def write(self, sess: tf.Session, ends: bool = False) -> None:
        """Set the variables, so that `saver` saves the state; training may end here."""
        initializers = [v.initializer for v in self.variables.values()]
        arrays = self._arrays(ends).values()
        sess.run(initializers, {op.inputs[1]: a for op, a in zip(initializers, arrays)})

    def read(self, sess: tf.Session, train_size: float) -> None:
        """Resume from what the variables were restored to; print where."""
        stored = sess.run(self.variables)
        key, position = stored['random_key'], int(stored['random_position'])
        has_gauss, gauss = stored['random_gauss']
        state = 'MT19937', key.astype(np.uint32), position, int(has_gauss), gauss
        counter, (epoch, batch) = int(stored['counter']), next_batch(stored, train_size)
        self.at = self.at._replace(counter=counter, epoch=epoch, random_state=state)
        where = f'after iteration {counter}, in epoch {epoch}'
        same_data = stored['files'] == self.data.fingerprint
        if same_data and stored['sample_z'].shape == self.sample_z.shape:
            self.at = self.at._replace(batch=batch, order=stored['order'])
            self.sample_z = stored['sample_z']
            self.sample_files = stored['sample_files']
            print(f' [*] Resuming {where}, batch {batch}')
        else:
            change = 'the batch size' if same_data else 'the data set'
            print(f' [!] Resuming {where}, from its beginning: {change} has changed')
        self.rewind()
