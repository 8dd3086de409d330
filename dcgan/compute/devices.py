"""The device that trains: what it can do, and how a session uses it."""

import functools
import glob
import timeit
from collections.abc import Callable

import numpy as np
import tensorflow
import tensorflow.compat.v1 as tf
from tensorflow.python.framework.config import (
    disable_op_determinism,
    is_op_determinism_enabled,
)

from dcgan.data.decoding import usable_cores
from dcgan.util.errors import UserError, short_reason

PRECISIONS = ('float32', 'tf32', 'bfloat16')
# the compute capability of the first GPUs with matrix units for tf32 and bfloat16
FAST_CAPABILITY = (8, 0)


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices('GPU'))


def gpu_details() -> dict:
    """What TensorFlow tells of the first GPU: device_name, compute_capability."""
    gpus = tf.config.list_physical_devices('GPU')
    return tf.config.experimental.get_device_details(gpus[0]) if gpus else {}


def has_tensor_units() -> bool:
    """Whether TensorFlow sees a GPU with matrix units for tf32 and bfloat16."""
    return gpu_details().get('compute_capability', (0, 0)) >= FAST_CAPABILITY


def use_precision(precision: str) -> tf.DType:
    """Compute in one of PRECISIONS from now on; returns the type of the layers.

    tf32 is float32 whose products a GPU rounds to 10 bits, everywhere in this process.
    With the others, float32 stays float32. Raises UserError for a precision that is
    unknown or of no use on this device.
    """
    if precision not in PRECISIONS:
        raise UserError(
            f'precision {precision!r} is invalid; use one of {", ".join(PRECISIONS)}'
        )
    if precision == 'tf32' and not has_tensor_units():
        raise UserError(
            'precision tf32: needs an NVIDIA GPU of compute capability 8.0 or higher; '
            'use --precision float32'
        )
    if precision == 'bfloat16' and not has_bfloat16():
        raise UserError(
            'precision bfloat16: this processor, or this build of TensorFlow, has no '
            'fast kernels for it; use --precision float32'
        )
    tf.config.experimental.enable_tensor_float_32_execution(precision == 'tf32')
    return tf.bfloat16 if precision == 'bfloat16' else tf.float32


def has_bfloat16() -> bool:
    """Whether bfloat16 is fast here. On a CPU: less than 80% of the float32 time.

    Measured there, in a third of a second, by a matmul: processors with units for
    bfloat16 take about half the time, others emulate it, and some builds of TensorFlow
    have only a slow loop. The median of long multiplications, in turns, is right on
    busy cores as well.
    """
    if has_gpu():
        return has_tensor_units()
    with tf.Graph().as_default(), tf.Session() as sess:
        multiplications = []
        for dtype in (tf.bfloat16, tf.float32):
            x = tf.placeholder(dtype, [1536, 1536])
            run = sess.make_callable(tf.matmul(x, x).op, [x])
            ones = np.ones(x.shape, dtype.as_numpy_dtype)
            multiplications.append(functools.partial(run, ones))
        turns = [
            [timeit.timeit(run, number=1) for run in multiplications] for _ in range(8)
        ]
    bfloat16, float32 = np.median(turns, axis=0)
    return bool(bfloat16 < 0.8 * float32)


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


def can_compile(function=lambda x: tf.tanh(tf.matmul(x, x))) -> bool:
    """Whether XLA can compile here; if not, prints why and what to install.

    Tries it with a small function of a matrix. Without ptxas or libdevice, which belong
    to CUDA, XLA cannot compile anything for a GPU.
    """
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
    """A function of tensors that XLA compiles as one program.

    Its name tells whether ops are deterministic: XLA would load a program from its
    cache that was compiled before repeat_results.
    """

    def compiled(*args):
        return function(*args)

    if is_op_determinism_enabled():
        compiled.__name__ = 'repeatable'
    return tf.function(compiled, jit_compile=True, autograph=False)


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


def print_device(precision: str, nvidia: str = '/dev/nvidia[0-9]*') -> None:
    """Print which device trains; warn of a GPU that TensorFlow does not see.

    precision  the one of PRECISIONS that is used
    nvidia     a glob of the device files that an NVIDIA driver makes
    """
    cores = usable_cores()
    name = f'CPU, {cores} core{"s" if cores > 1 else ""}'
    if has_gpu():
        name = gpu_details().get('device_name', 'GPU')
    print(f' [*] Device: {name}')
    if not has_gpu() and glob.glob(nvidia):
        print(
            ' [!] TensorFlow does not see the NVIDIA GPU of this machine: pip install '
            "'tensorflow[and-cuda]'; TF_CPP_MIN_LOG_LEVEL=0 shows why"
        )
    if precision != 'float32':
        print(f' [*] Layers and gradients are computed in {precision}')
    elif has_tensor_units():
        print(
            ' [*] --precision tf32 is faster on this GPU: it rounds products to 10 '
            'bits, and adds them up in float32'
        )


class Profiler:
    """Writes TensorFlow's trace of some iterations, for TensorBoard's profiler."""

    def __init__(self, folder: str, first: int = 0, last: int = 0):
        """Of the iterations `first` to `last`; 0: of none."""
        self.folder, self.first, self.last = folder, first, last
        self._is_running = False

    def begin(self, iteration: int) -> None:
        """To be called before an iteration."""
        if self.first and iteration == self.first:
            tensorflow.profiler.experimental.start(self.folder)
            self._is_running = True

    def end(self, iteration: int) -> None:
        """To be called after an iteration."""
        if iteration == self.last:
            self.close()

    def close(self) -> None:
        """Write the trace, if one is running; print where."""
        if self._is_running:
            self._is_running = False
            tensorflow.profiler.experimental.stop()
            print(f' [*] Trace in {self.folder}/plugins/profile', flush=True)
