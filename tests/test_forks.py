"""Programs that are written as forks of the original are run without a change."""

import json

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import run
from PIL import Image

from model import DCGAN
from ops import linear


def run_fork(name, *args, cwd):
    result = run(f'tests/forks/{name}.py', *args, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_networks_of_ones_own_are_trained_over_ops(tiny_copy):
    printed = run_fork('own_networks', cwd=tiny_copy)
    assert printed.count('Epoch: [') == 6 and 'nan' not in printed
    assert Image.open(tiny_copy / 'samples' / 'train.png').size == (48, 48)
    assert (tiny_copy / 'checkpoint' / 'own.model-6.index').exists()
    first, second = (tiny_copy / 'layers.js').read_text().splitlines()
    assert first.startswith('var layer_0 = {') and first.endswith('};')
    layer = json.loads(second.removeprefix('var layer_1 = ').removesuffix(';'))
    shape = [layer[name] for name in ('out_sx', 'out_depth', 'in_depth', 'pad')]
    assert shape == [8, 4, 8, 1] and len(layer['filters']) == 4
    assert len(layer['filters'][0]['w']) == 5 * 5 * 8


@pytest.mark.parametrize('dataset, pattern', [('cats', '*.png'), ('set', '')])
def test_subclass_with_another_loss_has_a_main_of_its_own(dataset, pattern, tiny_copy):
    printed = run_fork('other_loss', dataset, pattern, cwd=tiny_copy)
    assert 'LeastSquaresDCGAN has changed d_loss, g_loss: ' in printed
    assert printed.endswith('loaded True 3\n')
    assert len([*(tiny_copy / 'samples').glob('train_*.png')]) > 1


def test_images_are_completed_by_gradients_to_z(tiny_copy):
    checkpoint = tiny_copy / 'out' / 'cats' / 'checkpoint'
    for i in range(3):  # of the size of samples
        pixels = np.random.RandomState(i).randint(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tiny_copy / f'{i}.png')
    args = [tiny_copy / f'{i}.png' for i in range(3)]
    printed = run_fork('completion', checkpoint, *args, cwd=tiny_copy)
    losses = [
        float(line.split()[-1]) for line in printed.splitlines() if 'step' in line
    ]
    assert len(losses) == 40 and min(losses) < losses[0]
    assert Image.open(tiny_copy / 'completed.png').size == (48, 16)


def test_checkpoint_is_loaded_and_grids_have_sizes_that_are_floats(tiny_copy):
    checkpoint = tiny_copy / 'out' / 'cats' / 'checkpoint'
    printed = run_fork('grid', checkpoint, cwd=tiny_copy)
    assert printed.endswith('(48, 48, 3) (8, 16, 16, 3) (16, 16)\n')
    for name in 'samples.png', 'real.png':
        assert Image.open(tiny_copy / name).size == (48, 48)
    assert Image.open(tiny_copy / 'samples.gif').n_frames > 1  # equal ones are one


def test_attributes_of_the_original_can_be_read(tiny_copy):
    read = json.loads(run_fork('attributes', 'cats', '*.png', cwd=tiny_copy))
    sizes = [True, 20, 18, 'cats', '*.png', './data', False, 'cats_8_16_16']
    assert read[:11] == [*sizes, True, False, None]
    path, *lengths = read[11:14]
    assert path.startswith('data/cats/') and lengths == [8, 24]
    assert read[14:16] == [True, True] and len(read) == 16 + 7
    read = json.loads(run_fork('attributes', 'set', '', cwd=tiny_copy))
    assert read[6:9] == [True, 'set_8_16_16', True]
    assert read[11:16] == [[8, 16, 16, 1], [8, 4], 1.0, 24, True]


def test_networks_in_other_scopes_have_the_variables_that_are_trained(sess):
    class Scopes(DCGAN):
        def generator(self, z, y=None):
            with tf.variable_scope('gen_net', reuse=tf.AUTO_REUSE):
                x = tf.tanh(linear(z, 16 * 16 * 3, 'g_h0_lin'))
            return tf.reshape(x, [-1, 16, 16, 3])

        def sampler(self, z, y=None):
            return self.generator(z)

        def discriminator(self, image, y=None, reuse=False):
            with tf.variable_scope('dis_net', reuse=reuse):
                x = linear(tf.reshape(image, [8, -1]), 1, 'd_h0_lin')
            return tf.sigmoid(x), x

    dcgan = Scopes(sess, output_size=16, batch_size=8, data_dir=None)
    names = [[v.op.name for v in found] for found in (dcgan.d_vars, dcgan.g_vars)]
    assert names == [
        ['dis_net/d_h0_lin/Matrix', 'dis_net/d_h0_lin/bias'],
        ['gen_net/g_h0_lin/Matrix', 'gen_net/g_h0_lin/bias'],
    ]


def test_summaries_are_merged_as_by_the_train_of_the_original(make_dcgan):
    d = make_dcgan()
    merged = tf.summary.merge([d.z_sum, d.d_sum, d.d_loss_real_sum, d.d_loss_sum])
    images = np.zeros([6, 16, 16, 3])
    text = d.sess.run(merged, {d.inputs: images, d.z: np.zeros([6, 5])})
    tags = [value.tag for value in tf.Summary.FromString(text).value]
    assert tags == ['z_1', 'd', 'd_loss_real', 'd_loss']
    assert not hasattr(d, 'data_X') and hasattr(d, 'g_sum')
