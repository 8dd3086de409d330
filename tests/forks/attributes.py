"""Print what code around a model reads from it. Usage: attributes.py DATASET PATTERN"""

import sys

import tensorflow.compat.v1 as tf

from model import DCGAN, gen_random
from utils import *

if __name__ == '__main__':
    tf.disable_v2_behavior()
    name, pattern = sys.argv[1:]
    y_dim = 4 if name == 'set' else None
    with tf.Session() as sess:
        sizes = dict(input_height=20, input_width=18, output_height=16, output_width=16)
        widths = dict(gf_dim=4, df_dim=4, gfc_dim=8, dfc_dim=8, z_dim=6)
        dcgan = DCGAN(
            sess,
            batch_size=8,
            y_dim=y_dim,
            dataset_name=name,
            crop=True,
            input_fname_pattern=pattern,
            sample_num=8,
            **sizes,
            **widths,
        )
        tf.global_variables_initializer().run()
        read = [dcgan.crop, dcgan.input_height, dcgan.input_width, dcgan.dataset_name]
        read += [dcgan.input_fname_pattern, dcgan.data_dir, dcgan.grayscale]
        read += [dcgan.model_dir, dcgan.is_crop, dcgan.is_grayscale, dcgan.writer]
        layers = [dcgan.g_bn0, dcgan.g_bn1, dcgan.g_bn2, dcgan.d_bn1, dcgan.d_bn2]
        feed = {dcgan.z: gen_random('uniform_signed', (8, 6))}
        if y_dim:
            read += [dcgan.data_X[0:8].shape, dcgan.data_y[0:8].shape]
            images, labels = dcgan.load_mnist()
            read += [float(images.max()), len(labels)]
            feed.update({dcgan.y: dcgan.data_y[0:8], dcgan.inputs: dcgan.data_X[0:8]})
        else:
            layers += [dcgan.g_bn3, dcgan.d_bn3]
            read += [dcgan.data[0], len(dcgan.data[0:8]), len(dcgan.data)]
            batch = [
                get_image(f, 20, 18, 16, 16, crop=dcgan.crop) for f in dcgan.data[0:8]
            ]
            feed[dcgan.inputs] = np.array(batch)
        read += [len(sess.run(s, feed)) > 100 for s in (dcgan.g_sum, dcgan.d_sum)]
        read += [layer.gamma.eval().sum() for layer in layers]
        print(json.dumps(read, default=str))
