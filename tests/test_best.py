"""Samples are measured while a model trains, and the best checkpoint is kept."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, read_checkpoint, run_in_process, use, weights
from PIL import Image

from dcgan.record.curves import DISTANCES, history_of_run
from dcgan.record.metrics_csv import OLDER, read_rows
from dcgan.training.best import Best
from dcgan.training.checkpoints import checkpoints, step_of
from dcgan.util.z import gen_random
from model import DCGAN

EVALUATOR = SimpleNamespace(every=2, about='8 samples')
FOUND = {'FID': 9, 'SWD': 1}, {'FID': 3.25, 'SWD': 7}, {'SWD': math.nan, 'FID': 5}


def evaluated(*values):
    """A DCGAN whose evaluator finds these values; each is {tag: value} or a FID."""
    found = iter(x if isinstance(x, dict) else {'FID': x} for x in values)

    class Evaluated(DCGAN):
        evaluator = SimpleNamespace(every=2, about='8 samples')
        evaluator.measure = lambda: next(found)

    return Evaluated


@pytest.fixture(scope='module')
def evaluated_run(tiny_runs, tmp_path_factory):
    """A working folder where `cats` went on to iteration 9, evaluated by FOUND.

    It is for reading. cats.txt holds what the training printed.
    """
    folder = shutil.copytree(tiny_runs, tmp_path_factory.mktemp('best') / 'tiny')
    printed = train(folder, evaluated(*FOUND), 3, '--sample_freq', 3, with_curves=True)
    (folder / 'cats.txt').write_text(printed)
    return folder


@pytest.fixture
def copied(evaluated_run, tmp_path):
    """A copy of evaluated_run, which a test may change."""
    return shutil.copytree(evaluated_run, tmp_path / 'tiny')


def train(folder, model, epoch, *args, **settings):
    """Resume `cats`, which has 3 iterations an epoch; returns what it printed."""
    args = ['--train', '--epoch', epoch, *args]
    return use(folder, 'cats', *args, model=model, **settings)


def best(folder):
    """(iteration, value) of the best checkpoint of `cats`, which is the only one."""
    folder = folder / 'out' / 'cats' / 'checkpoint' / 'best'
    (path,) = checkpoints(str(folder))
    note = json.loads((folder / 'best.json').read_text())
    assert step_of(path) == note['iteration']
    endings = {file.name.split('.')[-1] for file in folder.glob('m*')}
    assert endings == {'index', 'meta', 'data-00000-of-00001'}
    return note['iteration'], note['value']


def assert_equal(a, b, but='nothing'):
    """Assert that two checkpoints hold the same, bit for bit, but where names match."""
    assert a.keys() == b.keys()
    names = [name for name in a if not re.search(but, name)]
    assert [n for n in names if a[n].tobytes() != b[n].tobytes()] == []


def test_the_best_checkpoint_is_kept_over_worse_later_ones(evaluated_run):
    assert best(evaluated_run) == (6, 3.25)
    printed = (evaluated_run / 'cats.txt').read_text()
    lines = re.findall(r'\] (.*); \d+\.\d s, \d+\.\d% of the training\n', printed)
    found = 'FID 9, SWD 1 of 8 samples', 'FID 3.25, SWD 7 of 8 samples'
    last = 'SWD nan, FID 5 of 8 samples'  # what is not finite is never the best
    assert lines == [*(f'{line}, the best so far' for line in found), last]
    folder = evaluated_run / 'out' / 'cats' / 'checkpoint'
    # the losses of a grid, which was due in this iteration, have moved averages
    regular, kept = folder / 'model.b8-6', folder / 'best'
    assert_equal(read_checkpoint(kept), read_checkpoint(regular))
    assert sorted(map(step_of, checkpoints(str(folder)))) == [*range(1, 10)]


def test_values_are_in_metrics_curves_and_tensorboard(evaluated_run, tmp_path):
    run = shutil.copytree(evaluated_run / 'out' / 'cats', tmp_path / 'cats')
    rows = read_rows(str(run / 'metrics.csv'))[:, OLDER:]
    expected = np.full((9, 2), np.nan)
    expected[3], expected[5], expected[7] = (9, 1), (3.25, 7), (5, np.nan)
    assert np.array_equal(rows, expected, equal_nan=True)
    with Image.open(run / 'curves.png') as image:
        assert image.size == (1000, 1050)  # three panels
    (run / 'metrics.csv').unlink()
    of_events = history_of_run(str(run))
    columns = np.stack([of_events[name] for name in DISTANCES], axis=1)
    assert np.array_equal(columns, expected, equal_nan=True)


@pytest.mark.slow
def test_a_resumed_training_goes_on_comparing(copied):
    # from before the best one, as where a process was killed before it saved
    found = [8, 3.25, 6, 3, 4]  # in iterations 4, 6, ... 12
    printed = train(copied, evaluated(*found), 4, '--resume_step', 3)
    assert printed.count(', the best so far; ') == 1 and best(copied) == (10, 3)


def test_a_resumed_training_compares_with_what_was_the_best(evaluated_run):
    _, value = best(evaluated_run)
    checkpoint_dir = str(evaluated_run / 'out' / 'cats' / 'checkpoint')
    compared = Best(checkpoint_dir, EVALUATOR, goes_on=True)
    note = {'tag': 'FID', 'value': value, 'about': '8 samples'}
    assert not compared.is_beaten(note) and compared.is_beaten({**note, 'value': 2})
    others = {**note, 'about': '9 samples'}, {**note, 'tag': 'FD'}
    assert all(map(compared.is_beaten, others))
    assert Best(checkpoint_dir, EVALUATOR, goes_on=False).is_beaten(note)


@pytest.mark.parametrize('damage', [b'', b'[1]', b'{"value": [1], "tag": "FID"}'])
def test_a_damaged_note_on_the_best_makes_comparing_start_anew(damage, copied, capsys):
    path = copied / 'out' / 'cats' / 'checkpoint' / 'best' / 'best.json'
    path.write_bytes(damage)
    compared = Best(str(path.parents[1]), EVALUATOR, goes_on=True)
    assert compared.is_beaten({'tag': 'FID', 'value': 99, 'about': '8 samples'})
    printed = capsys.readouterr().out
    assert printed.startswith(f' [!] No {path}: cannot be read (')
    assert printed.endswith('); the best checkpoint is chosen anew\n')


@pytest.mark.slow
def test_an_evaluation_or_a_best_checkpoint_that_fails_ends_no_training(tiny_copy):
    run = tiny_copy / 'out' / 'cats'
    (run / 'checkpoint' / 'best').touch()  # where a folder has to be
    printed = train(tiny_copy, evaluated(9, 8), 4)
    (line,) = re.findall(r' \[!\] No best checkpoint: .*', printed)
    assert 'cannot be written' in line and 'the best so far' not in printed
    (line,) = re.findall(r' \[!\] No evaluation while training: .*', printed)
    assert 'StopIteration' in line
    rows = read_rows(str(run / 'metrics.csv'))
    assert np.flatnonzero(rows[:, OLDER] > 0).tolist() == [3, 5] and len(rows) == 12


@pytest.mark.slow
def test_a_best_checkpoint_that_was_written_in_part_is_deleted(tiny_copy):
    folder = tiny_copy / 'out' / 'cats' / 'checkpoint' / 'best'
    (folder / 'model.b8-4.meta').mkdir(parents=True)  # where a file has to be
    printed = train(tiny_copy, evaluated(9, 8, 9, 9), 4)
    (folder / 'model.b8-4.meta').rmdir()
    assert printed.count('the best so far') == 1 and best(tiny_copy) == (6, 8)


class Sampled(DCGAN):
    """A model whose evaluator draws samples."""

    def build_model(self):
        super().build_model()
        self.evaluator = SimpleNamespace(every=1, about='8 samples')
        self.evaluator.measure = self.measure

    def measure(self):
        z = gen_random('normal01', (8, self.z_dim), np.random.RandomState(3))
        fed = {self.z: z, self.sampler_y: np.eye(4)[np.arange(8) % 4]}
        return {'FID': self.sess.run(self.sampler, fed).mean()}


class Changed(DCGAN):
    """A model that is trained by several runs of the session, as the original's."""

    def build_model(self):
        super().build_model()
        self.after_d_step = tf.no_op()


