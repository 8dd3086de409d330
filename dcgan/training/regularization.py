"""Regularize the discriminator: by dropout, and by a penalty on its gradient (R1)."""

import tensorflow.compat.v1 as tf

from dcgan.compute.workers import Workers


class RandomNumbers:
    """Uniform numbers in [0, 1) by a seed, int32 [2]. Each call takes the next ones."""

    def __init__(self, seed: tf.Tensor):
        self.seed, self.calls = seed, 0

    def __call__(self, shape) -> tf.Tensor:
        """Float32 [B, ...], of this worker's part of the batch."""
        self.calls += 1
        seed = self.seed + tf.constant([0, self.calls])
        if workers := Workers.current:  # numbers for the joint batch, and its slice
            shape = tf.concat([[workers.count * shape[0]], shape[1:]], 0)
        numbers = tf.random.stateless_uniform(shape, seed)
        return numbers[workers.slice] if workers else numbers


def dropout(x: tf.Tensor, rate: float, numbers: RandomNumbers) -> tf.Tensor:
    """Zero for a share `rate` of the units of x; the others divided by 1 - rate."""
    kept = numbers(tf.shape(x)) >= rate
    return tf.where(kept, x / tf.cast(1 - rate, x.dtype), tf.zeros_like(x))


def gradient_penalty(logits: tf.Tensor, images: tf.Tensor, weight: float) -> tf.Tensor:
    """R1 of D's logits [B, 1] at real images [B, h, w, c], a scalar.

    weight / 2 times the mean squared norm, over images, of the gradient of the sum of
    all logits (Mescheder et al., 2018, https://arxiv.org/abs/1801.04406).
    """
    (gradient,) = tf.gradients(tf.reduce_sum(logits), [images])
    squared_norms = tf.reduce_sum(tf.square(gradient), [1, 2, 3])
    return weight / 2 * tf.reduce_mean(squared_norms)
