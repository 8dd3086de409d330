"""Keep moving averages of G's weights, from which better images are drawn.

They even out the cycles of training (Yazici et al., https://arxiv.org/abs/1806.04498).
"""

import contextlib

import tensorflow.compat.v1 as tf

from dcgan.training.checkpoints import checkpoint_shapes, set_variables

PREFIX = 'ema/'  # of the averages' names, in graphs and in checkpoints


class Averages:
    """Moving averages of variables: `of` is {name of a variable: its average}.

    Each move replaces a share 1 - r of an average by its variable. r is the rate, in
    (0, 1), or (1 + n) / (10 + n) after n moves where that is less, to forget the start.
    `start` is an op that sets the averages to the variables' values.
    """

    def __init__(self, variables: list[tf.Variable], rate: float):
        self.rate = rate
        self.of = {v.op.name: self._variable(v.op.name, v.shape) for v in variables}
        self._pairs = list(zip(self.of.values(), variables))  # (average, variable)
        self._moves = self._variable('moves', [], tf.int64)
        with tf.control_dependencies([self._moves.assign(0)]):
            self.start = tf.group(*(a.assign(v) for a, v in self._pairs))

    def _variable(self, name, shape, dtype=tf.float32):
        options = {'trainable': False, 'use_resource': True, 'name': f'{PREFIX}{name}'}
        return tf.Variable(tf.zeros(shape, dtype), **options)

    def used(self) -> contextlib.AbstractContextManager:
        """A block in which layers that are built use averages as their variables."""

        def average(getter, name, *args, **kwargs):
            return self.of[name]

        return tf.variable_scope(tf.get_variable_scope(), custom_getter=average)

    def move(self) -> tf.Operation:
        """An op that moves the averages towards what the variables are now."""
        moves = tf.cast(self._moves.assign_add(1), tf.float32) - 1.0
        kept = tf.minimum(self.rate, (1.0 + moves) / (10.0 + moves))
        return tf.group(*(a.assign_sub((1.0 - kept) * (a - v)) for a, v in self._pairs))

    def restore(self, sess: tf.Session, path: str | None) -> None:
        """Restore them from a checkpoint; where it has none, start them."""
        if path and has_averages(path):
            set_variables(sess, [*self.of.values(), self._moves], path)
        else:
            sess.run(self.start)


def has_averages(path: str) -> bool:
    """Whether a checkpoint holds averages. Raises UserError if it is unreadable."""
    return f'{PREFIX}moves' in checkpoint_shapes(path)
