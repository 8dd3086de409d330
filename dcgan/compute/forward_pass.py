"""Say how a network computes in one forward pass, and in which variable scope."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf


class Pass(NamedTuple):
    """How a network computes in one forward pass.

    train     batch norm uses the statistics of the batch and updates the moving
              averages; otherwise it uses the averages
    dtype     type of the layers, float32 or bfloat16
    momentum  function of a layer's momentum: the one with which this pass updates
    dropout   function of each hidden activation of D; None: there is none
    probe     function that is called with each hidden activation of D
    """

    train: bool = True
    dtype: tf.DType = tf.float32
    momentum: Callable[[float], float] = lambda momentum: momentum
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
        x = activation(x)
        x = self.dropout(x) if self.dropout else x
        if self.probe:
            self.probe(x)
        return x


SAMPLING = Pass(train=False)


class Scopes(dict):
    """{name: variable scope} of the networks of a model; called to open one."""

    @contextlib.contextmanager
    def __call__(self, name: str, reuse: bool) -> Iterator[None]:
        """A new scope, or that of the first pass, with its variables.

        It is re-entered as an object: by its name, TensorFlow would count the names of
        ops anew. Where the surrounding scope replaces variables, so does this one.
        """
        scope = self[name] if reuse else name
        getter = tf.get_variable_scope().custom_getter
        options = {'reuse': reuse, 'use_resource': True, 'custom_getter': getter}
        with tf.variable_scope(scope, **options) as scope:
            self.setdefault(name, scope)
            yield
