"""The graph of the original as it was before December 2016, by names and arithmetic.

No scopes of the networks, D's last layer is d_h3_lin, and batch norm keeps averages of
moments: those of a dense layer are of all its units together.
"""

import tensorflow.compat.v1 as tf

from ops import conv2d, conv_cond_concat, deconv2d, linear, lrelu

SIZE, GF, Z_DIM = 16, 4, 6  # of images, filters and z


class BatchNorm:
    """Batch norm of single ops; without `train`, by averages of the first pass."""

    def __init__(self, name):
        self.name, self.ema = name, tf.train.ExponentialMovingAverage(0.9)

    def __call__(self, x, train=True):
        if train:
            with tf.variable_scope(self.name):
                size = x.shape[-1:]
                self.beta = tf.get_variable('beta', initializer=tf.random.normal(size))
                self.gamma = tf.get_variable('gamma', initializer=tf.ones(size))
                axes = list(range(max(2, x.shape.ndims - 1)))
                moments = tf.nn.moments(x, axes, name='moments')
                with tf.control_dependencies([self.ema.apply(moments)]):
                    self.averages = [self.ema.average(m) for m in moments]
                    mean, variance = map(tf.identity, moments)
        else:
            mean, variance = self.averages
        return (x - mean) * tf.rsqrt(variance + 1e-5) * self.gamma + self.beta


class Original2016:
    """z, y (10 classes, or None), images and `sampler`, of a batch of 8."""

    def __init__(self, is_conditional):
        self.bn = {
            f'{n}_bn{i}': BatchNorm(f'{n}_bn{i}') for n in 'gd' for i in range(4)
        }
        self.z = tf.placeholder(tf.float32, [8, Z_DIM])
        self.y = tf.placeholder(tf.float32, [8, 10]) if is_conditional else None
        draw = self.conditional_generator if is_conditional else self.generator
        self.G = draw(True)
        judge = self.conditional_discriminator if is_conditional else self.discriminator
        self.D_logits = judge(self.G)
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            self.sampler = draw(False)

    def generator(self, train):
        x = tf.reshape(linear(self.z, 8 * GF, 'g_h0_lin'), [8, 1, 1, 8 * GF])
        for i in range(4):
            x = tf.nn.relu(self.bn[f'g_bn{i}'](x, train))
            side, depth = 2 ** (i + 1), (2 ** (2 - i) * GF if i < 3 else 3)
            x = deconv2d(x, [8, side, side, depth], name=f'g_h{i + 1}')
        return tf.tanh(x)

    def discriminator(self, x):
        for i in range(4):
            x = conv2d(x, GF * 2**i, name=f'd_h{i}_conv')
            x = lrelu(self.bn[f'd_bn{i}'](x) if i else x)
        return linear(tf.reshape(x, [8, -1]), 1, 'd_h3_lin')

    def conditional_generator(self, train):
        y, yb = self.y, tf.reshape(self.y, [8, 1, 1, 10])
        x = linear(tf.concat([self.z, y], 1), 8, 'g_h0_lin')
        x = tf.concat([tf.nn.relu(self.bn['g_bn0'](x, train)), y], 1)
        x = self.bn['g_bn1'](linear(x, 2 * GF * 4 * 4, 'g_h1_lin'), train)
        x = conv_cond_concat(tf.reshape(tf.nn.relu(x), [8, 4, 4, 2 * GF]), yb)
        x = deconv2d(x, [8, 8, 8, 2 * GF], name='g_h2')
        x = conv_cond_concat(tf.nn.relu(self.bn['g_bn2'](x, train)), yb)
        return tf.sigmoid(deconv2d(x, [8, SIZE, SIZE, 1], name='g_h3'))

    def conditional_discriminator(self, x):
        y, yb = self.y, tf.reshape(self.y, [8, 1, 1, 10])
        x = lrelu(conv2d(conv_cond_concat(x, yb), 11, name='d_h0_conv'))
        x = conv2d(conv_cond_concat(x, yb), GF + 10, name='d_h1_conv')
        x = tf.reshape(lrelu(self.bn['d_bn1'](x)), [8, -1])
        x = self.bn['d_bn2'](linear(tf.concat([x, y], 1), 8, 'd_h2_lin'))
        return linear(tf.concat([lrelu(x), y], 1), 1, 'd_h3_lin')
