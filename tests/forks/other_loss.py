"""Train DCGAN with another loss, by a subclass and a main() of one's own.

Usage: other_loss.py DATASET PATTERN, in a folder with data/DATASET
"""

import sys

import tensorflow.compat.v1 as tf

from model import DCGAN
from utils import *

flags = tf.app.flags
flags.DEFINE_integer('epoch', 1, 'Epoch to train')
flags.DEFINE_float('learning_rate', 0.0002, 'Learning rate of for adam')
flags.DEFINE_float('beta1', 0.5, 'Momentum term of adam')
flags.DEFINE_float('train_size', np.inf, 'The size of train images')
flags.DEFINE_integer('batch_size', 8, 'The size of batch images')
flags.DEFINE_string('checkpoint_dir', './checkpoint', 'Directory of checkpoints')
flags.DEFINE_string('sample_dir', './samples', 'Directory of samples')
flags.DEFINE_string('data_dir', './data', 'Directory of data sets')
flags.DEFINE_integer('sample_freq', 2, 'sample every this many iterations')
flags.DEFINE_integer('ckpt_freq', 2, 'save every this many iterations')
flags.DEFINE_string('z_dist', 'uniform_signed', 'distribution of z')
flags.DEFINE_boolean('G_img_sum', False, 'Save generator image summaries in log')
FLAGS = flags.FLAGS


class LeastSquaresDCGAN(DCGAN):
    def build_model(self):
        super(LeastSquaresDCGAN, self).build_model()
        self.d_loss_real = tf.reduce_mean(tf.square(self.D_logits - 1.0))
        self.d_loss_fake = tf.reduce_mean(tf.square(self.D_logits_))
        self.d_loss = self.d_loss_real + self.d_loss_fake
        self.g_loss = tf.reduce_mean(tf.square(self.D_logits_ - 1.0))


def main(argv):
    name, pattern = argv[1:]
    pp.pprint(FLAGS.flag_values_dict())
    with tf.Session() as sess:
        dcgan = LeastSquaresDCGAN(
            sess,
            input_width=20,
            input_height=20,
            output_width=16,
            output_height=16,
            batch_size=FLAGS.batch_size,
            sample_num=FLAGS.batch_size,
            y_dim=4 if name == 'set' else None,
            z_dim=6,
            gf_dim=4,
            df_dim=4,
            gfc_dim=8,
            dfc_dim=8,
            dataset_name=name,
            input_fname_pattern=pattern,
            is_crop=True,
            checkpoint_dir=FLAGS.checkpoint_dir,
            sample_dir=FLAGS.sample_dir,
            data_dir=FLAGS.data_dir,
        )
        show_all_variables()
        dcgan.train(FLAGS)
        could_load, counter = dcgan.load(FLAGS.checkpoint_dir)
        print('loaded', could_load, counter)
        dcgan.writer.add_summary(sess.run(dcgan.g_sum, feed_of(dcgan)), counter)


def feed_of(dcgan):
    feed = {dcgan.z: gen_random('normal01', size=(8, dcgan.z_dim))}
    if dcgan.y is not None:
        feed[dcgan.y] = dcgan.data_y[0:8]
    return feed


if __name__ == '__main__':
    tf.disable_v2_behavior()
    sys.exit(main(sys.argv) if FLAGS(['other_loss.py']) else 1)
