"""Moving averages of G's weights: what they are, what uses them, how runs keep them."""

import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, SMALL, read_checkpoint, same, use, weights

from dcgan.training.ema import Averages


def test_averages_forget_the_first_weights_and_then_keep_the_rate(sess):
    variable = tf.Variable(1.0, use_resource=True, name='w')
    averages = Averages([variable], rate=0.5)
    move = averages.move()
    sess.run(tf.global_variables_initializer())
    sess.run(averages.start)
    value, average = 1.0, 1.0
    for n in range(12):
        value = float(n**2)
        variable.load(value, sess)
        sess.run(move)
        kept = min(0.5, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * value
        assert sess.run(averages.of['w']) == pytest.approx(average, rel=1e-6)


@pytest.fixture(scope='module')
def workspace(workspace):
    """A copy of tiny_runs with the run `averaged`, which is `cats` with averages."""
    often = ['--sample_freq', 1, '--ckpt_freq', 1, '--max_to_keep', 0, '--epoch', 1]
    args = ['--dataset', 'cats', *SMALL, '--seed', 1, *often, '--ema', 0.9]
    use(workspace, 'averaged', '--train', *args)
    return workspace


def sampled(workspace, name, *args):
    """The samples of a run, uint8."""
    output = use(workspace, name, '--npz', '--seed', 1, *args)
    path = next(line for line in output.splitlines() if line.endswith('.npz'))
    return np.load(workspace / path.removeprefix(' [*] '))['images']


def test_averages_leave_the_training_as_it_is(workspace):
    raw, averaged = weights(workspace, 'cats'), weights(workspace, 'averaged')
    assert all((averaged[name] == raw[name]).all() for name in raw)
    names = {name.removeprefix('ema/') for name in averaged.keys() - raw.keys()}
    of_g = {n for n in raw if n.startswith('generator/') and 'Adam' not in n}
    assert names == of_g | {'moves'}
    assert averaged['ema/moves'] == 3


def test_samples_come_from_the_averages_unless_told_otherwise(workspace):
    raw = sampled(workspace, 'cats')
    assert (sampled(workspace, 'averaged', '--ema', 0) == raw).all()
    assert (sampled(workspace, 'averaged') != raw).any()


def test_exports_hold_the_averages_under_the_names_of_the_original(workspace):
    folder, trained = (
        workspace / 'out/averaged/checkpoint',
        weights(workspace, 'averaged'),
    )
    frozen = folder / 'frozen_b8' / 'model.b8-000003_frz.pb'
    for args, of_g in ([], 'ema/generator/'), (['--ema', 0], 'generator/'):
        use(workspace, 'averaged', '--export', '--freeze', *args)
        for name, value in read_checkpoint(folder / 'export_b8').items():
            source = name.replace('generator/', of_g)
            assert (value == trained[source]).all(), name
        assert trained[f'{of_g}g_h4/w'].tobytes() in frozen.read_bytes()


def test_a_resumed_run_with_averages_equals_one_that_was_not_stopped(workspace):
    shutil.copytree(workspace / 'out/averaged', workspace / 'out/resumed')
    use(workspace, 'resumed', '--train', '--epoch', 1, '--resume_step', 2)
    resumed, whole = weights(workspace, 'resumed'), weights(workspace, 'averaged')
    assert resumed.keys() == whole.keys() and same(resumed, whole)


@pytest.mark.slow
def test_averages_can_begin_and_end_in_a_later_part_of_a_run(workspace):
    shutil.copytree(workspace / 'out/cats', workspace / 'out/later')
    use(workspace, 'later', '--train', '--epoch', 1, '--resume_step', 2, '--ema', 0.9)
    later = weights(workspace, 'later')
    assert later['ema/moves'] == 1
    assert same(weights(workspace, 'cats'), later)
    use(workspace, 'later', '--train', '--epoch', 2, '--ema', 0)
    assert not any(name.startswith('ema/') for name in weights(workspace, 'later'))


def test_averages_begin_at_the_weights_of_a_checkpoint_of_the_original(make_dcgan):
    sizes = dict(batch_size=12, sample_num=12, z_dim=20, gf_dim=4, df_dim=4)
    dcgan = make_dcgan(**sizes, output_height=64, output_width=64, ema=0.9)
    dcgan.load(ROOT / 'tests/golden/rgb64/checkpoint')
    of = dcgan.averages.of
    weights = {v.op.name: v for v in dcgan.variables if v.op.name in of}
    assert len(of) == 26 and same(*dcgan.sess.run([weights, of]))
