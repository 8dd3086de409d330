"""Train changed models (user_model.py) as the original does, by runs of the session."""

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.training.fused_iteration import Iteration
from dcgan.training.options import Options
from dcgan.training.prefetch import Batch, BatchQueue
from dcgan.training.user_model import changes


class OriginalIteration:
    """Used as FusedIteration; it minimizes dcgan.d_loss and dcgan.g_loss as they are.

    As in the original, D's two passes in one run update its moving averages in any
    order. d_loss_real, d_loss_fake, D and D_ of the model are optional.
    """

    def __init__(self, dcgan, config):
        self.dcgan, self.options = dcgan, Options.of(config)
        self.learning_rates, adam_d, adam_g = self.options.optimizers(config)
        d_optim = adam_d.minimize(dcgan.d_loss, var_list=dcgan.d_vars)
        g_optim = adam_g.minimize(dcgan.g_loss, var_list=dcgan.g_vars)
        shape = dcgan.inputs.shape.as_list()
        self.batches = BatchQueue(shape, bool(dcgan.y_dim), dcgan.z_dim)
        nan = tf.constant(float('nan'))  # in place of what the model lacks
        names = ('d_loss_real', 'd_loss_fake', 'D', 'D_')
        d_real, d_fake, D, D_ = (getattr(dcgan, name, nan) for name in names)
        images = [dcgan.G[:3]] if getattr(config, 'G_img_sum', False) else []
        self._d_run = d_optim, [d_real, dcgan.d_loss], D, D_
        self._g_run = g_optim, [d_fake, dcgan.g_loss], D_, images
        self._d_losses = [dcgan.d_loss, d_real, d_fake]
        self._g_loss = dcgan.g_loss, D_
        # the original's three runs, if the two parts make up d_loss
        self._parts = [] if changes(dcgan) else [d_fake, d_real]
        self._move = dcgan.averages.move() if dcgan.averages else tf.no_op()
        self._sums = tf.stack([tf.reduce_sum(v) for v in dcgan.variables])

    def runs(self, fed: dict) -> Iteration:
        """Train on the batch that is fed, by six runs of the session, or five."""
        run = self.dcgan.sess.run
        steps, drawn = [], []
        for _ in range(self.options.d_steps):
            losses, D, D_ = self._update_d(fed)
            steps.append((losses, D))
        means = [np.mean(D), np.mean(D_)]
        for _ in range(self.options.g_steps):
            _, losses, D_, images = run(self._g_run, fed)
            steps.append((losses, D_))
            drawn += images
        if self._parts:
            d_fake, d_real = (run(part, fed) for part in self._parts)
            d_loss = d_fake + d_real
        else:
            d_loss, d_real, d_fake = run(self._d_losses, fed)
        g_loss, D_ = run(self._g_loss, fed)
        columns = [np.reshape(p, [-1, 1]) for _, p in steps]
        return Iteration(
            np.array([d_loss, d_real, d_fake, g_loss]),
            np.array([losses for losses, _ in steps]),
            [column[~np.isnan(column[:, 0])] for column in columns],
            np.array([*means, np.mean(D_)]),
            [np.array(drawn)] if drawn else [],
            None,
        )

    def _update_d(self, fed):
        _, *results = self.dcgan.sess.run(self._d_run, fed)
        if self.dcgan.after_d_step is not None:
            self.dcgan.sess.run(self.dcgan.after_d_step)
        return results

    def _feed(self, batch, rates):
        fed = self.dcgan.feed(batch.images, batch.labels, batch.z)
        return {**fed, self.learning_rates: rates}

    def __call__(self, rates: list[float], stop: bool) -> Iteration:
        sess = self.dcgan.sess
        result = self.runs(self._feed(self.batches.take(sess), rates))
        sess.run(self._move)
        return result._replace(sums=sess.run(self._sums), stop=stop)

    def pretrain(self, batch: Batch, rates: list[float], stop: bool) -> np.ndarray:
        (_, d_loss), *_ = self._update_d(self._feed(batch, rates))
        return np.array([d_loss, stop])

    def sample_losses(self, fed: dict) -> list:
        return self.dcgan.sess.run([self.dcgan.d_loss, self.dcgan.g_loss], fed)
