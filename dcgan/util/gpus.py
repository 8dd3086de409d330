"""Find NVIDIA GPUs by what their driver leaves, whether or not TensorFlow sees them."""

import contextlib
import functools
import itertools
import os
import re
import subprocess
from glob import glob
from pathlib import Path

ROOT = ''  # of the file system; tests have their own


def nvidia_gpus() -> list[str]:
    """A line on the model of each NVIDIA GPU of this machine, '' if it is not known."""
    files = sorted(glob(f'{ROOT}/proc/driver/nvidia/gpus/*/information'))
    with contextlib.suppress(OSError):
        if texts := [Path(file).read_text(errors='replace') for file in files]:
            return [''.join(re.findall('^Model:.*', text, re.M)) for text in texts]
    if devices := glob(f'{ROOT}/dev/nvidia[0-9]*'):  # all that some containers have
        return [''] * len(devices)
    wsl = f'{ROOT}/usr/lib/wsl/lib'  # of the driver of Windows, in WSL2
    if os.path.exists(f'{ROOT}/dev/dxg') and glob(f'{wsl}/libcuda.so*'):
        return _listed_by(f'{wsl}/nvidia-smi')
    return []


@functools.cache  # it takes a while
def _listed_by(program):
    output = ''
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        options = {'stdin': subprocess.DEVNULL, 'errors': 'replace', 'timeout': 5}
        output = subprocess.run([program, '-L'], capture_output=True, **options).stdout
    found = re.findall(r'^GPU \d+: .*?(?= \(UUID|$)', output, re.M)
    return found or [''] * ('No devices' not in output)


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    there = map(str, range(len(nvidia_gpus())))
    names = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(there)).split(',')
    names = filter(None, map(str.strip, names))
    return list(itertools.takewhile(lambda name: name != '-1', names))
