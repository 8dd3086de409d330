"""The DCGAN class: graph, moving averages, training, checkpoints and errors."""

import collections
import glob
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, write_idx_set, write_images

import model
from dcgan.compute.forward_pass import Pass
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.session import can_compile
from dcgan.record.tensorboard import SummaryLog
from dcgan.sampling.export import save_sampler
from dcgan.training import loop
from dcgan.training.checkpoints import (
    checkpoints,
    has_training_state,
    newest_checkpoint,
    read_usable,
    reading,
    step_of,
)
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.inputs import to_inputs
from dcgan.training.loop import Training
from dcgan.training.original_iteration import OriginalIteration
from dcgan.training.prefetch import Batch
from dcgan.training.weights import checkpoint_dims
from dcgan.util.errors import UserError
from dcgan.util.signals import deferred_signals

RECORDING = ROOT / 'tests' / 'golden' / 'rgb64'  # of the original, unconditional


@pytest.fixture
def cats(make_dcgan, tmp_path, monkeypatch):
    """(a model on 19 images, config of a training of 3 iterations)."""
    monkeypatch.setattr('dcgan.record.recorder.draw_curves', lambda *args: None)
    write_images(tmp_path / 'cats', count=19)
    folders = dict.fromkeys(['checkpoint_dir', 'sample_dir'], str(tmp_path / 'out'))
    data = {'data_dir': str(tmp_path), 'dataset_name': 'cats'}
    data |= {'input_fname_pattern': '*.png', 'out_dir': str(tmp_path / 'out')}
    config = dict(learning_rate=1e-3, beta1=0.5, epoch=1, train_size=np.inf)
    config |= dict(z_dist='normal01', sample_freq=9, ckpt_freq=9, G_img_sum=False)
    return make_dcgan(**data, **folders), SimpleNamespace(**config, **folders)


def random_arrays(dcgan):
    """Random images, labels and z for a model, the same ones at each call."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, dcgan.inputs.shape.as_list()).astype(np.uint8)
    labels = rng.randint(0, dcgan.y_dim or 1, dcgan.batch_size)
    return images, labels, rng.uniform(-1, 1, (dcgan.batch_size, dcgan.z_dim))


def random_feed(dcgan):
    """random_arrays for the placeholders of the model."""
    return dcgan.feed(*random_arrays(dcgan))


def random_batch(dcgan, iteration):
    """random_arrays for an iteration."""
    return iteration.batches.feed(Batch(*random_arrays(dcgan)))


@pytest.mark.parametrize('y_dim', [None, 4])
def test_evaluation_updates_moving_averages_of_the_networks_it_trains(
    sess, make_dcgan, y_dim
):
    dcgan = make_dcgan(y_dim=y_dim)
    images = sess.run(dcgan.sampler, random_feed(dcgan))
    assert (sess.run(dcgan.sampler, random_feed(dcgan)) == images).all()
    averages = {v.op.name: v for v in tf.global_variables() if 'moving' in v.op.name}
    for fetch, expected in (
        (dcgan.sampler, {'generator': False, 'discriminator': False}),
        (dcgan.d_loss_real, {'generator': False, 'discriminator': True}),
        (dcgan.d_loss_fake, {'generator': True, 'discriminator': True}),
        (dcgan.G, {'generator': True, 'discriminator': False}),
    ):
        before = sess.run(averages)
        sess.run(fetch, random_feed(dcgan))
        after = sess.run(averages)
        for network, is_updated in expected.items():
            of_network = [name for name in averages if name.startswith(network)]
            is_same = all((before[n] == after[n]).all() for n in of_network)
            assert of_network and is_same == (not is_updated)


def test_losses_are_cross_entropies_of_the_logits(sess, make_dcgan):
    dcgan = make_dcgan()
    names = ['D_logits', 'D_logits_', 'd_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']
    values = sess.run([getattr(dcgan, name) for name in names], random_feed(dcgan))
    real, fake, d_loss, d_real, d_fake, g_loss = values
    assert np.isclose(d_real, np.log1p(np.exp(-real)).mean(), atol=1e-6)
    assert np.isclose(d_fake, np.log1p(np.exp(fake)).mean(), atol=1e-6)
    assert np.isclose(g_loss, np.log1p(np.exp(-fake)).mean(), atol=1e-6)
    assert np.isclose(d_loss, d_real + d_fake, atol=1e-6)


@pytest.mark.parametrize('y_dim', [pytest.param(None, marks=pytest.mark.slow), 4])
def test_bfloat16_losses_are_close_to_float32_losses(sess, make_dcgan, y_dim):
    if not has_bfloat16():
        pytest.skip('no fast kernels for bfloat16')
    losses, weights = [], None
    for precision in ('float32', 'bfloat16'):
        with tf.Graph().as_default(), tf.Session() as other:
            dcgan = make_dcgan(other, y_dim=y_dim, precision=precision)
            weights = weights or other.run(dcgan.variables)
            other.run([v.assign(w) for v, w in zip(dcgan.variables, weights)])
            fetches = [dcgan.d_loss_real, dcgan.d_loss_fake]
            losses.append(other.run(fetches, random_feed(dcgan)))
            layers = 'MatMul', 'Conv2D', 'Conv2DBackpropInput'
            found = {
                (op.name.split('/')[0], op.outputs[0].dtype.name)
                for op in other.graph.get_operations()
                if op.type in layers
            }
            trained = ['generator', 'discriminator', 'discriminator_1']
            sampler = 'generator_1', 'float32'
            assert found == {sampler, *((network, precision) for network in trained)}
    assert losses[0] != losses[1] and np.allclose(*losses, rtol=0.02)


class OrderedIteration(OriginalIteration):
    """The original's runs, in which D sees real images first: else, in any order."""

    def __init__(self, dcgan, config):
        super().__init__(dcgan, config)
        D, logits = dcgan.discriminator(dcgan.inputs, dcgan.y, reuse=True)
        with tf.control_dependencies([logits]):
            D_, logits_ = dcgan.discriminator(dcgan.G, dcgan.y, reuse=True)
        losses = dcgan.losses(logits, logits_)
        adam = tf.train.AdamOptimizer(self.learning_rates[0], beta1=config.beta1)
        d_optim = adam.minimize(losses.d, var_list=dcgan.d_vars)
        self._d_run = d_optim, [losses.d_real, losses.d], D, D_


