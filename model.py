"""The two networks of DCGAN (https://arxiv.org/abs/1511.06434), and their training."""

import contextlib
import functools
import os
import re
import time

import numpy as np
import tensorflow.compat.v1 as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from dcgan.checkpoints import (
    TRIES,
    checkpoint_shapes,
    checkpoints,
    discard,
    holds_progress,
    is_end,
    newest_checkpoint,
    step_of,
    unreadable,
    write_state,
)
from dcgan.datasets import open_dataset
from dcgan.errors import Interrupted, UserError, short_reason
from dcgan.files import (
    atomic_path,
    remove_leftovers,
    sync_to_disk,
    temporary_path,
    write_errors,
)
from dcgan.images import image_manifold_size, save_images
from dcgan.kernels import has_bfloat16, with_known_gradients
from dcgan.samples import gen_random, one_hot
from dcgan.signals import deferred_signals
from dcgan.training import Progress, print_pace
from ops import (
    batch_norm,
    conv2d,
    conv_cond_concat,
    cross_entropy,
    deconv2d,
    linear,
    lrelu,
    relu,
    to_float32,
)

FEW_PICTURES, SMALL_BATCH = 1000, 16  # below these, training is known to fail
MOMENTUM = 0.9  # of the moving averages
PRECISIONS = ('float32', 'bfloat16')
WRITE_ERRORS = (OSError, tf.errors.OpError)


