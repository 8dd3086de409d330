"""What goes into an iteration of the training, and what comes out; D's step alone."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from dcgan.kernels import shared_casts
from dcgan.ways import Ways


class Losses(NamedTuple):
    """What the discriminator makes of real and of generated images."""

    D: tf.Tensor  # [B, 1], probability that an image is real, of the inputs
    d_real: tf.Tensor  # scalar, the loss of D on the inputs
    D_: tf.Tensor  # [B, 1], as D, of generated images
    d_fake: tf.Tensor  # scalar, the loss of D on generated images
    g: tf.Tensor  # scalar, the loss of G
    # scalar, that of the gradient of D; None: there is none
    penalty: tf.Tensor | None = None

    @property
    def d(self) -> tf.Tensor:
        """The loss of D, scalar."""
        return self.d_real + self.d_fake

    @property
    def objective(self) -> tf.Tensor:
        """What D minimizes, scalar."""
        return self.d if self.penalty is None else self.d + self.penalty


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


def build_pretraining(dcgan, config) -> tf.Tensor:
    """D's step alone, on a batch of dcgan.batches: the tensor of d_loss.

    It changes nothing of G, nor its moving averages. After dcgan.build_iteration(),
    whose optimizer it uses.
    """
    batch, ways = dcgan.batches.next, Ways.of(config)
    dcgan.rates = tf.unstack(dcgan.learning_rates)
    inputs = dcgan.to_inputs(batch.images, batch.labels, batch.z)
    G = dcgan.generator(batch.z, inputs.y, reuse=True, momentum=1.0)
    with shared_casts(dcgan.d_vars):
        losses = dcgan.losses(inputs, G, **ways.of_d(batch.seed))
    step = dcgan.d_adam.minimize(losses.objective, var_list=dcgan.d_vars)
    with tf.control_dependencies([step]):
        return tf.identity(losses.d)


def gradient_penalty(logits: tf.Tensor, images: tf.Tensor, weight: float) -> tf.Tensor:
    """R1 of D's logits [B, 1] at real images [B, h, w, c], a scalar.

    weight / 2 times the mean, over the images, of the squared norm of the gradient of
    the sum of all logits, which batch norm connects, by an image (Mescheder et al.,
    2018, https://arxiv.org/abs/1801.04406).
    """
    (gradient,) = tf.gradients(tf.reduce_sum(logits), [images])
    squared_norms = tf.reduce_sum(tf.square(gradient), [1, 2, 3])
    return weight / 2 * tf.reduce_mean(squared_norms)
