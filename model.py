"""DCGAN: its two networks, their losses, and the model that trains and samples them.

Radford, Metz and Chintala, 2016, https://arxiv.org/abs/1511.06434. Images are
[B, h, w, channels], with B the batch; h2 is half a height, rounded up.
"""

import contextlib
import os
from functools import partial
from typing import NamedTuple

import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu
from dcgan.compute.forward_pass import SAMPLING, Pass, Scopes
from dcgan.compute.precision import use_precision
from dcgan.compute.workers import Workers
from dcgan.data.dataset import check_fit, open_dataset
from dcgan.data.labels import one_hot
from dcgan.sampling import export
from dcgan.training import checkpoints, loop, user_model, weights
from dcgan.training.ema import Averages
from dcgan.training.inputs import byte_values
from dcgan.training.network_size import count_layers, layer_filters, layer_shapes
from dcgan.training.older_code import OlderAttributes, older_keywords
from ops import (
    batch_norm,
    conv2d,
    conv_cond_concat,
    conv_out_size_same,  # noqa: F401, the original has it here
    cross_entropy,
    deconv2d,
    flatten,
    linear,
    lrelu,
    relu,
)
from utils import gen_random  # noqa: F401, likewise

# Checkpoints of older versions name variables otherwise: see training/weights.py.
# `norm` normalizes a layer's output by the batch norm of a name, `hidden` is the
# activation of D's hidden layers: lrelu, and what a training option adds.


def generator(z, shapes, norm):
    """z [B, z_dim] -> images in [-1, 1] (paper, figure 1).

    shapes: (h, w, c) of layers, such as (4, 4, 512), (8, 8, 256), ..., and of images
    """
    batch, (h, w, c) = tf.shape(z)[0], shapes[0]
    x = linear(z, h * w * c, 'g_h0_lin')
    x = tf.reshape(x, [-1, h, w, c])
    for i, shape in enumerate(shapes[1:]):
        x = relu(norm(x, f'g_bn{i}'))
        x = deconv2d(x, [batch, *shape], name=f'g_h{i + 1}')  # at first [B, 8, 8, 256]
    return tf.tanh(tf.cast(x, tf.float32))  # [B, h, w, channels]


def discriminator(x, filters, norm, hidden):
    """Images -> logits [B, 1], positive for real images."""
    x = hidden(conv2d(x, filters[0], name='d_h0_conv'))  # [B, h2, w2, df]
    for i, c in enumerate(filters[1:], 1):
        x = conv2d(x, c, name=f'd_h{i}_conv')
        x = hidden(norm(x, f'd_bn{i}'))  # at first [B, h4, w4, 2*df]
    return linear(flatten(x), 1, f'd_h{len(filters)}_lin')  # [B, 1]


def conditional_generator(z, y, shapes, gfc, norm):
    """z [B, z_dim] and one-hot y [B, y_dim] -> images in [0, 1]."""
    batch, (h, w, c) = tf.shape(z)[0], shapes[0]
    yb = tf.reshape(y, [-1, 1, 1, y.shape[1]])
    x = linear(tf.concat([z, y], 1), gfc, 'g_h0_lin')
    x = relu(norm(x, 'g_bn0'))  # [B, gfc]
    x = linear(tf.concat([x, y], 1), h * w * c, 'g_h1_lin')
    x = relu(norm(x, 'g_bn1'))  # flat, so each unit has its own statistics
    x = tf.reshape(x, [-1, h, w, c])
    for i, shape in enumerate(shapes[1:-1], 2):
        x = conv_cond_concat(x, yb)  # [B, h, w, c + y]
        x = deconv2d(x, [batch, *shape], name=f'g_h{i}')
        x = relu(norm(x, f'g_bn{i}'))
    x = conv_cond_concat(x, yb)
    x = deconv2d(x, [batch, *shapes[-1]], name=f'g_h{len(shapes)}')
    return tf.sigmoid(tf.cast(x, tf.float32))  # [B, h, w, channels]


