"""Choose the type in which layers compute: float32, tf32 or bfloat16."""

import functools
import timeit

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu, has_tensor_units
from dcgan.util.errors import UserError
from dcgan.util.flags import Flag, Group

PRECISIONS = ('float32', 'tf32', 'bfloat16')


def use_precision(precision: str) -> tf.DType:
    """Compute in one of PRECISIONS from now on; returns the type of the layers.

    In tf32, GPUs round the factors of float32 products to 10 bits, in all this process.
    Raises UserError for a precision that is unknown, or has no advantage here.
    """
    if precision not in PRECISIONS:
        names = ', '.join(PRECISIONS)
        raise UserError(f'precision {precision!r} is invalid; use one of {names}')
    if precision == 'tf32' and not has_tensor_units():
        needed = 'an NVIDIA GPU of compute capability 8.0 or higher'
        raise UserError(f'precision tf32: needs {needed}; use --precision float32')
    if precision == 'bfloat16' and not has_bfloat16():
        problem = 'this processor, or this TensorFlow, has no fast kernels for it'
        raise UserError(f'precision bfloat16: {problem}; use --precision float32')
    tf.config.experimental.enable_tensor_float_32_execution(precision == 'tf32')
    return tf.bfloat16 if precision == 'bfloat16' else tf.float32


@functools.cache  # a second measurement could differ
def has_bfloat16() -> bool:
    """Whether bfloat16 is fast here; CPUs are measured, in a third of a second."""
    # CPUs with units for it take half the time, others emulate it, and some builds of
    # TensorFlow have only a slow loop. Types alternate because cores may be busy.
    if has_gpu():
        return has_tensor_units()
    with tf.Graph().as_default(), tf.Session() as sess:
        runs = []
        for dtype in (tf.bfloat16, tf.float32):
            x = tf.placeholder(dtype, [1536, 1536])
            fed = {x: np.ones(x.shape, dtype.as_numpy_dtype)}
            runs.append(functools.partial(sess.run, tf.matmul(x, x).op, fed))
        turns = [[timeit.timeit(run, number=1) for run in runs] for _ in range(8)]
    bfloat16, float32 = np.median(turns, axis=0)
    return bool(bfloat16 < 0.8 * float32)


# fmt: off
FLAGS = Group(
    'Computing',
    '--precision, --xla, and --seed, which makes a run repeatable',
    Flag('precision', 'float32', 'Type in which layers and gradients are computed '
         'during training; tf32 (on a GPU) and bfloat16 are faster on devices that '
         'have units for them', 'training result', choices=PRECISIONS),
    Flag('xla', None, 'Compile an iteration by XLA; default: where TensorFlow sees a '
         'GPU', 'training', type=bool),
    Flag('seed', None, 'Random seed; makes a run repeatable', 'training result',
         type=int, least=0, most=2**32 - 1),
)