@pytest.mark.parametrize('y_dim', [None, pytest.param(4, marks=pytest.mark.slow)])
def test_iteration_equals_the_six_session_runs_of_the_original(y_dim, sess, make_dcgan):
    dcgan = make_dcgan(y_dim=y_dim)
    config = SimpleNamespace(learning_rate=1e-3, beta1=0.5, G_img_sum=True)
    original = OrderedIteration(dcgan, config)
    iteration = FusedIteration(dcgan, config)
    weights = sess.run(dcgan.variables)

    def start_again():
        sess.run(tf.global_variables_initializer())
        sess.run([v.assign(value) for v, value in zip(dcgan.variables, weights)])

    # Biases before a batch norm have gradients that are only rounding errors. Adam
    # divides by them, so that the steps differ by a part of the learning rate. With a
    # learning rate of 0, the moving averages can be compared closely.
    for rate, tolerance in (1e-3, 1e-4), (0.0, 1e-6):
        start_again()
        feed = random_feed(dcgan)
        feed[original.learning_rates] = [rate, rate]
        expected, variables = original.runs(feed), sess.run(dcgan.variables)
        start_again()
        feed = random_batch(dcgan, iteration)
        feed[iteration.learning_rates] = [rate, rate]
        found = sess.run(iteration.tensors, feed)
        for a, b in zip(
            [*expected[:4], *expected.images, *variables],
            [*found[:4], *found.images, *sess.run(dcgan.variables)],
        ):
            assert np.allclose(a, b, rtol=10 * tolerance, atol=tolerance)


def predecessors(fetches):
    """{operation that the fetches run: the operations that always run before it}."""
    before, waiting = {}, [tensor.op for tensor in tf.nest.flatten(fetches)]
    while waiting:
        op = waiting[-1]
        direct = {tensor.op for tensor in op.inputs} | set(op.control_inputs)
        missing = direct - before.keys()
        waiting.extend(missing)
        if not missing:
            before[waiting.pop()] = direct.union(*(before[o] for o in direct))
    return before


