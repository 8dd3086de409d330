"""Find out what the device that trains can do, and print it."""

import glob

import tensorflow.compat.v1 as tf

from dcgan.util.cores import usable_cores

NVIDIA_FILES = '/dev/nvidia[0-9]*'  # which an NVIDIA driver makes


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
    if not has_gpu() and glob.glob(NVIDIA_FILES):
        advice = "pip install 'tensorflow[and-cuda]'; TF_CPP_MIN_LOG_LEVEL=0 shows why"
        print(f' [!] TensorFlow does not see the NVIDIA GPU of this machine: {advice}')
    if precision != 'float32':
        print(f' [*] Layers and gradients are computed in {precision}')
    elif has_tensor_units():
        how = 'it rounds products to 10 bits, and adds them up in float32'
        print(f' [*] --precision tf32 is faster on this GPU: {how}')
