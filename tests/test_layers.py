"""Networks of any depth: --layers and --max_filters."""

import re
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import SMALL, same, use, weights, write_images

from dcgan.training.network_size import count_layers, layer_filters, layer_shapes
from dcgan.training.weights import checkpoint_dims, model_settings
from dcgan.util.errors import UserError

DEEP = ['--dataset', 'cats', *SMALL, '--output_height', 32, '--seed', 1]


@pytest.mark.parametrize(
    'size, y_dim, layers',
    [
        ((64, 64), None, 4),
        ((128, 128), None, 5),
        ((256, 512), None, 6),
        ((108, 108), None, 5),
        ((28, 28), None, 3),
        ((8, 8), None, 2),
        ((28, 28), 10, 2),
        ((96, 96), 10, 5),
        ((128, 96), 10, 5),
    ],
)
def test_auto_starts_at_about_4x4_and_with_classes_where_sizes_allow(
    size, y_dim, layers
):
    assert count_layers('auto', size, y_dim) == layers
    shapes = layer_shapes(*size, [3, *layer_filters(64, layers)])
    assert shapes[-1] == (*size, 3) and len(shapes) == layers + 1
    assert y_dim or 2 <= min(shapes[0][:2]) <= 6


def test_filters_double_up_to_eight_times_the_first_or_to_max_filters():
    assert layer_filters(64, 6) == [64, 128, 256, 512, 512, 512]
    assert layer_filters(64, 6, 1024) == [64, 128, 256, 512, 1024, 1024]
    assert layer_filters(64, 4, 100) == [64, 100, 100, 100]


def graph_of(make_dcgan, **settings):
    with tf.Graph().as_default() as graph, tf.Session() as sess:
        tf.set_random_seed(1)
        make_dcgan(sess, **settings)
        return graph.as_graph_def()


@pytest.mark.parametrize('y_dim, usual, size', [(None, 4, 16), (None, 4, 8), (4, 2, 8)])
def test_the_usual_number_of_layers_is_the_usual_graph(y_dim, usual, size, make_dcgan):
    settings = dict(y_dim=y_dim, output_height=size, output_width=size)
    expected = graph_of(make_dcgan, **settings)
    assert graph_of(make_dcgan, layers=usual, **settings) == expected
    assert graph_of(make_dcgan, layers=3, **settings) != expected


def test_names_continue_those_of_the_original(make_dcgan):
    def layers(**settings):
        names = {node.name for node in graph_of(make_dcgan, **settings).node}
        of_layers = r'^\w+/([gd]_(?:h|bn)\w+)/(?:w|Matrix|beta)$'
        return sorted(re.findall(of_layers, '\n'.join(names), re.MULTILINE))

    deep = layers(layers=6, output_height=64, output_width=64)
    convs, norms = [f'd_h{i}_conv' for i in range(6)], [f'd_bn{i}' for i in range(1, 6)]
    of_g = [f'g_bn{i}' for i in range(6)], [f'g_h{i}' for i in range(1, 7)]
    assert deep == [*norms, *convs, 'd_h6_lin', *of_g[0], 'g_h0_lin', *of_g[1]]
    of_d = ['d_bn1', 'd_bn2', 'd_bn3', 'd_h0_conv', 'd_h1_conv', 'd_h2_conv']
    of_g = ['g_bn0', 'g_bn1', 'g_bn2', 'g_bn3', 'g_h0_lin', 'g_h1_lin', 'g_h2', 'g_h3']
    expected = [*of_d, 'd_h3_lin', 'd_h4_lin', *of_g, 'g_h4']
    assert layers(layers=3, y_dim=4) == expected


@pytest.mark.parametrize('y_dim', [None, 3])
@pytest.mark.parametrize('layers', [2, 3, 5])
def test_shapes_of_a_checkpoint_tell_the_model(layers, y_dim, make_dcgan, tmp_path):
    def shapes(**settings):
        with tf.Graph().as_default(), tf.Session() as sess:
            dcgan = make_dcgan(sess, **settings)
            dcgan.save(str(tmp_path), 1)
            return {v.op.name: v.shape.as_list() for v in dcgan.variables}

    path, size = str(tmp_path / 'model.b6-1'), dict(output_height=32, output_width=32)
    for most, df_dim in (5, 4), (20, 5):
        of_filters = dict(layers=layers, max_filters=most, df_dim=df_dim)
        built = shapes(y_dim=y_dim, **of_filters, **size)
        assert checkpoint_dims(path) == (y_dim, 3)
        found = model_settings(path)
        assert found.items() >= {**size, 'layers': str(layers)}.items()
        assert shapes(y_dim=y_dim, **found) == built


