"""The layers of the original, with its signatures.

Each opens one variable scope, so it can be built again where `scope.reuse_variables()`
was called. Images are [B, h, w, c]. A layer works in the type of its input, float32 or
bfloat16. Variables and the statistics of batch norm are float32. Initial weights have
the standard deviation of the paper, 0.02 (https://arxiv.org/abs/1511.06434, section 4).
"""

import tensorflow.compat.v1 as tf

from dcgan.compute import kernels
from dcgan.compute.batch_norm import normalize
from dcgan.compute.kernels import conv_cond_concat, dense  # noqa: F401, a layer, too
from utils import *  # noqa: F403, models written for the original need its names

# other names that they import from here
concat = tf.concat
image_summary = tf.summary.image
scalar_summary = tf.summary.scalar
histogram_summary = tf.summary.histogram
merge_summary = tf.summary.merge
SummaryWriter = tf.summary.FileWriter

relu = tf.nn.relu


def conv2d(input_, output_dim, k_h=5, k_w=5, d_h=2, d_w=2, stddev=0.02, name='conv2d'):
    """Convolution and biases: [B, h, w, c] -> [B, ceil(h / d_h), ceil(w / d_w), d].

    Variables: `w` [k_h, k_w, c, d], `biases` [d], with d the output_dim.
    """
    shape, zeros = [k_h, k_w, input_.shape[-1], output_dim], tf.zeros_initializer()
    normal = tf.truncated_normal_initializer(stddev=stddev)
    with tf.variable_scope(name):
        w = tf.get_variable('w', shape, initializer=normal)
        biases = tf.get_variable('biases', [output_dim], initializer=zeros)
        return kernels.conv2d(input_, w, biases, [d_h, d_w])


def deconv2d(
    input_,
    output_shape,
    k_h=5,
    k_w=5,
    d_h=2,
    d_w=2,
    stddev=0.02,
    name='deconv2d',
    with_w=False,
):
    """Transposed convolution and biases: [B, h, w, c] -> output_shape, [B, h', w', c'].

    B is an int or a tensor, ceil(h' / d_h) == h and ceil(w' / d_w) == w. with_w returns
    (images, w, biases). Variables: `w` [k_h, k_w, c', c], `biases` [c'].
    """
    channels, zeros = output_shape[-1], tf.zeros_initializer()
    normal = tf.random_normal_initializer(stddev=stddev)
    with tf.variable_scope(name):
        shape = [k_h, k_w, channels, input_.shape[-1]]
        w = tf.get_variable('w', shape, initializer=normal)
        biases = tf.get_variable('biases', [channels], initializer=zeros)
        images = kernels.conv2d_transpose(input_, w, biases, output_shape, [d_h, d_w])
        return (images, w, biases) if with_w else images


conv2d_transpose = deconv2d  # its name in dcgan-completion.tensorflow


def linear(input_, output_size, scope=None, stddev=0.02, bias_start=0.0, with_w=False):
    """Dense layer: [B, n] -> [B, output_size]; with_w returns (output, Matrix, bias).

    Variables: `Matrix` [n, output_size], `bias` [output_size].
    """
    normal = tf.random_normal_initializer(stddev=stddev)
    start = tf.constant_initializer(bias_start)
    with tf.variable_scope(scope or 'Linear'):
        shape = [input_.shape[-1], output_size]
        matrix = tf.get_variable('Matrix', shape, initializer=normal)
        bias = tf.get_variable('bias', [output_size], initializer=start)
        output = dense(input_, matrix, bias)
        return (output, matrix, bias) if with_w else output


def lrelu(x, leak=0.2, name='lrelu'):
    """max(x, leak * x), of any shape. `leak` is at most 1."""
    return tf.nn.leaky_relu(x, alpha=leak, name=name)


class batch_norm:
    """Batch normalization (https://arxiv.org/abs/1502.03167), called as bn(x, train).

    x is [B, ..., c]; `train` is True, False or a boolean tensor. To train, it uses the
    statistics of the batch and, whenever the result is evaluated, updates the moving
    averages, which keep `momentum` of their values; of variances, they take the
    unbiased one. Otherwise, it uses the moving averages.
    Variables, all [c]: `beta`, `gamma`, `moving_mean`, `moving_variance`.
    """

    def __init__(self, epsilon=1e-5, momentum=0.9, name='batch_norm'):
        # in early 2016, the size of the batch came first
        self.epsilon = 1e-5 if isinstance(epsilon, int) else epsilon
        self.momentum, self.name = momentum, name

    def __call__(self, x, train=True, momentum=None):
        """`momentum` replaces the layer's in this pass."""
        momentum = self.momentum if momentum is None else momentum
        channels, epsilon = [x.shape[-1]], self.epsilon
        zeros = {'shape': channels, 'initializer': tf.zeros_initializer()}
        ones = {'shape': channels, 'initializer': tf.ones_initializer()}
        with tf.variable_scope(self.name):
            self.beta = beta = tf.get_variable('beta', **zeros)
            self.gamma = gamma = tf.get_variable('gamma', **ones)
            mean = tf.get_variable('moving_mean', **zeros, trainable=False)
            variance = tf.get_variable('moving_variance', **ones, trainable=False)
            images = x if x.shape.ndims == 4 else tf.reshape(x, [-1, 1, 1, *channels])

            def by_batch():
                normed, *batch = normalize(images, gamma, beta, epsilon)
                # Read the averages only after this batch: if one session run makes two
                # passes, which the caller orders, the second has to update what the
                # first has left.
                with tf.control_dependencies(batch):
                    updates = [
                        average.assign_sub((1 - momentum) * (average - value))
                        for average, value in zip([mean, variance], batch)
                    ]
                with tf.control_dependencies(updates):
                    return tf.identity(normed)

            def by_averages():
                return tf.nn.fused_batch_norm(
                    images, gamma, beta, mean, variance, epsilon, is_training=False
                )[0]

            if tf.is_tensor(train):
                normed = tf.cond(train, by_batch, by_averages)
            else:
                normed = by_batch() if train else by_averages()
            return normed if images is x else tf.reshape(normed, [-1, *x.shape[1:]])


def binary_cross_entropy(preds, targets, name=None):
    """Mean cross entropy of probabilities `preds` against `targets`; until 2017."""
    real, fake = tf.log(preds + 1e-12), tf.log(1.0 - preds + 1e-12)
    return tf.reduce_mean(-targets * real - (1.0 - targets) * fake, name=name)


def binary_cross_entropy_with_logits(logits, targets, name=None):
    """It takes labels and probabilities, in spite of its parameters; until 2016."""
    return binary_cross_entropy(targets, logits, name)


def cross_entropy(logits, label):
    """Mean sigmoid cross entropy of logits [B, 1] against one label for all, 0 or 1."""
    labels = tf.fill(tf.shape(logits), float(label))
    losses = tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=labels)
    return tf.reduce_mean(losses)


def conv_out_size_same(size, stride):
    """Height or width after a convolution with SAME padding: ceil(size / stride)."""
    return -(-size // stride)


def flatten(x):
    """[B, h, w, c] -> [B, h*w*c]."""
    return tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