@pytest.fixture(scope='module', params=[None, 4])
def bfloat16(request):
    """(a model, predecessors of its iteration in bfloat16, which needs no device)."""
    with tf.Graph().as_default():
        size = dict(output_height=16, output_width=16, z_dim=5, gf_dim=4, df_dim=4)
        dcgan = model.DCGAN(None, data_dir=None, y_dim=request.param, **size)
        dcgan.how = Pass(dtype=tf.bfloat16)  # as in a model with precision bfloat16
        config = SimpleNamespace(learning_rate=1e-3, beta1=0.5, G_img_sum=True)
        return dcgan, predecessors(FusedIteration(dcgan, config).tensors)


def test_iteration_never_reads_a_variable_while_it_is_written(bfloat16):
    dcgan, before = bfloat16
    users = {}  # {variable: the operations that read or write it}
    for op in before:
        for tensor in op.inputs:
            if tensor.dtype == tf.resource:
                users.setdefault(tensor, []).append(op)
    assert len(users) > len(dcgan.variables)  # the variables of Adam as well
    for operations in users.values():
        for a, b in itertools.combinations(operations, 2):
            are_reads = {a.type, b.type} == {'ReadVariableOp'}
            assert are_reads or a in before[b] or b in before[a], (a.name, b.name)


def test_iteration_in_bfloat16_casts_each_weight_once_for_each_of_its_values(bfloat16):
    dcgan, before = bfloat16
    casts = collections.Counter(
        op.inputs[0].op.inputs[0].op.name
        for op in before
        if op.type == 'Cast' and op.inputs[0].op.type == 'ReadVariableOp'
    )
    weights = [v.op.name for v in dcgan.d_vars + dcgan.g_vars if 'bn' not in v.name]
    # D changes once in an iteration, G twice
    assert casts == {name: 2 if name.startswith('d') else 3 for name in weights}


def test_summaries_of_an_iteration_show_probabilities_and_losses(
    sess, make_dcgan, tmp_path
):
    dcgan = make_dcgan()
    config = SimpleNamespace(learning_rate=0.0, beta1=0.5, G_img_sum=False)
    iteration = FusedIteration(dcgan, config)
    sess.run(tf.global_variables_initializer())
    # a bias of -3 makes logits and probabilities differ clearly
    sess.run(dcgan.d_vars[-1].assign([-3.0]))
    result = sess.run(iteration.tensors, random_batch(dcgan, iteration))
    z = random_feed(dcgan)[dcgan.z]
    log = SummaryLog(str(tmp_path), None, 0)
    log.add(result, z, 1, {})
    log.close()
    events = tf.train.summary_iterator(str(next(tmp_path.iterdir())))
    steps = [{v.tag: v for v in e.summary.value} for e in events if e.step]
    d_tags = {'z_1', 'd', 'd_loss_real', 'd_loss'}
    g_tags = {'z_1', 'd_', 'd_loss_fake', 'g_loss'}
    assert [set(step) for step in steps] == [d_tags, g_tags, g_tags]
    for step, tag in zip(steps, ('d', 'd_', 'd_')):
        assert 0 < step[tag].histo.min <= step[tag].histo.max < 0.2
    names = ('d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss')
    losses = dict(zip(names, result.losses))
    for step in steps:
        assert np.isclose(step['z_1'].histo.sum, z.sum(), rtol=1e-3)
        for tag in step.keys() & losses.keys():
            assert np.isclose(step[tag].simple_value, losses[tag], rtol=1e-3)


def test_checkpoint_restores_weights_and_step_and_tells_dims(
    sess, make_dcgan, tmp_path
):
    dcgan = make_dcgan(y_dim=4)
    assert dcgan.load(str(tmp_path)) == (False, 0)
    dcgan.save(str(tmp_path), 7)
    before = sess.run(dcgan.variables)
    sess.run(tf.global_variables_initializer())
    assert dcgan.load(str(tmp_path)) == (True, 7)
    after = sess.run(dcgan.variables)
    assert all((a == b).all() for a, b in zip(before, after))
    assert (tmp_path / 'model.b6-7.meta').exists()
    assert checkpoint_dims(newest_checkpoint(str(tmp_path))) == (4, 3)