@pytest.mark.parametrize('y_dim, first', [(None, 'd_h0_conv'), (4, 'd_h1_conv')])
def test_a_d_of_other_names_tells_nothing(y_dim, first, make_dcgan, sess, tmp_path):
    variables = make_dcgan(y_dim=y_dim, layers=3).variables
    saved = [v for v in variables if first not in v.op.name]
    tf.train.Saver(saved).save(sess, str(tmp_path / 'model-1'))
    found = model_settings(str(tmp_path / 'model-1'))
    assert found['layers'] == '3' and not found.keys() & {'df_dim', 'max_filters'}


def test_networks_of_one_layer_are_none_of_ours(sess, tmp_path):
    names = ['g_h0_lin/Matrix', 'g_h0_lin/bias', 'g_h1/w', 'g_h1/biases']
    saved = {f'generator/{name}': tf.Variable(tf.ones([1] * 4)) for name in names}
    sess.run(tf.global_variables_initializer())
    tf.train.Saver(saved).save(sess, str(tmp_path / 'model-1'))
    with pytest.raises(UserError, match='not a checkpoint of a DCGAN, .*g_h4/biases'):
        model_settings(str(tmp_path / 'model-1'))


def test_numbers_and_sizes_that_cannot_be_built_are_refused(make_dcgan):
    for layers, y_dim, message in (
        (1, None, '--layers 1: give auto or a number from 2 to 4 for 16x16'),
        ('deep', None, '--layers deep: give auto'),
        (5, None, '--layers 5: give auto or a number from 2 to 4'),
        (3, 4, 'output size 20x16: .* needs multiples of 8; change .*, or --layers'),
    ):
        height = 20 if y_dim else 16
        with pytest.raises(UserError, match=message):
            make_dcgan(layers=layers, y_dim=y_dim, output_height=height)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with the run `deep`, of `auto`, and data with classes."""
    workspace = tmp_path_factory.mktemp('workspace')
    write_images(workspace / 'data' / 'cats', count=16, size=(32, 32))
    for name in 'ab':
        write_images(workspace / 'data' / 'pets' / name, count=8, size=(32, 32))
    deep = ['--layers', 'auto', '--output_height', 64, '--max_filters', 10]
    use(workspace, 'deep', *DEEP, '--train', *deep, '--epoch', 1)
    return workspace


@pytest.mark.parametrize(
    'run', ['deep', pytest.param('classes', marks=pytest.mark.slow)]
)
def test_a_deep_run_is_resumed_and_used_without_the_flag(run, workspace, tmp_path):
    if run == 'classes':
        classes = ['--dataset', 'pets', '--conditional', '--layers', 4, '--ema', 0.9]
        use(workspace, 'classes', *DEEP, '--train', *classes, '--epoch', 1)
    shutil.copytree(workspace, tmp_path, dirs_exist_ok=True)
    use(tmp_path, run, '--train', '--epoch', 2)
    tasks = ['--saved_model', '--encode', 'f.npz', '--generate_test_images', 4]
    use(tmp_path, run, *tasks, '--evaluate', '--evaluate_samples', 20)
    with np.load(tmp_path / 'f.npz') as arrays:  # at most 4x4 cells of each filter
        of_classes = 16 * (5 + 6 + 10) + 4 * 18 + 8
        size = {'deep': 16 * (4 + 8 + 10 + 10), 'classes': of_classes}[run]
        assert arrays['features'].shape == (16, size)
    before = weights(workspace, run)
    assert before.keys() == weights(tmp_path, run).keys()
    assert not same(before, weights(tmp_path, run))


def test_depth_is_read_off_a_checkpoint_without_a_record(workspace, tmp_path):
    shutil.copytree(workspace / 'out' / 'deep' / 'checkpoint', tmp_path / 'checkpoint')
    draw = ['--generate_test_images', 4, '--npz', '--seed', 2]
    use(workspace, 'deep', *draw, '--sample_dir', tmp_path / 'a')
    from_shapes = ['--checkpoint_dir', tmp_path / 'checkpoint', '--dataset', 'cats']
    use(tmp_path, '', *from_shapes, *draw, '--sample_dir', tmp_path / 'b')
    a, b = (np.load(next((tmp_path / name).glob('*.npz'))) for name in 'ab')
    assert all((a[name] == b[name]).all() for name in a.files)
