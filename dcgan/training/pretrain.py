"""Train the discriminator alone, before the first iteration."""

import tensorflow.compat.v1 as tf

from dcgan.compute.kernels import shared_casts
from dcgan.training.options import Ways


def build_pretraining(dcgan, config) -> tf.Tensor:
    """D's step alone, on a batch of dcgan.batches: [2], d_loss and dcgan.stop.

    It changes nothing of G, nor its moving averages. After dcgan.build_iteration(),
    whose optimizer it uses.
    """
    batch, ways = dcgan.batches.next, Ways.of(config)
    dcgan.rates = tf.unstack(dcgan.learning_rates)
    inputs = dcgan.to_inputs(batch.images, batch.labels, batch.z)
    with dcgan.workers.joint(differentiable=ways.r1 > 0):
        G = dcgan.generator(batch.z, inputs.y, reuse=True, momentum=1.0)
        with shared_casts(dcgan.d_vars):
            losses = dcgan.losses(inputs, G, **ways.of_d(batch.seed))
        step = dcgan.minimize(dcgan.d_adam, losses.objective, dcgan.d_vars)
        with tf.control_dependencies([step]):
            return dcgan.workers.mean(tf.stack([losses.d, dcgan.stop]))
