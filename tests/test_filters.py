"""What filters of D respond to: --visualize_option filters."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import pixels, printed_paths, run_in_process, write_images

from dcgan.data.image_folder import UnusableImages
from dcgan.sampling.filters import GAP, build_filters, draw_filters
from dcgan.training.user_model import discriminate

IMAGES = np.random.RandomState(0).randint(0, 256, (3, 64, 64, 3)).astype(np.uint8)


@pytest.fixture
def dcgan(sess, make_dcgan):
    """A model whose D has two layers with random weights."""
    dcgan = make_dcgan(output_height=64, output_width=64, layers=2)
    shake(sess, dcgan)
    return dcgan


def shake(sess, dcgan):
    """Set the variables of D to random numbers, those of variances to positive ones."""
    rng = np.random.RandomState(1)
    for variable in dcgan.variables:
        if variable.op.name.startswith('discriminator/'):
            values = rng.normal(size=variable.shape.as_list())
            is_variance = 'variance' in variable.op.name
            sess.run(variable.assign(abs(values) if is_variance else values))


def activations(sess, dcgan, images):
    """D's weights, the activations of its two layers, the factor of batch norm."""
    names = {v.op.name.removeprefix('discriminator/'): v for v in dcgan.variables}
    w = sess.run({n: v for n, v in names.items() if n.startswith('d_')})
    x = (images / 127.5 - 1).astype(np.float32)
    first = tf.nn.conv2d(x, w['d_h0_conv/w'], 2, 'SAME') + w['d_h0_conv/biases']
    first = tf.nn.leaky_relu(first, 0.2)
    second = tf.nn.conv2d(first, w['d_h1_conv/w'], 2, 'SAME') + w['d_h1_conv/biases']
    factor = w['d_bn1/gamma'] / np.sqrt(w['d_bn1/moving_variance'] + 1e-5)
    second = (second - w['d_bn1/moving_mean']) * factor + w['d_bn1/beta']
    return (w, *sess.run([first, tf.nn.leaky_relu(second, 0.2)]), factor)


def positions(layer, number):
    """(rows, columns) of a filter's largest response in each image."""
    largest = layer[..., number].reshape(len(layer), -1).argmax(1)
    return np.unravel_index(largest, layer.shape[1:3])


def test_pictures_are_of_gradients_by_guided_backpropagation(sess, dcgan):
    w, first, second, factor = activations(sess, dcgan, IMAGES)
    run = build_filters(dcgan)
    assert run(IMAGES, None) == pytest.approx(second.max((1, 2)), rel=1e-4)
    for number in range(8):
        chosen = np.zeros_like(second)
        chosen[(np.arange(3), *positions(second, number), number)] = 1
        dy, how = chosen * (second > 0) * factor, ([1, 2, 2, 1], 'SAME')
        shape, filters = (3, 32, 32, 4), w['d_h1_conv/w']
        dy = sess.run(tf.nn.conv2d_backprop_input(shape, filters, dy, *how))
        dy = np.maximum(dy, 0) * (first > 0)
        shape, filters = (3, 64, 64, 3), w['d_h0_conv/w']
        gradient = sess.run(tf.nn.conv2d_backprop_input(shape, filters, dy, *how))
        expected = 127.5 * (1 + gradient / abs(gradient).max((1, 2, 3), keepdims=True))
        assert abs(run(IMAGES, None, number) - expected).max() < 0.51


def test_gradients_are_zero_outside_the_receptive_field(sess, dcgan):
    run, number = build_filters(dcgan), 5
    layer = activations(sess, dcgan, IMAGES)[2]
    pictures = run(IMAGES, None, number)
    for picture, row, column in zip(pictures, *positions(layer, number)):
        bounds = []
        for place in (row, column):
            first = last = place
            for _ in range(2):  # layers, each with kernels of 5 and strides of 2
                first, last = 2 * first - 1, 2 * last + 3
            bounds.append(slice(max(0, first), last + 1))
        assert np.ptp(picture[tuple(bounds)]) >= 127
        picture[tuple(bounds)] = 128
        assert (picture == 128).all()


def test_one_of_several_equal_responses_is_shown(sess, dcgan):
    run, image = build_filters(dcgan), np.full((1, 64, 64, 3), 200, np.uint8)
    layer = activations(sess, dcgan, image)[2]
    assert (layer == layer.max((1, 2), keepdims=True)).sum((1, 2)).max() > 1
    for number in np.flatnonzero(run(image, None)[0] > 0):
        shown = np.argwhere((run(image, None, number)[0] != 128).any(2))
        assert np.ptp(shown, 0).max() < 13


def test_zero_is_gray_where_no_response_is_positive(sess, dcgan):
    (beta,) = (v for v in dcgan.variables if v.op.name.endswith('d_bn1/beta'))
    sess.run(beta.assign(np.full(8, -1000.0)))
    assert (build_filters(dcgan)(IMAGES, None, 0) == 128).all()