def conditional_discriminator(x, y, filters, dfc, norm, hidden):
    """Images and one-hot y [B, y_dim] -> logits [B, 1]."""
    channels, classes, n = x.shape[-1], y.shape[1], len(filters)
    yb = tf.reshape(y, [-1, 1, 1, classes])
    x = conv_cond_concat(x, yb)  # [B, h, w, channels + y]
    x = hidden(conv2d(x, channels + classes, name='d_h0_conv'))  # as many as go in
    for i, c in enumerate(filters[:-1], 1):
        x = conv_cond_concat(x, yb)
        x = conv2d(x, c + classes, name=f'd_h{i}_conv')
        x = hidden(norm(x, f'd_bn{i}'))  # at first [B, h4, w4, df + y]
    x = tf.concat([flatten(x), y], 1)
    x = linear(x, dfc, f'd_h{n}_lin')
    x = hidden(norm(x, f'd_bn{n}'))  # [B, dfc]
    return linear(tf.concat([x, y], 1), 1, f'd_h{n + 1}_lin')  # [B, 1]


class Losses(NamedTuple):
    """What D and G minimize, and the two parts of D's loss; scalars."""

    d: tf.Tensor
    g: tf.Tensor
    d_real: tf.Tensor
    d_fake: tf.Tensor


def losses(D_logits, D_logits_, real_label=1.0):
    """The Losses of D's logits [B, 1]: of real images, and of generated ones.

    The label of real images is 1, or lower by label smoothing (paper, section 3, and
    Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661).
    """
    d_real = cross_entropy(D_logits, real_label)
    d_fake = cross_entropy(D_logits_, 0)
    return Losses(d_real + d_fake, cross_entropy(D_logits_, 1), d_real, d_fake)


def _weights_of(network):
    """Trainable variables in a scope; without one, as the original, named d_ or g_."""
    prefix = f'.*{network[0]}_'
    return tf.trainable_variables(f'{network}/') or tf.trainable_variables(prefix)


