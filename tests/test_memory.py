"""Memory: what is expected, what happens where it is used up, and what is freed."""

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, run_code, run_in_process, write_idx_set

from dcgan.compute.forward_pass import SAMPLING
from dcgan.training.network_size import requirements
from dcgan.util.files import read_file
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
# in which reading 64 images as float32 takes 3 times as much as is left
LITTLE_IS_LEFT = """
import re, resource, sys
import main
class Limited(main.DCGAN):
    def feed(self, *args):
        status = open('/proc/self/status').read()
        used = 1024 * int(re.search('VmSize: *\\t *([0-9]+)', status)[1])
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, before[1]))
        try:
            return super().feed(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
main.run(['main.py', *sys.argv[1:]], Limited)
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


def test_memory_with_classes_is_that_of_the_layers(make_dcgan):
    dcgan, faithful = make_dcgan(y_dim=3, gf_dim=5), SimpleNamespace(r1=0)
    of_g = 16 * 16 * 3 + (8 * 8 + 4 * 4) * (10 + 3)  # labels go through with filters
    of_d = 16 * 16 * 3 + 8 * 8 * (3 + 3) + 4 * 4 * (4 + 3)
    *counts, memory = requirements(dcgan, faithful)
    dcgan.batch_size = 0
    *_, at_rest = requirements(dcgan, faithful)
    assert memory - at_rest == pytest.approx(6 * 11e-9 * (of_g + 2 * of_d))
    dense = (5 + 3) * 8 + (8 + 3) * 160 + (112 + 3) * 8 + (8 + 3) * 1
    assert at_rest - 0.65 == pytest.approx(4e-9 * (6 * sum(counts) - 2 * dense))


def test_the_size_is_told_before_training(tiny_runs):
    told = ' [*] 0.0 million parameters (G 0.0, D 0.0), about 0.7 GB of memory\n'
    assert told in (tiny_runs / 'set.txt').read_text().split(' [*] No checkpoint')[0]


# What no address space can hold: TensorFlow tries for 10 s.


class TooLargeArray(DCGAN):
    """A model that feeds too much."""

    def feed(self, *args):
        return super().feed(np.zeros(1 << 58, np.uint8), *args[1:])


class TooLargeLoss(DCGAN):
    """A model whose loss of D takes too much, in updates."""

    @staticmethod
    def losses(D_logits, D_logits_):
        losses = DCGAN.losses(D_logits, D_logits_)
        return losses._replace(d=losses.d + tf.reduce_sum(tf.zeros([1 << 48])))


class TooLargeSampler(DCGAN):
    """A model that samples too much."""

    def sampler(self, z, y=None, how=SAMPLING):
        return super().sampler(z, y, how) + tf.reduce_sum(tf.zeros([1 << 48]))


TRAIN_ON, OOM = ['--train', '--epoch', 2], 'OOM when allocating tensor with shape'
OUT_OF_MEMORY = [
    (TooLargeArray, TRAIN_ON, 'Unable to allocate 256. PiB for '),
    pytest.param(TooLargeLoss, TRAIN_ON, OOM, marks=pytest.mark.slow),
    pytest.param(TooLargeSampler, ['--visualize'], OOM, marks=pytest.mark.slow),
]


@pytest.mark.parametrize('model, args, reason', OUT_OF_MEMORY)
def test_running_out_of_memory_ends_in_one_line(model, args, reason, tiny_copy):
    result = run_in_process('--out_name', 'cats', *args, cwd=tiny_copy, model=model)
    start = f'main.py: out of memory ({reason}'
    advice = '); lower --batch_size, --max_filters or --output_height'
    assert result.returncode == 1 and result.stderr.startswith(start)
    assert advice in result.stderr and result.stderr.count('\n') == 1
    assert not list(tiny_copy.rglob('error.txt'))


@pytest.mark.parametrize(
    'text, advice',
    [
        ('Out of memory while trying to allocate 8 bytes', 'lower --batch_size'),
        ('a.index; No space left on device', '--noxla trains without XLA'),
    ],
)
def test_only_a_lack_of_memory_under_xla_names_the_batch(
    text, advice, tmp_path, monkeypatch
):
    def fail(*args):  # on a CPU, XLA ends the process
        raise tf.errors.ResourceExhaustedError(None, None, text)

    monkeypatch.setattr('dcgan.training.loop.FusedIteration.__call__', fail)
    write_idx_set(tmp_path / 'data' / 'set', count=8)
    result = run_in_process(*TRAIN, '--xla', cwd=tmp_path)
    assert result.returncode == 1 and f'{text}); {advice}' in result.stderr


@pytest.mark.slow
def test_a_batch_beyond_the_limit_of_the_process_ends_in_one_line(tmp_path):
    write_idx_set(tmp_path / 'data' / 'set', count=64)
    args = [*TRAIN, '--batch_size', 64, '--output_height', 512, '--unconditional']
    result = run_code(LITTLE_IS_LEFT, *args, cwd=tmp_path)
    told = (
        'main.py: out of memory (Unable to allocate 64.0 MiB for an array with shape '
    )
    assert result.returncode == 1 and f'\n{told}' in f'\n{result.stderr}'
    assert '; lower --batch_size, --max_filters or --output_height\n' in result.stderr


def test_reading_a_small_file_reserves_no_more_than_it_takes(tmp_path):
    path = tmp_path / 'small'
    path.write_bytes(b'abc')
    assert read_file(str(path), bytes, most=1 << 60) == b'abc'