def test_checkpoint_of_the_original_loads_from_another_folder(
    sess, make_dcgan, tmp_path
):
    shutil.copytree(RECORDING / 'checkpoint', tmp_path / 'moved')
    dcgan = make_dcgan(batch_size=12, output_height=64, output_width=64, z_dim=20)
    assert dcgan.load(str(tmp_path / 'moved')) == (True, 1)
    assert checkpoint_dims(newest_checkpoint(str(tmp_path / 'moved'))) == (None, 3)
    recorded = np.load(RECORDING / 'forward.npz')
    images = sess.run(dcgan.sampler, {dcgan.z: recorded['in/z']})
    assert np.abs(images - recorded['out/sampler']).max() < 1e-4


def test_unusable_checkpoints_are_reported_with_the_reason(make_dcgan, tmp_path):
    dcgan = make_dcgan(output_height=64, output_width=64)
    with pytest.raises(UserError, match=r'g_h0_lin/Matrix \[20, 512\].*--z_dim'):
        dcgan.load(str(RECORDING / 'checkpoint'))  # of another size
    dcgan.save(str(tmp_path / 'a'), 1)
    data = tmp_path / 'a' / 'model.b6-1.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UserError, match=r'model\.b6-1: .*\((?!Graph execution)'):
        dcgan.load(str(tmp_path / 'a'))
    (tmp_path / 'a' / 'model.b6-1.index').write_bytes(b'corrupt')
    with pytest.raises(UserError, match=r'model\.b6-1: this checkpoint cannot be read'):
        dcgan.load(str(tmp_path / 'a'))
    dcgan.saver.save(dcgan.sess, str(tmp_path / 'weights'))
    with pytest.raises(UserError, match='weights: .* has to end in -ITERATION'):
        dcgan.load(str(tmp_path))


def test_checkpoints_beyond_max_to_keep_are_deleted(make_dcgan, tmp_path):
    dcgan = make_dcgan(max_to_keep=2)
    for step in range(1, 5):
        dcgan.save(f'{tmp_path}/', step)
    dcgan.save(str(tmp_path / 'elsewhere'), 5)
    kept = sorted(path.name for path in tmp_path.glob('*.index'))
    assert kept == ['model.b6-3.index', 'model.b6-4.index']


def test_unlisted_newer_checkpoint_comes_first(make_dcgan, tmp_path):
    dcgan = make_dcgan(max_to_keep=0)
    for step in (1, 3):
        dcgan.save(str(tmp_path), step)
    state_file = tmp_path / 'checkpoint'
    state = state_file.read_bytes()
    dcgan.save(str(tmp_path), 4)
    state_file.write_bytes(state)  # as if the process was killed before it wrote this
    os.utime(tmp_path / 'model.b6-4.index')
    (tmp_path / 'model.b6-3.index').rename(tmp_path / 'model.b6-2.index')
    steps = [step_of(path) for path in checkpoints(str(tmp_path))]
    assert steps == [4, 3, 1, 2]
    for content in (b'corrupt', b'', b'\xff\xfe'):
        state_file.write_bytes(content)
        steps = [step_of(path) for path in checkpoints(str(tmp_path))]
        assert steps == [4, 2, 1]


def test_weight_that_is_not_finite_is_reported(sess, cats):
    dcgan, config = cats
    dcgan.train(config)
    (variable,) = (v for v in dcgan.variables if 'g_bn1/moving_var' in v.name)
    sess.run(variable.assign(np.full(variable.shape, np.inf)))
    dcgan.save(config.checkpoint_dir, 4)
    config.epoch = 2
    message = r'iteration 4: not finite: generator/g_bn1/moving_variance; .*model.b6-4;'
    with pytest.raises(UserError, match=message):
        dcgan.train(config)


def test_train_can_be_called_again_and_resumes(sess, cats):
    dcgan, config = cats
    assert dcgan.train(config) == 3
    count = len(tf.global_variables())
    config.epoch, config.learning_rate = 2, 0.0
    before = sess.run(dcgan.g_vars)
    assert dcgan.train(config) == 6 and len(tf.global_variables()) == count
    files = glob.glob(f'{dcgan.out_dir}/logs/*')
    steps = {e.step for file in files for e in tf.train.summary_iterator(file)}
    assert set(range(1, 7)) <= steps  # also if both calls began in the same second
    assert all((a == b).all() for a, b in zip(before, sess.run(dcgan.g_vars)))
    assert dcgan.train(config) == 6  # it is complete
    config.beta1 = 0.9
    with pytest.raises(UserError, match="'beta1': 0.5.* build another DCGAN"):
        dcgan.train(config)


def test_failed_training_names_its_checkpoint_which_can_be_saved_again(cats):
    dcgan, config = cats
    dcgan.save(config.checkpoint_dir, 7)
    metrics = Path(dcgan.out_dir, 'metrics.csv')
    metrics.mkdir()  # where a file has to be: the training cannot start
    with pytest.raises(UserError, match='metrics.csv: '):
        dcgan.train(config)
    assert dcgan.checkpoint_folder(config.checkpoint_dir).protected == []
    metrics.rmdir()
    config.learning_rate = 1e30
    with pytest.raises(UserError, match=r'last good checkpoint: .*model\.b6-7;'):
        dcgan.train(config)  # protects the checkpoint from which it resumed
    path = f'{config.checkpoint_dir}/model.b6-7'
    before = os.stat(f'{path}.index').st_mtime_ns
    dcgan.save(config.checkpoint_dir, 7)
    assert os.stat(f'{path}.index').st_mtime_ns > before
    assert not has_training_state(path)


@pytest.mark.slow
def test_times_are_right_while_the_clock_is_set_back(cats, monkeypatch, capsys):
    (dcgan, config), clock = cats, itertools.count(10**9, -1000)
    monkeypatch.setattr(time, 'time', lambda: next(clock))
    config.sample_freq = 1
    dcgan.train(config)
    printed = capsys.readouterr().out
    assert len(re.findall(r'time: \d', printed)) == 3
    assert not re.search(r' -\d', printed)


def test_checkpoints_that_vanish_again_and_again_end_in_an_error(
    make_dcgan, tmp_path, monkeypatch
):
    dcgan, looked = make_dcgan(), []

    def newest(*args):
        looked.append(args)
        return str(tmp_path / f'model.b6-{len(looked)}')

    monkeypatch.setattr('dcgan.training.checkpoints.newest_checkpoint', newest)
    with pytest.raises(UserError, match='cannot be read'):
        dcgan.load(str(tmp_path))
    assert len(looked) == 5


@pytest.mark.parametrize('ending', [None, '.index'])  # deleted last
def test_a_checkpoint_deleted_before_it_is_read_makes_way_for_the_newest(
    make_dcgan, tmp_path, ending
):
    dcgan, tried = make_dcgan(), []
    dcgan.save(str(tmp_path), 1)

    def read(path):
        tried.append(step_of(path))
        if tried == [1]:  # a training goes on meanwhile
            shutil.copytree(tmp_path, tmp_path / 'old')
            dcgan.save(str(tmp_path), 2)
            assert not glob.glob(f'{path}.*')
            if ending:
                shutil.copy(tmp_path / f'old/model.b6-1{ending}', tmp_path)
        with reading(path) as reader:
            return reader.get_tensor('generator/g_h0_lin/bias')

    assert read_usable(read, str(tmp_path)).size > 0
    assert tried == [1, 2]


def test_summaries_are_on_the_disk_together_with_their_checkpoint(cats, monkeypatch):
    (dcgan, config), steps = cats, []

    class WatchedTraining(Training):
        def save(self, stop):
            is_last = super().save(stop)
            if self.state.at.counter == 2:
                (events,) = glob.glob(f'{dcgan.out_dir}/logs/*')
                steps.extend(e.step for e in tf.train.summary_iterator(events))
            return is_last

    monkeypatch.setattr(loop, 'Training', WatchedTraining)
    config.ckpt_freq = 2
    dcgan.train(config)
    assert steps.count(2) == 3


@pytest.mark.slow
def test_checkpoint_of_another_process_in_the_meantime_is_resumed(cats):
    dcgan, config = cats
    checkpoint = dcgan.check(config)
    assert checkpoint is None
    dcgan.save(config.checkpoint_dir, 7)
    assert dcgan.train(config, checkpoint) == 6 + 3


def test_programming_error_is_not_reported_as_a_write_error(make_dcgan, tmp_path):
    with pytest.raises(TypeError):
        make_dcgan(max_to_keep='two').save(str(tmp_path), 1)


def test_few_images_are_warned_of_unless_the_epochs_use_others(cats, capsys):
    dcgan, config = cats
    dcgan.data.files *= 100  # 1900 images
    config.train_size = 600
    for config.epoch in (1, 2):
        assert Training(dcgan, config, None).epoch_batches == 100
        is_warned = 'Only 600 images' in capsys.readouterr().out
        assert is_warned == (config.epoch == 1)


def test_folder_is_synced_before_old_checkpoints_are_deleted(
    make_dcgan, tmp_path, monkeypatch
):
    calls, fsync, remove = [], os.fsync, os.remove

    def recorded_fsync(descriptor):
        path = os.readlink(f'/proc/self/fd/{descriptor}')
        calls.append(f'sync {os.path.basename(path)}')
        fsync(descriptor)

    def recorded_remove(path):
        calls.append(f'remove {os.path.basename(path)}')
        remove(path)

    dcgan = make_dcgan()
    dcgan.save(str(tmp_path / 'c'), 1)
    monkeypatch.setattr(os, 'fsync', recorded_fsync)
    monkeypatch.setattr(os, 'remove', recorded_remove)
    dcgan.save(str(tmp_path / 'c'), 2)
    assert calls.index('sync c') < calls.index('remove model.b6-1.index')


def test_saved_model_that_is_written_again_replaces_the_old_one(make_dcgan, tmp_path):
    dcgan, folder = make_dcgan(), tmp_path / 'saved_model' / '1'
    save_sampler(dcgan, str(folder))
    with subprocess.Popen([sys.executable, '-c', '']) as ended:
        leftover = f'.dcgan-{ended.pid}@{socket.gethostname()}~1'
    (folder.parent / leftover).mkdir()
    graph = folder / 'saved_model.pb'
    time_before = os.stat(graph).st_mtime_ns
    save_sampler(dcgan, str(folder))
    assert os.stat(graph).st_mtime_ns > time_before
    assert os.listdir(folder.parent) == ['1']


def test_training_in_another_thread_leaves_signal_handlers_alone():
    before = signal.getsignal(signal.SIGINT)
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: deferred_signals().__enter__()).result() == []
    assert signal.getsignal(signal.SIGINT) is before


