"""Normalize by the statistics of the joint batch of all workers."""

from collections.abc import Sequence

import tensorflow.compat.v1 as tf

from dcgan.compute.workers import current

VECTOR = 16  # float32 numbers in the widest register of a processor


def normalize(
    x: tf.Tensor,
    gamma: tf.Variable,
    beta: tf.Variable,
    epsilon: float,
    passes: int = 1,
) -> tuple[tf.Tensor, Sequence[tf.Tensor], Sequence[tf.Tensor]]:
    """Normalize x, [B, h, w, c]: each of `passes` equal parts of it.

    Returns (y, means, unbiased variances), of y a tensor, of the others one, [c], for
    each pass.
    """
    workers = current()
    xs = [x] if passes == 1 else tf.split(x, passes)
    if workers is None:
        results = [tf.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon) for x in xs]
    elif workers.is_differentiable:
        results = [_plain(x, gamma, beta, epsilon, workers) for x in xs]
    else:
        results = _fast(xs, gamma, beta, epsilon, workers)
    ys, means, variances = zip(*results)
    return ys[0] if passes == 1 else tf.concat(ys, 0), means, variances


def _plain(x, gamma, beta, epsilon, workers):
    """(y, mean, variance) in ops that TensorFlow can differentiate repeatedly."""
    values, axes = tf.cast(x, tf.float32), [0, 1, 2]
    mean = workers.mean(tf.reduce_mean(values, axes))
    squares = tf.reduce_mean(tf.squared_difference(values, mean), axes)
    variance = workers.mean(squares)
    scale = gamma * tf.rsqrt(variance + epsilon)
    y = tf.cast((values - mean) * scale + beta, x.dtype)
    return y, mean, variance * _unbiased(workers.count * workers.points(x))


def _fast(xs, gamma, beta, epsilon, workers):
    """[(y, mean, variance)] of passes: one message for all, and one for gradients."""
    points = workers.points(xs[0])
    # oneDNN takes three times as long for other numbers of channels
    is_fused = xs[0].dtype != tf.float32 or xs[0].shape[-1] % VECTOR == 0
    scaled, scaled_gradient = (
        (_fused_scaled, _fused_gradient) if is_fused else (_scaled, _gradient)
    )

    @tf.custom_gradient
    def norm(gamma, beta, *xs):
        # The statistics of the slices make up those of the whole: a mean of squares
        # less the square of the mean would lose digits. Below, each is [passes, c].
        of_slice = [tf.stack(_moments(x, points, is_fused)) for x in xs]
        gathered = workers.gather(tf.stack([of_slice]))  # [workers, passes, 2, c]
        means, variances = tf.unstack(gathered, axis=2)
        mean = tf.reduce_mean(means, 0)
        apart = tf.squared_difference(means, mean)
        variance = tf.reduce_mean(variances + apart, 0)
        passes = list(zip(xs, tf.unstack(mean), tf.unstack(variance)))

        def gradients(*dys):
            # first as if means and variances were constants
            dxs, dgammas, dbetas = zip(
                *(
                    scaled_gradient(dy, x, gamma, *moments, epsilon)
                    for dy, (x, *moments) in zip(dys, passes)
                )
            )
            # then what they add, by dy of the joint batch
            scale = gamma * tf.rsqrt(variance + epsilon) / points
            factors = workers.mean(tf.stack([dgammas, dbetas])) * scale
            added = (
                scaled(x, *tf.unstack(of_pass), *moments, epsilon)
                for (x, *moments), of_pass in zip(passes, tf.unstack(factors, axis=1))
            )
            dxs = [dx - more for dx, more in zip(dxs, added)]
            return sum(dgammas), sum(dbetas), *dxs

        ys = [scaled(x, gamma, beta, *moments, epsilon) for x, *moments in passes]
        return (*ys, mean, variance * _unbiased(points * workers.count)), gradients

    *ys, mean, variance = norm(gamma, beta, *xs)
    return list(zip(ys, tf.unstack(mean), tf.unstack(variance)))


def _moments(x, points, is_fused):
    """Mean and biased variance of this worker's x, of each channel."""
    if is_fused:
        # what this op normalizes is not used, and still it takes a third of the time
        ones = tf.ones([x.shape[-1]])
        _, mean, variance = tf.nn.fused_batch_norm(x, ones, ones)
        return mean, variance / _unbiased(points)
    mean = _sums(x) / points
    return mean, _sums(tf.squared_difference(x, mean)) / points


def _sums(x):
    """The sum of each channel of x, as a matrix multiplication, which is fast."""
    rows = tf.reshape(x, [-1, x.shape[-1]])
    return tf.matmul(tf.ones([1, rows.shape[0]]), rows)[0]


def _fused_scaled(x, gamma, beta, mean, variance, epsilon):
    """x, normalized by mean and variance, times gamma, plus beta."""
    return tf.nn.fused_batch_norm(
        x, gamma, beta, mean, variance, epsilon, is_training=False
    )[0]


def _fused_gradient(dy, x, gamma, mean, variance, epsilon):
    """The gradients of _fused_scaled by x, gamma and beta, from dy."""
    return tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=dy,
        x=x,
        scale=gamma,
        reserve_space_1=mean,
        reserve_space_2=variance,
        reserve_space_3=tf.zeros([0]),
        epsilon=epsilon,
        is_training=False,
    )[:3]


def _scaled(x, gamma, beta, mean, variance, epsilon):
    return (x - mean) * (gamma * tf.rsqrt(variance + epsilon)) + beta


def _gradient(dy, x, gamma, mean, variance, epsilon):
    inverse = tf.rsqrt(variance + epsilon)
    return dy * (gamma * inverse), _sums(dy * (x - mean)) * inverse, _sums(dy)


def _unbiased(points):
    """The unbiased variance of n points, divided by the biased one."""
    return points / max(1, points - 1)


def merged_momenta(m: float) -> tuple[float, float]:
    """Momenta of two updates, real and fake, that equal three: fake, real, fake.

    Three updates of an average a, with the statistics r of real and f of fake images,
    leave  m^3 a + m^2 (1 - m) f + m (1 - m) r + (1 - m) f.  Two, with momenta p and q,
    leave  p q a + (1 - p) q r + (1 - q) f.  Hence q = 1 - (1 - m) (1 + m^2) and
    p = m^3 / q.
    """
    q = 1 - (1 - m) * (1 + m**2)
    return m**3 / q, q
