"""One iteration of the training: (1) update D, (2) update G, (3) report the losses."""

import contextlib
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.batch_norm import merged_momenta
from dcgan.compute.kernels import shared_casts, tensorflow_ops
from dcgan.compute.session import can_compile, xla_function
from dcgan.training.augment import augment
from dcgan.training.inputs import to_inputs
from dcgan.training.options import Options
from dcgan.training.prefetch import Batch, BatchQueue
from dcgan.training.regularization import RandomNumbers, dropout, gradient_penalty


class Iteration(NamedTuple):
    """What an iteration returns: tensors when it is built, arrays when it has run.

    It has n steps: first D's, then g steps of G. By default, one and two.
    """

    # [4]: d_loss, d_loss_real, d_loss_fake and g_loss, of the final weights
    losses: tf.Tensor
    # [n, 2]: of D's steps d_loss_real, d_loss; of G's steps d_loss_fake, g_loss
    step_losses: tf.Tensor
    probabilities: tf.Tensor  # [n, B, 1]: D in D's steps, D_ in G's steps
    means: tf.Tensor  # [3]: D(x) and D(G(z)) in D's step, D(G(z)) of the final weights
    images: list  # with G_img_sum, one tensor [g, 3, h, w, c]: of G, in its steps
    sums: tf.Tensor  # of each variable; NaN or infinite where one of its values is
    stop: tf.Tensor | None = None  # scalar; not 0 where a worker was asked to stop


class Networks:
    """The networks of a model on a batch. What is built waits for the last update."""

    def __init__(self, iteration, images, y, z, seed: tf.Tensor | None = None):
        """On float32 images, y (one-hot or None) and z. seed: of RandomNumbers."""
        self.dcgan, self.options = iteration.dcgan, iteration.options
        self.d_optimizer, self.g_optimizer = iteration.optimizers
        self.images, self.y, self.z, numbers = images, y, z, RandomNumbers(seed)
        kinds, rate = self.options.augment, self.options.d_dropout
        is_unit = bool(self.dcgan.y_dim)
        self.augment = partial(augment, kinds=kinds, numbers=numbers, is_unit=is_unit)
        self.dropout = partial(dropout, rate=rate, numbers=numbers) if rate else None
        self.updates = []
        self.steps = []  # (two losses, probabilities) of each, see Iteration
        self._casts = dict.fromkeys(v.ref() for v in self.dcgan.d_vars)

    def iterate(self, with_images: bool) -> Iteration:
        """Build an iteration on this batch.

        The original's six runs of its session, as one: where it repeats a forward pass
        with the same weights and inputs, one pass is made, which stands for all.
        """
        dcgan, d_steps, drawn = self.dcgan, self.options.d_steps, []
        # (1) Update D: maximize log D(x) + log(1 - D(G(z))). G does not change in these
        # steps, so one pass stands for all of them, and for the first pass of (2).
        G = self.generate(stands_for=d_steps + 1)
        for _ in range(d_steps):
            _, real_logits, probabilities = self.update_d(G)

        # (2) Update G: maximize log D(G(z)). Twice by default, unlike the paper: that
        # keeps d_loss from reaching zero.
        for step in range(self.options.g_steps):
            G = self.generate() if step else G
            self.update_g(G, real_logits)
            drawn.append(G[:3])

        # (3) Report the losses of the weights that result, of three passes of D in the
        # original: two here.
        G = self.generate(stands_for=2)
        with self._after_updates():
            _, logits, D_, logits_ = self.both_passes(self.images, G, merged_momenta)
            losses = dcgan.losses(logits, logits_)
        with tf.control_dependencies([losses.d_fake]):
            moved = [dcgan.averages.move()] if dcgan.averages else []
        with tf.control_dependencies([losses.d_fake, *moved]):
            sums = tf.stack([tf.reduce_sum(v) for v in dcgan.variables])
        return Iteration(
            tf.stack([losses.d_real, losses.d_fake, losses.g]),
            *map(tf.stack, zip(*self.steps)),
            tf.stack([tf.reduce_mean(p) for p in (*probabilities, D_)]),
            [tf.stack(drawn)] if with_images else [],
            sums,
        )

    @contextlib.contextmanager
    def _after_updates(self):
        with tf.control_dependencies(self.updates[-1:]), shared_casts(self._casts):
            yield

    def generate(self, stands_for: int = 1) -> tf.Tensor:
        """A pass of G: images. It moves the averages as `stands_for` passes would."""
        how = self.dcgan.how._replace(momentum=lambda m: m**stands_for)
        with self._after_updates():
            return self.dcgan.generator(self.z, self.y, reuse=True, how=how)

    def _discriminate(self, images, momentum=lambda m: m, dropout=None):
        how = self.dcgan.how._replace(momentum=momentum, dropout=dropout)
        return self.dcgan.discriminator(images, self.y, reuse=True, how=how)

    def both_passes(self, real, G, momenta=lambda m: (m, m), dropout=None):
        """D, logits of the real images and D_, logits_ of images G, in this order."""
        D, logits = self._discriminate(real, lambda m: momenta(m)[0], dropout)
        with tf.control_dependencies([logits]):
            D_, logits_ = self._discriminate(G, lambda m: momenta(m)[1], dropout)
        return D, logits, D_, logits_

    def _minimize(self, optimizer, loss, variables):
        workers, dtype = self.dcgan.workers, self.dcgan.how.dtype
        self.updates.append(workers.minimize(optimizer, loss, variables, dtype))

    def update_d(self, G: tf.Tensor) -> tuple:
        """A step of D; returns d_loss, logits of real images, and [D, D_]."""
        r1, smoothing = self.options.r1, self.options.label_smoothing
        label = {} if smoothing == 1 else {'real_label': smoothing}
        with self._after_updates():
            images = self.augment(self.images), self.augment(G)
            D, logits, D_, logits_ = self.both_passes(*images, dropout=self.dropout)
            losses = self.dcgan.losses(logits, logits_, **label)
            objective = losses.d
            if r1:
                objective += gradient_penalty(logits, self.images, r1)
            self._minimize(self.d_optimizer, objective, self.dcgan.d_vars)
        self._casts = dict.fromkeys(self._casts)  # D's weights have changed
        self.steps.append(([losses.d_real, losses.d], D))
        return losses.d, logits, [D, D_]

    def update_g(self, G: tf.Tensor, real_logits: tf.Tensor) -> None:
        """A step of G by D's opinion of G."""
        with self._after_updates():
            D_, logits_ = self._discriminate(self.augment(G), dropout=self.dropout)
            # G's loss depends on logits_ alone, see user_model.py
            losses = self.dcgan.losses(real_logits, logits_)
            self._minimize(self.g_optimizer, losses.g, self.dcgan.g_vars)
        self.steps.append(([losses.d_fake, losses.g], D_))


