"""Normalize by the statistics of the joint batch of all workers."""

import tensorflow.compat.v1 as tf

from dcgan.compute.gradients import custom_gradient
from dcgan.compute.workers import Workers


def normalize(x: tf.Tensor, gamma, beta, epsilon: float) -> tuple:
    """Normalize x, [B, h, w, c]; returns (y, mean [c], unbiased variance [c])."""
    workers = Workers.current
    if workers is None:
        return tf.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    joint = _differentiable if workers.is_differentiable else _fused
    y, mean, variance = joint(x, gamma, beta, epsilon, workers)
    return y, mean, variance * _unbiased(workers.count * workers.points(x))


def _differentiable(x, gamma, beta, epsilon, workers):
    """As _fused, by ops that TensorFlow can differentiate repeatedly."""
    values, axes = tf.cast(x, tf.float32), [0, 1, 2]
    mean = workers.mean(tf.reduce_mean(values, axes))
    squares = tf.reduce_mean(tf.squared_difference(values, mean), axes)
    variance = workers.mean(squares)
    scale = gamma * tf.rsqrt(variance + epsilon)
    return tf.cast((values - mean) * scale + beta, x.dtype), mean, variance


def _fused(x, gamma, beta, epsilon, workers: Workers):
    """(y, mean, variance), with one message, and one for the gradients."""
    points, gamma, beta = workers.points(x), *map(tf.convert_to_tensor, (gamma, beta))
    # The statistics of the slices make up those of the joint batch: a mean of squares
    # less the square of the mean would lose digits.
    _, mean, variance = tf.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    of_slice = tf.stack([mean, variance / _unbiased(points)])
    of_slices = workers.gather(of_slice[tf.newaxis], axis=0)
    means, variances = tf.unstack(of_slices, axis=1)
    mean = tf.reduce_mean(means, 0)
    apart = tf.squared_difference(means, mean)
    variance = tf.reduce_mean(variances + apart, 0)
    options = {'epsilon': epsilon, 'is_training': False}

    def scaled(scale, offset):
        return tf.nn.fused_batch_norm(x, scale, offset, mean, variance, **options)[0]

    def gradients(dy, *_):
        # first as if mean and variance were constants
        dx, dgamma, dbeta = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy,
            x=x,
            scale=gamma,
            reserve_space_1=mean,
            reserve_space_2=variance,
            reserve_space_3=tf.zeros([0]),
            **options,
        )[:3]
        # then what they add, by dy of the joint batch
        scale = gamma * tf.rsqrt(variance + epsilon) / points
        added = workers.mean(tf.stack([dgamma, dbeta])) * scale
        return dx - scaled(*tf.unstack(added)), dgamma, dbeta

    results = [scaled(gamma, beta), mean, variance]
    return custom_gradient(results, gradients, x, gamma, beta)


def _unbiased(points):
    """The unbiased variance of that many points, divided by the biased one."""
    return points / max(1, points - 1)


def merged_momenta(m: float) -> tuple[float, float]:
    """Momenta p, q of two updates, real and fake, that equal three: fake, real, fake.

    Three leave  m^3 a + m^2 (1 - m) f + m (1 - m) r + (1 - m) f  of an average a and
    statistics r and f, real and fake; two leave  p q a + (1 - p) q r + (1 - q) f.
    """
    q = 1 - (1 - m) * (1 + m**2)
    return m**3 / q, q
