"""The DCGAN class: graph, averages, checkpoints, errors."""

import contextlib
import io
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent import futures
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, write_idx_set, write_images

import model
from dcgan.checkpoints import checkpoint_dims, checkpoints, newest_checkpoint, step_of
from dcgan.errors import UserError
from dcgan.kernels import has_bfloat16
from dcgan.signals import deferred_signals
from dcgan.training import Training, TrainingState

PLAIN = ROOT / 'tests' / 'golden' / 'rgb64'


def feed_for(dcgan, seed=0):
    rng = np.random.RandomState(seed)
    images = rng.randint(0, 256, dcgan.inputs.shape.as_list()).astype(np.uint8)
    labels = rng.randint(0, dcgan.y_dim or 1, dcgan.batch_size)
    z = rng.uniform(-1, 1, (dcgan.batch_size, dcgan.z_dim))
    return dcgan.feed(images, labels, z)


def averages(sess, network):
    moving = [
        v
        for v in tf.global_variables()
        if 'moving' in v.name and v.name.startswith(network)
    ]
    return np.concatenate([sess.run(v) for v in moving])


@pytest.mark.parametrize('y_dim', [None, 4])
def test_sampler_leaves_the_averages_alone(sess, make_dcgan, y_dim):
    dcgan = make_dcgan(y_dim=y_dim)
    before = averages(sess, ''), sess.run(dcgan.sampler, feed_for(dcgan))
    after = averages(sess, ''), sess.run(dcgan.sampler, feed_for(dcgan))
    assert (before[0] == after[0]).all() and (before[1] == after[1]).all()


@pytest.mark.parametrize('y_dim', [None, 4])
def test_each_loss_moves_the_averages_of_the_networks_it_runs(sess, make_dcgan, y_dim):
    dcgan = make_dcgan(y_dim=y_dim)
    for loss, g_moves, d_moves in (
        (dcgan.d_loss_real, False, True),
        (dcgan.d_loss_fake, True, True),
        (dcgan.G, True, False),
    ):
        g, d = averages(sess, 'generator'), averages(sess, 'discriminator')
        sess.run(loss, feed_for(dcgan))
        assert (averages(sess, 'generator') != g).any() == g_moves
        assert (averages(sess, 'discriminator') != d).any() == d_moves


def test_images_are_in_the_range_of_their_last_layer(sess, make_dcgan):
    plain, feed = (d := make_dcgan()).G, feed_for(d)
    images = sess.run(plain, feed)
    assert images.min() < 0 and abs(images).max() <= 1
    with tf.Graph().as_default(), tf.Session() as other:
        dcgan = model.DCGAN(
            other, output_height=8, output_width=8, y_dim=3, batch_size=2, data_dir=None
        )
        other.run(tf.global_variables_initializer())
        images = other.run(dcgan.sampler, feed_for(dcgan))
    assert images.min() >= 0 and images.max() <= 1


def test_losses_are_cross_entropies_of_the_logits(sess, make_dcgan):
    dcgan = make_dcgan()
    names = ['D_logits', 'D_logits_', 'd_loss', 'd_loss_real', 'd_loss_fake', 'g_loss']
    values = sess.run([getattr(dcgan, name) for name in names], feed_for(dcgan))
    real, fake, d_loss, d_real, d_fake, g_loss = values
    assert np.isclose(d_real, np.log1p(np.exp(-real)).mean(), atol=1e-6)
    assert np.isclose(d_fake, np.log1p(np.exp(fake)).mean(), atol=1e-6)
    assert np.isclose(g_loss, np.log1p(np.exp(-fake)).mean(), atol=1e-6)
    assert np.isclose(d_loss, d_real + d_fake, atol=1e-6)