@pytest.fixture
def of_folder(sess, make_dcgan, tmp_path):
    """A model of 12 filters in its last layer, which are fewer than are drawn."""
    write_images(tmp_path / 'cats', 100, (16, 16))
    names = {'data_dir': str(tmp_path), 'dataset_name': 'cats'}
    dcgan = make_dcgan(input_fname_pattern='*.png', **names, layers=3, df_dim=3)
    shake(sess, dcgan)
    return dcgan


def test_images_are_those_with_the_largest_responses(sess, of_folder):
    before = sess.run(of_folder.variables)
    with tf.Graph().as_default():  # not the model's
        gradients, images = draw_filters(sess, of_folder)[:, 0]
    after = sess.run(of_folder.variables)
    assert all(map(np.array_equal, before, after))
    block = 3 * 16 + GAP
    assert images.shape == (4 * block, 8 * block + 4 * GAP, 3)
    known, _ = of_folder.data.take(np.arange(100))
    x = tf.constant((known / 127.5 - 1).astype(np.float32))
    responses = sess.run(discriminate(of_folder, x, None, '')[0][-1]).max((1, 2))
    run, right = build_filters(of_folder), 4 * block + 4 * GAP
    for number in range(12):
        best = responses[:, number].argsort()[::-1][:9]
        drawn = run(known[best], None, number)
        for i, place in enumerate(best):
            y = number // 4 * block + i // 3 * 16
            x = right + number % 4 * block + i % 3 * 16
            assert (images[y : y + 16, x : x + 16] == known[place]).all()
            assert (gradients[y : y + 16, x : x + 16] == drawn[i]).all()
    blank = np.unique(gradients[3 * block : 4 * block - GAP, : block - GAP])
    assert blank.tolist() == [128]
    assert np.ptp(gradients[: block - GAP, : block - GAP]) > 0  # of random weights


def test_an_unusable_image_is_left_out(sess, of_folder):
    known, _ = of_folder.data.take(np.arange(100))
    order = (-build_filters(of_folder)(known, None)[:, 0]).argsort()
    missing = (order[0] - 1) % 100  # the best image will stand for it
    with open(of_folder.data.files[missing], 'wb') as file:
        file.write(b'cut')
    trained = draw_filters(sess, of_folder)[1, 0][:, 4 * 52 + 16 :]
    cells = trained[:48, :48].reshape(3, 16, 3, 16, 3).swapaxes(1, 2)
    expected = known[order[order != missing][:9]]
    assert (cells.reshape(expected.shape) == expected).all()


def test_a_conditional_d_gets_the_labels_of_the_images(sess, make_dcgan):
    dcgan, images, labels = make_dcgan(y_dim=4), IMAGES[:, :16, :16], [2, 0, 3]
    shake(sess, dcgan)
    x, y = (images / 255).astype(np.float32), np.eye(4)[labels]
    layers, _ = discriminate(dcgan, tf.constant(x), tf.constant(y, tf.float32), '')
    expected = sess.run(layers[1]).max((1, 2))  # of the second convolution, 4 + 4
    run = build_filters(dcgan)
    assert run(images, labels) == pytest.approx(expected[:, :16], rel=1e-4)
    assert np.ptp(run(images, labels, 0)) >= 127


def test_an_error_leaves_the_trained_weights_as_they_were(sess, of_folder):
    before = sess.run(of_folder.variables)
    of_folder.data.files = [f'{i}.png' for i in range(100)]
    with pytest.raises(UnusableImages):
        draw_filters(sess, of_folder)
    assert all(map(np.array_equal, before, sess.run(of_folder.variables)))


@pytest.mark.slow
def test_main_draws_filters_of_any_run_from_its_data(tiny_copy):
    def draw(name, *args):
        result = run_in_process('--out_name', name, *args, '--seed', 3, cwd=tiny_copy)
        paths = [p for p in printed_paths(tiny_copy, result) if 'test_filters' in p]
        return [pixels(path) for path in paths]

    option, size = ['--visualize_option', 'filters'], (4 * 52, 8 * 52 + 16)
    gradients, images = draw('set', *option)
    assert gradients.shape == images.shape == size
    assert (gradients[:, 4 * 52 : -4 * 52] == 0).all() and gradients[51, 51] == 255
    train = ['--train', '--epoch', 2, '--ema', 0.9]
    assert draw('cats', *train, *option)[0].shape == (*size, 3)
    (tiny_copy / 'data').rename(tiny_copy / 'elsewhere')
    again = draw('set', '--visualize_option', '8', '--data_dir', 'elsewhere')
    assert (again[0] == gradients).all() and (again[1] == images).all()
    result = run_in_process('--out_name', 'set', *option, cwd=tiny_copy)
    assert result.returncode == 1 and 'no such data folder' in result.stderr
