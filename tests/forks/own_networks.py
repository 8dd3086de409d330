"""Train networks of one's own, written over ops.py, as forks do that have a model.py.

Their batch norm is switched by a placeholder. Usage: own_networks.py, in a folder with
data/cats/*.png
"""

from glob import glob

import tensorflow.compat.v1 as tf

from ops import *
from utils import *


class Model(object):
    def __init__(self, sess, image_size=16, batch_size=8, z_dim=6):
        self.sess, self.batch_size, self.z_dim = sess, batch_size, z_dim
        self.d_bns = [batch_norm(name='d_bn{}'.format(i)) for i in range(2)]
        self.g_bns = [batch_norm(name='g_bn{}'.format(i)) for i in range(2)]
        self.is_training = tf.placeholder(tf.bool, name='is_training')
        self.images = tf.placeholder(tf.float32, [None, image_size, image_size, 3])
        self.z = tf.placeholder(tf.float32, [None, z_dim], name='z')
        self.G = self.generator(self.z)
        self.D, self.D_logits = self.discriminator(self.images)
        self.D_, self.D_logits_ = self.discriminator(self.G, reuse=True)
        self.d_loss = binary_cross_entropy(self.D, tf.ones_like(self.D))
        self.d_loss += binary_cross_entropy(self.D_, tf.zeros_like(self.D_))
        self.g_loss = binary_cross_entropy(self.D_, tf.ones_like(self.D_))
        self.d_sum = merge_summary([scalar_summary('d_loss', self.d_loss)])
        t_vars = tf.trainable_variables()
        self.d_vars = [var for var in t_vars if 'd_' in var.name]
        self.g_vars = [var for var in t_vars if 'g_' in var.name]
        self.saver = tf.train.Saver()

    def discriminator(self, image, reuse=False):
        with tf.variable_scope('discriminator') as scope:
            if reuse:
                scope.reuse_variables()
            h0 = lrelu(conv2d(image, 4, name='d_h0_conv'))
            h1 = conv2d(h0, 8, name='d_h1_conv')
            h1 = lrelu(self.d_bns[0](h1, self.is_training))
            h2 = linear(tf.reshape(h1, [-1, 4 * 4 * 8]), 1, 'd_h3_lin')
            return tf.nn.sigmoid(h2), h2

    def generator(self, z):
        with tf.variable_scope('generator'):
            z_, self.h0_w, self.h0_b = linear(z, 4 * 4 * 8, 'g_h0_lin', with_w=True)
            hs = tf.nn.relu(
                self.g_bns[0](tf.reshape(z_, [-1, 4, 4, 8]), self.is_training)
            )
            size = [self.batch_size, 8, 8, 4]
            hs, self.h1_w, self.h1_b = conv2d_transpose(
                hs, size, name='g_h1', with_w=True
            )
            hs = tf.nn.relu(self.g_bns[1](hs, self.is_training))
            size = [self.batch_size, 16, 16, 3]
            hs, _, _ = conv2d_transpose(hs, size, name='g_h2', with_w=True)
            return tf.nn.tanh(hs)

    def train(self, epochs=2):
        adam = tf.train.AdamOptimizer
        d_optim = adam(0.0002, beta1=0.5).minimize(self.d_loss, var_list=self.d_vars)
        g_optim = adam(0.0002, beta1=0.5).minimize(self.g_loss, var_list=self.g_vars)
        tf.global_variables_initializer().run()
        writer = SummaryWriter('./logs', self.sess.graph)
        data = glob(os.path.join('./data', 'cats', '*.png'))
        for epoch in xrange(epochs):
            random.shuffle(data)
            for idx in xrange(0, len(data) // self.batch_size):
                files = data[idx * self.batch_size : (idx + 1) * self.batch_size]
                batch = [get_image(f, 16, is_crop=True, resize_w=16) for f in files]
                batch_images = np.array(batch).astype(np.float32)
                batch_z = np.random.uniform(-1, 1, [self.batch_size, self.z_dim])
                feed = {
                    self.images: batch_images,
                    self.z: batch_z,
                    self.is_training: True,
                }
                _, summary = self.sess.run([d_optim, self.d_sum], feed)
                writer.add_summary(summary, idx)
                self.sess.run(g_optim, feed)
                feed[self.is_training] = False
                errors = self.sess.run([self.d_loss, self.g_loss], feed)
                print('Epoch: [%2d] d_loss: %.8f, g_loss: %.8f' % (epoch, *errors))
        samples = self.sess.run(self.G, feed)
        rows = np.ceil(self.batch_size / 3)
        save_images(samples, [rows, 3], './samples/train.png')
        to_json(
            './layers.js',
            [self.h0_w, self.h0_b, self.g_bns[0]],
            [self.h1_w, self.h1_b, None],
        )
        self.saver.save(self.sess, './checkpoint/own.model', global_step=6)


if __name__ == '__main__':
    tf.disable_v2_behavior()
    with tf.Session() as sess:
        Model(sess).train()
