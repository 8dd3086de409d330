"""Penalize the gradient of the discriminator at real images (R1)."""

import tensorflow.compat.v1 as tf


def gradient_penalty(logits: tf.Tensor, images: tf.Tensor, weight: float) -> tf.Tensor:
    """R1 of D's logits [B, 1] at real images [B, h, w, c], a scalar.

    weight / 2 times the mean squared norm, over images, of the gradient of the sum of
    all logits (Mescheder et al., 2018, https://arxiv.org/abs/1801.04406).
    """
    (gradient,) = tf.gradients(tf.reduce_sum(logits), [images])
    squared_norms = tf.reduce_sum(tf.square(gradient), [1, 2, 3])
    return weight / 2 * tf.reduce_mean(squared_norms)
