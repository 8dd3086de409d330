"""What goes into an iteration of the training, and what comes out."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf


class Losses(NamedTuple):
    """What the discriminator makes of real and of generated images."""

    D: tf.Tensor  # [B, 1], probability that an image is real, of the inputs
    d_real: tf.Tensor  # scalar, the loss of D on the inputs
    D_: tf.Tensor  # [B, 1], as D, of generated images
    d_fake: tf.Tensor  # scalar, the loss of D on generated images
    g: tf.Tensor  # scalar, the loss of G


class Inputs(NamedTuple):
    """What the networks see: tensors of type float32."""

    images: tf.Tensor  # [B, h, w, c]
    y: tf.Tensor | None  # [B, y_dim], one-hot
    z: tf.Tensor  # [B, z_dim]


class Iteration(NamedTuple):
    """What an iteration returns: tensors when it is built, arrays when it has run.

    It has n steps: first those of D, then g of G. By default, one and two.
    """

    losses: tf.Tensor  # [3]: d_loss_fake, d_loss_real, g_loss of the final weights
    # [n, 2]: of D's steps d_loss_real, d_loss; of G's steps d_loss_fake, g_loss
    step_losses: tf.Tensor
    probabilities: tf.Tensor  # [n, B, 1]: D in D's steps, D_ in G's steps
    means: tf.Tensor  # [3]: D(x) and D(G(z)) in D's step, D(G(z)) of the final weights
    images: list  # with G_img_sum, one tensor [g, 3, h, w, c]: of G, in its steps
    sums: tf.Tensor  # of each variable; NaN or infinite where one of its values is
