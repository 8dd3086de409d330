"""Complete the missing half of images by gradients to z, as dcgan-completion does.

Usage: completion.py CHECKPOINT_DIR IMAGE..., for an unconditional model of 16x16
"""

import sys

import tensorflow.compat.v1 as tf

from model import DCGAN
from ops import *


def complete(sess, dcgan, paths, steps=40, lam=0.1, lr=0.05):
    batch = [get_image(path, dcgan.output_height, is_crop=False) for path in paths]
    images = np.array(batch).astype(np.float32)
    count = dcgan.batch_size - len(images)
    images = np.pad(images, ((0, count), (0, 0), (0, 0), (0, 0)), 'constant')
    mask = np.ones(images.shape[1:], np.float32)
    mask[:, : mask.shape[1] // 2] = 0.0
    difference = tf.abs(mask * dcgan.sampler - mask * dcgan.inputs)
    contextual = tf.reduce_sum(tf.reshape(difference, [dcgan.batch_size, -1]), 1)
    loss = contextual + lam * dcgan.g_loss
    gradients = tf.gradients(loss, dcgan.z)
    zhats = np.random.uniform(-1, 1, size=(dcgan.batch_size, dcgan.z_dim))
    m = v = 0.0
    for i in xrange(steps):
        feed = {dcgan.z: zhats, dcgan.inputs: images}
        run = [loss, gradients, dcgan.sampler]
        losses, (g,), completed = sess.run(run, feed_dict=feed)
        print('step %d: %.4f' % (i, np.mean(losses[: len(paths)])))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * np.multiply(g, g)
        m_hat, v_hat = m / (1 - 0.9 ** (i + 1)), v / (1 - 0.999 ** (i + 1))
        zhats = np.clip(zhats - lr * m_hat / (np.sqrt(v_hat) + 1e-8), -1, 1)
    rows, columns = np.ceil(len(paths) / 8), min(8, len(paths))
    completed = mask * images + (1 - mask) * completed
    save_images(completed[: len(paths)], [rows, columns], 'completed.png')


if __name__ == '__main__':
    tf.disable_v2_behavior()
    with tf.Session() as sess:
        sizes = dict(image_size=16, output_size=16, z_dim=6, gf_dim=4, df_dim=4)
        dcgan = DCGAN(sess, batch_size=8, is_crop=False, data_dir=None, **sizes)
        tf.global_variables_initializer().run()
        assert dcgan.load(sys.argv[1])
        complete(sess, dcgan, sys.argv[2:])
