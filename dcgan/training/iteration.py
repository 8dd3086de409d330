"""One iteration of the training: (1) update D, (2) update G, (3) report the losses."""

from typing import NamedTuple

import tensorflow.compat.v1 as tf

LOSSES = ('d_loss', 'd_loss_real', 'd_loss_fake', 'g_loss')  # of an Iteration


class Iteration(NamedTuple):
    """What an iteration returns: tensors when it is built, arrays when it has run.

    It has n steps: first D's, then g steps of G. By default, one and two.
    """

    losses: tf.Tensor  # [4]: LOSSES, of the final weights
    # [n, 2]: of D's steps d_loss_real, d_loss; of G's steps d_loss_fake, g_loss
    step_losses: tf.Tensor
    probabilities: tf.Tensor  # [n, B, 1]: D in D's steps, D_ in G's steps
    means: tf.Tensor  # [3]: D(x) and D(G(z)) in D's step, D(G(z)) of the final weights
    images: list  # with G_img_sum, one tensor [g, 3, h, w, c]: of G, in its steps
    sums: tf.Tensor  # of each variable; NaN or infinite where one of its values is
    stop: tf.Tensor | None = None  # scalar; not 0 where a worker was asked to stop


def iterate(nets, d_steps: int, g_steps: int) -> Iteration:
    """Build an iteration of `nets`, Networks on one batch.

    The original's six runs of its session, as one: where it repeats a forward pass with
    the same weights and inputs, one pass is made, which stands for all of them.
    """
    # (1) Update D: maximize log D(x) + log(1 - D(G(z))). G does not change in these
    # steps, so one pass stands for all of them, and for the first pass of (2).
    G = nets.generate(stands_for=d_steps + 1)
    for _ in range(d_steps):
        nets.update_d(G)

    # (2) Update G: maximize log D(G(z)). Twice by default, unlike the paper: that keeps
    # d_loss from reaching zero.
    for step in range(g_steps):
        G = nets.generate() if step else G
        nets.update_g(G)

    # (3) Report the losses of the weights that result.
    G = nets.generate(stands_for=2)
    return nets.report(G)