class FusedIteration:
    """An iteration of a model as one run, which takes its batch from `batches`."""

    def __init__(self, dcgan, config):
        """Reads learning_rate, beta1 and G_img_sum of config, and its Options."""
        self.dcgan, self.options = dcgan, Options.of(config)
        self.learning_rates, *self.optimizers = self.options.optimizers(config)
        self.stop = tf.placeholder_with_default(0.0, [], 'stop')
        shape = [dcgan.workers.split_batch(dcgan.batch_size), *dcgan.inputs.shape[1:]]
        has_seed = bool(self.options.d_dropout or self.options.augment)
        self.batches = BatchQueue(shape, bool(dcgan.y_dim), dcgan.z_dim, has_seed)
        dcgan.xla = dcgan.xla and can_compile()

        def build(*batch):
            return self._networks(*batch).iterate(getattr(config, 'G_img_sum', False))

        layers, workers = contextlib.nullcontext(), dcgan.workers
        self._joint = partial(workers.joint, self.options.r1 > 0)
        if dcgan.xla:
            build, layers = xla_function(build), tensorflow_ops()
        with layers, self._joint():
            one = build(*self.batches.next)
            parts = [one.losses, one.step_losses, one.means, self.stop]
            losses, step_losses, means, stop = workers.means(parts)
            d_real, d_fake, g = tf.unstack(losses)
            losses = tf.stack([d_fake + d_real, d_real, d_fake, g])
            of_all = {'losses': losses, 'step_losses': step_losses, 'means': means}
            of_all['probabilities'] = workers.gather(one.probabilities, axis=1)
            self.tensors = one._replace(stop=stop, **of_all)

    def _networks(self, images, labels, z, seed):
        return Networks(self, *to_inputs(self.dcgan, images, labels), z, seed)

    def __call__(self, rates: list[float], stop: bool) -> Iteration:
        """Train on the next batch of `batches`; returns an Iteration of arrays."""
        fed = {self.learning_rates: rates, self.stop: stop}
        return self.dcgan.sess.run(self.tensors, fed, self.dcgan.workers.run_options)

    @cached_property
    def _pretraining(self):
        """D's step alone: [2], d_loss and `stop`. It changes nothing of G."""
        with self._joint():
            nets = self._networks(*self.batches.next)
            d_loss, *_ = nets.update_d(nets.generate(stands_for=0))
            with tf.control_dependencies(nets.updates):
                return self.dcgan.workers.mean(tf.stack([d_loss, self.stop]))

    def pretrain(self, batch: Batch, rates: list[float], stop: bool) -> np.ndarray:
        """Train D alone on a batch of arrays; returns d_loss, and `stop` of all."""
        fed = {self.learning_rates: rates, self.stop: stop, **self.batches.feed(batch)}
        options = self.dcgan.workers.run_options
        return self.dcgan.sess.run(self._pretraining, fed, options)

    @cached_property
    def _sample_losses(self):
        """[2]: d_loss and g_loss of one pass of G, which moves its averages once."""
        dcgan = self.dcgan
        # as the original, on the graph of build_model
        nets = Networks(self, dcgan.inputs, dcgan.y, dcgan.z)
        _, logits, _, logits_ = nets.both_passes(dcgan.inputs, dcgan.G)
        losses = dcgan.losses(logits, logits_)
        return tf.stack([losses.d, losses.g])

    def sample_losses(self, fed: dict) -> np.ndarray:
        """d_loss and g_loss on what is fed to the model, the joint batch."""
        return self.dcgan.sess.run(self._sample_losses, fed)
