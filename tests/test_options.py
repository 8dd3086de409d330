"""Options to train: rates, steps, pretraining, dropout, smoothing, mirrored images."""

import csv
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing.flagsaver import flagsaver
from conftest import SMALL, run_in_process, same, use, weights, write_images

import main
from dcgan.compute.kernels import tensorflow_ops
from dcgan.record.profiler import profiled
from dcgan.runs.command_line import read_flags
from dcgan.runs.recipes import FAITHFUL, apply_recipe
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.inputs import flip
from dcgan.training.options import Options
from dcgan.training.prefetch import Batch
from dcgan.training.regularization import RandomNumbers, dropout, gradient_penalty
from dcgan.util.errors import UserError

TRAIN = ['--train', '--dataset', 'cats', *SMALL, '--seed', 3]
ALL = ['--learning_rate_d', 0.001, '--lr_schedule', 'step', '--lr_decay_epochs', '1,2']
ALL += ['--d_steps', 2, '--g_steps', 3, '--pretrain_d', 7, '--d_dropout', 0.3]
ALL += ['--label_smoothing', 0.9, '--r1', 1, '--flip', '--max_to_keep', 0]
ALL += ['--augment', 'color,translation,cutout']
ALL += ['--sample_epochs', 2, '--ckpt_epochs', 1]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with the run `all`, of all options and 9 iterations."""
    workspace = tmp_path_factory.mktemp('workspace')
    write_images(workspace / 'data' / 'cats', count=24)
    train(workspace, 'all', '--epoch', 3, *ALL)
    return workspace


def train(workspace, name, *args):
    use(workspace, name, *TRAIN, *args)


def column(workspace, run, name):
    with open(workspace / 'out' / run / 'metrics.csv') as file:
        return [float(row[name]) for row in csv.DictReader(file)]


# Rates


@pytest.mark.parametrize(
    'settings, expected',
    [
        ({}, [1, 1, 1, 1, 1, 1]),
        (
            {'lr_schedule': 'step', 'lr_decay_epochs': '2,3'},
            [1, 1, 0.1, 0.01, 0.01, 0.01],
        ),
        (
            {'lr_schedule': 'step', 'lr_decay_epochs': '5', 'lr_decay_rate': 0.5},
            [1, 1, 1, 1, 1, 0.5],
        ),
        ({'lr_schedule': 'linear', 'lr_decay_epochs': '2'}, [1, 1, 1, 0.75, 0.5, 0.25]),
        ({'lr_schedule': 'linear', 'lr_decay_epochs': '0'}, np.arange(6, 0, -1) / 6),
    ],
)
def test_rates_follow_the_schedule(settings, expected):
    options = Options(**settings, learning_rate_g=0.3)
    options.check_schedule(6)
    rates = [options.rates(0.2, epoch, 6) for epoch in range(6)]
    assert np.array(rates) == pytest.approx(np.outer(expected, [0.2, 0.3]))


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'lr_decay_epochs': '2'}, 'a constant rate does not decay'),
        ({'lr_schedule': 'step'}, 'give the epochs'),
        ({'lr_schedule': 'linear', 'lr_decay_epochs': '1,2'}, 'give the epoch from'),
        ({'lr_schedule': 'step', 'lr_decay_epochs': '2,1'}, 'rising numbers below'),
        ({'lr_schedule': 'step', 'lr_decay_epochs': '6'}, 'rising numbers below'),
        ({'lr_schedule': 'step', 'lr_decay_epochs': 'x'}, 'give numbers'),
        ({'profile': '3'}, 'first and the last iteration'),
        ({'profile': '3,2'}, 'first and the last iteration'),
        ({'profile': '0,2'}, 'first and the last iteration'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        options = Options(**settings)
        profiled(options.profile)
        options.check_schedule(6)


def test_rates_reach_the_metrics(workspace):
    # pretraining is not counted
    assert column(workspace, 'all', 'iteration') == list(range(1, 10))
    assert column(workspace, 'all', 'learning_rate_d') == pytest.approx(
        [*3 * [1e-3], *3 * [1e-4], *3 * [1e-5]]
    )
    assert column(workspace, 'all', 'learning_rate_g') == pytest.approx(
        [*3 * [2e-4], *3 * [2e-5], *3 * [2e-6]]
    )


def iterate(dcgan, rates=(0.1, 0.1), **options):
    """(the result of an iteration on random images, the variables that it changes)."""
    config = SimpleNamespace(learning_rate=0.1, beta1=0.5, G_img_sum=False, **options)
    iteration, sess, rng = FusedIteration(dcgan, config), dcgan.sess, np.random
    sess.run(tf.global_variables_initializer())
    before = sess.run(dcgan.variables)
    images = rng.RandomState(0).randint(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    z, seed = rng.RandomState(0).rand(6, 5).astype(np.float32), np.int32([1, 2])
    batch = Batch(images, None, z, seed)
    if iteration.options.pretrain_d:
        result = [iteration.pretrain(batch, rates, False)[0] for _ in range(9)]
    else:
        feed = {**iteration.batches.feed(batch), iteration.learning_rates: rates}
        result = sess.run(iteration.tensors, feed)
    values = zip(dcgan.variables, before, sess.run(dcgan.variables))
    return result, {v.op.name for v, a, b in values if (a != b).any()}


# Steps


def test_two_steps_of_g_and_the_faithful_recipe_are_the_default(tiny_runs, tmp_path):
    for name, value in FAITHFUL.items():
        assert main.TABLE.table[name].default == value
    write_images(tmp_path / 'data' / 'cats', count=24)
    args = ['--g_steps', 2, '--d_steps', 1, '--recipe', 'faithful', '--sample_freq', 1]
    train(tmp_path, 'cats', '--epoch', 1, '--seed', 1, *args)
    assert same(weights(tiny_runs, 'cats'), weights(tmp_path, 'cats'))


def test_each_step_leaves_its_summary(workspace, tiny_runs):
    for folder, run, steps in (tiny_runs, 'cats', 'dgg'), (workspace, 'all', 'ddggg'):
        (path,) = (folder / 'out' / run / 'logs').glob('events*')
        events = [e for e in tf.train.summary_iterator(str(path)) if e.summary.value]
        first = [e for e in events if e.step == events[0].step]
        tags = [{value.tag for value in event.summary.value} for event in first]
        assert ''.join('d' if 'd_loss' in t else 'g' for t in tags) == steps


def test_adam_counts_the_steps(workspace):
    powers = weights(workspace, 'all')
    found = sorted(float(powers[f'beta1_power{s}']) for s in ('', '_1'))
    # 9 iterations of three G steps; of two D steps, and 7 of D alone
    assert found == pytest.approx(sorted([0.5 ** (27 + 1), 0.5 ** (18 + 7 + 1)]))


# Pretraining


def test_pretraining_changes_only_d(make_dcgan):
    losses, changed = iterate(make_dcgan(), pretrain_d=1)
    assert losses[-1] < losses[0] and 'discriminator/d_h0_conv/w' in changed
    assert not any('generator/' in name for name in changed)


def test_pretrained_d_tells_images_apart(workspace, tiny_runs):
    trained, new = (
        column(folder, name, 'd_real')[0] - column(folder, name, 'd_fake')[0]
        for folder, name in ((workspace, 'all'), (tiny_runs, 'cats'))
    )
    assert trained > new


# Dropout, smoothing, mirrored images


def test_dropout_drops_its_share_and_keeps_the_mean(sess):
    x = tf.ones([200, 200])
    seed = tf.placeholder(tf.int32, [2])
    numbers = RandomNumbers(seed)
    layers = [dropout(x, 0.3, numbers) for _ in range(2)]
    first, second = sess.run(layers, {seed: [1, 2]})
    assert np.mean(first == 0) == pytest.approx(0.3, abs=0.01)
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert first.max() == pytest.approx(1 / 0.7)
    assert (first != second).any()
    again = sess.run(layers, {seed: [1, 2]})
    assert (again[0] == first).all()
    assert (sess.run(layers[0], {seed: [1, 3]}) != first).any()


def test_smoothed_label_is_that_of_real_images_in_updates_of_d(make_dcgan):
    result, changed = iterate(make_dcgan(), rates=(0, 0.1), label_smoothing=0.8)
    p = result.probabilities[0]
    smoothed = -np.mean(0.8 * np.log(p) + 0.2 * np.log(1 - p))
    assert result.step_losses[0][0] == pytest.approx(smoothed, rel=1e-5)
    assert result.losses[1] == pytest.approx(-np.mean(np.log(p)), rel=1e-4)
    # each network has its rate
    assert 'generator/g_h1/w' in changed and 'discriminator/d_h0_conv/w' not in changed


def test_the_penalty_is_half_the_squared_norm_of_the_gradient(sess):
    images = tf.constant(np.random.RandomState(0).rand(3, 2, 2, 1), tf.float32)
    # logits x.x of an image have the gradient 2 x
    logits = tf.reduce_sum(images**2, [1, 2, 3])[:, None]
    penalty, values = sess.run([gradient_penalty(logits, images, 5.0), images])
    expected = 5 / 2 * (4 * values**2).sum(axis=(1, 2, 3)).mean()
    assert penalty == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    'y_dim, size, precision', [(None, 16, 'float32'), (4, 28, 'bfloat16')]
)
def test_the_gradient_of_the_penalty_is_that_of_tensorflow_ops(
    y_dim, size, precision, make_dcgan, monkeypatch
):
    monkeypatch.setattr('dcgan.compute.precision.has_bfloat16', lambda: True)
    images = np.random.RandomState(0).randint(0, 256, (6, size, size, 3), np.uint8)
    labels, weights, found = y_dim and np.arange(6) % y_dim, None, []
    for context in nullcontext(), tensorflow_ops():
        precision_now = 'float32' if weights else precision
        with tf.Graph().as_default(), tf.Session() as sess, context:
            tf.set_random_seed(1)
            sizes = dict(output_height=size, output_width=size, y_dim=y_dim)
            dcgan = make_dcgan(sess, **sizes, precision=precision_now)
            _, logits = dcgan.discriminator(dcgan.inputs, dcgan.y, reuse=True)
            penalty = gradient_penalty(logits, dcgan.inputs, 10.0)
            # not biases before batch norm, whose gradients are zero but for rounding
            of = [v for v in dcgan.d_vars if v.name.endswith(('/w:0', '/Matrix:0'))]
            gradients = tf.gradients(penalty, of)
            weights = weights or sess.run(dcgan.variables)
            for variable, value in zip(dcgan.variables, weights):
                variable.load(20 * value if '/w:' in variable.name else value, sess)
            feed = dcgan.feed(images, labels, np.ones((6, 5), np.float32))
            found.append(sess.run([penalty, *gradients], feed))
    limit = 1e-4 if precision == 'float32' else 0.25
    assert len(found[0]) >= 5
    for fast, expected in zip(*found):
        assert np.abs(fast - expected).max() <= limit * np.abs(expected).max()


@pytest.mark.slow
def test_d_minimizes_the_penalty_as_well(make_dcgan):
    weights = []
    for r1 in (0, 1000):
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(1)
            dcgan = make_dcgan(sess)
            iterate(dcgan, r1=r1, g_steps=1)
            weights.append(sess.run(dcgan.d_vars[0]))
    assert (weights[0] != weights[1]).any()


def test_flip_mirrors_about_half_of_the_images():
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (400, 3, 4, 1)).astype(np.uint8)
    np.random.seed(0)
    varied = flip(images, 400, slice(None))
    is_same = (varied == images).all(axis=(1, 2, 3))
    is_flipped = (varied == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (is_same | is_flipped).all() and 150 < is_flipped.sum() < 250
    assert (flip(images, 400, slice(None)) != varied).any()  # others in the next epoch


@pytest.mark.slow
def test_flip_does_not_depend_on_how_images_are_decoded(workspace):
    kinds = {'w0': ['--num_workers', 0], 'w2': ['--num_workers', 2], 'c': ['--cache']}
    for name, args in kinds.items():
        train(workspace, name, '--epoch', 2, '--flip', *args)
    of_none, of_two, of_cache = (weights(workspace, name) for name in kinds)
    assert same(of_none, of_two) and same(of_none, of_cache)


# All of them


@pytest.mark.slow
def test_resumed_run_equals_one_never_stopped(workspace):
    more = ['--lr_decay_epochs', '1,2', '--epoch', 3]
    train(workspace, 'stopped', *ALL, '--lr_decay_epochs', '1', '--epoch', 2)
    printed = use(workspace, 'stopped', '--train', *more)
    assert 'Resuming after iteration 6, in epoch 2, batch 0' in printed
    assert same(weights(workspace, 'all'), weights(workspace, 'stopped'))
    for name in ('d_loss', 'g_loss', 'd_fake_after', 'learning_rate_d'):
        assert column(workspace, 'all', name) == column(workspace, 'stopped', name)


def test_image_grids_and_checkpoints_come_with_epochs(workspace):
    folder = workspace / 'out' / 'all'
    names = sorted(path.name for path in folder.glob('samples/train_*'))
    assert names == [f'train_{i:08d}.png' for i in (0, 6, 9)]
    steps = sorted(path.stem for path in folder.glob('checkpoint/*.index'))
    assert steps == [f'model.b8-{i}' for i in (3, 6, 9)]


# Recipes


NO_CLASSES = None, False  # y_dim, and whether the data are files of images
BEST = '--g_steps 1 --r1 10 --ema 0.999 --beta1 0 --learning_rate 0.0004'
LARGE = '--batch_size 16 --layers auto'
OF_CLASSES = '--g_steps 1 --ema 0.999 --learning_rate 0.0005 --learning_rate_d 0.001'


@pytest.mark.parametrize(
    'args, data, changes',
    [
        ('', NO_CLASSES, None),
        ('--recipe best', NO_CLASSES, BEST),
        ('--recipe best --r1 3', NO_CLASSES, BEST.replace(' --r1 10', '')),
        ('--recipe best', (None, True), f'{BEST} --batch_size 32'),
        ('--recipe best --output_height 128', (None, True), f'{BEST} {LARGE}'),
        ('--recipe best', (4, False), OF_CLASSES),
        ('--recipe best --learning_rate 0.1 --ema 0', (4, False), '--g_steps 1'),
        ('--recipe faithful', NO_CLASSES, 'changes nothing'),
    ],
)
def test_a_recipe_sets_flags_that_are_not_given(args, data, changes, capsys):
    with flagsaver():
        main.TABLE.define()
        main.FLAGS(['main.py', *args.split()])
        config = read_flags(['main.py'], main.TABLE)
        apply_recipe(config, main.TABLE, *data, is_new=True)
    line = f' [*] Recipe {config.recipe}: {changes}\n' if changes else ''
    assert capsys.readouterr().out == line
    assert config.g_steps == (1 if '--g_steps' in line else 2)
    assert config.r1 == (3 if '--r1' in args else 10 if '--r1' in line else 0)


def test_a_recipe_leaves_the_layers_of_weights_as_they_are(workspace, monkeypatch):
    monkeypatch.setattr('dcgan.runs.recipes.LARGE', 16)  # where auto is 2
    folders = [workspace / 'out' / 'copy' / 'checkpoint', workspace / 'folder']
    for folder in folders:
        shutil.copytree(workspace / 'out' / 'all' / 'checkpoint', folder)
    best = [*TRAIN, '--recipe', 'best', '--epoch', 3]
    for run in ['--out_name', 'copy'], ['--checkpoint_dir', folders[1]]:
        result = run_in_process(*run, *best, cwd=workspace)
        assert result.returncode == 0 and 'auto' not in result.stdout
    assert ' --layers auto' in use(workspace, 'new', *best)


@pytest.mark.slow
def test_the_recipe_of_few_images_changes_them_before_d(tmp_path):
    write_images(tmp_path / 'data' / 'cats', count=8)
    printed = use(tmp_path, 'cats', *TRAIN, '--recipe', 'best', '--epoch', 1)
    line = ' [*] Recipe best of 8 images: --augment translation\n'
    assert line in printed and 'Only 8 images' not in printed
    own = ['--recipe', 'best', '--augment', 'cutout', '--epoch', 1]
    assert 'of 8 images' not in use(tmp_path, 'own', *TRAIN, *own)
    printed = use(tmp_path, 'own', '--train', '--augment', '', '--epoch', 2)
    assert 'Only 8 images: ' in printed and 'or --augment translation' in printed


@pytest.mark.slow
def test_a_resumed_run_keeps_its_recipe_unless_told_otherwise(workspace):
    train(workspace, 'best', '--epoch', 1, '--recipe', 'best')
    assert 'Recipe' not in use(workspace, 'best', '--train', '--epoch', 2)
    powers = weights(workspace, 'best')  # by one step of G in an iteration, and beta1 0
    assert powers['beta1_power'] == powers['beta1_power_1'] == 0
    assert powers['ema/moves'] == 6
    args = ['--train', '--epoch', 3, '--recipe', 'faithful']
    line = (
        '--g_steps 2 --r1 0 --ema 0 --beta1 0.5 no --augment --learning_rate 0.0002\n'
    )
    assert f' [*] Recipe faithful: {line}' in use(workspace, 'best', *args)


REFUSED = ['d_dropout=nan', 'ema=nan', 'train_size=nan', 'beta1=1', 'r1=-1']
REFUSED += ['epoch=1' + 30 * '0', 'pretrain_d=1' + 30 * '0', 'max_to_keep=2147483648']
REFUSED += ['generate_test_images=1' + 12 * '0', 'sheet_columns=1000000000']
REFUSED += ['train_size=0', 'train_size=-inf', 'worker_timeout=inf']


@pytest.mark.parametrize('flag', REFUSED)
def test_numbers_that_nothing_can_use_are_refused_in_one_line(flag, tmp_path):
    result = run_in_process('--train', f'--{flag}', cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f'main.py: flag --{flag}: ')
    assert result.stderr.count('\n') == 1
