"""Draw what filters of D respond to, by guided backpropagation (paper, figure 5)."""

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.gradients import custom_gradient
from dcgan.data.dataset import read_images
from dcgan.training.inputs import to_inputs
from dcgan.training.user_model import discriminate

FILTERS, BEST = 16, 9  # of a D, in rows of 4; images of each filter, in rows of 3
SEARCHED, GAP = 10_000, 4  # images of the data set, at most; pixels between filters


def draw_filters(sess, dcgan) -> np.ndarray:
    """Grids of guided gradients and of images, [2, 1, h, w, c]; left by a random D."""
    with sess.graph.as_default():
        run = build_filters(dcgan)
    of_d = [v for v in dcgan.variables if v.op.name.startswith('discriminator/')]
    weights = sess.run(of_d)
    try:
        trained = draw_blocks(dcgan, run, 'trained D')
        sess.run([v.initializer for v in of_d])
        untrained = draw_blocks(dcgan, run, 'random D')
    finally:
        for variable, value in zip(of_d, weights):
            variable.load(value, sess)
        dcgan.data.close()
    black = np.zeros_like(trained[:, :, : 4 * GAP])  # with it, files keep the contrast
    return np.concatenate([untrained, black, trained], axis=2)[:, np.newaxis]


def draw_blocks(dcgan, run, name: str) -> np.ndarray:
    """The two grids of one D, [2, h, w, c]: a block for each filter; white between."""
    data, (_, h, w, c) = dcgan.data, dcgan.inputs.shape.as_list()
    indices = np.random.RandomState(0).permutation(len(data))[:SEARCHED]
    parts = read_images(data, indices, name, delay=2)
    responses = np.concatenate([run(*part) for part in parts])
    if unusable := getattr(data, 'unusable', {}):  # others stood in for them
        responses[[data.files[i] in unusable for i in indices]] = -np.inf
    pictures = np.full([2, FILTERS, BEST, h, w, c], 128, np.uint8)
    for i, best in enumerate(np.argsort(-responses, 0, 'stable')[:BEST].T):
        images, labels = data.take(indices[best])
        pictures[:, i, : len(best)] = run(images, labels, i), images
    blocks = pictures.reshape(2, 4, 4, 3, 3, h, w, c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    grids = np.full([2, 4, 3 * h + GAP, 4, 3 * w + GAP, c], 255, np.uint8)
    grids[:, :, : 3 * h, :, : 3 * w] = blocks.reshape(2, 4, 3 * h, 4, 3 * w, c)
    return grids.reshape(2, 4 * (3 * h + GAP), -1, c)


def build_filters(dcgan):
    """A function of images, uint8 [n, h, w, c], and labels: the largest responses.

    They are [n, filters], of D's last convolution or, without one, last layer. Given a
    filter's number, it returns guided gradients, uint8 [n, h, w, c], where gray is 0.
    """
    pixels = tf.placeholder(tf.uint8, [None, *dcgan.inputs.shape[1:]])
    labels, number = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [])
    images, y = to_inputs(dcgan, pixels, labels)
    layers, _ = discriminate(dcgan, images, y, '--visualize_option filters', guided)
    layer = ([x for x in layers if x.shape.ndims == 4] or layers)[-1]
    points, c = np.prod(layer.shape[1:-1], dtype=int), layer.shape[-1]
    units = tf.reshape(layer, [-1, points, c])
    responses = tf.reduce_max(units[:, :, :FILTERS], 1)
    first = tf.one_hot(tf.argmax(units, 1), points, axis=1)  # several may be as large
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