@pytest.mark.parametrize('y_dim', [None, 4])
def test_bfloat16_gives_about_the_losses_of_float32(sess, make_dcgan, y_dim):
    if not has_bfloat16():
        pytest.skip('no kernels for bfloat16')
    losses, weights = [], None
    for precision in ('float32', 'bfloat16'):
        with tf.Graph().as_default(), tf.Session() as other:
            dcgan = make_dcgan(other, y_dim=y_dim, precision=precision)
            weights = weights or other.run(dcgan.variables)
            other.run([v.assign(w) for v, w in zip(dcgan.variables, weights)])
            fetches = [dcgan.d_loss_real, dcgan.d_loss_fake]
            losses.append(other.run(fetches, feed_for(dcgan)))
            networks = 'generator', 'discriminator', 'discriminator_1'
            expected = {(network, precision) for network in networks}
            expected.add(('generator_1', 'float32'))  # the sampler
            types = {
                (op.name.split('/')[0], op.outputs[0].dtype.name)
                for op in other.graph.get_operations()
                if op.type in ('MatMul', 'Conv2D', 'Conv2DBackpropInput')
            }
            assert {t for t in types if t[0] in dict(expected)} == expected
    assert losses[0] != losses[1] and np.allclose(*losses, rtol=0.02)


def adam_steps(dcgan, learning_rate):
    """The original's optimisers, variables of their own: (D's step, G's step)."""
    losses = dcgan.losses(dcgan.G)  # d_loss, with its passes in order
    d_loss = losses.d_real + losses.d_fake
    steps = (d_loss, dcgan.d_vars), (dcgan.g_loss, dcgan.g_vars)
    return [
        tf.train.AdamOptimizer(learning_rate, beta1=0.5).minimize(loss, var_list=v)
        for loss, v in steps
    ]


# Adam divides by gradients that are rounding error, of biases before a batch norm: then
# a weight's steps differ by a part of the rate. Without one, averages can be looked at
@pytest.mark.parametrize('learning_rate, near', [(1e-3, 1e-4), (0.0, 1e-6)])
@pytest.mark.parametrize('y_dim', [None, 4])
def test_an_iteration_does_what_the_six_runs_of_the_original_do(
    y_dim, learning_rate, near, sess, make_dcgan
):
    dcgan = make_dcgan(y_dim=y_dim)
    config = SimpleNamespace(learning_rate=learning_rate, beta1=0.5, G_img_sum=True)
    d_step, g_step = adam_steps(dcgan, learning_rate)
    iteration = dcgan.build_iteration(config)
    first = sess.run(dcgan.variables)
    results = []
    for in_one in (False, True):
        sess.run(tf.global_variables_initializer())
        sess.run([v.assign(value) for v, value in zip(dcgan.variables, first)])
        feed = feed_for(dcgan)
        if in_one:
            _, *losses, _ = sess.run(iteration, feed)
        else:
            for step in (d_step, g_step, g_step):
                sess.run(step, feed)
            losses = [dcgan.d_loss_fake, dcgan.d_loss_real, dcgan.g_loss]
            losses = [sess.run(loss, feed) for loss in losses]
        results.append([*losses, *sess.run(dcgan.variables)])
    for six, one in zip(*results):
        assert np.allclose(six, one, rtol=10 * near, atol=near)


def needed(fetches):
    """{operation: those that always run before it} of what fetches run."""
    before, waiting = {}, [tensor.op for tensor in tf.nest.flatten(fetches)]
    while waiting:
        op = waiting[-1]
        direct = {tensor.op for tensor in op.inputs} | set(op.control_inputs)
        missing = direct - before.keys()
        waiting.extend(missing)
        if not missing:
            before[waiting.pop()] = direct.union(*(before[o] for o in direct))
    return before


@pytest.mark.parametrize('y_dim', [None, 4])
def test_in_an_iteration_no_variable_is_read_while_it_is_written(y_dim, make_dcgan):
    dcgan = make_dcgan(y_dim=y_dim)
    config = SimpleNamespace(learning_rate=1e-3, beta1=0.5, G_img_sum=True)
    iteration, users = dcgan.build_iteration(config), {}
    before = needed(iteration)
    for op in before:
        for tensor in op.inputs:
            if tensor.dtype == tf.resource:
                users.setdefault(tensor, []).append(op)
    assert len(users) > len(dcgan.variables)  # Adam's as well
    for ops_of_one in users.values():
        for a, b in itertools.combinations(ops_of_one, 2):
            reads = {a.type, b.type} == {'ReadVariableOp'}
            assert reads or a in before[b] or b in before[a], (a.name, b.name)


