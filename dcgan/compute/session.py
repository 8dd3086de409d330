"""Options of TensorFlow sessions, and deterministic ops."""

import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework.config import (
    disable_op_determinism,
    is_op_determinism_enabled,
)


def session_config() -> tf.ConfigProto:
    """How the session runs: on MNIST in 7% less memory than by default, as fast."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    # Only these graph rewrites help. Constant folding would keep, among others, the
    # zeros that Adam starts from in memory.
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(['pruning', 'dependency', 'layout', 'remap'])
    # in a second pass, the remapper fuses a convolution with a LeakyRelu whose gradient
    # needs what lies between them, and fails
    rewrites.meta_optimizer_iterations = type(rewrites).ONE
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return config


def repeat_results(seed: int | None) -> None:
    """Let every op of this process give the same result each time; seed TensorFlow.

    Some kernels of GPUs add up in a different order each time, and are faster so. Seed
    None: give up what an earlier call in this process has set.
    """
    if seed is not None:
        tf.set_random_seed(seed)
        tensorflow.config.experimental.enable_op_determinism()
    elif is_op_determinism_enabled():
        disable_op_determinism()
