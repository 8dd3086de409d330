"""Load a checkpoint and save a grid of samples beside one of real images.

Usage: grid.py CHECKPOINT_DIR, of an unconditional model, in a folder with data/cats
"""

import sys
from glob import glob

import tensorflow.compat.v1 as tf

from model import DCGAN
from utils import *

if __name__ == '__main__':
    tf.disable_v2_behavior()
    with tf.Session() as sess:
        dcgan = DCGAN(
            sess,
            image_size=20,
            is_crop=True,
            batch_size=8,
            sample_size=8,
            output_size=16,
            z_dim=6,
            gf_dim=4,
            df_dim=4,
            dataset_name='cats',
            input_fname_pattern='*.png',
            checkpoint_dir=sys.argv[1],
        )
        if not dcgan.load(sys.argv[1]):
            raise Exception('[!] Train a model first, then run test mode')
        side = np.ceil(dcgan.sample_size**0.5)
        z_sample = np.random.uniform(-0.5, 0.5, size=(dcgan.sample_size, dcgan.z_dim))
        samples = sess.run(dcgan.sampler, feed_dict={dcgan.z: z_sample})
        save_images(samples, [side, side], './samples.png')
        files = sorted(glob('./data/cats/*.png'))[: dcgan.batch_size]
        real = np.array([get_image(f, dcgan.image_size, True, 16) for f in files])
        save_images(real, [side, side], './real.png')
        merged = merge(inverse_transform(samples), [side, side])
        scale = transform(
            imread(files[0], is_grayscale=True), 20, 20, 16, 16, is_crop=True
        )
        print(merged.shape, real.shape, scale.shape)
        make_gif(list(samples), './samples.gif', duration=2)
