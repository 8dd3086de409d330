"""The two networks of DCGAN (https://arxiv.org/abs/1511.06434), and their training."""

import os
import time
from datetime import timedelta

import numpy as np
import tensorflow.compat.v1 as tf

from ops import (
    batch_norm,
    conv2d,
    conv_cond_concat,
    cross_entropy,
    deconv2d,
    linear,
    lrelu,
    relu,
)
from utils import (
    UserError,
    gen_random,
    image_manifold_size,
    one_hot,
    open_dataset,
    replacing,
    save_images,
)


def conv_out_size_same(size, stride):
    """Height or width after a convolution with SAME padding: ceil(size / stride)."""
    return -(-size // stride)


class DCGAN:
    """Graph, training and checkpoints of one model, of fixed sizes, in one session.

    Tensors, all float32, with B the batch and h, w, c the output size:

    inputs, y, z       placeholders [B, h, w, c], [B, y_dim] one-hot, [any, z_dim]
    G, sampler         images [B, h, w, c] in [-1, 1], conditional [0, 1], from the same
                       weights: G by batch statistics, the sampler by moving averages
    D, D_logits        [B, 1] of the inputs; D_, D_logits_ likewise of G
    d_loss_real, d_loss_fake, d_loss, g_loss    scalars

    Each run of G, D or D_ moves that network's averages. The sampler moves nothing.
    """

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
        **reading,
    ):
        """Open the data set and build the graph.

        Sizes are in pixels. input_height and input_width are the centre crop taken from
        each picture where crop is set. y_dim, the number of classes, makes the model
        conditional, and labels pictures by their folders. c_dim 1 reads pictures in
        grey; IDX files bring their own. input_fname_pattern None takes other types of
        pictures, too. `reading` is what else utils.PictureSet can be told.
        gf_dim, df_dim are the filters of the first convolution, gfc_dim, dfc_dim the
        units of the dense layers. data_dir None opens no data: to sample, not to train.

        Raises UserError for settings or data that cannot work.
        """
        self.sess = sess
        self.batch_size, self.sample_num = batch_size, sample_num
        self.output_height, self.output_width = output_height, output_width
        self.y_dim, self.z_dim, self.c_dim = y_dim, z_dim, c_dim
        self.gf_dim, self.df_dim = gf_dim, df_dim
        self.gfc_dim, self.dfc_dim = gfc_dim, dfc_dim
        self.max_to_keep = max_to_keep
        self.checkpoint_dir, self.sample_dir = checkpoint_dir, sample_dir
        self.out_dir = out_dir
        if y_dim and (output_height % 4 or output_width % 4):
            raise UserError(
                f'output size {output_height}x{output_width}: the conditional model '
                'needs multiples of 4; change --output_height and --output_width'
            )
        self.data = None
        if data_dir is not None:
            self.data = open_dataset(
                os.path.join(data_dir, dataset_name),
                input_fname_pattern,
                output_size=(output_height, output_width),
                input_size=(input_height, input_width),
                crop=crop,
                grayscale=c_dim == 1,
                by_class=bool(y_dim),
                **reading,
            )
            self.c_dim = self.data.c_dim
            self._check_data(dataset_name)
        # bytes less the first, over the second: [0, 1] for a sigmoid in G, or [-1, 1]
        self._byte_range = (0.0, 255.0) if y_dim else (127.5, 127.5)
        self._meta = None
        self.build_model()

    def _check_data(self, name):
        if len(self.data) < self.batch_size:
            raise UserError(
                f'{name}: {len(self.data)} pictures do not fill a batch of '
                f'{self.batch_size}; add pictures or lower --batch_size'
            )
        if self.y_dim and self.data.classes > self.y_dim:
            raise UserError(
                f'{name}: has {self.data.classes} classes, the model y_dim {self.y_dim}'
            )

    # The networks. B is the batch, h and w the output size, h2 its half, rounded up.

    def generator(self, z, y=None, train=True, reuse=False):
        """z [B, z_dim] (and y [B, y_dim]) -> images [B, h, w, c] (paper, figure 1).

        `train` normalises by batch statistics and moves the averages; otherwise by the
        averages. In [-1, 1] by tanh or, conditional, [0, 1] by sigmoid.
        """
        body = self._conditional_generator if self.y_dim else self._plain_generator
        with tf.variable_scope('generator', reuse=reuse):
            return body(z, y, train)

    def discriminator(self, image, y=None, reuse=False):
        """Images [B, h, w, c] (and y [B, y_dim]) -> probability real, logits [B, 1]."""
        body = (
            self._conditional_discriminator if self.y_dim else self._plain_discriminator
        )
        with tf.variable_scope('discriminator', reuse=reuse):
            logits = body(image, y)
            return tf.sigmoid(logits), logits

    def _plain_generator(self, z, y, train):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, h2, h4, h8, h16 = halvings(self.output_height)
        w, w2, w4, w8, w16 = halvings(self.output_width)
        x = linear(z, 8 * gf * h16 * w16, name='g_h0_lin')
        x = tf.reshape(x, [-1, h16, w16, 8 * gf])
        x = relu(batch_norm(x, train, name='g_bn0'))  # [B, h16, w16, 8*gf]
        x = deconv2d(x, [batch, h8, w8, 4 * gf], name='g_h1')
        x = relu(batch_norm(x, train, name='g_bn1'))  # [B, h8, w8, 4*gf]
        x = deconv2d(x, [batch, h4, w4, 2 * gf], name='g_h2')
        x = relu(batch_norm(x, train, name='g_bn2'))  # [B, h4, w4, 2*gf]
        x = deconv2d(x, [batch, h2, w2, gf], name='g_h3')
        x = relu(batch_norm(x, train, name='g_bn3'))  # [B, h2, w2, gf]
        return tf.tanh(deconv2d(x, [batch, h, w, c], name='g_h4'))  # [B, h, w, c]

    def _conditional_generator(self, z, y, train):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, w = self.output_height, self.output_width
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = linear(tf.concat([z, y], 1), self.gfc_dim, name='g_h0_lin')
        x = relu(batch_norm(x, train, name='g_bn0'))  # [B, gfc]
        x = linear(tf.concat([x, y], 1), 2 * gf * (h // 4) * (w // 4), name='g_h1_lin')
        x = relu(batch_norm(x, train, name='g_bn1'))  # [B, h/4 * w/4 * 2*gf], flat
        x = tf.reshape(x, [-1, h // 4, w // 4, 2 * gf])
        x = conv_cond_concat(x, yb)  # [B, h/4, w/4, 2*gf + y]
        x = deconv2d(x, [batch, h // 2, w // 2, 2 * gf], name='g_h2')
        x = relu(batch_norm(x, train, name='g_bn2'))  # [B, h/2, w/2, 2*gf]
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, 2*gf + y]
        return tf.sigmoid(deconv2d(x, [batch, h, w, c], name='g_h3'))  # [B, h, w, c]

    def _plain_discriminator(self, x, y):
        df = self.df_dim
        x = lrelu(conv2d(x, df, name='d_h0_conv'))  # [B, h2, w2, df]
        x = conv2d(x, 2 * df, name='d_h1_conv')
        x = lrelu(batch_norm(x, name='d_bn1'))  # [B, h4, w4, 2*df]
        x = conv2d(x, 4 * df, name='d_h2_conv')
        x = lrelu(batch_norm(x, name='d_bn2'))  # [B, h8, w8, 4*df]
        x = conv2d(x, 8 * df, name='d_h3_conv')
        x = lrelu(batch_norm(x, name='d_bn3'))  # [B, h16, w16, 8*df]
        return linear(flatten(x), 1, name='d_h4_lin')  # [B, 1]

    def _conditional_discriminator(self, x, y):
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = conv_cond_concat(x, yb)  # [B, h, w, c + y]
        x = lrelu(conv2d(x, self.c_dim + self.y_dim, name='d_h0_conv'))
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, c + y + y]
        x = conv2d(x, self.df_dim + self.y_dim, name='d_h1_conv')
        x = lrelu(batch_norm(x, name='d_bn1'))  # [B, h/4, w/4, df + y]
        x = tf.concat([flatten(x), y], 1)  # [B, h/4 * w/4 * (df + y) + y]
        x = linear(x, self.dfc_dim, name='d_h2_lin')
        x = lrelu(batch_norm(x, name='d_bn2'))  # [B, dfc]
        return linear(tf.concat([x, y], 1), 1, name='d_h3_lin')  # [B, 1]

    def build_model(self):
        """Build placeholders, networks, losses, summaries and saver, in that order."""
        size = [self.output_height, self.output_width, self.c_dim]
        batch = self.batch_size
        self.y = (
            tf.placeholder(tf.float32, [batch, self.y_dim], 'y') if self.y_dim else None
        )
        self.inputs = tf.placeholder(tf.float32, [batch, *size], 'real_images')
        self.z = tf.placeholder(tf.float32, [None, self.z_dim], 'z')
        self.z_sum = tf.summary.histogram('z', self.z)

        self.G = self.generator(self.z, self.y)
        self.D, self.D_logits = self.discriminator(self.inputs, self.y)
        self.sampler = self.generator(self.z, self.y, train=False, reuse=True)
        self.D_, self.D_logits_ = self.discriminator(self.G, self.y, reuse=True)

        self.d_loss_real = cross_entropy(self.D_logits, 1)
        self.d_loss_fake = cross_entropy(self.D_logits_, 0)
        self.d_loss = self.d_loss_real + self.d_loss_fake
        self.g_loss = cross_entropy(self.D_logits_, 1)

        self.d_sum = tf.summary.histogram('d', self.D)
        self.d__sum = tf.summary.histogram('d_', self.D_)
        self.G_sum = tf.summary.image('G', self.G)
        self.d_loss_real_sum = tf.summary.scalar('d_loss_real', self.d_loss_real)
        self.d_loss_fake_sum = tf.summary.scalar('d_loss_fake', self.d_loss_fake)
        self.g_loss_sum = tf.summary.scalar('g_loss', self.g_loss)

        # D_ once more, for runs that need D as well: after it, so that D's averages
        # always move in the same order
        with tf.control_dependencies([self.D_logits]):
            _, logits = self.discriminator(self.G, self.y, reuse=True)
        d_loss = self.d_loss_real + cross_entropy(logits, 0)
        self.d_loss_sum = tf.summary.scalar('d_loss', d_loss)
        self._both_losses = d_loss, cross_entropy(logits, 1)

        trainable = tf.trainable_variables()
        self.d_vars = [v for v in trainable if v.name.startswith('discriminator/')]
        self.g_vars = [v for v in trainable if v.name.startswith('generator/')]
        self.variables = tf.global_variables()
        self.saver = tf.train.Saver(self.variables, max_to_keep=self.max_to_keep)

    # Training

    def train(self, config):
        """Train as the original does, on from the newest checkpoint if there is one.

        `config` has the original's flags as attributes, of which these are read:
        learning_rate, beta1, epoch, train_size, z_dist, sample_freq, ckpt_freq,
        G_img_sum, checkpoint_dir, sample_dir.
        Prints a line an iteration, writes sheets, checkpoints and, under out_dir/logs,
        summaries. Returns the number of the last iteration.

        Raises UserError where there is no full batch, or for an unknown z_dist.
        """
        self.check(config)
        batches = int(min(len(self.data), config.train_size)) // self.batch_size
        d_step, g_step = self._build_steps(config)
        sample_z = gen_random(config.z_dist, (self.sample_num, self.z_dim))
        sample_feed = self._feed(*self.data.batch(0, self.sample_num), sample_z)
        first = counter = self._start()
        start, run = time.time(), self.sess.run

        logs = os.path.join(self.out_dir, 'logs')
        with tf.summary.FileWriter(logs, self.sess.graph) as writer:
            for epoch, idx, feed in self._iterations(config, batches):
                # (1) Update D: ascend log D(x) + log(1 - D(G(z)))
                writer.add_summary(run(d_step, feed)[1], counter)

                # (2) Update G: ascend log D(G(z)); twice, unlike the paper, which keeps
                # d_loss from reaching zero
                writer.add_summary(run(g_step, feed)[1], counter)
                writer.add_summary(run(g_step, feed)[1], counter)

                # (3) Report, each loss by a forward pass of its own, for each moves the
                # averages that the sampler uses
                d_loss_fake = run(self.d_loss_fake, feed)
                d_loss_real = run(self.d_loss_real, feed)
                g_loss = run(self.g_loss, feed)
                print(
                    f'[{counter:8d} Epoch:[{epoch:2d}/{config.epoch:2d}] '
                    f'[{idx:4d}/{batches:4d}] time: {time.time() - start:4.4f}, '
                    f'd_loss: {d_loss_fake + d_loss_real:.8f}, g_loss: {g_loss:.8f}',
                    flush=True,
                )
                if counter % config.sample_freq == 0:
                    self._save_sheet(config, counter, sample_feed)
                    self._print_sample_losses(sample_feed)
                    done = counter + 1 - first
                    print_pace(done, config.epoch * batches - done, time.time() - start)
                if counter % config.ckpt_freq == 0:
                    self.save(config.checkpoint_dir, counter)
                counter += 1
        self._finish(config, counter - 1, sample_feed)
        return counter - 1

    def check(self, config):
        """Raise UserError where train(config) could not start. Writes nothing."""
        if self.data is None:
            raise UserError(
                'no data to train on: the model was built with data_dir None'
            )
        if config.epoch < 1 or self.sample_num != self.batch_size:
            raise UserError(
                f'epoch ({config.epoch}) has to be positive, and sample_num '
                f'({self.sample_num}) has to be batch_size ({self.batch_size})'
            )
        if config.train_size < self.batch_size:
            raise UserError(
                f'train_size {config.train_size} is less than a batch of '
                f'{self.batch_size}; raise --train_size or lower --batch_size'
            )
        # pictures that cannot be decoded end it here, not once there is a run folder
        self.data.batch(0, self.sample_num)
        path = newest_checkpoint(self.checkpoint_dir)
        if path:
            self._check_shapes(path)

    def _start(self):
        """Initial weights or, where there is a checkpoint, its own; its step, or 1."""
        self.sess.run(tf.global_variables_initializer())
        self._meta = self.saver.export_meta_graph().SerializeToString()
        loaded, step = self.load(self.checkpoint_dir)
        if not loaded:
            return 1
        path = newest_checkpoint(self.checkpoint_dir)
        if not os.path.exists(f'{path}.meta'):  # often left out when it is handed on
            self._write_meta(path)
        return step

    def _build_steps(self, config):
        """Fetches of a D step and of a G step, each (optimiser, summaries)."""

        def minimize(loss, variables):
            adam = tf.train.AdamOptimizer(config.learning_rate, beta1=config.beta1)
            return adam.minimize(loss, var_list=variables)

        d_sums = [self.z_sum, self.d_sum, self.d_loss_real_sum, self.d_loss_sum]
        g_sums = [self.z_sum, self.d__sum, self.d_loss_fake_sum, self.g_loss_sum]
        if config.G_img_sum:
            g_sums.append(self.G_sum)
        return (
            (minimize(self._both_losses[0], self.d_vars), tf.summary.merge(d_sums)),
            (minimize(self.g_loss, self.g_vars), tf.summary.merge(g_sums)),
        )

    def _iterations(self, config, batches):
        """Yield epoch, index in it and feed; draws random numbers as the original."""
        fed = np.empty(self.inputs.shape, np.float32)  # the same memory for all batches
        for epoch in range(config.epoch):
            self.data.shuffle()
            data = self.data.batches(self.batch_size, batches)
            for idx, (images, labels) in enumerate(data):
                z = gen_random(config.z_dist, (self.batch_size, self.z_dim))
                yield epoch, idx, self._feed(images, labels, z, fed)

    def _feed(self, images, labels, z, out=None):
        """The feed for every fetch, from uint8 images, labels [B] or None, and z."""
        low, scale = self._byte_range
        pixels = np.subtract(images, low, out=out, dtype=np.float32)
        pixels /= scale
        feed = {self.inputs: pixels, self.z: z}
        if self.y_dim:
            feed[self.y] = one_hot(labels, self.y_dim)
        return feed

    def _save_sheet(self, config, counter, sample_feed):
        # the sampler by itself: run with a loss, its averages would move while it reads
        samples = self.sess.run(self.sampler, sample_feed)
        path = os.path.join(config.sample_dir, f'train_{counter:08d}.png')
        save_images(samples, image_manifold_size(len(samples)), path)

    def _print_sample_losses(self, sample_feed):
        d_loss, g_loss = self.sess.run(self._both_losses, sample_feed)
        print(f'[Sample] d_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}', flush=True)

    def _finish(self, config, counter, sample_feed):
        """Leave a sheet and a checkpoint of the last iteration, if it has none yet."""
        if counter % config.sample_freq:
            self._save_sheet(config, counter, sample_feed)
        if counter % config.ckpt_freq:
            # beside the regular ones: max_to_keep does not count it
            self.saver.set_last_checkpoints_with_time([])
            self.save(config.checkpoint_dir, counter)
        print(
            f' [*] Trained: see {config.sample_dir}/train_{counter:08d}.png', flush=True
        )

    # Checkpoints

    def save(self, checkpoint_dir, step, filename='model', ckpt=True, frozen=False):
        """Write `{filename}.b{batch_size}-{step}` under checkpoint_dir.

        ckpt: as a checkpoint of all the model's variables, which the original can read.
        frozen: as `..._frz.pb`, the graph up to the sampler, its weights as constants.
        Raises UserError where a checkpoint cannot be written.
        """
        checkpoint_dir = os.path.normpath(checkpoint_dir)
        os.makedirs(checkpoint_dir, exist_ok=True)
        path = os.path.join(checkpoint_dir, f'{filename}.b{self.batch_size}')
        if ckpt:
            last = self.saver.last_checkpoints
            if last and os.path.dirname(last[-1]) != checkpoint_dir:
                self.saver.set_last_checkpoints_with_time([])  # max_to_keep: by folder
            try:
                saved = self.saver.save(
                    self.sess, path, global_step=step, write_meta_graph=False
                )
            except tf.errors.OpError as error:
                raise UserError(
                    f'{path}-{step}: cannot be written ({reason(error)})'
                ) from error
            self._write_meta(saved)
        if frozen:
            graph = tf.graph_util.convert_variables_to_constants(
                self.sess, self.sess.graph_def, [self.sampler.op.name]
            ).SerializeToString()
            with (
                replacing(f'{path}-{step:06d}_frz.pb') as part,
                open(part, 'wb') as file,
            ):
                file.write(graph)

    def _write_meta(self, path):
        """Write the graph beside a checkpoint. It is large: serialised once."""
        if self._meta is None:
            self._meta = self.saver.export_meta_graph().SerializeToString()
        with replacing(f'{path}.meta') as part, open(part, 'wb') as file:
            file.write(self._meta)

    def load(self, checkpoint_dir):
        """Restore the newest checkpoint under checkpoint_dir, ours or the original's.

        Returns (True, its step), or (False, 0) where there is none. Raises UserError
        where it cannot be read or is of another model.
        """
        path = newest_checkpoint(checkpoint_dir)
        if path is None:
            print(f' [*] No checkpoint yet in {checkpoint_dir}', flush=True)
            return False, 0
        step = step_of(path)
        self._check_shapes(path)
        try:
            self.saver.restore(self.sess, path)
        except tf.errors.OpError as error:
            raise unreadable(path, error) from error
        print(f' [*] Read {path}', flush=True)
        return True, step

    def _check_shapes(self, path):
        stored = checkpoint_shapes(path)
        for variable in self.variables:
            shape, has = variable.shape.as_list(), stored.get(variable.op.name)
            if has != shape:
                raise UserError(
                    f'{path} has {variable.op.name} {has or "not at all"}, and the '
                    f'flags make it {shape}: look at --dataset, --z_dim, '
                    '--output_height, --output_width, --grayscale, --conditional '
                    'and --unconditional'
                )


# Checkpoints, before there is a graph


def newest_checkpoint(checkpoint_dir):
    """Path prefix of the checkpoint that the folder's state file names, or None.

    Its folder is not taken from there, so that a run can be moved.
    """
    state = tf.train.get_checkpoint_state(checkpoint_dir)
    if state is None or not state.model_checkpoint_path:
        return None
    return os.path.join(checkpoint_dir, os.path.basename(state.model_checkpoint_path))


def step_of(path):
    """The iteration at which a checkpoint was written, which its name ends in."""
    step = path.rpartition('-')[2]
    if not step.isdigit():
        raise UserError(f'{path}: the name of a checkpoint has to end in -ITERATION')
    return int(step)


def checkpoint_shapes(path):
    """{variable name: shape} of a checkpoint. Raises UserError if it is unreadable."""
    try:
        return tf.train.load_checkpoint(path).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise unreadable(path, error) from error


def checkpoint_dims(path):
    """(y_dim or None, c_dim) of the model in a checkpoint, by its variables' shapes."""
    shapes = checkpoint_shapes(path)
    try:
        if 'generator/g_h4/biases' in shapes:
            return None, shapes['generator/g_h4/biases'][0]
        c_dim = shapes['generator/g_h3/biases'][0]
        return shapes['discriminator/d_h0_conv/biases'][0] - c_dim, c_dim
    except KeyError as error:
        raise UserError(
            f'{path}: not a checkpoint of a DCGAN, it has no {error}'
        ) from error


def unreadable(path, error):
    """The UserError for a checkpoint that TensorFlow could not read."""
    return UserError(f'{path}: this checkpoint cannot be read ({reason(error)})')


def reason(error):
    """The line that matters of what TensorFlow says of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    nodes = [i for i, line in enumerate(lines[:-1]) if line.startswith("Node: '")]
    return lines[nodes[-1] + 1] if nodes else lines[0]


# Sizes and pace


def halvings(size):
    """A height or width and what four stride-2 convolutions make of it, rounded up."""
    sizes = [size]
    for _ in range(4):
        sizes.append(conv_out_size_same(sizes[-1], 2))
    return sizes


def flatten(x):
    """[B, h, w, c] -> [B, h*w*c]."""
    return tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])


def print_pace(done, left, seconds):
    """Print iterations a second and the time that those left will take."""
    remaining = timedelta(seconds=round(left * seconds / done))
    print(f' [*] {done / seconds:.2f} iterations/s, {remaining} left', flush=True)