def test_summaries_of_an_iteration_show_probabilities_and_losses(sess, make_dcgan):
    dcgan = make_dcgan()
    config = SimpleNamespace(learning_rate=0.0, beta1=0.5, G_img_sum=False)
    iteration = dcgan.build_iteration(config)
    sess.run(tf.global_variables_initializer())
    # far from 0, where logits are probabilities no longer
    sess.run(dcgan.d_vars[-1].assign([-3.0]))
    summaries, d_loss_fake, d_loss_real, g_loss, _ = sess.run(
        iteration, feed_for(dcgan)
    )
    shown = [
        {value.tag: value for value in tf.Summary.FromString(summary).value}
        for summary in summaries
    ]
    d_step = {'z_1', 'd', 'd_loss_real', 'd_loss'}
    g_step = {'z_1', 'd_', 'd_loss_fake', 'g_loss'}
    assert [set(values) for values in shown] == [d_step, g_step, g_step]
    for values, name in zip(shown, ('d', 'd_', 'd_')):
        assert 0 < values[name].histo.min <= values[name].histo.max < 0.2
    for values in shown[1:]:
        assert np.isclose(values['g_loss'].simple_value, g_loss, rtol=1e-3)
        assert np.isclose(values['d_loss_fake'].simple_value, d_loss_fake, rtol=1e-3)
    assert np.isclose(shown[0]['d_loss_real'].simple_value, d_loss_real, rtol=1e-3)


def test_a_checkpoint_brings_back_weights_and_step(sess, make_dcgan, tmp_path):
    dcgan = make_dcgan()
    dcgan.save(str(tmp_path), 7)
    before = sess.run(dcgan.variables)
    sess.run(tf.global_variables_initializer())
    assert dcgan.load(str(tmp_path)) == (True, 7)
    after = sess.run(dcgan.variables)
    assert all((a == b).all() for a, b in zip(before, after))
    assert (tmp_path / 'model.b6-7.meta').exists()


def test_a_checkpoint_of_the_original_loads_after_its_folder_moved(
    sess, make_dcgan, tmp_path
):
    shutil.copytree(PLAIN / 'checkpoint', tmp_path / 'moved')
    dcgan = make_dcgan(batch_size=12, output_height=64, output_width=64, z_dim=20)
    assert dcgan.load(str(tmp_path / 'moved')) == (True, 1)
    golden = np.load(PLAIN / 'forward.npz')
    feed = {dcgan.z: golden['in/z']}
    sampled = sess.run(dcgan.sampler, feed)
    assert np.abs(sampled - golden['out/sampler']).max() < 1e-4


def test_no_checkpoint_is_no_error(make_dcgan, tmp_path):
    assert make_dcgan().load(str(tmp_path)) == (False, 0)


def test_a_checkpoint_of_other_sizes_names_variable_and_flags(make_dcgan):
    with pytest.raises(UserError, match=r'g_h0_lin/Matrix \[20, 512\].*--z_dim'):
        make_dcgan(batch_size=12, output_height=64, output_width=64).load(
            str(PLAIN / 'checkpoint')
        )


def test_a_torn_checkpoint_is_named(make_dcgan, tmp_path):
    dcgan = make_dcgan()
    dcgan.save(str(tmp_path), 1)
    (tmp_path / 'model.b6-1.index').write_bytes(b'torn')
    with pytest.raises(UserError, match=r'model\.b6-1: this checkpoint cannot be read'):
        dcgan.load(str(tmp_path))