def conv_out_size_same(size, stride):
    """Height or width after a convolution with SAME padding: ceil(size / stride)."""
    return -(-size // stride)


class DCGAN:
    """Graph, training and checkpoints of one model, of fixed sizes, in one session.

    Tensors, all float32, with B the batch and h, w, c the output size:

    inputs, y, z       placeholders [B, h, w, c], [B, y_dim] one-hot, [any, z_dim]
    sampler_y          [any, y_dim], what the sampler goes by; y, unless it is fed
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
        precision='float32',
        **dataset_options,
    ):
        """Open the data set and build the graph.

        Sizes are in pixels. input_height and input_width are the centre crop taken from
        each picture where crop is set. y_dim, the number of classes, makes the model
        conditional, and labels pictures by their folders. c_dim 1 reads pictures in
        grey; IDX files bring their own. input_fname_pattern None takes other types of
        pictures, too. precision, float32 or bfloat16, is that of the layers of G, D
        and D_, and of their gradients; weights, averages, losses, optimisers and the
        sampler are float32. dataset_options are further arguments of ImageSet.
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
        if precision not in PRECISIONS:
            raise UserError(f'precision {precision!r} is none of {PRECISIONS}')
        if precision == 'bfloat16' and not has_bfloat16():
            raise UserError(
                'precision bfloat16: this processor, or this build of TensorFlow, has '
                'no fast kernels for it; use --precision float32'
            )
        self.dtype = tf.as_dtype(precision)
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
                **dataset_options,
            )
            self.c_dim = self.data.c_dim
            self._check_data(dataset_name)
        # bytes less the first, over the second: [0, 1] for a sigmoid in G, or [-1, 1]
        self._byte_range = (0.0, 255.0) if y_dim else (127.5, 127.5)
        self._meta = self._progress = None
        self._iteration = None  # built by the first train(): state, settings, fetches
        self._scopes = {}  # of the networks; by name, their counters would start anew
        self._kept = {}  # folder: checkpoints that count for max_to_keep, oldest first
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

    def generator(self, z, y=None, train=True, reuse=False, momentum=MOMENTUM):
        """z [B, z_dim] (and y [B, y_dim]) -> images [B, h, w, c] (paper, figure 1).

        `train` normalises by batch statistics and moves the averages, which keep
        `momentum` of what they were; otherwise by the averages. In [-1, 1] by tanh or,
        conditional, [0, 1] by sigmoid.
        """
        body = self._conditional_generator if self.y_dim else self._plain_generator
        norm = functools.partial(batch_norm, train=train, momentum=momentum)
        with self._scope('generator', reuse):
            return body(*self._in_precision(z, y, train), norm)

    def discriminator(self, image, y=None, reuse=False, momentum=MOMENTUM):
        """Images [B, h, w, c] (and y [B, y_dim]) -> probability real, logits [B, 1].

        By batch statistics, which moves the averages: they keep `momentum` of theirs.
        """
        body = (
            self._conditional_discriminator if self.y_dim else self._plain_discriminator
        )
        with self._scope('discriminator', reuse):
            norm = functools.partial(batch_norm, momentum=momentum)
            logits = to_float32(body(*self._in_precision(image, y), norm))
            return tf.sigmoid(logits), logits

    @contextlib.contextmanager
    def _scope(self, name, reuse):
        """The variables of a network: new ones, or those that are there already."""
        scope = self._scopes[name] if reuse else name
        with tf.variable_scope(scope, reuse=reuse, use_resource=True) as scope:
            self._scopes.setdefault(name, scope)
            yield

    def _in_precision(self, x, y, train=True):
        """What a network starts from, in the type that its layers are to work in."""
        dtype = self.dtype if train else tf.float32
        return tf.cast(x, dtype), None if y is None else tf.cast(y, dtype)

    def _plain_generator(self, z, y, norm):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, h2, h4, h8, h16 = halvings(self.output_height)
        w, w2, w4, w8, w16 = halvings(self.output_width)
        x = linear(z, 8 * gf * h16 * w16, name='g_h0_lin')
        x = tf.reshape(x, [-1, h16, w16, 8 * gf])
        x = relu(norm(x, name='g_bn0'))  # [B, h16, w16, 8*gf]
        x = deconv2d(x, [batch, h8, w8, 4 * gf], name='g_h1')
        x = relu(norm(x, name='g_bn1'))  # [B, h8, w8, 4*gf]
        x = deconv2d(x, [batch, h4, w4, 2 * gf], name='g_h2')
        x = relu(norm(x, name='g_bn2'))  # [B, h4, w4, 2*gf]
        x = deconv2d(x, [batch, h2, w2, gf], name='g_h3')
        x = relu(norm(x, name='g_bn3'))  # [B, h2, w2, gf]
        return tf.tanh(
            to_float32(deconv2d(x, [batch, h, w, c], name='g_h4'))
        )  # [B, h, w, c]

    def _conditional_generator(self, z, y, norm):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, w = self.output_height, self.output_width
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = linear(tf.concat([z, y], 1), self.gfc_dim, name='g_h0_lin')
        x = relu(norm(x, name='g_bn0'))  # [B, gfc]
        x = linear(tf.concat([x, y], 1), 2 * gf * (h // 4) * (w // 4), name='g_h1_lin')
        x = relu(norm(x, name='g_bn1'))  # [B, h/4 * w/4 * 2*gf], flat
        x = tf.reshape(x, [-1, h // 4, w // 4, 2 * gf])
        x = conv_cond_concat(x, yb)  # [B, h/4, w/4, 2*gf + y]
        x = deconv2d(x, [batch, h // 2, w // 2, 2 * gf], name='g_h2')
        x = relu(norm(x, name='g_bn2'))  # [B, h/2, w/2, 2*gf]
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, 2*gf + y]
        return tf.sigmoid(
            to_float32(deconv2d(x, [batch, h, w, c], name='g_h3'))
        )  # [B, h, w, c]

    def _plain_discriminator(self, x, y, norm):
        df = self.df_dim
        x = lrelu(conv2d(x, df, name='d_h0_conv'))  # [B, h2, w2, df]
        x = conv2d(x, 2 * df, name='d_h1_conv')
        x = lrelu(norm(x, name='d_bn1'))  # [B, h4, w4, 2*df]
        x = conv2d(x, 4 * df, name='d_h2_conv')
        x = lrelu(norm(x, name='d_bn2'))  # [B, h8, w8, 4*df]
        x = conv2d(x, 8 * df, name='d_h3_conv')
        x = lrelu(norm(x, name='d_bn3'))  # [B, h16, w16, 8*df]
        return linear(flatten(x), 1, name='d_h4_lin')  # [B, 1]

    def _conditional_discriminator(self, x, y, norm):
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = conv_cond_concat(x, yb)  # [B, h, w, c + y]
        x = lrelu(conv2d(x, self.c_dim + self.y_dim, name='d_h0_conv'))
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, c + y + y]
        x = conv2d(x, self.df_dim + self.y_dim, name='d_h1_conv')
        x = lrelu(norm(x, name='d_bn1'))  # [B, h/4, w/4, df + y]
        x = tf.concat([flatten(x), y], 1)  # [B, h/4 * w/4 * (df + y) + y]
        x = linear(x, self.dfc_dim, name='d_h2_lin')
        x = lrelu(norm(x, name='d_bn2'))  # [B, dfc]
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
        # y where it is not fed; if it is, with a batch of any size
        self.sampler_y = (
            tf.placeholder_with_default(self.y, [None, self.y_dim], 'sampler_y')
            if self.y_dim
            else None
        )
        self.sampler = self.generator(self.z, self.sampler_y, train=False, reuse=True)
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

        self.d_loss_sum = tf.summary.scalar('d_loss', self.d_loss)

        trainable = tf.trainable_variables()
        self.d_vars = [v for v in trainable if v.name.startswith('discriminator/')]
        self.g_vars = [v for v in trainable if v.name.startswith('generator/')]
        self.variables = tf.global_variables()
        _, d_loss_real, _, d_loss_fake, g_loss = self._both_passes(self.G)
        self._sample_losses = d_loss_real + d_loss_fake, g_loss
        self.saver = tf.train.Saver(self.variables, max_to_keep=None)

    # Training

    def train(self, config, checkpoint=None):
        """Train as the original does, on from the newest checkpoint if there is one.

        `config` has the original's flags as attributes, of which these are read:
        learning_rate, beta1, epoch (the total), train_size, z_dist, sample_freq,
        ckpt_freq, G_img_sum, sample_dir, checkpoint_dir; resume_step, if it is there.
        `checkpoint` is what check(config) returned, if that was called before.
        Prints a line an iteration, writes sheets, checkpoints and, under out_dir/logs,
        summaries. Returns the number of the last iteration.

        Raises UserError where it cannot start, see `check`, cannot write, or meets a
        loss or weight that is not finite; Interrupted for SIGINT or SIGTERM, once the
        iteration is through and saved.
        """
        # None: of a run that is new, but another process may have trained it meanwhile
        checkpoint = checkpoint or self.check(config)
        batches = self._batches(config)
        at, iteration = self._prepare(config)
        try:
            self._progress = at
            return self._train(config, checkpoint, batches, at, iteration)
        finally:
            self._progress = self._meta = None
            self.data.close()

    def _prepare(self, config):
        """The state of the training and an iteration, built by the first train().

        Raises UserError for settings that cannot change between calls.
        """
        settings = {name: getattr(config, name) for name in ('beta1', 'G_img_sum')}
        if self._iteration is None:
            iteration = self._build_iteration(config)
            self._iteration = Progress(self.data), settings, iteration
        at, built, iteration = self._iteration
        if built != settings:
            raise UserError(
                f'train was called with {built}, which cannot become {settings}: '
                'build another DCGAN'
            )
        return at, iteration

    def _train(self, config, checkpoint, batches, at, iteration):
        self._start(config, checkpoint, at)
        first, start, run = at.counter, time.perf_counter(), self.sess.run
        sample_feed = self._feed(*self.data.take(at.sample_files), at.sample_z)

        with deferred_signals() as signals, self._summaries(at) as (log, flush):
            for feed in self._iterations(config, at, batches):
                summaries, d_loss_fake, d_loss_real, g_loss, sums = run(iteration, feed)
                for summary in summaries:
                    log(summary)
                print(
                    f'[{at.counter:8d} Epoch:[{at.epoch:2d}/{config.epoch:2d}] '
                    f'[{at.batch - 1:4d}/{batches:4d}] '
                    f'time: {time.perf_counter() - start:4.4f}, '
                    f'd_loss: {d_loss_fake + d_loss_real:.8f}, g_loss: {g_loss:.8f}',
                    flush=True,
                )
                losses = {'d_loss_fake': d_loss_fake, 'd_loss_real': d_loss_real}
                self._check_finite(at, losses | {'g_loss': g_loss}, sums)
                if at.counter % config.sample_freq == 0:
                    self._save_sheet(config, at.counter, sample_feed)
                    self._print_sample_losses(at, sample_feed)
                    left = (config.epoch - at.epoch) * batches - at.batch
                    print_pace(at.counter - first, left, time.perf_counter() - start)
                at.ended = at.is_last or bool(signals)
                if self._save_progress(config, at):
                    flush()
                if at.ended:
                    break
        self._finish(config, at, first, sample_feed)
        if signals:
            raise Interrupted(
                signals[0], f'interrupted; all is saved up to iteration {at.counter}'
            )
        return at.counter

    def check(self, config):
        """Raise UserError where train(config) could not start. Writes nothing.

        Returns the path prefix of the checkpoint that it would go on from, or None.
        """
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
        self.data.first_usable(self.sample_num)
        path = newest_checkpoint(
            self.checkpoint_dir, getattr(config, 'resume_step', None)
        )
        if path:
            self._check_shapes(path)
        return path

    def _batches(self, config):
        """Batches in an epoch; warns of settings that are known to fail."""
        pictures = int(min(len(self.data), config.train_size))
        epochs = config.epoch if self.data.reshuffles else 1
        seen = int(min(len(self.data), config.train_size * epochs))
        if seen < FEW_PICTURES:
            print(
                f' [!] {seen} pictures are few: D learns them by heart, and G then '
                f'nothing from it; have {FEW_PICTURES} or more'
            )
        if self.batch_size < SMALL_BATCH:
            print(
                f' [!] A batch of {self.batch_size} is small: its statistics, by which '
                f'batch norm goes, are mostly noise; have {SMALL_BATCH} or more'
            )
        return pictures // self.batch_size

    def _start(self, config, checkpoint, at):
        """Initial weights, or those of the checkpoint, and the progress made so far."""
        at.restart(gen_random(config.z_dist, (self.sample_num, self.z_dim)))
        for folder in (self.out_dir, self.checkpoint_dir, self.sample_dir):
            remove_leftovers(folder)
        whole = checkpoint is not None and holds_progress(checkpoint)
        if not whole:
            self.sess.run(tf.global_variables_initializer())
        self._serialise_meta(at.saver)
        if checkpoint is None:
            print(f' [*] No checkpoint yet in {self.checkpoint_dir}', flush=True)
            return
        if whole:
            self._restore(at.saver, checkpoint)
            at.read(self.sess)
        else:  # the original's: it goes by the name, and starts with epoch 0
            self._restore(self.saver, checkpoint)
            at.counter = step_of(checkpoint) - 1
            print(' [*] It holds weights alone: epochs and Adam start anew', flush=True)
        if not os.path.exists(f'{checkpoint}.meta'):  # left out when it is handed on
            self._write_meta(checkpoint)
        # those of former lives count for max_to_keep; the original's are left alone
        found = [p for p in checkpoints(self.checkpoint_dir) if p != checkpoint]
        found = [checkpoint, *found]  # from now on, it is the newest
        folder = os.path.dirname(checkpoint)
        self._kept[folder] = [p for p in reversed(found) if holds_progress(p)]
        write_state(folder, found[::-1])
        ends = [p for p in found if is_end(p)]
        at.spared = [checkpoint, *ends[:1]]

    @contextlib.contextmanager
    def _summaries(self, at):
        """Functions that log a summary, and that write what was logged to the disk.

        Says which loss it is where one is NaN.
        """
        logs = os.path.join(self.out_dir, 'logs')
        with write_errors(
            logs, Exception
        ):  # the writer's thread dies of nearly anything
            writer = tf.summary.FileWriter(logs, self.sess.graph)

        def log(summary):
            with write_errors(logs, Exception):
                writer.add_summary(summary, at.counter)

        def flush():
            with write_errors(logs, Exception):
                writer.flush()

        if at.counter:  # what a run that was killed wrote further on is void
            start = tf.SessionLog(status=tf.SessionLog.START)
            writer.add_session_log(start, at.counter + 1)
        try:
            yield log, flush
        except BaseException as error:
            with contextlib.suppress(Exception):  # of two errors, the first counts
                writer.close()
            match = re.match(
                'Nan in summary histogram for: .*/(d_?)$', short_reason(error)
            )
            if not match:
                raise
            loss = {'d': 'd_loss_real', 'd_': 'd_loss_fake'}[match[1]]
            raise self._not_finite(at, [loss]) from error
        with write_errors(logs, Exception):
            writer.close()

    def _check_finite(self, at, losses, sums=()):
        """Raise UserError for a loss, or the sum of a variable, that is not finite."""
        names = [name for name, loss in losses.items() if not np.isfinite(loss)]
        names = names or [
            variable.op.name
            for variable, total in zip(self.variables, sums)
            if not np.isfinite(total)
        ]
        if names:
            raise self._not_finite(at, names)

    def _not_finite(self, at, names):
        kept = self._kept.get(os.path.normpath(self.checkpoint_dir))
        last = [*at.spared[:1], *(kept or [])][-1:]
        good = (
            f'{last[0]} is the last good checkpoint' if last else 'none was saved yet'
        )
        return UserError(
            f'iteration {at.counter}: not finite: {", ".join(names)}; training stops, '
            f'{good}; try a lower --learning_rate'
        )

    def _iterations(self, config, at, batches):
        """Yield the feeds of what is left, keeping `at`; draws z as the original."""
        fed = np.empty(self.inputs.shape, np.float32)  # the same memory for all batches
        while at.epoch < config.epoch:
            if at.batch == 0:
                self.data.shuffle()
            data = self.data.batches(self.batch_size, batches, at.batch)
            for images, labels in data:
                z = gen_random(config.z_dist, (self.batch_size, self.z_dim))
                at.counter, at.batch = at.counter + 1, at.batch + 1
                at.is_last = at.epoch + 1 == config.epoch and at.batch == batches
                feed = self._feed(images, labels, z, fed)
                yield {**feed, self.learning_rate: config.learning_rate}
            at.epoch, at.batch = at.epoch + 1, 0

    def _build_iteration(self, config):
        """Fetches: ([summaries], d_loss_fake, d_loss_real, g_loss, sums of variables).

        The original's six runs, in their order, as one. Passes that it makes twice with
        the same weights and feed are made once, and move the averages as twice.
        """
        twice = MOMENTUM**2
        self.learning_rate = tf.placeholder_with_default(
            np.float32(config.learning_rate), [], 'learning_rate'
        )
        d_adam, g_adam = (
            tf.train.AdamOptimizer(self.learning_rate, beta1=config.beta1)
            for _ in range(2)
        )

        # (1) Update D: ascend log D(x) + log(1 - D(G(z)))
        G = self.generator(self.z, self.y, reuse=True, momentum=twice)  # for (2), too
        D, d_loss_real, _, d_loss_fake, _ = self._both_passes(G)
        d_loss = d_loss_real + d_loss_fake
        step = d_adam.minimize(d_loss, var_list=self.d_vars)
        scalars = {'d_loss_real': d_loss_real, 'd_loss': d_loss}
        summaries = [self._summary({'d': D}, scalars)]

        # (2) Update G: ascend log D(G(z)); twice, unlike the paper, which keeps d_loss
        # from reaching zero
        for again in (False, True):
            with tf.control_dependencies([step]):
                if again:
                    G = self.generator(self.z, self.y, reuse=True)
                D_, logits = self.discriminator(G, self.y, reuse=True)
                g_loss = cross_entropy(logits, 1)
                step = g_adam.minimize(g_loss, var_list=self.g_vars)
                scalars = {'d_loss_fake': cross_entropy(logits, 0), 'g_loss': g_loss}
                images = G if config.G_img_sum else None
                summaries.append(self._summary({'d_': D_}, scalars, images))

        # (3) Report afresh
        with tf.control_dependencies([step]):
            G = self.generator(self.z, self.y, reuse=True, momentum=twice)
            # D's averages move as by generated images, real, and generated ones again
            keep = 1 - (1 - MOMENTUM) * (1 + twice)
            momenta = MOMENTUM**3 / keep, keep
            _, d_loss_real, _, d_loss_fake, g_loss = self._both_passes(G, momenta)
        with tf.control_dependencies([d_loss_fake]):
            sums = tf.stack([tf.reduce_sum(v) for v in self.variables])
        return summaries, d_loss_fake, d_loss_real, g_loss, sums

    def _both_passes(self, G, momenta=(MOMENTUM, MOMENTUM)):
        """D on real images, then on G's: in that order its averages move.

        Returns D, its loss on real ones, D_, its loss on generated ones, G's loss.
        """
        D, logits = self.discriminator(self.inputs, self.y, True, momenta[0])
        with tf.control_dependencies([logits]):
            D_, logits_ = self.discriminator(G, self.y, True, momenta[1])
        losses = cross_entropy(logits_, 0), cross_entropy(logits_, 1)
        return D, cross_entropy(logits, 1), D_, *losses

    def _summary(self, histograms, scalars, images=None):
        """A summary of a step, by the tags of the graph's own."""
        histograms = {'z_1': self.z, **histograms}
        with tf.name_scope('step'):
            raw = [
                tf.raw_ops.HistogramSummary(tag=tag, values=values, name=tag)
                for tag, values in histograms.items()
            ]
            raw += [
                tf.raw_ops.ScalarSummary(tags=tag, values=value, name=tag)
                for tag, value in scalars.items()
            ]
            if images is not None:
                raw.append(
                    tf.raw_ops.ImageSummary(tag='G', tensor=images, max_images=3)
                )
            return tf.summary.merge(raw)

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

    def _print_sample_losses(self, at, sample_feed):
        d_loss, g_loss = self.sess.run(self._sample_losses, sample_feed)
        print(f'[Sample] d_loss: {d_loss:.8f}, g_loss: {g_loss:.8f}', flush=True)
        self._check_finite(at, {'d_loss': d_loss, 'g_loss': g_loss})

    def _save_progress(self, config, at):
        """Save where the regular checkpoints are due, and where the run ends.

        Returns whether it did.
        """
        is_regular = at.counter % config.ckpt_freq == 0
        if at.ended:
            at.spared, at.is_extra = [], not is_regular
        if is_regular or at.ended:
            self.save(config.checkpoint_dir, at.counter)
        return is_regular or at.ended

    def _finish(self, config, at, first, sample_feed):
        """Leave a sheet of the last iteration of all."""
        if at.counter == first and at.epoch >= config.epoch:
            print(f' [*] All {config.epoch} epochs are done: a higher --epoch goes on')
        if at.counter == first or not at.is_last:
            return
        if at.counter % config.sample_freq:
            self._save_sheet(config, at.counter, sample_feed)
        print(
            f' [*] Trained: see {config.sample_dir}/train_{at.counter:08d}.png',
            flush=True,
        )

    # Checkpoints

    def save(self, checkpoint_dir, step, filename='model', ckpt=True, frozen=False):
        """Write `{filename}.b{batch_size}-{step}` under checkpoint_dir.

        ckpt: as a checkpoint of all the model's variables, which the original can read;
        while `train` is at work, with all that it needs to go on.
        frozen: as `..._frz.pb`, the sampler's graph, its weights as constants, for any
        batch. Raises UserError where it cannot be written.
        """
        checkpoint_dir = os.path.normpath(checkpoint_dir)
        path = os.path.join(checkpoint_dir, f'{filename}.b{self.batch_size}')
        if ckpt:
            with write_errors(f'{path}-{step}', WRITE_ERRORS):
                self._save_checkpoint(checkpoint_dir, f'{path}-{step}')
        if frozen:
            with self._sampler_alone() as (sess, _, images):
                graph = tf.graph_util.convert_variables_to_constants(
                    sess, sess.graph_def, [images.op.name]
                )
            path = f'{path}-{step:06d}_frz.pb'
            with (
                write_errors(path),
                atomic_path(path) as part,
                open(part, 'wb') as file,
            ):
                file.write(with_known_gradients(graph).SerializeToString())

    def _save_checkpoint(self, checkpoint_dir, path):
        """Write a checkpoint; it counts, and older ones go, once it is on the disk.

        Not in place of the one that the run went on from, as the original would at its
        first iteration: until there is another, that is all there is.
        """
        os.makedirs(checkpoint_dir, exist_ok=True)
        saver = self.saver
        if self._progress:
            if path in self._progress.spared:
                return
            saver = self._progress.saver
            self._progress.write(self.sess)
        part = temporary_path(path)
        endings = 'data-00000-of-00001', 'index'
        try:
            saver.save(self.sess, part, write_meta_graph=False, write_state=False)
            for ending in endings:
                sync_to_disk(f'{part}.{ending}')
            with contextlib.suppress(FileNotFoundError):
                os.remove(f'{path}.index')  # of a former course of the run: no mixture
            for ending in endings:
                os.replace(f'{part}.{ending}', f'{path}.{ending}')
        finally:
            discard(part)
        self._write_meta(path)
        kept = self._kept.setdefault(checkpoint_dir, [])
        kept[:] = [*(other for other in kept if other != path), path]
        self._remove_old(checkpoint_dir)

    def _remove_old(self, checkpoint_dir):
        """Name the checkpoints in the state file; remove those above max_to_keep."""
        kept, keep, spared = self._kept[checkpoint_dir], self.max_to_keep, ()
        if self._progress:
            keep, spared = (
                keep and keep + self._progress.is_extra,
                self._progress.spared,
            )
        old = [path for path in kept[:-keep] if path not in spared] if keep else []
        kept[:] = [path for path in kept if path not in old]
        write_state(checkpoint_dir, kept)
        for path in old:
            discard(path)

    def _write_meta(self, path):
        """Write the graph beside a checkpoint."""
        if self._meta is None:
            self._serialise_meta(self.saver)
        path = f'{path}.meta'
        with (
            write_errors(path),
            atomic_path(path) as part,
            open(part, 'wb') as file,
        ):
            file.write(self._meta)

    def _serialise_meta(self, saver):
        """Keep the graph as it goes beside checkpoints. It is large: made once."""
        meta = saver.export_meta_graph()
        with_known_gradients(meta.graph_def)
        self._meta = meta.SerializeToString()

    def save_sampler(self, folder):
        """Write the sampler as a SavedModel, weights and all, for any batch.

        Its signature, serving_default, takes z [any, z_dim] and, where conditional,
        y [any, y_dim] one-hot, and gives images [any, h, w, c] in [0, 1], all float32.
        Raises UserError where it cannot be written.
        """
        with (
            self._sampler_alone() as (sess, inputs, images),
            write_errors(folder, WRITE_ERRORS),
            atomic_path(folder) as part,
        ):
            remove_leftovers(os.path.dirname(folder))
            images = images if self.y_dim else (images + 1) / 2
            signature = tf.saved_model.predict_signature_def(inputs, {'images': images})
            builder = tf.saved_model.Builder(part)
            builder.add_meta_graph_and_variables(
                sess, ['serve'], {'serving_default': signature}
            )
            builder.save()
            with open(f'{part}/saved_model.pb', 'rb+') as file:
                saved = SavedModel.FromString(file.read())
                with_known_gradients(saved.meta_graphs[0].graph_def)
                file.seek(0)
                file.truncate()
                file.write(saved.SerializeToString())

    @contextlib.contextmanager
    def _sampler_alone(self):
        """Session, {name: input} and images of a graph of the sampler alone."""
        generator = [v for v in self.variables if v.name.startswith('generator/')]
        values = self.sess.run({v.name: v for v in generator})
        with tf.Graph().as_default() as graph, tf.Session() as sess:
            inputs = {'z': tf.placeholder(tf.float32, [None, self.z_dim], 'z')}
            if self.y_dim:
                inputs['y'] = tf.placeholder(tf.float32, [None, self.y_dim], 'y')
            graph.unique_name('generator')  # G's, so that its nodes are generator_1/...
            images = self.generator(inputs['z'], inputs.get('y'), train=False)
            for variable in tf.global_variables():
                initial = variable.initializer.inputs[1]
                sess.run(variable.initializer, {initial: values[variable.name]})
            yield sess, inputs, images

    def load(self, checkpoint_dir, step=None, path=None):
        """Restore a checkpoint under checkpoint_dir, ours or the original's.

        The newest one that is whole or, if given, that of iteration `step`; or `path`,
        which newest_checkpoint has found already.
        Returns (True, its step), or (False, 0) where there is none. Raises UserError
        where it cannot be read or is of another model.
        """
        for _ in range(TRIES):
            path = path or newest_checkpoint(checkpoint_dir, step)
            if path is None:
                print(f' [*] No checkpoint yet in {checkpoint_dir}', flush=True)
                return False, 0
            try:
                self._check_shapes(path)
                self._restore(self.saver, path)
                return True, step_of(path)
            except UserError as error:
                if os.path.exists(f'{path}.index'):
                    raise
                failure, path = error, None  # a run under way has replaced it
        raise failure

    def _restore(self, saver, path):
        try:
            saver.restore(self.sess, path)
        except tf.errors.OpError as error:
            raise unreadable(path, error) from error
        print(f' [*] Read {path}', flush=True)

    def _check_shapes(self, path):
        stored = checkpoint_shapes(path)
        for variable in self.variables:
            shape, has = variable.shape.as_list(), stored.get(variable.op.name)
            if has != shape:
                raise UserError(
                    f'{path} has {variable.op.name} {has or "not at all"}, and the '
                    f'flags make it {shape}: look at --dataset, --z_dim, '
                    '--output_height, --output_width, --grayscale, --conditional, '
                    '--unconditional, --gf_dim, --df_dim, --gfc_dim and --dfc_dim'
                )


# Checkpoints as files


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
