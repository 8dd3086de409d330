"""Draw what filters of D respond to, by guided backpropagation (paper, figure 5)."""

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.gradients import custom_gradient
from dcgan.data.dataset import read_images
from dcgan.training.inputs import to_inputs
from dcgan.training.user_model import discriminate

FILTERS, BEST, SEARCHED = 16, 9, 10_000  # of a D; images of a filter; of the data set
GAP = 4  # pixels between filters


def draw_filters(sess, dcgan) -> np.ndarray:
    """Grids of guided gradients and of images, [2, 1, h, w, c]; left by a random D."""
    with sess.graph.as_default():
        run, data = build_filters(dcgan), dcgan.data
    indices = np.random.RandomState(0).permutation(len(data))[:SEARCHED]
    of_d = [v for v in dcgan.variables if v.op.name.startswith('discriminator/')]
    start = [v.initializer for v in of_d]
    trained = {op.inputs[1]: w for op, w in zip(start, sess.run(of_d))}
    _, h, w, c = dcgan.inputs.shape.as_list()
    # of each D both grids: filters in rows and columns, with white behind each
    sides = np.full([2, 2, 4, 3 * h + GAP, 4, 3 * w + GAP, c], 128, np.uint8)
    sides[:, :, :, 3 * h :] = sides[..., 3 * w :, :] = 255
    try:
        for name, weights, side in zip(('random D', 'trained D'), ({}, trained), sides):
            sess.run(start, weights)
            parts = read_images(data, indices, name, delay=2)
            responses = np.concatenate([run(*part) for part in parts])
            if unusable := getattr(data, 'unusable', {}):  # others stood for them
                responses[[data.files[i] in unusable for i in indices]] = -np.inf
            for i, rows in enumerate(np.argsort(-responses, 0, 'stable')[:BEST].T):
                images, labels = data.take(indices[rows])
                for place, pair in enumerate(zip(run(images, labels, i), images)):
                    y, x = h * (place // 3), w * (place % 3)
                    side[:, i // 4, y : y + h, i % 4, x : x + w] = pair
    finally:
        sess.run(start, trained)
        data.close()
    left, right = sides.reshape(2, 2, 1, 4 * (3 * h + GAP), -1, c)
    black = np.zeros_like(left[..., : 4 * GAP, :])  # with it, files keep the contrast
    return np.concatenate([left, black, right], axis=3)


def build_filters(dcgan):
    """A function of images, uint8 [n, h, w, c], and labels: the largest responses.

    They are [n, filters], of D's last strided convolution. With the number of a filter,
    it returns their guided gradients as pictures, uint8 [n, h, w, c]; gray is zero.
    """
    pixels = tf.placeholder(tf.uint8, [None, *dcgan.inputs.shape[1:]])
    labels, number = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [])
    images, y = to_inputs(dcgan, pixels, labels)
    layers, _ = discriminate(dcgan, images, y, '--visualize_option filters', guided)
    layer = [layer for layer in layers if layer.shape.ndims == 4][-1]
    _, h, w, c = layer.shape.as_list()
    units = tf.reshape(layer, [-1, h * w, c])
    responses = tf.reduce_max(units[:, :, :FILTERS], 1)
    first = tf.one_hot(tf.argmax(units, 1), h * w, axis=1)  # several may be as large
    gradient = tf.gradients(units, images, first * tf.one_hot(number, c))[0]
    largest = tf.reduce_max(tf.abs(gradient), [1, 2, 3], keepdims=True)
    scaled = 127.5 + 127.5 * tf.math.divide_no_nan(gradient, largest)
    pictures = tf.cast(tf.rint(scaled), tf.uint8)

    def run(x, of_x, i=None):
        fed = {pixels: x, labels: of_x if dcgan.y_dim else [], number: i or 0}
        return dcgan.sess.run(responses if i is None else pictures, fed)

    return run


def guided(x: tf.Tensor) -> tf.Tensor:
    """x, whose gradient passes where both are positive (Springenberg et al., 2014)."""
    passed = tf.cast(x > 0, x.dtype)
    return custom_gradient([x], lambda dy: [passed * tf.nn.relu(dy)], x)[0]