def test_a_checkpoint_cut_short_is_named_with_the_reason(make_dcgan, tmp_path):
    dcgan = make_dcgan()
    dcgan.save(str(tmp_path), 1)
    data = tmp_path / 'model.b6-1.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(UserError, match=r'model\.b6-1: .*\((?!Graph execution)'):
        dcgan.load(str(tmp_path))


def test_a_checkpoint_that_names_no_step_is_told(make_dcgan, tmp_path):
    dcgan = make_dcgan()
    dcgan.saver.save(dcgan.sess, str(tmp_path / 'weights'))
    with pytest.raises(UserError, match='weights: .* has to end in -ITERATION'):
        dcgan.load(str(tmp_path))


def test_checkpoints_beyond_max_to_keep_are_removed(make_dcgan, tmp_path):
    dcgan = make_dcgan(max_to_keep=2)
    for step in range(1, 5):
        dcgan.save(f'{tmp_path}/', step)
    dcgan.save(str(tmp_path / 'elsewhere'), 5)
    kept = sorted(path.name for path in tmp_path.glob('*.index'))
    assert kept == ['model.b6-3.index', 'model.b6-4.index']


def test_a_checkpoint_that_its_writer_did_not_come_to_name_is_the_newest(
    make_dcgan, tmp_path
):
    dcgan = make_dcgan(max_to_keep=0)
    for step in (1, 3):
        dcgan.save(str(tmp_path), step)
    state = (tmp_path / 'checkpoint').read_bytes()
    dcgan.save(str(tmp_path), 4)
    (tmp_path / 'checkpoint').write_bytes(state)
    os.utime(tmp_path / 'model.b6-4.index')
    (tmp_path / 'model.b6-3.index').rename(tmp_path / 'model.b6-2.index')
    named = [step_of(path) for path in checkpoints(str(tmp_path))]
    assert named == [4, 3, 1, 2]
    for torn in (b'torn', b'', b'\xff\xfe'):
        (tmp_path / 'checkpoint').write_bytes(torn)
        named = [step_of(path) for path in checkpoints(str(tmp_path))]
        assert named == [4, 2, 1]


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_weight_or_moving_average_that_is_not_finite_is_reported(
    value, sess, make_dcgan, cats
):
    dcgan, config = make_dcgan(**cats[0]), cats[1]
    dcgan.train(config)
    (variable,) = (v for v in dcgan.variables if 'g_bn1/moving_var' in v.name)
    sess.run(variable.assign(np.full(variable.shape, value)))
    dcgan.save(config.checkpoint_dir, 4)
    config.epoch = 2
    message = r'iteration 4: not finite: generator/g_bn1/moving_variance; .*model.b6-4;'
    with pytest.raises(UserError, match=message):
        dcgan.train(config)


@pytest.fixture
def cats(tmp_path):
    """Arguments of a make_dcgan model of pictures, and the flags of a short training."""
    write_images(tmp_path / 'cats', count=19)
    out = str(tmp_path / 'out')
    arguments = dict(
        data_dir=str(tmp_path),
        dataset_name='cats',
        input_fname_pattern='*.png',
        out_dir=out,
        checkpoint_dir=out,
        sample_dir=out,
    )
    config = SimpleNamespace(epoch=1, train_size=np.inf, z_dist='normal01', beta1=0.5)
    config.__dict__.update(learning_rate=1e-3, sample_freq=9, ckpt_freq=9)
    config.__dict__.update(G_img_sum=False, sample_dir=out, checkpoint_dir=out)
    return arguments, config


def test_training_can_be_called_again_and_goes_on(sess, make_dcgan, cats):
    dcgan, config = make_dcgan(**cats[0]), cats[1]
    assert dcgan.train(config) == 3
    count = len(tf.global_variables())
    config.epoch, config.learning_rate = 2, 0.0
    before = sess.run(dcgan.g_vars)
    assert dcgan.train(config) == 6 and len(tf.global_variables()) == count
    assert all((a == b).all() for a, b in zip(before, sess.run(dcgan.g_vars)))
    with tf.Graph().as_default(), tf.Session() as other:
        assert make_dcgan(other, **cats[0]).train(config) == 6  # nothing is left to do
    config.beta1 = 0.9
    with pytest.raises(UserError, match="'beta1': 0.5.* build another DCGAN"):
        dcgan.train(config)


def test_a_training_that_fails_leaves_the_model_usable(
    sess, make_dcgan, cats, tmp_path
):
    dcgan, config = make_dcgan(**cats[0]), cats[1]
    config.learning_rate = 1e30
    with pytest.raises(UserError, match='not finite'):
        dcgan.train(config)
    dcgan.save(str(tmp_path / 'saved'), 3)
    assert (tmp_path / 'saved' / 'model.b6-3.index').exists()
    config.learning_rate = 1e-3
    assert dcgan.train(config) == 3


def test_a_run_that_another_process_trained_meanwhile_goes_on(make_dcgan, cats):
    dcgan, config = make_dcgan(**cats[0]), cats[1]
    checkpoint = dcgan.check(config)
    with tf.Graph().as_default(), tf.Session() as other:
        make_dcgan(other, **cats[0]).train(config)
    config.epoch = 2
    assert dcgan.train(config, checkpoint) == 6


def test_a_mistake_in_the_code_is_not_called_a_full_disk(make_dcgan, tmp_path):
    with pytest.raises(TypeError):
        make_dcgan(max_to_keep='two').save(str(tmp_path), 1)


@pytest.mark.parametrize(('epoch', 'few'), [(1, True), (2, False)])
def test_pictures_are_few_if_all_epochs_see_few(epoch, few, make_dcgan, cats, capsys):
    dcgan = make_dcgan(**cats[0])
    dcgan.data.files *= 100  # 1900 pictures
    config = SimpleNamespace(train_size=600, epoch=epoch)
    config.__dict__.update(z_dist='normal01', checkpoint_dir=cats[0]['checkpoint_dir'])
    dcgan.build_iteration(SimpleNamespace(learning_rate=0, beta1=0.5, G_img_sum=False))
    state = TrainingState(dcgan.data)
    assert Training(dcgan, config, state, None).epoch_batches == 100
    assert ('Only 600 images' in capsys.readouterr().out) == few


def test_names_are_on_the_disk_before_old_checkpoints_go(
    make_dcgan, tmp_path, monkeypatch
):
    calls, fsync, remove = [], os.fsync, os.remove

    def note_sync(descriptor):
        calls.append(
            f'sync {os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))}'
        )
        fsync(descriptor)

    def note_remove(path):
        calls.append(f'remove {os.path.basename(path)}')
        remove(path)

    dcgan = make_dcgan()
    dcgan.save(str(tmp_path / 'c'), 1)
    monkeypatch.setattr(os, 'fsync', note_sync)
    monkeypatch.setattr(os, 'remove', note_remove)
    dcgan.save(str(tmp_path / 'c'), 2)
    assert calls.index('sync c') < calls.index('remove model.b6-1.index')


def test_a_saved_model_is_replaced_in_one_step(make_dcgan, tmp_path):
    dcgan, folder = make_dcgan(), tmp_path / 'saved_model' / '1'
    dcgan.save_sampler(str(folder))
    dead = subprocess.run([sys.executable, '-c', 'import os; print(os.getpid())'],
                          capture_output=True, text=True).stdout.strip()  # fmt: skip
    left = folder.parent / f'.dcgan-{dead}@{socket.gethostname()}-1'
    left.mkdir()
    graph = folder / 'saved_model.pb'
    seen, before = [], os.stat(graph).st_mtime_ns
    watch = futures.ThreadPoolExecutor(1)
    done = watch.submit(lambda: [seen.append(graph.exists()) for _ in range(10**5)])
    while not done.done():
        dcgan.save_sampler(str(folder))
    assert all(seen) and os.stat(graph).st_mtime_ns > before
    assert os.listdir(folder.parent) == ['1']


def test_training_elsewhere_than_in_the_main_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    with futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: deferred_signals().__enter__()).result() == []
    assert signal.getsignal(signal.SIGINT) is before


