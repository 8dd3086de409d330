"""The state of a training run, which its checkpoints hold."""

from datetime import timedelta

import numpy as np
import tensorflow.compat.v1 as tf


class Progress:
    """How far a training run is. Checkpoints hold it beside weights and moments.

    counter        the iteration under way, or done
    epoch, batch   the epoch under way, and which of its batches, from 1
    sample_z       [sample_num, z_dim] float64, z of the sheets
    sample_files   [sample_num], the pictures of the sample losses
    is_last        whether the iteration is the last of all
    ended          whether the run ends with the next checkpoint
    is_extra       whether that is one beside those of max_to_keep
    spared         checkpoints that stay until then: that from which the run goes on,
                   and the one of its last end

    The order of the epoch is the data's, the random state NumPy's global one; a
    checkpoint holds both. `saver` has it and every variable that is there before it.
    """

    def __init__(self, data):
        self.data = data
        self.restart(np.zeros((0, 0)))
        self.variables = {}
        with tf.device('/cpu:0'):
            for name, array in self._arrays().items():
                # any shape: the data may have changed when it is restored
                initial = tf.placeholder_with_default(np.zeros((), array.dtype), None)
                self.variables[name] = tf.Variable(
                    initial,
                    trainable=False,
                    validate_shape=False,
                    name=f'training/{name}',
                )
        self.saver = tf.train.Saver(tf.global_variables(), max_to_keep=None)

    def restart(self, sample_z):
        """Begin with nothing done, and these z for the sheets."""
        self.counter = self.epoch = self.batch = 0
        self.sample_z = sample_z
        self.sample_files = self.data.first_usable(len(sample_z))
        self.is_last = self.ended = self.is_extra = False
        self.spared = []

    def _arrays(self):
        _, key, position, has_gauss, gauss = np.random.get_state()
        return {
            'counter': np.int64(self.counter),
            'epoch': np.int64(self.epoch),
            'batch': np.int64(self.batch),
            'ended': np.int64(self.ended),
            'files': np.int64(self.data.fingerprint),
            'order': self.data.order,
            'sample_files': self.sample_files,
            'sample_z': self.sample_z,
            'random_key': key.astype(np.int64),
            'random_position': np.int64(position),
            'random_gauss': np.float64([has_gauss, gauss]),
        }

    def write(self, sess):
        """Set the variables, to be saved."""
        feed = {
            self.variables[name].initializer.inputs[1]: array
            for name, array in self._arrays().items()
        }
        sess.run([v.initializer for v in self.variables.values()], feed)

    def read(self, sess):
        """Go on from what the variables were restored to."""
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
        done = f'after iteration {self.counter}, in epoch {self.epoch}'
        same_data = stored['files'] == self.data.fingerprint
        if same_data and stored['sample_z'].shape == self.sample_z.shape:
            self.batch = int(stored['batch'])
            self.data.order[:] = stored['order']
            self.sample_z, self.sample_files = (
                stored['sample_z'],
                stored['sample_files'],
            )
            print(f' [*] On {done}, batch {self.batch}', flush=True)
        else:
            what = 'another batch size' if same_data else 'other pictures'
            print(f' [!] On {done}, which begins anew: {what}', flush=True)


def print_pace(done, left, seconds):
    """Print iterations a second and the time that those left will take."""
    remaining = timedelta(seconds=round(left * seconds / done))
    print(f' [*] {done / seconds:.2f} iterations/s, {remaining} left', flush=True)