def test_invalid_training_settings_are_reported_first(cats):
    dcgan, config = cats
    for settings, changes, message in (
        ({}, {'epoch': 0}, r'epoch 0 has to be positive'),
        ({}, {'train_size': 5}, 'train_size 5 is less than a batch of 6'),
        ({'sample_num': 5}, {}, r'sample_num 5 has to be batch_size, 6'),
        ({'data': None}, {}, 'no data to train on'),
    ):
        vars(dcgan).update(settings)
        with pytest.raises(UserError, match=message):
            dcgan.train(SimpleNamespace(**{**vars(config), **changes}))


def test_frozen_graph_draws_the_same_images_as_the_sampler(sess, make_dcgan, tmp_path):
    dcgan = make_dcgan(y_dim=4)
    dcgan.save(str(tmp_path), 3, ckpt=False, frozen=True)
    feed = random_feed(dcgan)
    expected = sess.run(dcgan.sampler, feed)
    content = (tmp_path / 'model.b6-000003_frz.pb').read_bytes()
    graph_def = tf.GraphDef.FromString(content)
    assert not any('Variable' in node.op for node in graph_def.node)
    with tf.Graph().as_default(), tf.Session() as other:
        tf.import_graph_def(graph_def, name='')
        frozen_feed = {'z:0': feed[dcgan.z], 'y:0': feed[dcgan.y]}
        images = other.run('generator_1/Sigmoid:0', frozen_feed)
    assert np.allclose(images, expected, atol=1e-6)