def losses(folder, out_dir, **reading):
    """What a short training run from seeds prints, but for the times."""
    np.random.seed(0)
    config = SimpleNamespace(epoch=2, train_size=np.inf, z_dist='normal01', beta1=0.5)
    config.__dict__.update(learning_rate=1e-3, sample_freq=2, ckpt_freq=9)
    config.__dict__.update(G_img_sum=False, sample_dir=out_dir, checkpoint_dir=out_dir)
    threads = tf.ConfigProto(
        inter_op_parallelism_threads=1, intra_op_parallelism_threads=1
    )
    with tf.Graph().as_default(), tf.Session(config=threads) as sess:
        tf.set_random_seed(1)
        dcgan = model.DCGAN(
            sess, batch_size=6, sample_num=6, gf_dim=4, df_dim=4, data_dir=str(folder),
            dataset_name='cats', input_fname_pattern=None, out_dir=out_dir, **reading
        )  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            dcgan.train(config)
    return re.findall(r'\w_loss: \S+', printed.getvalue())


@pytest.mark.parametrize('reading', [{'num_workers': 2}, {'cache': True}])
def test_losses_are_the_same_however_pictures_are_read(reading, tmp_path):
    write_images(tmp_path / 'cats', count=19)
    expected = losses(tmp_path, str(tmp_path / 'a'))
    assert losses(tmp_path, str(tmp_path / 'b'), **reading) == expected
    assert len(expected) == 6 * 2 + 3 * 2


