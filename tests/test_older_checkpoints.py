"""Checkpoints of older versions of the original, and of forks, are read."""

import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, read_checkpoint, run_in_process, weights
from original_2016 import GF, SIZE, Z_DIM, Original2016

from dcgan.sampling.samples import draw
from dcgan.training.weights import load_adam, todays_names
from model import DCGAN

BIAS_D4, BIAS_D3 = 'discriminator/d_h4_lin/bias', 'discriminator/d_h3_lin/bias'
SAMPLES = ['--generate_test_images', 4, '--npz', '--seed', 1]


def write_checkpoint(folder, arrays, name='DCGAN.model-5', version=2):
    """Write arrays, {name: array}, as TensorFlow's Saver writes variables."""
    folder.mkdir(parents=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        made = {n: tf.Variable(a, use_resource=True) for n, a in arrays.items()}
        sess.run(tf.global_variables_initializer())
        path = str(folder / name)
        tf.train.Saver(made, write_version=version).save(sess, path)
    return path


def of_model(workspace, run):
    """The weights of a run: those that the original's checkpoints hold."""
    saved = weights(workspace, run)
    pattern = 'training/|beta|.*/Adam'
    return {n: a for n, a in saved.items() if not re.match(pattern, n)}


def without_scopes(arrays):
    return {n.partition('/')[2]: a for n, a in to_june_2017(arrays).items()}


def to_june_2017(arrays):
    names = {n: n.replace('d_h4_lin', 'd_h3_lin') for n in arrays}
    return {names[n]: a for n, a in arrays.items()}


def with_moments(arrays, ops=('moments_1/mean', 'moments_1/variance')):
    """Names of 2016: batch norm's averages, of both passes of D, beside the ops."""
    found = {}
    for name, array in without_scopes(arrays).items():
        layer, _, kind = name.rpartition('/moving_')
        if not layer:
            found[name] = array
            continue
        op = ops[kind == 'variance']
        found[f'{layer}/{layer}/moments/{op}/ExponentialMovingAverage'] = array
        if layer[0] == 'd':  # the pass on generated images
            second = f'{layer}_1/{layer}_1/moments/{op}/ExponentialMovingAverage'
            found[second] = array + 1
    return found


def sampled(workspace, *args):
    """The samples that main.py draws with these arguments, and what it printed."""
    result = run_in_process(*args, *SAMPLES, cwd=workspace)
    assert result.returncode == 0, result.stderr
    path = re.findall(r' (\S+\.npz)\n', result.stdout)[-1]
    return np.load(workspace / path)['images'], result.stdout


@pytest.fixture(scope='module')
def todays(workspace):
    """{run: samples} of the runs `cats`, unconditional, and `set`."""
    return {n: sampled(workspace, '--out_name', n)[0] for n in ('cats', 'set')}


OLDER = {
    '2017-06': (to_june_2017, 2),
    '2016-12': (without_scopes, 2),
    '2016-11': (with_moments, 1),
    '2016-11-later-ops': (lambda a: with_moments(a, ('Squeeze', 'Squeeze_1')), 1),
}


@pytest.mark.parametrize('run', ['cats', 'set'])
@pytest.mark.parametrize('kind', OLDER)
def test_older_checkpoint_draws_the_same_samples(kind, run, workspace, todays):
    rename, version = OLDER[kind]
    if run == 'set':  # a conditional D has a d_h3_lin today
        rename = {to_june_2017: dict}.get(rename, rename)
    folder = workspace / f'{kind}-{run}'
    write_checkpoint(folder, rename(of_model(workspace, run)), version=version)
    assert (folder / 'DCGAN.model-5.index').exists() == (version == 2)
    images, printed = sampled(workspace, '--checkpoint_dir', folder)
    assert np.array_equal(images, todays[run])
    line = ' [*] Variables with older names are read: '
    assert (line in printed) == (rename is not dict) and '[!] It ' not in printed


@pytest.mark.parametrize('is_conditional', [False, True])
def test_graph_of_2016_and_todays_draw_the_same_images(is_conditional, tmp_path):
    z, labels = np.random.RandomState(0).rand(8, Z_DIM), np.arange(8)
    with tf.Graph().as_default(), tf.Session() as sess:
        older = Original2016(is_conditional)
        feed = {older.z: z} | ({older.y: np.eye(10)[labels]} if is_conditional else {})
        sess.run(tf.global_variables_initializer())
        for _ in range(3):  # moves the averages
            sess.run(older.D_logits, feed)
        expected = sess.run(older.sampler, feed)
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        saver.save(sess, str(tmp_path / 'DCGAN.model'), global_step=7)
    sizes = dict(output_height=SIZE, output_width=SIZE, z_dim=Z_DIM, gf_dim=GF)
    sizes |= dict(df_dim=GF, gfc_dim=8, dfc_dim=8, batch_size=8, data_dir=None)
    sizes |= dict(y_dim=10, c_dim=1) if is_conditional else {}
    with tf.Graph().as_default(), tf.Session() as sess:
        dcgan = DCGAN(sess, **sizes)
        assert dcgan.load(str(tmp_path)) == (True, 7)
        images = draw(sess, dcgan, z, labels)
        sess.run(tf.global_variables())  # each one is set
    assert np.ptp(expected) > 0.3 and np.abs(images - expected).max() < 1e-5


@pytest.mark.parametrize('with_adam', [True, False])
def test_training_goes_on_under_todays_names(with_adam, workspace):
    saved = weights(workspace, 'cats')
    saved = {n: a for n, a in saved.items() if not n.startswith('training/')}
    if not with_adam:
        del saved['discriminator/d_h1_conv/w/Adam']
    folder = workspace / f'train-{with_adam}'
    scopes = re.compile('(generator|discriminator)/')
    older = {scopes.sub('', n): a for n, a in to_june_2017(saved).items()}
    path = write_checkpoint(folder, older, version=1)
    os.remove(f'{path}.meta')
    args = ['--train', '--dataset', 'cats', '--checkpoint_dir', folder, '--epoch', 1]
    args += ['--learning_rate', 0]
    result = run_in_process(*args, *SMALL, cwd=workspace)
    assert result.returncode == 0, result.stderr
    line = ' [*] It holds weights only: epochs and Adam start anew\n'
    if with_adam:
        line = ' [*] It holds weights and Adam only: epochs start anew\n'
    assert line in result.stdout
    assert '[       5 Epoch:[ 0/ 1]' in result.stdout and not os.path.exists(
        f'{path}.meta'
    )
    after = read_checkpoint(folder)
    assert after.keys() >= weights(workspace, 'cats').keys()
    name = 'discriminator/d_h4_lin/Matrix'
    assert (after[name] == saved[name]).all()
    gone_on = saved['beta1_power'] * 0.5**3
    assert after['beta1_power'] == np.float32(gone_on if with_adam else 0.5**4)


def test_generator_alone_draws_exports_and_says_what_is_missing(workspace, todays):
    saved = of_model(workspace, 'cats')
    of_g = {n: a for n, a in saved.items() if n.startswith('generator/')}
    folder = workspace / 'generator'
    write_checkpoint(folder, {**of_g, 'global_step': np.int64(7), 'lr': np.ones(2)})
    args = ['--checkpoint_dir', folder, '--export', '--freeze', '--saved_model']
    images, printed = sampled(workspace, *args)
    assert np.array_equal(images, todays['cats'])
    assert ' [!] Unknown variables are ignored: global_step, lr\n' in printed
    missing = 'It has no discriminator: it can only draw samples'
    assert f' [!] {missing}\n' in printed
    exported = read_checkpoint(folder / 'export_b64')
    assert exported.keys() == of_g.keys()
    train = ['--train', '--dataset', 'cats', *SMALL]
    for more, message in (
        (train, '.model-5: cannot be used by --train, because it has no discriminator'),
        (['--encode', 'd.npz', *train[1:]], '--encode: this checkpoint has no discri'),
        (['--options', 8, *train[1:]], '--visualize_option filters: this checkpoint h'),
    ):
        result = run_in_process('--checkpoint_dir', folder, *more, cwd=workspace)
        assert result.returncode == 1 and message in result.stderr
    assert not (workspace / 'd.npz').exists()


def faulty(saved, kind):
    """The weights of an unconditional model, to June 2017, with a fault."""
    older = to_june_2017(saved)
    if kind == 'both':
        return {**older, 'discriminator/d_h4_lin/bias': np.zeros(1, np.float32)}
    if kind == 'shape':
        return {**older, 'discriminator/d_h3_lin/Matrix': np.zeros((7, 1), np.float32)}
    if kind == 'deeper G':
        return {**older, 'generator/g_h5/w': np.zeros([5, 5, 3, 3], np.float32)}
    if kind == 'deeper':
        shapes = {'d_h4_conv/w': (5, 5, 32, 64), 'd_h4_lin/Matrix': (64, 1)}
        older = {n: a for n, a in older.items() if 'd_h3_lin' not in n}
        return older | {f'discriminator/{n}': np.ones(s) for n, s in shapes.items()}
    return {n: a for n, a in older.items() if 'd_h3_conv' not in n and 'd_bn3' not in n}


@pytest.mark.parametrize(
    'kind, message',
    [
        ('both', 'both discriminator/d_h3_lin/bias and discriminator/d_h4_lin/bias'),
        ('shape', 'has discriminator/d_h3_lin/Matrix [7, 1], but the flags give disc'),
        ('depth', 'because it has a discriminator of another depth or shape, with'),
        ('deeper', 'because it has a discriminator of another depth or shape, with'),
        ('deeper G', 'DCGAN.model-5: has generator/g_h5/w, so G is another network'),
    ],
)
def test_last_layer_that_fits_no_version_is_an_error(kind, message, workspace):
    folder = workspace / kind
    path = write_checkpoint(folder, faulty(of_model(workspace, 'cats'), kind))
    args = ['--train', '--dataset', 'cats', '--checkpoint_dir', folder, *SMALL]
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert path in result.stderr and message in result.stderr
    assert not (folder / 'samples').exists()
    status = run_in_process('--checkpoint_dir', folder, cwd=workspace).returncode
    assert status == (kind not in ('depth', 'deeper'))  # these need G only


def face_model():
    """Arrays with the names and shapes of DCGAN.model-60502, which bamos trained."""
    shapes = {
        'generator/g_h0_lin/Matrix': [100, 8192],
        'generator/g_h0_lin/bias': [8192],
        'discriminator/d_h3_lin/Matrix': [8192, 1],
        'discriminator/d_h3_lin/bias': [1],
    }
    for i, (out, inputs) in enumerate([(256, 512), (128, 256), (64, 128), (3, 64)], 1):
        shapes[f'generator/g_h{i}/w'] = [5, 5, out, inputs]
        shapes[f'generator/g_h{i}/biases'] = [out]
    for i, (inputs, out) in enumerate([(3, 64), (64, 128), (128, 256), (256, 512)]):
        shapes[f'discriminator/d_h{i}_conv/w'] = [5, 5, inputs, out]
        shapes[f'discriminator/d_h{i}_conv/biases'] = [out]
    layers = {f'generator/g_bn{i}': 512 >> i for i in range(4)}
    layers |= {f'discriminator/d_bn{i}': 64 << i for i in (1, 2, 3)}
    for layer, size in layers.items():
        for name in ('beta', 'gamma', 'moving_mean', 'moving_variance'):
            shapes[f'{layer}/{name}'] = [size]
    return {name: np.ones(shape, np.float32) / 100 for name, shape in shapes.items()}


def test_face_model_of_the_completion_fork_is_read(tmp_path):
    arrays = face_model()
    assert len(arrays) == 48
    write_checkpoint(tmp_path / 'checkpoint', arrays, 'DCGAN.model-60502')
    images, printed = sampled(tmp_path, '--checkpoint_dir', 'checkpoint')
    assert images.shape == (4, 64, 64, 3)
    assert ', iteration 60502\n' in printed and '[!]' not in printed


def test_batch_norms_of_d_that_count_from_0_are_those_from_1(workspace):
    saved = to_june_2017(of_model(workspace, 'cats'))
    number = re.compile('(?<=discriminator/d_bn)[1-3]')
    older = {number.sub(lambda m: str(int(m[0]) - 1), n): a for n, a in saved.items()}
    path = write_checkpoint(workspace / 'completion', older)
    names = todays_names(path)
    for i in range(3):
        name = f'discriminator/d_bn{i + 1}/gamma'
        assert names[name] == f'discriminator/d_bn{i}/gamma'


def test_folder_above_those_of_older_versions_names_one_of_them(workspace):
    folder = workspace / 'above' / 'celebA_64_64_64'
    write_checkpoint(folder, of_model(workspace, 'cats'), version=1)
    for given in folder.parent, 'above':
        result = run_in_process('--checkpoint_dir', given, cwd=workspace)
        found = f'{given}/celebA_64_64_64'
        assert result.stderr.endswith(
            f'no checkpoint found; there are some in {found}\n'
        )


def test_other_batch_norms_of_d_keep_their_names(workspace):
    further = {'discriminator/d_bn0/gamma': np.ones(5, np.float32)}
    saved = of_model(workspace, 'cats')
    fewer = {n: a for n, a in saved.items() if 'd_bn3' not in n}  # of a fork
    name = 'discriminator/d_bn1/gamma'
    for folder, arrays in (
        ('further', of_model(workspace, 'set') | further),
        ('fewer', fewer),
        ('kernels', saved | {'discriminator/d_h0_conv/w': np.ones([3, 3, 3, 4])}),
    ):
        path = write_checkpoint(workspace / folder, arrays)
        assert todays_names(path)[name] == name
        _, printed = sampled(workspace, '--checkpoint_dir', workspace / folder)
        is_other = ' [!] It has a discriminator of another depth or shape' in printed
        assert is_other == (folder != 'further')


def test_adam_of_other_shapes_starts_anew(make_dcgan, tmp_path):
    dcgan = make_dcgan()
    tf.train.AdamOptimizer().minimize(dcgan.d_loss, var_list=dcgan.d_vars)
    dcgan.sess.run(tf.global_variables_initializer())
    arrays = {v.op.name: dcgan.sess.run(v) for v in tf.global_variables()}
    for change, expected in ({}, True), ({'beta1_power': np.ones(1)}, False):
        path = write_checkpoint(tmp_path / str(expected), {**arrays, **change})
        assert load_adam(dcgan.sess, path) == expected


def test_load_looks_where_older_versions_kept_their_checkpoints(make_dcgan, tmp_path):
    dcgan = make_dcgan()
    assert not dcgan.load(str(tmp_path))
    dcgan.save(f'{tmp_path}/default_6_16_16', 3)
    assert dcgan.load(str(tmp_path)) == (True, 3)
