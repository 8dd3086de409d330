"""Read the batches of CIFAR-10 and the .mat files of SVHN, and run nothing in them."""

import os
import pickletools
import subprocess
import sys
from io import BytesIO

import numpy as np

from dcgan.util.files import MAX_RATIO, read_file, stem

CIFAR10_CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog']
CIFAR10_CLASSES += ['horse', 'ship', 'truck']
CIFAR10 = [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']
SVHN = [f'{part}_32x32.mat' for part in ('train', 'test', 'extra')]
FOLDERS = '', 'cifar-10-batches-bin', 'cifar-10-batches-py'  # of the archives
MAX_BATCH = 1 << 31  # bytes of a file
READ_MAT = f"""
import io, math, sys, numpy, scipy.io
content = sys.stdin.buffer.read()
shapes = {{name: shape for name, shape, _ in scipy.io.whosmat(io.BytesIO(content))}}
if not all(0 < math.prod(shapes[name]) < {MAX_RATIO} * len(content) for name in 'Xy'):
    sys.exit(f'it announces {{shapes}}')
arrays = scipy.io.loadmat(io.BytesIO(content), variable_names=['X', 'y'])
numpy.savez(sys.stdout.buffer, X=arrays['X'], y=arrays['y'])
"""
# by which a pickle makes an array or, in protocol 2, bytes
FUNCTIONS = {'_reconstruct', '_frombuffer', 'ndarray', 'dtype', 'encode'}


def batch_files(folder: str) -> dict[str, tuple[str, str]]:
    """{name: (path, path)} of the batches in a folder, or in that of an archive."""
    kinds = [f'{name}.bin' for name in CIFAR10], CIFAR10, SVHN
    for parent, names in ((parent, names) for parent in FOLDERS for names in kinds):
        paths = [os.path.join(folder, parent, name) for name in names]
        files = {stem(path): (path, path) for path in paths if os.path.isfile(path)}
        if files:
            return files
    return {}


def read_batch(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 [n, 32, 32, 3], and labels of a batch. UserError if it is none."""

    def parse(content):
        if path.endswith('.bin'):
            rows = np.frombuffer(content, np.uint8).reshape(-1, 3073)
            pixels, labels = rows[:, 1:], rows[:, 0]
        else:
            parse_arrays = parse_mat if path.endswith('.mat') else parse_pickle
            pixels, labels = parse_arrays(content)
        images = pixels.reshape(len(pixels), 3, 32, 32).transpose(0, 2, 3, 1)
        if images.dtype != np.uint8 or not {*np.unique(labels)} <= {*range(10)}:
            raise ValueError('pixels have to be bytes, and labels 0 to 9')
        if not 0 < len(images) == len(labels):
            raise ValueError(f'{len(images)} images, but {len(labels)} labels')
        return np.ascontiguousarray(images), labels.astype(np.uint8)

    what = 'not a batch of CIFAR-10 or SVHN'
    return read_file(path, parse, what, 'download it again', most=MAX_BATCH)


def parse_mat(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, 3, 32, 32] from X [32, 32, 3, n], and labels from y, where 10 is 0.

    SciPy reads them in a process of its own: some damaged files crash it.
    """
    command = [sys.executable, '-c', READ_MAT]
    result = subprocess.run(command, input=content, capture_output=True)
    if result.returncode:
        reason = result.stderr.decode(errors='replace').strip().splitlines()[-1:]
        raise ValueError(''.join(reason) or 'it crashes SciPy')
    arrays = np.load(BytesIO(result.stdout))
    labels = arrays['y'].ravel()
    return arrays['X'].transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels)


def parse_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, 3072] and labels of a pickled dict.

    A pickle is a program. Its instructions are only looked through, and none is
    followed: pixels are its longest text, labels the numbers after the key `labels`.
    """
    pixels, text, labels = '', '', bytearray()
    for instruction, value, _ in pickletools.genops(content):  # checks announced sizes
        if instruction.name.endswith(('GLOBAL', 'INST')):
            if (value or text).rpartition(' ')[2] not in FUNCTIONS:
                raise ValueError(f'it calls {value or text}')
        elif isinstance(value, (str, bytes, bytearray)):
            pixels = max(pixels, value, key=len)
            text = text if value == 'latin1' else value
        elif instruction.name == 'BININT1' and text in ('labels', b'labels'):
            labels.append(value)
    pixels = pixels.encode('latin1') if isinstance(pixels, str) else pixels
    rows = np.frombuffer(pixels, np.uint8).reshape(-1, 3072)
    return rows, np.frombuffer(labels, np.uint8)