@pytest.mark.parametrize(
    ('settings', 'changes', 'message'),
    [
        ({'data_dir': None}, {}, 'no data to train on'),
        ({'sample_num': 5}, {}, r'sample_num \(5\) has to be batch_size \(6\)'),
        ({}, {'epoch': 0}, r'epoch \(0\) has to be positive'),
        ({}, {'train_size': 5}, 'train_size 5 is less than a batch of 6'),
    ],
)
def test_what_cannot_be_trained_is_told_first(
    settings, changes, message, make_dcgan, tmp_path
):
    write_images(tmp_path / 'cats')
    data = {'data_dir': str(tmp_path), 'input_fname_pattern': '*.png'}
    dcgan = make_dcgan(dataset_name='cats', **{**data, **settings})
    with pytest.raises(UserError, match=message):
        dcgan.train(SimpleNamespace(**{'epoch': 1, 'train_size': np.inf, **changes}))


def test_dimensions_are_told_by_the_checkpoint(make_dcgan, tmp_path):
    make_dcgan(y_dim=4, c_dim=3).save(str(tmp_path), 1)
    assert checkpoint_dims(newest_checkpoint(str(tmp_path))) == (4, 3)
    path = newest_checkpoint(str(PLAIN / 'checkpoint'))
    assert checkpoint_dims(path) == (None, 3)


def test_frozen_graph_draws_what_the_sampler_draws(sess, make_dcgan, tmp_path):
    dcgan = make_dcgan(y_dim=4)
    dcgan.save(str(tmp_path), 3, ckpt=False, frozen=True)
    feed = feed_for(dcgan)
    expected = sess.run(dcgan.sampler, feed)
    graph_def = tf.GraphDef.FromString(
        (tmp_path / 'model.b6-000003_frz.pb').read_bytes()
    )
    assert not any('Variable' in node.op for node in graph_def.node)
    with tf.Graph().as_default(), tf.Session() as other:
        tf.import_graph_def(graph_def, name='')
        frozen = other.run(
            'generator_1/Sigmoid:0', {'z:0': feed[dcgan.z], 'y:0': feed[dcgan.y]}
        )
    assert np.allclose(frozen, expected, atol=1e-6)


def test_conditional_model_needs_multiples_of_four(make_dcgan):
    with pytest.raises(UserError, match='18x16.*multiples of 4.*--output_height'):
        make_dcgan(y_dim=4, output_height=18)


def test_data_without_labels_cannot_train_a_conditional_model(make_dcgan, tmp_path):
    write_images(tmp_path / 'cats')
    with pytest.raises(UserError, match='cats: has no class folders'):
        make_dcgan(
            y_dim=4,
            data_dir=str(tmp_path),
            dataset_name='cats',
            input_fname_pattern='*.png',
        )


def test_more_classes_than_the_model_has_are_refused(make_dcgan, tmp_path):
    write_idx_set(tmp_path / 'set', classes=4)
    with pytest.raises(UserError, match='4 classes, the model y_dim 3'):
        make_dcgan(y_dim=3, data_dir=str(tmp_path), dataset_name='set')


def test_fewer_pictures_than_a_batch_are_refused(make_dcgan, tmp_path):
    write_images(tmp_path / 'cats', count=5)
    with pytest.raises(UserError, match='5 images do not fill a batch of 6'):
        make_dcgan(
            data_dir=str(tmp_path), dataset_name='cats', input_fname_pattern='*.png'
        )


def test_a_labelled_set_sets_the_channels(make_dcgan, tmp_path):
    write_idx_set(tmp_path / 'set')
    dcgan = make_dcgan(y_dim=4, data_dir=str(tmp_path), dataset_name='set')
    assert dcgan.c_dim == 1
    assert (
        dcgan.inputs.shape == [6, 16, 16, 1]
        and next(dcgan.data.batches(6, 1))[0].max() > 9
    )
