"""A small DCGAN in the style of models that were written for the original.

It imports everything from ops.py and utils.py, as those models do. Usage:

    python original_style.py CHECKPOINT FORWARD.npz

This restores a checkpoint of the original, recorded in tests/golden/rgb64, and prints
the largest difference between each output of the model and the recorded output.
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

from ops import *
from utils import *


class SmallDCGAN:
    """The unconditional model of the original, for 64x64 RGB images."""

    def __init__(self, batch_size=12, z_dim=20, gf_dim=4, df_dim=4):
        self.batch_size, self.gf_dim, self.df_dim = batch_size, gf_dim, df_dim
        self.d_bns = [batch_norm(name=f'd_bn{i}') for i in range(1, 4)]
        self.g_bns = [batch_norm(name=f'g_bn{i}') for i in range(4)]
        self.inputs = tf.placeholder(tf.float32, [batch_size, 64, 64, 3])
        self.z = tf.placeholder(tf.float32, [None, z_dim])
        self.z_sum = histogram_summary('z', self.z)
        self.G = self.generator(self.z)
        self.D, self.D_logits = self.discriminator(self.inputs)
        self.sampler = self.sampler(self.z)
        self.D_, self.D_logits_ = self.discriminator(self.G, reuse=True)

    def discriminator(self, image, reuse=False):
        with tf.variable_scope('discriminator') as scope:
            if reuse:
                scope.reuse_variables()
            h = lrelu(conv2d(image, self.df_dim, name='d_h0_conv'))
            for i, d_bn in enumerate(self.d_bns, 1):
                h = conv2d(h, self.df_dim * 2**i, name=f'd_h{i}_conv')
                h = lrelu(d_bn(h))
            h = linear(tf.reshape(h, [self.batch_size, -1]), 1, 'd_h4_lin')
            return tf.nn.sigmoid(h), h

    def generator(self, z):
        with tf.variable_scope('generator'):
            width = self.gf_dim * 8 * 4 * 4
            h, self.h0_w, self.h0_b = linear(z, width, 'g_h0_lin', with_w=True)
            h = tf.nn.relu(self.g_bns[0](tf.reshape(h, [-1, 4, 4, self.gf_dim * 8])))
            shape = [self.batch_size, 8, 8, self.gf_dim * 4]
            h, self.h1_w, self.h1_b = deconv2d(h, shape, name='g_h1', with_w=True)
            return self.upper_layers(tf.nn.relu(self.g_bns[1](h)), True)

    def sampler(self, z):
        with tf.variable_scope('generator') as scope:
            scope.reuse_variables()
            h = linear(z, self.gf_dim * 8 * 4 * 4, 'g_h0_lin')
            h = tf.reshape(h, [-1, 4, 4, self.gf_dim * 8])
            h = tf.nn.relu(self.g_bns[0](h, train=False))
            h = deconv2d(h, [self.batch_size, 8, 8, self.gf_dim * 4], name='g_h1')
            return self.upper_layers(tf.nn.relu(self.g_bns[1](h, train=False)), False)

    def upper_layers(self, h, train):
        h = deconv2d(h, [self.batch_size, 16, 16, self.gf_dim * 2], name='g_h2')
        h = tf.nn.relu(self.g_bns[2](h, train=train))
        h = deconv2d(h, [self.batch_size, 32, 32, self.gf_dim], name='g_h3')
        h = tf.nn.relu(self.g_bns[3](h, train=train))
        h = deconv2d(h, [self.batch_size, 64, 64, 3], name='g_h4')
        return tf.nn.tanh(h)


def differences(checkpoint, recording):
    """Return {name of an output: its largest difference from the recorded one}."""
    recorded = np.load(recording)
    with tf.Graph().as_default(), tf.Session() as sess:
        dcgan = SmallDCGAN()
        tf.train.Saver().restore(sess, checkpoint)
        feed = {dcgan.inputs: recorded['in/inputs'], dcgan.z: recorded['in/z']}
        # in the order of the recording, because each run updates moving averages
        names = ['sampler', 'G', 'D', 'D_logits', 'D_', 'D_logits_']
        outputs = {name: sess.run(getattr(dcgan, name), feed) for name in names}
        g_loss = tf.reduce_mean(tf.nn.softplus(-dcgan.D_logits_))
        assert all(g is not None for g in tf.gradients(g_loss, dcgan.h1_w))
    return {
        name: float(np.abs(recorded[f'out/{name}'] - output).max())
        for name, output in outputs.items()
    }


if __name__ == '__main__':
    tf.disable_v2_behavior()
    for name, difference in differences(*sys.argv[1:]).items():
        print(name, difference)
