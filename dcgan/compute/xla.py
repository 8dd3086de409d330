"""Compile functions of tensors by XLA."""

import os
from collections.abc import Callable

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from dcgan.compute.session import session_config
from dcgan.util.errors import short_reason


def can_compile(function=lambda x: tf.tanh(tf.matmul(x, x))) -> bool:
    """Whether XLA can compile a function of a matrix; else prints what to install."""
    if 'cache_directory' not in os.environ.get('TF_XLA_FLAGS', ''):
        print(' [!] No cache of XLA: XDG_CACHE_HOME is full, or cannot be written')
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        x = tf.placeholder(tf.float32, [8, 8])
        y = xla_function(function)(x)
        try:
            sess.run(y, {x: np.ones(x.shape)})
        except tf.errors.OpError as error:
            print(
                f' [!] XLA cannot compile here ({short_reason(error)}); training goes '
                "on without it; pip install 'tensorflow[and-cuda]' brings ptxas and "
                'libdevice, which it needs for a GPU'
            )
            return False
    return True


def xla_function(function: Callable) -> Callable:
    """A function of tensors that XLA compiles as one program."""

    def compiled(*args):
        return function(*args)

    if is_op_determinism_enabled():
        # not the program in XLA's cache that was compiled before repeat_results
        compiled.__name__ = 'repeatable'
    return tf.function(compiled, jit_compile=True, autograph=False)