def test_models_that_cannot_be_built_are_refused(make_dcgan, tmp_path):
    write_images(tmp_path / 'cats', count=5)
    write_idx_set(tmp_path / 'set', classes=4)
    data = {'data_dir': str(tmp_path), 'input_fname_pattern': '*.png'}
    cats, idx = ({**data, 'dataset_name': name} for name in ('cats', 'set'))
    for settings, y_dim, message in (
        ({'output_height': 18}, 4, '18x16.*multiples of 4.*--output_height'),
        (cats, 4, 'cats: has no class folders'),
        (cats, None, '5 images do not fill a batch of 6'),
        (idx, 3, '4 classes, the model y_dim 3'),
    ):
        with pytest.raises(UserError, match=message):
            make_dcgan(y_dim=y_dim, **settings)
    dcgan = make_dcgan(y_dim=4, **idx)
    assert dcgan.c_dim == 1 and dcgan.inputs.shape == [6, 16, 16, 1]
    images, _ = next(dcgan.data.batches(6, 1))
    assert images.max() > 9
    with pytest.raises(UserError, match=r'this graph has a DCGAN already.*tf\.Graph\('):
        make_dcgan()


@pytest.mark.parametrize('xla', [False, True])
@pytest.mark.parametrize('y_dim', [None, 4])
def test_iteration_sees_the_same_float32_values_as_the_public_placeholders(
    y_dim, xla, sess, make_dcgan
):
    dcgan = make_dcgan(y_dim=y_dim)
    images = np.resize(np.arange(256), dcgan.inputs.shape).astype(np.uint8)
    labels = np.arange(6) % 4
    function = tf.function(partial(to_inputs, dcgan), jit_compile=xla, autograph=False)
    inputs = function(tf.constant(images), tf.constant(labels))
    feed = dcgan.feed(images, labels, np.zeros([6, 5]))
    scaled = images / np.float32(255) if y_dim else (images - np.float32(127.5)) / 127.5
    assert (sess.run(inputs[0]) == feed[dcgan.inputs]).all()
    assert (scaled.astype(np.float32) == feed[dcgan.inputs]).all()
    if y_dim:
        assert (sess.run(inputs[1]) == feed[dcgan.y]).all()