class SampledChanged(Changed, Sampled):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    'plain, sampled, epochs, any_order',
    [
        (DCGAN, Sampled, (1, 2), 'nothing'),  # the second process resumes
        (Changed, SampledChanged, (2,), r'discriminator/d_bn\d/moving'),
    ],
)
def test_evaluations_leave_the_training_as_it_is_bit_for_bit(
    plain, sampled, epochs, any_order, tiny_copy
):
    args = ['--train', '--dataset', 'set', *SMALL, '--seed', 3, '--ckpt_freq', 99]
    use(tiny_copy, 'plain', *args, '--epoch', 2, model=plain)
    printed = ''
    for epoch in epochs:
        printed += use(tiny_copy, 'sampled', *args, '--epoch', epoch, model=sampled)
    assert printed.count(' [*] FID ') == 6
    of_both = (weights(tiny_copy, name) for name in ('plain', 'sampled'))
    assert_equal(*of_both, but=any_order)


@pytest.mark.slow
@pytest.mark.parametrize('others_are', ['pruned', 'corrupt'])
def test_the_best_checkpoint_is_the_last_resort(others_are, copied):
    run = copied / 'out' / 'cats' / 'checkpoint'
    for file in run.glob('model.*.index'):
        file.write_bytes(b'') if others_are == 'corrupt' else file.unlink()
    assert 'Run ./out/cats, iteration 6\n' in use(copied, 'cats')
    printed = train(copied, evaluated(8), 3)
    assert '[       7 Epoch' in printed and best(copied) == (6, 3.25)


def test_resume_step_best_draws_samples_and_resumes(copied):
    checkpoint_dir = copied / 'out' / 'cats' / 'checkpoint'
    never_stopped = weights(copied, 'cats')
    for file in checkpoint_dir.glob('model.b8-6.*'):
        file.unlink()  # as if it was pruned
    printed = use(copied, 'cats', '--resume_step', 'best')
    assert 'Run ./out/cats, iteration 6\n' in printed
    printed = train(copied, evaluated(8), 3, '--resume_step', 'best')
    assert '[       7 Epoch' in printed and '[       6 Epoch' not in printed
    assert_equal(weights(copied, 'cats'), never_stopped)
    regular = read_checkpoint(checkpoint_dir / 'model.b8-6')
    assert_equal(regular, read_checkpoint(checkpoint_dir / 'best'))
    assert (checkpoint_dir / 'model.b8-6.meta').exists() and best(copied) == (6, 3.25)


@pytest.mark.parametrize('step', ['newest', 'best'])
def test_a_step_without_a_checkpoint_is_an_error(step, tiny_runs):
    result = run_in_process('--out_name', 'cats', '--resume_step', step, cwd=tiny_runs)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    which = {'newest': 'of iteration newest', 'best': 'best'}[step]
    message = f'no checkpoint {which}; --resume_step takes one of [1, 2, 3] or, after'
    assert message in result.stderr and '--evaluate_freq N' in result.stderr
