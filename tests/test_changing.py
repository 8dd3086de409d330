"""Losses and networks that a user has changed: how they are trained."""

import contextlib
import re
import shutil
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, SMALL, run_anew, run_in_process, use, weights, write_images

from dcgan.evaluation.encode import build_encoder
from dcgan.inversion.invert import How, invert
from dcgan.record.metrics_csv import read_rows
from dcgan.sampling.filters import build_filters
from dcgan.sampling.samples import draw
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.options import Options
from dcgan.training.prefetch import Batch
from dcgan.training.user_model import changes, check_options, print_changes
from dcgan.util.errors import UserError
from model import DCGAN
from ops import batch_norm, conv2d, deconv2d, flatten, linear, lrelu

TRAIN = ['--train', '--dataset', 'cats', *SMALL, '--epoch', 1, '--seed', 1]
TRAIN += ['--train_size', 16]


def classes_of_the_page():
    """{name: class} of the subclasses in docs/changing.md."""
    text = (ROOT / 'docs' / 'changing.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    names = {}
    for block in blocks:
        assert block[block.index('class ') :].count('\n') < 15
        with (
            mock.patch('sys.argv', ['main.py', '--help']),  # one block runs main.py
            contextlib.suppress(SystemExit),
            contextlib.redirect_stdout(None),
        ):
            exec(block, names)
    return {n: c for n, c in names.items() if DCGAN in getattr(c, '__mro__', ())[1:]}


PAGE = classes_of_the_page()


class OriginalStyle(DCGAN):
    """Networks and graph as the original's code has them, with a fixed batch."""

    def build_model(self):
        size = [self.output_height, self.output_width, self.c_dim]
        self.inputs = tf.placeholder(tf.float32, [self.batch_size, *size], 'images')
        self.z = tf.placeholder(tf.float32, [None, self.z_dim], 'z')
        self.y = None
        self.G = self.generator(self.z)
        self.D, self.D_logits = self.discriminator(self.inputs)
        self.sampler = self.sampler(self.z)
        self.D_, self.D_logits_ = self.discriminator(self.G, reuse=True)
        losses = self.losses(self.D_logits, self.D_logits_)
        self.d_loss_real, self.d_loss_fake = losses.d_real, losses.d_fake
        self.d_loss, self.g_loss = losses.d, losses.g
        variables = tf.trainable_variables()
        self.d_vars = [v for v in variables if 'd_' in v.name]
        self.g_vars = [v for v in variables if 'g_' in v.name]
        self.saver = tf.train.Saver()

    def discriminator(self, image, y=None, reuse=False):
        with tf.variable_scope('discriminator') as scope:
            if reuse:
                scope.reuse_variables()
            h0 = lrelu(conv2d(image, self.df_dim, name='d_h0_conv'))
            h1 = lrelu(self.d_bn1(conv2d(h0, self.df_dim * 2, name='d_h1_conv')))
            h2 = linear(tf.reshape(h1, [self.batch_size, -1]), 1, 'd_h2_lin')
            return tf.nn.sigmoid(h2), h2

    def generator(self, z, y=None):
        with tf.variable_scope('generator'):
            return self._draw(z, True)

    def sampler(self, z, y=None):
        with tf.variable_scope('generator') as scope:
            scope.reuse_variables()
            return self._draw(z, False)

    def _draw(self, z, train):
        h0 = linear(z, self.gf_dim * 4 * 8 * 8, 'g_h0_lin')
        h0 = tf.reshape(h0, [-1, 8, 8, self.gf_dim * 4])
        h0 = tf.nn.relu(self.g_bn0(h0, train=train))
        size = [self.batch_size, 16, 16, self.c_dim]
        return tf.nn.tanh(deconv2d(h0, size, name='g_h1'))


class Doubled(DCGAN):
    """The losses of DCGAN as other tensors, so that the original's runs train them."""

    def build_model(self):
        super().build_model()
        self.d_loss, self.g_loss = tf.identity(self.d_loss), tf.identity(self.g_loss)


def train(workspace, name, model, *args):
    """Train a subclass; returns what main.py printed."""
    printed = use(workspace, name, *TRAIN, *args, model=model)
    assert f'Trained: see ./out/{name}/samples/train_' in printed
    return printed


def rows(workspace, name):
    return read_rows(f'{workspace}/out/{name}/metrics.csv')


@pytest.mark.parametrize('name', PAGE)
def test_each_change_of_the_page_trains_and_samples(name, workspace):
    printed = train(workspace, name, PAGE[name], '--d_steps', 2)
    assert np.isfinite(rows(workspace, name)[:, 4:8]).all()
    is_fused = name in ('MyDCGAN', 'LeastSquares')
    assert (f'{name} has changed ' in printed) == (not is_fused)
    assert (' GB of memory\n' in printed) == is_fused and ' million par' in printed
    if name == 'Wasserstein':  # which clips the weights after each step of D
        saved = weights(workspace, name)
        of_d = [w for n, w in saved.items() if re.fullmatch(r'dis.*(/w|Matrix)', n)]
        assert len(of_d) == 5 and max(abs(w).max() for w in of_d) <= np.float32(0.01)
    assert 'test_' in use(workspace, name, model=PAGE[name])


def test_the_page_shows_the_four_changes_that_users_make_most():
    names = {'MyDCGAN', 'LeastSquares', 'Wasserstein', 'Dense', 'FeatureMatching'}
    assert set(PAGE) == names


def test_a_loss_that_is_set_is_the_loss_that_is_trained_and_printed(workspace):
    class Constant(DCGAN):
        def build_model(self):
            super().build_model()
            self.d_loss = 7 + 0 * self.d_loss

    printed = train(workspace, 'constant', Constant)
    assert 'Constant has changed d_loss: ' in printed
    assert re.findall(r'd_loss: (\S+), g', printed) == 2 * ['7.00000000']
    assert (rows(workspace, 'constant')[:, 4] == 7).all()
    saved = weights(workspace, 'constant')
    assert not saved['discriminator/d_h0_conv/biases'].any()  # never trained
    assert saved['generator/g_h4/biases'].any()


@pytest.mark.slow
def test_both_ways_to_train_have_the_same_losses(workspace):
    args = ['--learning_rate', 0, '--dataset', 'set']
    train(workspace, 'fused', DCGAN, *args)
    printed = train(workspace, 'doubled', Doubled, *args)
    assert 'Doubled has changed d_loss, g_loss: ' in printed
    fused, doubled = rows(workspace, 'fused'), rows(workspace, 'doubled')
    assert len(fused) == 2
    assert np.allclose(fused[:, 4:], doubled[:, 4:], atol=1e-6, equal_nan=True)


@pytest.mark.slow
def test_a_run_with_a_changed_loss_resumes_bit_for_bit(workspace):
    for name, epochs in ('whole', [2]), ('parts', [1, 2]):
        for epoch in epochs:
            train(workspace, name, Doubled, '--epoch', epoch, '--ema', 0.9)
    whole, parts = weights(workspace, 'whole'), weights(workspace, 'parts')
    assert whole.keys() == parts.keys() and 'ema/generator/g_h4/w' in whole
    # D's moving averages are updated by two passes at once, in any order
    same = {n: (whole[n] == parts[n]).all() for n in whole if 'd_bn' not in n}
    assert all(same.values()), same


def test_a_model_in_the_style_of_the_original_does_all_that_ours_does(workspace):
    printed = train(workspace, 'style', OriginalStyle)
    assert 'has changed generator, discriminator, sampler, d_loss, g_loss: ' in printed
    args = ['--seed', 1, '--npz', '--generate_test_images']
    found = []
    for more in [8], [19, '--freeze', '--onnx', '--tflite', '--separate_images']:
        printed = use(workspace, 'style', *args, *more, model=OriginalStyle)
        path = re.search(r'\./out/\S+\.npz', printed)[0]
        found.append(np.load(workspace / path)['images'])
    # a fixed batch draws, of each z, what any other would draw
    assert found[1].shape == (19, 16, 16, 3) and (found[0] == found[1][:8]).all()
    assert np.ptp(found[1][8:]) > 0
    args = ['--out_name', 'style']
    for more in ['--encode', 'f.npz'], ['--visualize_option', 'filters']:
        result = run_in_process(*args, *more, cwd=workspace, model=OriginalStyle)
        message = f'{" ".join(more)}: OriginalStyle overrides discriminator'
        assert message.replace(' f.npz', '') in result.stderr


class Dense(DCGAN):
    """D without convolutions; `how` sees its hidden layer only if it is_seen."""

    is_seen = False

    def discriminator(self, image, y=None, reuse=False, how=None):
        how = how or self.how
        with self.scopes('discriminator', reuse):
            x = linear(flatten(image), 8, 'd_h0_lin')
            x = how.hidden(lrelu, x) if self.is_seen else lrelu(x)
            logits = linear(x, 1, 'd_h1_lin')
            return tf.sigmoid(logits), logits


def test_hidden_layers_that_how_does_not_see_are_an_error(sess, make_dcgan):
    dcgan = make_dcgan(model=Dense)
    message = ': Dense.discriminator never calls how.hidden; leave it out'
    with pytest.raises(UserError, match=f'--encode{message}'):
        build_encoder(sess, dcgan)
    with pytest.raises(UserError, match=f'filters{message}'):
        build_filters(dcgan)
    pictures = np.zeros((1, 16, 16, 3), np.uint8)
    with pytest.raises(UserError, match=f'--lam 0{message}'):
        invert(dcgan, pictures, how=How(features=1.0))
    assert len(invert(dcgan, pictures, how=How(prior=1.0, starts=1, steps=1)).z) == 1


def test_filters_of_a_d_without_convolutions_are_the_units_of_its_last_layer(
    sess, make_dcgan
):
    class Seen(Dense):
        is_seen = True

    dcgan = make_dcgan(model=Seen)
    images = np.random.RandomState(0).randint(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    run, (encoder, _) = build_filters(dcgan), build_encoder(sess, dcgan)
    assert np.allclose(run(images, None), encoder(images)[0], atol=1e-6)
    unit = run(images, None)[0].argmax()
    assert np.ptp(run(images[:1], None, unit)) >= 127


def test_a_generator_without_its_sampler_is_an_error(make_dcgan):
    class Half(DCGAN):
        def generator(self, z, y=None):
            raise NotImplementedError

    with tf.Graph().as_default(), pytest.raises(UserError, match='but not sampler'):
        Half(None, data_dir=None)


def test_a_sampler_of_a_fixed_batch_draws_as_many_images_as_there_are_z(sess):
    z = tf.placeholder(tf.float32, [4, 5])
    sizes = {'batch_size': 4, 'output_height': 1, 'output_width': 1}
    dcgan = SimpleNamespace(z=z, y=None, sampler=z + 1.0, **sizes)
    assert (draw(sess, dcgan, np.ones((6, 5))) == np.full((6, 5), 2)).all()


def test_options_that_a_changed_loss_lacks_are_off_or_errors_that_name_the_flag(
    make_dcgan, capsys
):
    dcgan = make_dcgan(model=Doubled)
    dcgan.xla = True
    assert print_changes(dcgan) and not dcgan.xla
    assert ' [!] XLA is off: ' in capsys.readouterr().out
    values = {'r1': 10, 'd_dropout': 0.5, 'label_smoothing': 0.9, 'augment': 'color'}
    for flag, value in values.items():
        message = f'--{flag} {value}: cannot be used with Doubled, which has changed d'
        with pytest.raises(UserError, match=message):
            check_options(dcgan, Options(**{flag: value}))
    dcgan.workers = SimpleNamespace(count=2)
    with pytest.raises(UserError, match='--workers 2: cannot be used with Doubled'):
        check_options(dcgan, Options())
    with tf.Graph().as_default(), tf.Session() as other:
        dcgan = make_dcgan(other, PAGE['LeastSquares'])
    message = '--label_smoothing 0.9: LeastSquares.losses has no parameter real_label'
    with pytest.raises(UserError, match=message):
        check_options(dcgan, Options(label_smoothing=0.9))


def test_a_loss_that_needs_real_images_in_steps_of_g_is_noticed(make_dcgan):
    class Relativistic(DCGAN):
        def losses(self, D_logits, D_logits_):
            losses = super().losses(D_logits, D_logits_)
            gap = tf.reduce_mean(tf.nn.softplus(D_logits - D_logits_))
            return losses._replace(g=gap)

    assert changes(make_dcgan(model=Relativistic)) == ['g_loss']


@pytest.mark.slow
def test_an_edited_line_of_model_py_is_trained(tmp_path):
    for name in ('main.py', 'ops.py', 'utils.py'):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / 'dcgan').symlink_to(ROOT / 'dcgan')
    text = (ROOT / 'model.py').read_text()
    line = '        self.d_loss, self.g_loss = losses.d, losses.g\n'
    assert text.count(line) == 1
    edited = text.replace(line, line + '        self.g_loss = 0.0 * self.g_loss\n')
    (tmp_path / 'model.py').write_text(edited)
    write_images(tmp_path / 'data' / 'cats', count=16, ending='jpg')
    result = run_anew(tmp_path / 'main.py', *TRAIN, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert ' [*] DCGAN has changed g_loss: ' in result.stdout
    assert set(re.findall(r'g_loss: (\S+)\n', result.stdout)) == {'0.00000000'}


def test_a_batch_norm_of_another_momentum_is_used_in_training(sess, make_dcgan):
    class Slow(DCGAN):
        def build_model(self):
            self.g_bn0 = batch_norm(momentum=1.0, name='g_bn0')
            super().build_model()

    config = SimpleNamespace(learning_rate=0.0, beta1=0.5, G_img_sum=False)
    dcgan = make_dcgan(model=Slow)
    iteration = FusedIteration(dcgan, config)
    sess.run(tf.global_variables_initializer())
    z = np.random.RandomState(0).rand(6, 5).astype(np.float32)
    batch = Batch(np.zeros((6, 16, 16, 3), np.uint8), None, z)
    sess.run(iteration.tensors, iteration.batches.feed(batch))
    means = {v.op.name: sess.run(v) for v in dcgan.variables if 'mean' in v.name}
    assert not means['generator/g_bn0/moving_mean'].any()
    assert means['generator/g_bn1/moving_mean'].any()