@pytest.mark.parametrize('y_dim, lowest', [(None, -1), (4, 0)])  # of tanh, sigmoid
def test_samples_become_bytes_as_their_floats_would(y_dim, lowest, sess, make_dcgan):
    dcgan = make_dcgan(y_dim=y_dim, output_height=8, output_width=8)
    sess.run([v.assign(v * 40) for v in dcgan.g_vars])  # for all shades of gray
    fetches = [dcgan.G, dcgan.sampler, dcgan.sampler_bytes]
    *floats, pixels = sess.run(fetches, random_feed(dcgan))
    for images in floats:
        assert lowest <= images.min() < lowest + 0.1 and 0.9 < images.max() <= 1
    unit = images if y_dim else (images + 1) / 2
    assert (pixels == np.rint(unit * 255)).all() and np.ptp(pixels) > 100


@pytest.mark.slow
def test_training_under_xla_has_the_variables_of_one_without(make_dcgan):
    config, names = SimpleNamespace(learning_rate=0.1, beta1=0.5, G_img_sum=False), []
    for xla in (False, True):
        with tf.Graph().as_default() as graph, tf.Session() as other:
            dcgan = make_dcgan(other, xla=xla)
            FusedIteration(dcgan, config)
            names.append([v.op.name for v in tf.global_variables()])
            types = {op.type for op in graph.get_operations()}
            assert dcgan.xla == xla == ('StatefulPartitionedCall' in types)
    assert names[0] == names[1]


@pytest.mark.slow
def test_training_goes_on_without_xla_where_it_cannot_compile(
    cats, monkeypatch, capsys
):
    dcgan, config = cats
    dcgan.xla = True
    # a function for which XLA has no kernels
    monkeypatch.setattr(can_compile, '__defaults__', (tf.strings.as_string,))
    assert dcgan.train(config) == 3 and not dcgan.xla
    printed = capsys.readouterr().out
    assert 'XLA cannot compile here (' in printed and 'compiles the' not in printed


@pytest.mark.slow
def test_what_is_drawn_ahead_of_training_is_undone_at_its_end(cats):
    dcgan, config = cats
    draws = []
    for interrupted_after in (None, 2):
        np.random.seed(3)

        class StoppedTraining(Training):
            def save(self, stop, last=interrupted_after):
                return super().save(stop or self.state.at.counter == last)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, 'Training', StoppedTraining)
            shutil.rmtree(dcgan.out_dir, ignore_errors=True)
            dcgan.train(config)
        draws.append((dcgan.data.order.tolist(), np.random.get_state()[2]))
    (order, position), (order_of_two, position_of_two) = draws
    assert order == order_of_two
    # normal01 takes random numbers of two words, for a batch of 6 and z of 5 dimensions
    assert position_of_two < position


def test_conv_out_size_same_is_where_the_original_has_it():
    assert [model.conv_out_size_same(size, 2) for size in (4, 5, 6)] == [2, 3, 3]