class DCGAN(OlderAttributes):
    """Graph, training and checkpoints of one model, of fixed sizes, in one session.

    Tensors, all float32, with B the batch and h, w, c the output size:

    inputs, y, z    placeholders [B, h, w, c], [B, y_dim] one-hot, [any, z_dim]
    sampler_y       [any, y_dim], the sampler's labels; by default y
    G, sampler      images [B, h, w, c] in [-1, 1] or, conditional, [0, 1]: G by batch
                    statistics, sampler by moving averages (with `ema`, of weights, too)
    D, D_logits     [B, 1] of the inputs; D_, D_logits_ likewise of G
    d_loss_real, d_loss_fake, d_loss, g_loss    scalars

    Evaluating G, D or D_ updates the moving averages of that network; the sampler does
    not. docs/changing.md shows how to change losses and networks.
    """

    losses = staticmethod(losses)
    built_losses = None  # the Losses of build_model
    after_d_step = None  # ops to run after each D step, such as clipping
    y = sampler_y = averages = None
    training = None  # what the first call of train() has built
    evaluator = None  # what measures samples while training, see training/best.py

    @older_keywords
    def __init__(
        self,
        sess,
        input_height=108,
        input_width=108,
        crop=True,
        batch_size=64,
        sample_num=64,
        output_height=64,
        output_width=64,
        y_dim=None,
        z_dim=100,
        gf_dim=64,
        df_dim=64,
        gfc_dim=1024,
        dfc_dim=1024,
        c_dim=3,
        dataset_name='default',
        max_to_keep=1,
        input_fname_pattern='*.jpg',
        checkpoint_dir='ckpts',
        sample_dir='samples',
        out_dir='./out',
        data_dir='./data',
        precision='float32',
        xla=None,
        ema=0.0,
        layers=None,
        max_filters=None,
        workers=None,
        **dataset_options,
    ):
        """Open the data set and build the graph.

        Sizes are in pixels. With `crop`, the center of each image is used, input_height
        by input_width. y_dim, the number of classes, makes the model conditional, and
        labels images by their folders. c_dim 1 reads images in gray; IDX files bring
        their c_dim. input_fname_pattern None allows other image types than *.jpg.
        gf_dim and df_dim are the filters of the outer convolutions, gfc_dim and dfc_dim
        the units of the dense layers. A model with data_dir None has no data set: it
        only samples. precision, see compute/precision.py, is the type of the layers of
        G, D and D_ and their gradients; weights, losses, optimizers and the sampler are
        float32. xla: whether XLA compiles an iteration; None: where TensorFlow sees a
        GPU. ema: with a rate, such as 0.999, the sampler draws by moving averages of
        G's weights. layers, max_filters: see training/network_size.py. workers: the
        processes that train together, on batch_size images in all. **dataset_options
        are further arguments of ImageSet, such as by_class.
        Raises UserError for settings or data that cannot work, and in a graph that has
        a DCGAN already.
        """
        self.sess, self.workers = sess, workers or Workers()
        self.batch_size, self.sample_num = batch_size, sample_num
        self.input_height, self.input_width = input_height, input_width
        self.output_height, self.output_width = output_height, output_width
        self.crop, self.data_dir, self.dataset_name = crop, data_dir, dataset_name
        self.input_fname_pattern, self.max_to_keep = input_fname_pattern, max_to_keep
        self.y_dim, self.z_dim, self.c_dim = y_dim, z_dim, c_dim
        self.gf_dim, self.df_dim = gf_dim, df_dim
        self.gfc_dim, self.dfc_dim = gfc_dim, dfc_dim
        self.max_filters = max_filters
        self.checkpoint_dir, self.sample_dir = checkpoint_dir, sample_dir
        self.out_dir, self.data, self.ema = out_dir, None, ema
        self.checkpoint_folder = checkpoints.checkpoint_folders(max_to_keep)
        self.how = Pass(dtype=use_precision(precision))  # of passes that train
        self.xla = has_gpu() if xla is None else xla
        self.layers = count_layers(layers, (output_height, output_width), y_dim)
        user_model.check(self)
        if data_dir is not None:
            self.data = open_dataset(
                os.path.join(data_dir, dataset_name),
                input_fname_pattern,
                output_size=(output_height, output_width),
                input_size=(input_height, input_width),
                crop=crop,
                grayscale=c_dim == 1,
                by_class=dataset_options.pop('by_class', bool(y_dim)),
                **dataset_options,
            )
            self.c_dim = self.data.c_dim
            check_fit(self.data, dataset_name, batch_size, y_dim)
        for i in range(self.layers + bool(y_dim)):  # d_bn0 is not used
            setattr(self, f'g_bn{i}', batch_norm(name=f'g_bn{i}'))
            setattr(self, f'd_bn{i}', batch_norm(name=f'd_bn{i}'))
        self.scopes, self.grayscale = Scopes(), self.c_dim == 1
        self.build_model()
        user_model.finish(self)

    def generator(self, z, y=None, reuse=False, how=None):
        """z [B, z_dim] (and y [B, y_dim]) -> images [B, h, w, c], float32.

        `how` is a Pass of compute/forward_pass.py; None: one that trains.
        """
        how, size = how or self.how, (self.output_height, self.output_width)
        norm = partial(how.norm, self)
        filters = layer_filters(self.gf_dim, self.layers, self.max_filters)
        if self.y_dim:  # the last hidden layer is as wide as the one before it
            filters[0] = filters[1]
        shapes = layer_shapes(*size, [self.c_dim, *filters])
        with self.scopes('generator', reuse):
            z, y = how.cast(z), how.cast(y)
            if self.y_dim:
                return conditional_generator(z, y, shapes, self.gfc_dim, norm)
            return generator(z, shapes, norm)

    def sampler(self, z, y=None, how=SAMPLING):
        """As `generator`, by moving averages. build_model puts its images here."""
        return self.generator(z, y, reuse=True, how=how)

    def discriminator(self, image, y=None, reuse=False, how=None):
        """Images (and y [B, y_dim]) -> probability real, logits, [B, 1], float32."""
        how, dfc = how or self.how, self.dfc_dim
        norm, hidden = partial(how.norm, self), partial(how.hidden, lrelu)
        filters = layer_filters(self.df_dim, self.layers, self.max_filters)
        with self.scopes('discriminator', reuse):
            x, y = how.cast(image), how.cast(y)
            if self.y_dim:
                logits = conditional_discriminator(x, y, filters, dfc, norm, hidden)
            else:
                logits = discriminator(x, filters, norm, hidden)
            logits = tf.cast(logits, tf.float32)
            return tf.sigmoid(logits), logits

    def build_model(self):
        """Build placeholders, networks, losses and summaries, in this order."""
        batch, classes = self.batch_size, self.y_dim
        size = [self.output_height, self.output_width, self.c_dim]
        if classes:
            self.y = tf.placeholder(tf.float32, [batch, classes], 'y')
        self.inputs = tf.placeholder(tf.float32, [batch, *size], 'real_images')
        self.z = tf.placeholder(tf.float32, [None, self.z_dim], 'z')
        self.z_sum = tf.summary.histogram('z', self.z)

        self.G = self.generator(self.z, self.y)
        self.D, self.D_logits = self.discriminator(self.inputs, self.y)
        if self.ema:
            self.averages = Averages(tf.global_variables('generator/'), self.ema)
        if classes:  # labels of any number; by default, y
            shape = [None, classes]
            self.sampler_y = tf.placeholder_with_default(self.y, shape, 'sampler_y')
        with self.averages.used() if self.ema else contextlib.nullcontext():
            self.sampler = self.sampler(self.z, self.sampler_y)
        self.D_, self.D_logits_ = self.discriminator(self.G, self.y, reuse=True)

        losses = self.built_losses = self.losses(self.D_logits, self.D_logits_)
        self.d_loss_real, self.d_loss_fake = losses.d_real, losses.d_fake
        self.d_loss, self.g_loss = losses.d, losses.g

        self.d_sum = tf.summary.histogram('d', self.D)
        self.d__sum = tf.summary.histogram('d_', self.D_)
        self.G_sum = tf.summary.image('G', self.G)
        self.d_loss_real_sum = tf.summary.scalar('d_loss_real', self.d_loss_real)
        self.d_loss_fake_sum = tf.summary.scalar('d_loss_fake', self.d_loss_fake)
        self.g_loss_sum = tf.summary.scalar('g_loss', self.g_loss)
        self.d_loss_sum = tf.summary.scalar('d_loss', self.d_loss)
        of_g = [self.z_sum, self.d__sum, self.d_loss_fake_sum, self.g_loss_sum]
        self.g_sum = tf.summary.merge(of_g)
        self.d_vars, self.g_vars = map(_weights_of, ('discriminator', 'generator'))

    def feed(self, images, labels, z):
        """The feed of inputs, y and z, from uint8 images, labels [B] or None, and z."""
        fed = {self.inputs: byte_values(self.y_dim)[images], self.z: z}
        return {**fed, self.y: one_hot(labels, self.y_dim)} if self.y_dim else fed

    def train(self, config, checkpoint=None):
        """Train by the original's flags, config; returns the last iteration's number.

        Minimizes d_loss and g_loss as they are now; see training/loop.py.
        """
        return loop.train(self, config, checkpoint)

    def check(self, config):
        """The checkpoint to resume, or None; UserError if train could not start."""
        return loop.check_training(self, config)

    def save(self, checkpoint_dir, step, filename='model', ckpt=True, frozen=False):
        """Write `{filename}.b{batch_size}-{step}` under checkpoint_dir.

        ckpt: as a checkpoint, which the original can read; the newest max_to_keep stay.
        frozen: as `..._frz.pb`, see export.py. Raises UserError where it cannot be
        written.
        """
        name = f'{filename}.b{self.batch_size}'
        if ckpt:
            meta = checkpoints.meta_graph(self.saver)
            folder = self.checkpoint_folder(checkpoint_dir)
            folder.write(self.sess, self.saver, f'{name}-{step}', meta)
        if frozen:
            name = f'{name}-{step:06d}_frz.pb'
            export.freeze(self, os.path.join(os.path.normpath(checkpoint_dir), name))

    def load(self, checkpoint_dir, step=None, path=None):
        """Restore a checkpoint under checkpoint_dir, of this project or the original.

        It is the newest complete one, the one of iteration `step`, the best one if that
        is 'best', or `path`. Returns (True, its step), or (False, 0) where there is
        none. Raises UserError where it cannot be read or is of another model.
        """
        return weights.load_newest(self, checkpoint_dir, step, path)
