"""Find the z whose samples come nearest to pictures, by gradient descent on z."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.sampling.samples import draw, split_rows
from dcgan.training.inputs import byte_values
from dcgan.training.user_model import discriminate
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

RATE, BETA1, BETA2 = 0.2, 0.9, 0.999  # of Adam; the rate falls to 0 as a cosine
PULL = 0.01  # weight of the squared norm of z, where z is normal
# other z stay in the range that they are drawn from, as in bamos' completion
RANGES = {'uniform_signed': (-1, 1), 'uniform_unsigned': (0, 1)}
FRAMES = 24  # of an animation of a search
NEED_D = '--anomaly, --invert_features, --invert_prior, --complete without --lam 0'
CLASS_SHARE = 5  # this part of the steps, in each class, finds an unknown class


class How(NamedTuple):
    """What an inversion minimizes for each picture, a weighted sum, and how long."""

    pixels: float = 1.0  # of the sum of |G(z) - x|, both in [-1, 1]
    features: float = 0.0  # of the same sum in D's last hidden layer
    prior: float = 0.0  # of the loss of G
    starts: int = 4  # random z for each picture, of which the best result is kept
    steps: int = 500
    z_dist: str = 'uniform_signed'
    classes: tuple[int, ...] = ()  # among which an unknown class is; (): all
    frames: int = 1  # z that are kept on the way, up to the last


class Found(NamedTuple):
    """What is found for n pictures; the last five are float32."""

    labels: np.ndarray  # [n]; -1 without classes
    images: np.ndarray  # uint8 [n, h, w, c], the samples of z
    z: np.ndarray  # float32 [n, z_dim]
    path: np.ndarray  # [n, frames, z_dim], z on the way
    distances: np.ndarray  # [n], weighted means of |G(z) - x|, both in [0, 1]
    first: np.ndarray  # [n], the distances of the random z that it came from
    features: np.ndarray  # [n], the sums in D's layer; 0 if they have no weight
    losses: np.ndarray  # [n], what was minimized


def invert(dcgan, images, labels=None, weights=None, how=None, name='invert') -> Found:
    """Find the z of images, uint8 [n, h, w, c], by Adam; a progress bar has the name.

    dcgan    a model.DCGAN whose weights are loaded
    labels   classes [n], -1 where they are to be found; None: all of them
    weights  float32 [n, h, w, 1], of each pixel in the distance; None: 1
    how      None: How()

    The first z come from NumPy's global random state. Raises UserError for a model
    without the D that is needed.
    """
    how, inverters = how or How(), vars(dcgan).setdefault('inverters', {})
    if how not in inverters:  # built once: it extends the graph
        with dcgan.sess.graph.as_default():
            inverters[how] = Inverter(dcgan, how)
    inverter, count = inverters[how], len(images)
    labels = np.full(count, -1) if labels is None else np.array(labels)
    if weights is None:
        weights = np.ones((count, *images.shape[1:3], 1), np.float32)
    fed = {inverter.images: images, inverter.weights: weights}
    unknown = np.flatnonzero(labels < 0)
    if dcgan.y_dim and len(unknown):
        tried = np.array(how.classes or range(dcgan.y_dim))
        rows, steps = unknown.repeat(len(tried)), -(-how.steps // CLASS_SHARE)
        of_rows = np.tile(tried, len(unknown))
        found = inverter.search(fed, rows, of_rows, steps, f'{name}: classes')
        losses = found['losses'].reshape(len(unknown), len(tried))
        labels[unknown] = tried[losses.argmin(1)]
    rows = np.arange(count).repeat(how.starts)
    found = inverter.search(fed, rows, labels[rows], how.steps, name)
    best = found['losses'].reshape(count, how.starts).argmin(1)
    best += how.starts * np.arange(count)
    found = {name: array[best] for name, array in found.items()}
    drawn = draw(dcgan.sess, dcgan, found['z'], labels, as_bytes=True)
    return Found(labels, drawn, **found)


class Inverter:
    """The search for z by one model in one way, as a graph and Adam on it."""

    def __init__(self, dcgan, how: How):
        self.dcgan, self.how = dcgan, how
        drawn, y = dcgan.sampler, dcgan.sampler_y
        height, width, channels = drawn.shape.as_list()[1:]
        self.images = tf.placeholder(tf.uint8, [None, height, width, channels])
        self.weights = tf.placeholder(tf.float32, [None, height, width, 1])
        x = tf.gather(byte_values(dcgan.y_dim), tf.cast(self.images, tf.int32))
        span = 1 if dcgan.y_dim else 2  # of the range of images
        errors = self.weights * tf.abs(drawn - x) / span  # in [0, 1]
        error = tf.reduce_sum(errors, [1, 2, 3])
        distance = error / (channels * tf.reduce_sum(self.weights, [1, 2, 3]))
        loss, features = 2 * how.pixels * error, tf.zeros_like(error)
        self.of_images = None  # D's features of the images
        if how.features or how.prior:
            layers, logits = discriminate(dcgan, drawn, y, NEED_D, needs_layers=False)
            loss += how.prior * tf.nn.softplus(-logits)
        if how.features:
            self.of_images = discriminate(dcgan, x, y, NEED_D)[0][-1]
            apart = tf.abs(layers[-1] - self.of_images)
            features = tf.reduce_sum(apart, [*range(1, apart.shape.ndims)])
            loss += how.features * features
        values = {'losses': loss, 'distances': distance, 'features': features}
        self.step = values, tf.gradients(loss, dcgan.z)[0]

    def search(self, fed, rows, labels, steps, name):
        """{field of Found: array} of rows of what is fed, by Adam from random z."""
        parts, results = [*split_rows(self.dcgan, len(rows), labels)], []
        with progress_bar(name, len(parts) * steps, ' steps', delay=2) as bar:
            for part, count, feed in parts:
                feed = feed | {tensor: x[rows[part]] for tensor, x in fed.items()}
                if self.of_images is not None:  # once: fed, it is not computed again
                    feed[self.of_images] = self.dcgan.sess.run(self.of_images, feed)
                found = self._descend(feed, len(part), steps, bar)
                results.append({name: array[:count] for name, array in found.items()})
        return {n: np.concatenate([r[n] for r in results]) for n in results[0]}

    def _descend(self, feed, count, steps, bar):
        z_dist, z_dim = self.how.z_dist, self.dcgan.z_dim
        z = gen_random(z_dist, (count, z_dim)).astype(np.float32)
        path, kept = [], np.linspace(steps, 0, self.how.frames).astype(int)
        mean = square = first = np.float32(0)
        for number in range(steps + 1):
            feed[self.dcgan.z] = z
            values, gradient = self.dcgan.sess.run(self.step, feed)
            path += [z] * np.count_nonzero(kept == number)
            if number == 0:
                first = values['distances']
            if number == steps:
                return {'z': z, 'first': first, 'path': np.stack(path, 1), **values}
            if z_dist not in RANGES:
                gradient += 2 * PULL * z
            mean = BETA1 * mean + (1 - BETA1) * gradient
            square = BETA2 * square + (1 - BETA2) * gradient**2
            rate = RATE * (1 + np.cos(np.pi * number / steps)) / 2
            rate *= (1 - BETA2 ** (number + 1)) ** 0.5 / (1 - BETA1 ** (number + 1))
            z = z - np.float32(rate) * mean / (np.sqrt(square) + 1e-8)
            z = z.clip(*RANGES.get(z_dist, (-np.inf, np.inf)))
            bar.set_postfix_str(f'distance {values["distances"].mean():.4f}', False)
            bar.update()


def print_distances(what: str, distances: np.ndarray, first: np.ndarray) -> None:
    """Print how near a search came to pictures, and how near random samples are."""
    line = f'mean distance {distances.mean():.4f}, of random samples {first.mean():.4f}'
    print_line(f' [*] {len(distances)} {what}: {line}')
