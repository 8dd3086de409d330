"""Say how a network computes in one forward pass, and in which variable scope."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf


class Pass(NamedTuple):
    """How a network computes in one forward pass."""

    # batch norm uses the batch's statistics and updates the moving averages, else these
    train: bool = True
    dtype: tf.DType = tf.float32  # of the layers; or bfloat16
    # of a layer's momentum: the one with which this pass updates
    momentum: Callable[[float], float] = lambda momentum: momentum
    # both take each hidden activation of D; what dropout returns goes on
    dropout: Callable[[tf.Tensor], tf.Tensor] | None = None
    probe: Callable[[tf.Tensor], Any] | None = None

    def cast(self, x: tf.Tensor | None) -> tf.Tensor | None:
        """x in the type of the layers."""
        return None if x is None else tf.cast(x, self.dtype)

    def norm(self, dcgan, x: tf.Tensor, name: str) -> tf.Tensor:
        """x, normalized by a batch norm of the model, an attribute of that name."""
        layer = getattr(dcgan, name)
        return layer(x, self.train, self.momentum(layer.momentum))

    def hidden(self, activation: Callable, x: tf.Tensor) -> tf.Tensor:
        """A hidden activation of D, as the next layer gets it."""
        x = self.dropout(activation(x)) if self.dropout else activation(x)
        if self.probe:
            self.probe(x)
        return x


SAMPLING = Pass(train=False)


class Scopes(dict):
    """{name: variable scope} of the networks of a model; called to open one."""

    @contextlib.contextmanager
    def __call__(self, name: str, reuse: bool) -> Iterator[None]:
        """Open a new scope or the first pass's, keeping the getter around it."""
        # re-entered as an object: by its name, TensorFlow would count op names anew
        scope = self[name] if reuse else name
        getter = tf.get_variable_scope().custom_getter
        options = {'reuse': reuse, 'use_resource': True, 'custom_getter': getter}
        with tf.variable_scope(scope, **options) as scope:
            self.setdefault(name, scope)
            yield
