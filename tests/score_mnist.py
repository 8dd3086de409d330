"""How well the digits of MNIST runs are recognised: the figures of the README.

    python tests/score_mnist.py out/RUN [out/RUN ...] [--data_dir data]

Trains a small convolutional classifier on the 60,000 training digits, then has each run
draw 1,000 of every class. Prints the share that is recognised as the digit asked for,
and the Frechet distance (https://arxiv.org/abs/1706.08500) to the 10,000 test digits in
the classifier's 128 features. Takes two minutes on 2 cores.
"""

import argparse
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.idx import idx_pairs, read_idx
from dcgan.samples import draw
from model import DCGAN, flatten
from ops import conv2d, linear, lrelu, relu


def classifier(x):
    """Images [B, 28, 28, 1] in [0, 1] -> features [B, 128], logits [B, 10]."""
    with tf.variable_scope('classifier'):
        h = lrelu(conv2d(x, 32, stddev=0.1, name='h0'))
        h = lrelu(conv2d(h, 64, stddev=0.05, name='h1'))
        features = relu(linear(flatten(h), 128, name='h2'))
        return features, linear(features, 10, name='h3')


def train_classifier(sess, images, labels, epochs=3, batch=100):
    x, y = tf.placeholder(tf.float32, [None, 28, 28, 1]), tf.placeholder(tf.int64)
    features, logits = classifier(x)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    step = tf.train.AdamOptimizer(1e-3).minimize(loss)
    sess.run(tf.global_variables_initializer())
    for _ in range(epochs):
        order = np.random.permutation(len(images))
        for pick in order.reshape(-1, batch):
            sess.run(step, {x: images[pick], y: labels[pick]})
    return lambda fed: [
        np.concatenate(parts)
        for parts in zip(
            *(sess.run([features, logits], {x: f}) for f in np.split(fed, 10))
        )
    ]


def draw_digits(run_dir):
    """10,000 samples of a run, by turns of every class, and their labels."""
    labels = np.arange(1000) % 10
    with tf.Graph().as_default(), tf.Session() as sess:
        dcgan = DCGAN(
            sess,
            batch_size=1000,
            output_height=28,
            output_width=28,
            y_dim=10,
            c_dim=1,
            data_dir=None,
        )
        dcgan.load(os.path.join(run_dir, 'checkpoint'))
        images = [
            draw(sess, dcgan, np.random.uniform(-1, 1, (1000, 100)), labels)
            for _ in range(10)
        ]
    return np.concatenate(images), np.tile(labels, 10)


def frechet_distance(a, b):
    """Between two sets of features [n, d], taken for Gaussian."""
    (mean_a, cov_a), (mean_b, cov_b) = ((f.mean(0), np.cov(f.T)) for f in (a, b))
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0))
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * roots.sum()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+')
    parser.add_argument('--data_dir', default='./data')
    args = parser.parse_args()
    (train, test) = (
        [read_idx(path) for path in pair]
        for pair in idx_pairs(os.path.join(args.data_dir, 'mnist')).values()
    )
    tf.disable_eager_execution()
    np.random.seed(0)
    tf.set_random_seed(0)
    with tf.Session() as sess:
        classify = train_classifier(sess, train[0][..., None] / 255.0, train[1])
        real, logits = classify(test[0][..., None] / 255.0)
        print(f'test digits: {(logits.argmax(1) == test[1]).mean():.1%} recognised')
        for run_dir in args.runs:
            images, labels = draw_digits(run_dir)
            features, logits = classify(images)
            print(
                f'{run_dir}: {(logits.argmax(1) == labels).mean():.1%} recognised, '
                f'Frechet distance {frechet_distance(real, features):.1f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
