"""Find out what the device that trains can do, and print it."""

import os
from pathlib import Path

import tensorflow.compat.v1 as tf

from dcgan.util.cores import usable_cores
from dcgan.util.gpus import nvidia_gpus, visible_gpus


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices('GPU'))


def gpu_details() -> dict:
    """device_name and compute_capability of the first GPU; {} without a GPU."""
    gpus = tf.config.list_physical_devices('GPU')
    return tf.config.experimental.get_device_details(gpus[0]) if gpus else {}


def has_tensor_units() -> bool:
    """Whether TensorFlow sees a GPU with matrix units for tf32 and bfloat16."""
    return gpu_details().get('compute_capability', (0, 0)) >= (8, 0)


def print_device(precision: str) -> None:
    """Print which device trains; warn of a GPU that TensorFlow does not see."""
    cores = usable_cores()
    name = f'CPU, {cores} core{"s" if cores > 1 else ""}'
    if has_gpu():
        name = gpu_details().get('device_name', 'GPU')
    print(f' [*] Device: {name}')
    windows = Path(os.environ.get('SYSTEMROOT', '/'))  # this variable is of Windows
    if not has_gpu() and nvidia_gpus() and visible_gpus():  # they are not hidden
        advice = "pip install 'tensorflow[and-cuda]'; TF_CPP_MIN_LOG_LEVEL=0 shows why"
        print(f' [!] TensorFlow does not see the NVIDIA GPU of this machine: {advice}')
    elif not has_gpu() and (windows / 'System32' / 'nvcuda.dll').exists():
        print(' [!] TensorFlow uses GPUs on Windows only in WSL2, see docs/install.md')
    if precision != 'float32':
        print(f' [*] Layers and gradients are computed in {precision}')
    elif has_tensor_units():
        how = 'it rounds products to 10 bits, and adds them up in float32'
        print(f' [*] --precision tf32 is faster on this GPU: {how}')
