"""What goes into an iteration of the training, and what comes out; D's step alone."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

from dcgan.compute.workers import Workers


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
    stop: tf.Tensor | None = None  # scalar; not 0 where a worker was asked to stop


def of_joint_batch(
    iteration: Iteration, stop: tf.Tensor, workers: Workers
) -> Iteration:
    """The Iteration of all workers, from that of this one, in one message.

    stop  scalar, of this worker
    """
    if workers.count == 1:
        return iteration._replace(stop=stop)
    means = [*iteration[:2], iteration.means, stop]
    parts = [*means, iteration.probabilities]
    sizes = [part.shape.num_elements() for part in parts]
    rows = workers.gather(tf.concat([tf.reshape(part, [1, -1]) for part in parts], 1))
    *rows, probabilities = tf.split(rows, sizes, 1)
    losses, step_losses, means, stop = (
        tf.reshape(tf.reduce_mean(row, 0), part.shape) for row, part in zip(rows, means)
    )
    steps = iteration.probabilities.shape[0]
    probabilities = tf.reshape(probabilities, [workers.count, steps, -1, 1])
    probabilities = tf.concat(tf.unstack(probabilities), 1)
    return iteration._replace(
        losses=losses,
        step_losses=step_losses,
        probabilities=probabilities,
        means=means,
        stop=stop,
    )


def passes_in_one(
    dcgan, inputs: Inputs, G: tf.Tensor, momenta: tuple[float, float]
) -> list[tf.Tensor]:
    """D's passes over Inputs and over images G as one, with half as many messages.

    Batch norm keeps them apart: `momenta` are those of either. Returns D, D_logits, D_
    and D_logits_, each [B, 1].
    """
    y = None if inputs.y is None else tf.concat([inputs.y, inputs.y], 0)
    images = tf.concat([inputs.images, G], 0)
    both = dcgan.discriminator(images, y, reuse=True, momentum=[*momenta])
    (D, D_), (logits, logits_) = (tf.split(x, 2) for x in both)
    return [D, logits, D_, logits_]


def build_sample_losses(dcgan) -> tf.Tensor:
    """d_loss and g_loss of all workers on a batch of dcgan.batches, [2].

    Moves the averages of batch norm as dcgan.sample_losses of one process does.
    """
    batch, workers = dcgan.batches.next, dcgan.workers
    with workers.joint():
        inputs = dcgan.to_inputs(batch.images, batch.labels, batch.z)
        G = dcgan.generator(batch.z, inputs.y, reuse=True)
        losses = dcgan.losses(inputs, G)
        return workers.mean(tf.stack([losses.d, losses.g]))
