"""Regularize the discriminator: dropout and the R1 penalty."""

import tensorflow.compat.v1 as tf

from dcgan.compute.workers import draw_for_batch


def gradient_penalty(logits: tf.Tensor, images: tf.Tensor, weight: float) -> tf.Tensor:
    """R1 of D's logits [B, 1] at real images [B, h, w, c], a scalar.

    weight / 2 times the mean, over the images, of the squared norm of the gradient of
    the sum of all logits, which batch norm connects, by an image (Mescheder et al.,
    2018, https://arxiv.org/abs/1801.04406).
    """
    (gradient,) = tf.gradients(tf.reduce_sum(logits), [images])
    squared_norms = tf.reduce_sum(tf.square(gradient), [1, 2, 3])
    return weight / 2 * tf.reduce_mean(squared_norms)


class Dropout:
    """Dropout with the random numbers of a seed: the same seed drops the same units.

    Each call takes the next numbers, so that all layers and passes differ.
    """

    def __init__(self, rate: float, seed: tf.Tensor):
        """seed: int32 [2]."""
        self.rate, self.seed, self.calls = rate, seed, 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Zero for a share `rate` of the units of x; the others divided by 1 - rate."""
        self.calls += 1
        seed = self.seed + tf.constant([0, self.calls])
        kept = draw_for_batch(tf.shape(x), seed) >= self.rate
        return tf.where(kept, x / tf.cast(1 - self.rate, x.dtype), tf.zeros_like(x))
