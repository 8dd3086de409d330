"""Memory: what is expected, and what is freed."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, run_code, run_in_process, write_idx_set

from dcgan.training.network_size import requirements
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


def test_parameters_and_memory_are_those_of_the_layers(make_dcgan):
    dcgan, faithful = make_dcgan(), SimpleNamespace(r1=0)
    dense = (5 + 1) * 32
    convolutions = 25 * (32 * 16 + 16 * 8 + 8 * 4 + 4 * 3)  # of G; of D likewise
    g = dense + convolutions + (16 + 8 + 4 + 3) + 2 * (32 + 16 + 8 + 4)
    d = convolutions + (4 + 8 + 16 + 32) + 2 * (8 + 16 + 32) + (32 + 1)
    *counts, memory = requirements(dcgan, faithful)
    assert counts == [g, d] and 0.65 < memory < 0.66
    returned = 16 * 16 * 3 + 8 * 8 * 4 + 4 * 4 * 8 + 2 * 2 * 16 + 32
    dcgan.batch_size *= 2
    *_, doubled = requirements(dcgan, faithful)
    assert doubled - memory == pytest.approx(6 * 3 * 11e-9 * returned)
    *_, penalized = requirements(dcgan, SimpleNamespace(r1=10))
    assert penalized - doubled == pytest.approx(12 * 2 * 11e-9 * returned)


def test_the_size_is_told_before_training(tiny_runs):
    told = ' [*] 0.0 million parameters (G 0.0, D 0.0), about 0.7 GB of memory\n'
    assert told in (tiny_runs / 'set.txt').read_text().split(' [*] No checkpoint')[0]
