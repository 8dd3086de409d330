"""Configure TensorFlow sessions, make ops deterministic, and compile by XLA."""

import os
import random
import re
from collections.abc import Callable

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.python.framework import config as determinism

from dcgan.util.errors import short_reason


def session_config() -> tf.ConfigProto:
    """Options of sessions: on MNIST, 7% less memory than by default at equal speed."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    # only these help: constant folding would keep the zeros that Adam starts from
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(['pruning', 'dependency', 'layout', 'remap'])
    # a second pass would fuse convolution and LeakyRelu, and lose what gradients need
    rewrites.meta_optimizer_iterations = type(rewrites).ONE
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return config


def repeat_results(seed: int | None) -> None:
    """Seed all random numbers and make all ops deterministic, slower on GPUs.

    None undoes what an earlier call made deterministic.
    """
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed)
        tf.set_random_seed(seed)
        determinism.enable_op_determinism()
    elif determinism.is_op_determinism_enabled():
        determinism.disable_op_determinism()


def can_compile(function=lambda x: tf.tanh(tf.matmul(x, x))) -> bool:
    """Whether XLA can compile a function of a matrix; else prints what to install."""
    if 'cache_directory' not in os.environ.get('TF_XLA_FLAGS', ''):
        print(' [!] No cache of XLA: XDG_CACHE_HOME is full, or cannot be written')
    with tf.Graph().as_default(), tf.Session(config=session_config()) as sess:
        y = xla_function(function)(tf.ones([8, 8]))
        try:
            sess.run(y)
        except tf.errors.OpError as error:
            what = f'({short_reason(error)}); training goes on without it'
            advice = "pip install 'tensorflow[and-cuda]' brings ptxas and libdevice"
            print(f' [!] XLA cannot compile here {what}; for a GPU, {advice}')
            return False
    return True


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of Python or TensorFlow says that memory is used up."""
    words = r'(?i)\bOOM\b|out of memory|failed to allocate|Dst tensor is not'
    if isinstance(error, tf.errors.OpError):  # a full disk is one of them, too
        return bool(re.search(words, error.message))
    return isinstance(error, MemoryError)


def xla_function(function: Callable) -> Callable:
    """A function of tensors that XLA compiles as one program."""

    def compiled(*args):
        return function(*args)

    if determinism.is_op_determinism_enabled():
        # not the program in XLA's cache that was compiled before repeat_results
        compiled.__name__ = 'repeatable'
    return tf.function(compiled, jit_compile=True, autograph=False)
