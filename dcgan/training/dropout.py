"""Drop units of the discriminator, by the random numbers of a seed."""

import tensorflow.compat.v1 as tf

from dcgan.compute.workers import draw_for_batch


class Dropout:
    """Dropout by a seed, int32 [2]. Each call takes the next random numbers."""

    def __init__(self, rate: float, seed: tf.Tensor):
        self.rate, self.seed, self.calls = rate, seed, 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Zero for a share `rate` of the units of x; the others divided by 1 - rate."""
        self.calls += 1
        seed = self.seed + tf.constant([0, self.calls])
        kept = draw_for_batch(tf.shape(x), seed) >= self.rate
        return tf.where(kept, x / tf.cast(1 - self.rate, x.dtype), tf.zeros_like(x))
