"""A process that trains several models needs little more memory than for one."""

import gc
import weakref

import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, run_code, run_in_process, write_idx_set

from model import DCGAN

TRAIN = ['--train', '--dataset', 'set', '--epoch', 1, *SMALL]
TEN_TRAININGS = """
import contextlib, resource, sys
import main
peaks = []
for i in range(10):
    with contextlib.suppress(SystemExit):
        main.run(['main.py', *sys.argv[1:], '--out_name', str(i)])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(f'Peaks: {peaks[0]} {peaks[-1]}')
"""


def test_a_trained_model_leaves_no_graph(tmp_path):
    graphs = weakref.WeakSet()

    class Watched(DCGAN):
        def build_model(self):
            graphs.add(tf.get_default_graph())
            super().build_model()

    write_idx_set(tmp_path / 'data' / 'set', count=8)
    result = run_in_process(*TRAIN, '--r1', 1, cwd=tmp_path, model=Watched)
    assert result.returncode == 0 and '[       1 Epoch' in result.stdout
    gc.collect()
    assert not graphs


@pytest.mark.slow
def test_ten_trainings_peak_within_a_fifth_of_one(tmp_path):
    write_idx_set(tmp_path / 'data' / 'set', count=24)
    result = run_code(TEN_TRAININGS, *TRAIN, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    one, ten = map(int, result.stdout.splitlines()[-1].split()[1:])
    assert ten <= 1.2 * one
