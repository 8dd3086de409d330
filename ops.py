"""Layers, as functions of tensors: each opens one variable scope and returns a tensor.

Shapes are NHWC, B the batch. A layer works in the type of its input, float32 or
bfloat16; variables, and the statistics of batch norm, are float32. Initial values are
those of the original (and of section 4 of the paper, https://arxiv.org/abs/1511.06434):
stddev 0.02.
"""

import tensorflow.compat.v1 as tf

from dcgan.kernels import (
    _convolution,
    _filter_gradient,
    _layer,
    _sizes,
    _transposed,
)

relu = tf.nn.relu


def to_float32(x):
    """x as float32, of any shape."""
    return tf.cast(x, tf.float32)


def lrelu(x, leak=0.2):
    """max(x, leak * x), of any shape."""
    return tf.nn.leaky_relu(x, alpha=leak)


def conv2d(x, output_dim, kernel=5, stride=2, stddev=0.02, name='conv2d'):
    """Convolution with bias: [B, h, w, c] -> [B, h', w', output_dim].

    SAME padding: h' is ceil(h / stride), w' likewise.

    Variables: `w` [kernel, kernel, c, output_dim], `biases` [output_dim].
    """
    with tf.variable_scope(name):
        w = tf.get_variable(
            'w',
            [kernel, kernel, x.shape[-1], output_dim],
            initializer=tf.truncated_normal_initializer(stddev=stddev),
        )
        biases = tf.get_variable(
            'biases', [output_dim], initializer=tf.zeros_initializer()
        )
        return _layer(
            lambda x, w: _convolution(x, w, stride),
            lambda x, w, dy: _transposed(dy, w, _sizes(x), stride),
            lambda x, w, dy: _filter_gradient(x, dy, w.shape, stride),
            *(x, w, biases),
        )


def deconv2d(x, output_shape, kernel=5, stride=2, stddev=0.02, name='deconv2d'):
    """Transposed convolution with bias: [B, h, w, c] -> output_shape.

    `output_shape` is [B, h', w', c'], B an int or a tensor, with ceil(h' / stride) == h
    and w likewise. Variables: `w` [kernel, kernel, c', c], `biases` [c'].
    """
    with tf.variable_scope(name):
        w = tf.get_variable(
            'w',
            [kernel, kernel, output_shape[-1], x.shape[-1]],
            initializer=tf.random_normal_initializer(stddev=stddev),
        )
        biases = tf.get_variable(
            'biases', [output_shape[-1]], initializer=tf.zeros_initializer()
        )
        return _layer(
            lambda x, w: _transposed(x, w, output_shape, stride),
            lambda x, w, dy: _convolution(dy, w, stride),
            lambda x, w, dy: _filter_gradient(dy, x, w.shape, stride),
            *(x, w, biases),
        )


def linear(x, output_size, stddev=0.02, name='Linear'):
    """Dense layer with bias: [B, n] -> [B, output_size].

    Variables: `Matrix` [n, output_size], `bias` [output_size].
    """
    with tf.variable_scope(name):
        matrix = tf.get_variable(
            'Matrix',
            [x.shape[-1], output_size],
            initializer=tf.random_normal_initializer(stddev=stddev),
        )
        bias = tf.get_variable(
            'bias', [output_size], initializer=tf.zeros_initializer()
        )
        return _layer(
            tf.matmul,
            # dy w^T, in twice the time, would read all of w across its rows
            lambda x, w, dy: tf.transpose(tf.matmul(w, dy, transpose_b=True)),
            lambda x, w, dy: tf.matmul(x, dy, transpose_a=True),
            *(x, matrix, bias),
        )


def conv_cond_concat(x, y):
    """Append y, [B, 1, 1, d], to every point of x: [B, h, w, c] -> [B, h, w, c + d]."""
    planes = tf.tile(y, [1, x.shape[1], x.shape[2], 1])
    return tf.concat([x, planes], axis=3)


def batch_norm(x, train=True, epsilon=1e-5, momentum=0.9, name='batch_norm'):
    """Batch normalisation (https://arxiv.org/abs/1502.03167) of [B, h, w, c] or [B, c].

    With `train`, by the batch's own statistics; to evaluate the result is to move the
    averages, as with the original's `updates_collections=None`, and the variance that
    goes into them is the unbiased one. Without `train`, by the moving averages.
    Variables, all [c]: `beta`, `gamma`, `moving_mean`, `moving_variance`.
    """
    channels = [x.shape[-1]]
    zeros, ones = tf.zeros_initializer(), tf.ones_initializer()
    with tf.variable_scope(name):
        beta = tf.get_variable('beta', channels, initializer=zeros)
        gamma = tf.get_variable('gamma', channels, initializer=ones)
        moving_mean = tf.get_variable(
            'moving_mean', channels, initializer=zeros, trainable=False
        )
        moving_variance = tf.get_variable(
            'moving_variance', channels, initializer=ones, trainable=False
        )
        images = x if x.shape.ndims == 4 else tf.reshape(x, [-1, 1, 1, *channels])
        if train:
            images, mean, variance = tf.nn.fused_batch_norm(
                images, gamma, beta, epsilon=epsilon
            )
            # read late: of two passes in one run, the second has to move what the first
            # has left. To keep them in order is the caller's part
            with tf.control_dependencies([mean, variance]):
                moves = [
                    moving_mean.assign_sub((1 - momentum) * (moving_mean - mean)),
                    moving_variance.assign_sub(
                        (1 - momentum) * (moving_variance - variance)
                    ),
                ]
            with tf.control_dependencies(moves):
                images = tf.identity(images)
        else:
            images, _, _ = tf.nn.fused_batch_norm(
                images,
                gamma,
                beta,
                mean=moving_mean,
                variance=moving_variance,
                epsilon=epsilon,
                is_training=False,
            )
        return images if x.shape.ndims == 4 else tf.reshape(images, [-1, *channels])


def cross_entropy(logits, label):
    """Mean sigmoid cross entropy of logits [B, 1] against one label for all, 0 or 1."""
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(
            logits=logits, labels=tf.fill(tf.shape(logits), float(label))
        )
    )


# The arithmetic of the layers. Where TensorFlow's own kernels are far from the rate of
# a matrix product (oneDNN on a CPU, by its profile), the same sums are taken in another
# order, in which they are one.
