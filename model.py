"""DCGAN (https://arxiv.org/abs/1511.06434): the two networks and their training."""

import contextlib
import os
from functools import partial

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.devices import has_gpu
from dcgan.compute.kernels import plain_ops, shared_casts
from dcgan.compute.precision import use_precision
from dcgan.compute.workers import Workers
from dcgan.compute.xla import can_compile, xla_function
from dcgan.data.dataset import check_fit, open_dataset
from dcgan.data.labels import one_hot
from dcgan.sampling import export
from dcgan.sampling.export import freeze
from dcgan.training import iteration
from dcgan.training.checkpoints import (
    CheckpointFolder,
    meta_graph,
    restore_newest,
    step_of,
)
from dcgan.training.ema import Averages
from dcgan.training.iteration import build_sample_losses, of_joint_batch, passes_in_one
from dcgan.training.loop import Training, check_training
from dcgan.training.options import Ways
from dcgan.training.prefetch import BatchQueue
from dcgan.training.regularization import gradient_penalty
from dcgan.training.state import TrainingState
from dcgan.util.errors import Interrupted, UserError
from dcgan.util.signals import deferred_signals
from ops import (
    batch_norm,
    conv2d,
    conv_cond_concat,
    conv_out_size_same,  # noqa: F401, the original has it here
    cross_entropy,
    deconv2d,
    flatten,
    halvings,
    linear,
    lrelu,
    merged_momenta,
    relu,
    to_float32,
)

MOMENTUM = 0.9  # of the moving averages of batch norm


class DCGAN:
    """Graph, training and checkpoints of one model, of fixed sizes, in one session.

    Tensors, all float32, with B the batch and h, w, c the output size:

    inputs, y, z       placeholders [B, h, w, c], [B, y_dim] one-hot, [any, z_dim]
    sampler_y          [any, y_dim], the sampler's labels; defaults to y
    G, sampler         images [B, h, w, c] in [-1, 1] or, conditional, [0, 1], by the
                       same weights: batch statistics in G, moving averages in sampler
                       (with `ema`, the sampler's weights are averages, too)
    D, D_logits        [B, 1] of the inputs; D_, D_logits_ likewise of G
    d_loss_real, d_loss_fake, d_loss, g_loss    scalars

    Evaluating G, D or D_ updates the moving averages of that network. The sampler
    updates nothing.
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
        xla=None,
        ema=0.0,
        workers=None,
        **dataset_options,
    ):
        """Open the data set and build the graph.

        Sizes are in pixels. With `crop`, the center of each image is used, input_height
        by input_width. y_dim, the number of classes, makes the model conditional, and
        labels images by their folders. c_dim 1 reads images in gray; IDX files bring
        their own c_dim. input_fname_pattern None allows other image types than *.jpg.
        gf_dim and df_dim are the filters of the outer convolutions, gfc_dim and dfc_dim
        the units of the dense layers. data_dir None opens no data set: such a model
        samples, but does not train. precision, see PRECISIONS, applies to the
        layers of G, D and D_ and to their gradients; weights, moving averages, losses,
        optimizers and the sampler are float32. xla: whether XLA compiles an iteration;
        None: where TensorFlow sees a GPU. ema: with a rate, such as 0.999, the sampler
        draws by moving averages of G's weights, see Averages. workers: the processes
        that train together, on batch_size images in all, see Workers.
        **dataset_options are further arguments of ImageSet, such as by_class.

        Raises UserError for settings or data that cannot work, and in a graph that has
        a DCGAN already.
        """
        self.sess = sess
        self._check_graph()
        self.workers = workers or Workers()
        self.batch_size, self.sample_num = batch_size, sample_num
        self.output_height, self.output_width = output_height, output_width
        self.y_dim, self.z_dim, self.c_dim = y_dim, z_dim, c_dim
        self.gf_dim, self.df_dim = gf_dim, df_dim
        self.gfc_dim, self.dfc_dim = gfc_dim, dfc_dim
        self.max_to_keep = max_to_keep
        self.checkpoint_dir, self.sample_dir = checkpoint_dir, sample_dir
        self.out_dir = out_dir
        self.ema, self.averages = ema, None
        self.dtype = use_precision(precision)
        self.xla = has_gpu() if xla is None else xla
        self.xla = self.xla and self.workers.count == 1  # it cannot compile messages
        self.minimize = partial(self.workers.minimize, dtype=self.dtype)
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
                by_class=dataset_options.pop('by_class', bool(y_dim)),
                **dataset_options,
            )
            self.c_dim = self.data.c_dim
            check_fit(self.data, dataset_name, batch_size, y_dim)
        # what the networks see of each byte: in [0, 1] to match the sigmoid of a
        # conditional G, or in [-1, 1] to match the tanh
        offset, scale = (0.0, 255.0) if y_dim else (127.5, 127.5)
        self._byte_values = (np.arange(256, dtype=np.float32) - offset) / scale
        # Re-entering a variable scope by its name would restart TensorFlow's counters
        # of op names, re-entering the object does not.
        self._scopes = {}
        self._folders = {}  # {folder: CheckpointFolder}
        # (state, settings, iteration), built by the first call of train()
        self._training = None
        self.build_model()

    def _check_graph(self):
        names = ('generator/', 'discriminator/')
        if any(v.name.startswith(names) for v in tf.global_variables()):
            raise UserError(
                'this graph has a DCGAN already; build each one in a tf.Graph() of its '
                'own'
            )

    # The networks. B is the batch, h and w the output size, h2 its half, rounded up.

    def generator(self, z, y=None, train=True, reuse=False, momentum=MOMENTUM):
        """z [B, z_dim] (and y [B, y_dim]) -> images [B, h, w, c] (paper, figure 1).

        In [-1, 1], by tanh, or for a conditional model in [0, 1], by sigmoid. With
        `train`, batch norm uses the statistics of the batch and updates the moving
        averages, which keep `momentum` of their values. Without, it uses them.
        """
        network = self._conditional_generator if self.y_dim else self._plain_generator

        def norm(x, name):
            return batch_norm(momentum=momentum, name=name)(x, train)

        averages = None if train or not reuse else self.averages
        with self._scope('generator', reuse, averages):
            z, y = self._cast(z, y, self.dtype if train else tf.float32)
            return network(z, y, norm)

    def discriminator(
        self, image, y=None, reuse=False, momentum=MOMENTUM, dropout=None, train=True
    ):
        """Images [B, h, w, c] (and y [B, y_dim]) -> probability real, logits [B, 1].

        `train` and `momentum` are as in `generator`; `momentum` may also be a list, see
        ops.batch_norm. `dropout` is a function of each hidden activation; None: there
        is none.
        """
        network = (
            self._conditional_discriminator if self.y_dim else self._plain_discriminator
        )

        def activate(x):
            return dropout(lrelu(x)) if dropout else lrelu(x)

        def norm(x, name):
            return batch_norm(momentum=momentum, name=name)(x, train)

        with self._scope('discriminator', reuse):
            image, y = self._cast(image, y, self.dtype if train else tf.float32)
            logits = to_float32(network(image, y, norm, activate))
            return tf.sigmoid(logits), logits

    @contextlib.contextmanager
    def _scope(self, name, reuse, averages=None):
        """The variable scope of a network: new, or with its variables or averages."""
        scope = self._scopes[name] if reuse else name
        options = {'use_resource': True, 'custom_getter': averages and averages.get}
        with tf.variable_scope(scope, reuse=reuse, **options) as scope:
            self._scopes.setdefault(name, scope)
            yield

    def _cast(self, x, y, dtype):
        """The input of a network and its labels, in the type its layers work in."""
        return tf.cast(x, dtype), None if y is None else tf.cast(y, dtype)

    def _plain_generator(self, z, y, norm):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, h2, h4, h8, h16 = halvings(self.output_height)
        w, w2, w4, w8, w16 = halvings(self.output_width)
        x = linear(z, 8 * gf * h16 * w16, 'g_h0_lin')
        x = tf.reshape(x, [-1, h16, w16, 8 * gf])
        x = relu(norm(x, 'g_bn0'))  # [B, h16, w16, 8*gf]
        x = deconv2d(x, [batch, h8, w8, 4 * gf], name='g_h1')
        x = relu(norm(x, 'g_bn1'))  # [B, h8, w8, 4*gf]
        x = deconv2d(x, [batch, h4, w4, 2 * gf], name='g_h2')
        x = relu(norm(x, 'g_bn2'))  # [B, h4, w4, 2*gf]
        x = deconv2d(x, [batch, h2, w2, gf], name='g_h3')
        x = relu(norm(x, 'g_bn3'))  # [B, h2, w2, gf]
        x = deconv2d(x, [batch, h, w, c], name='g_h4')
        return tf.tanh(to_float32(x))  # [B, h, w, c]

    def _conditional_generator(self, z, y, norm):
        batch, gf, c = tf.shape(z)[0], self.gf_dim, self.c_dim
        h, w = self.output_height, self.output_width
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = linear(tf.concat([z, y], 1), self.gfc_dim, 'g_h0_lin')
        x = relu(norm(x, 'g_bn0'))  # [B, gfc]
        x = linear(tf.concat([x, y], 1), 2 * gf * (h // 4) * (w // 4), 'g_h1_lin')
        x = relu(norm(x, 'g_bn1'))  # [B, h/4 * w/4 * 2*gf], flat
        x = tf.reshape(x, [-1, h // 4, w // 4, 2 * gf])
        x = conv_cond_concat(x, yb)  # [B, h/4, w/4, 2*gf + y]
        x = deconv2d(x, [batch, h // 2, w // 2, 2 * gf], name='g_h2')
        x = relu(norm(x, 'g_bn2'))  # [B, h/2, w/2, 2*gf]
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, 2*gf + y]
        x = deconv2d(x, [batch, h, w, c], name='g_h3')
        return tf.sigmoid(to_float32(x))  # [B, h, w, c]

    def _plain_discriminator(self, x, y, norm, activate):
        df = self.df_dim
        x = activate(conv2d(x, df, name='d_h0_conv'))  # [B, h2, w2, df]
        x = conv2d(x, 2 * df, name='d_h1_conv')
        x = activate(norm(x, 'd_bn1'))  # [B, h4, w4, 2*df]
        x = conv2d(x, 4 * df, name='d_h2_conv')
        x = activate(norm(x, 'd_bn2'))  # [B, h8, w8, 4*df]
        x = conv2d(x, 8 * df, name='d_h3_conv')
        x = activate(norm(x, 'd_bn3'))  # [B, h16, w16, 8*df]
        return linear(flatten(x), 1, 'd_h4_lin')  # [B, 1]

    def _conditional_discriminator(self, x, y, norm, activate):
        yb = tf.reshape(y, [-1, 1, 1, self.y_dim])
        x = conv_cond_concat(x, yb)  # [B, h, w, c + y]
        x = activate(conv2d(x, self.c_dim + self.y_dim, name='d_h0_conv'))
        x = conv_cond_concat(x, yb)  # [B, h/2, w/2, c + y + y]
        x = conv2d(x, self.df_dim + self.y_dim, name='d_h1_conv')
        x = activate(norm(x, 'd_bn1'))  # [B, h/4, w/4, df + y]
        x = tf.concat([flatten(x), y], 1)  # [B, h/4 * w/4 * (df + y) + y]
        x = linear(x, self.dfc_dim, 'd_h2_lin')
        x = activate(norm(x, 'd_bn2'))  # [B, dfc]
        return linear(tf.concat([x, y], 1), 1, 'd_h3_lin')  # [B, 1]

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
        self.variables = tf.global_variables()
        if self.ema:
            of_g = [v for v in self.variables if v.name.startswith('generator/')]
            self.averages = Averages(of_g, self.ema)
        # y, unless labels are fed, which may be of any number
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
        # both losses in one run, which updates G once
        sample = self.losses(iteration.Inputs(self.inputs, self.y, self.z), self.G)
        self.sample_losses = sample.d, sample.g
        # the sampler's full range as 0 to 255; one byte for each four to be fetched
        unit = self.sampler if self.y_dim else (self.sampler + 1.0) / 2.0
        self.sampler_bytes = tf.cast(tf.rint(unit * 255.0), tf.uint8)
        self.saver = tf.train.Saver(self.variables, max_to_keep=None)

    # Training

    def train(self, config, checkpoint=None):
        """Train as the original does, from the newest checkpoint if there is one.

        `config` has the original's flags as attributes, of which these are read:
        learning_rate, beta1, epoch (the total), train_size, z_dist, sample_freq,
        ckpt_freq, G_img_sum, sample_dir, checkpoint_dir; resume_step, if it has one.
        `checkpoint` is what check(config) returned, if that was called before.
        Prints a line for each iteration; writes sample grids, checkpoints and, under
        out_dir/logs, summaries. Returns the number of the last iteration. Can be called
        again, with the same beta1 and G_img_sum.

        Raises UserError where it cannot start, see `check`, cannot write, or meets a
        loss or weight that is not finite; Interrupted for a signal that asks to stop,
        after the iteration is completed and saved.
        """
        # without one, look again: another process may have trained this run meanwhile
        checkpoint = checkpoint or self.check(config)
        state, iteration = self._prepare(config)
        training = Training(self, config, state, checkpoint)
        run = self.sess.make_callable(iteration, [self.learning_rates, self.stop])
        options = self.workers.run_options
        with deferred_signals() as signals, training:
            training.pretrain(signals)
            for z in training.batches():
                with training.compiling():
                    result = run(training.rates(), bool(signals), options=options)
                training.print_losses(result)
                training.check_finite(result, self.variables)
                training.log(result, z)
                if training.is_time_for_samples():
                    training.save_samples()
                    training.print_sample_losses()
                    training.print_pace(result)
                if training.save(stop=training.stops(result.stop, signals)):
                    break
        training.finish()
        if signals:
            is_saved = 'saved up to' if self.workers.is_chief else 'after'
            text = f'interrupted; {is_saved} iteration {state.counter}'
            raise Interrupted(signals[0], text)
        return state.counter

    def check(self, config):
        """Raise UserError where train(config) could not start. Writes nothing.

        Returns the path prefix of the checkpoint from which it would resume, or None.
        """
        return check_training(self, config)

    def _prepare(self, config):
        """(state, iteration), built by the first call, returned by later ones."""
        settings = {name: getattr(config, name) for name in ('beta1', 'G_img_sum')}
        settings['ways'] = Ways.of(config).in_graph()
        if self._training is None:
            iteration = self.build_iteration(config)
            if self.workers.count > 1:
                self.sample_losses = build_sample_losses(self)
            self._training = TrainingState(self.data), settings, iteration
        state, built, iteration = self._training
        if built != settings:
            raise UserError(
                f'train() cannot change {built} to {settings} between two calls; '
                'build another DCGAN'
            )
        return state, iteration

    def build_iteration(self, config):
        """An iteration of the original, six runs of its session, as one.

        Where the original repeats a forward pass with unchanged weights and inputs, one
        pass is made, with the momentum that leaves the moving averages where its passes
        leave them. Reads learning_rate (the default of a placeholder of that name),
        beta1 and G_img_sum of `config`. Returns an Iteration of tensors, which takes
        its batch from self.batches, a BatchQueue. With self.xla, it is one
        program that XLA compiles.
        """
        ways = Ways.of(config)
        rates = ways.rates(config.learning_rate)
        self.learning_rates = tf.placeholder_with_default(
            np.float32(rates), [2], 'learning_rates'
        )
        self.stop = tf.placeholder_with_default(0.0, [], 'stop')
        _, *size = self.inputs.shape.as_list()
        shape = [self.workers.split_batch(self.batch_size), *size]
        has_seed = ways.d_dropout > 0
        self.batches = BatchQueue(shape, bool(self.y_dim), self.z_dim, has_seed)
        iterate, layers = partial(self._iterate, config), contextlib.nullcontext()
        self.xla = self.xla and can_compile()
        if self.xla:
            iterate, layers = xla_function(iterate), plain_ops()
        with layers, self.workers.joint(differentiable=ways.r1 > 0):
            iteration = iterate(*self.batches.next, self.learning_rates)
            return of_joint_batch(iteration, self.stop, self.workers)

    def _iterate(self, config, images, labels, z, seed, learning_rates):
        """The Iteration on a Batch of tensors."""
        self.rates = tf.unstack(learning_rates)
        # a function, because pretraining uses D's optimizer with another tensor
        self.d_adam, g_adam = (
            tf.train.AdamOptimizer(lambda i=i: self.rates[i], beta1=config.beta1)
            for i in range(2)
        )
        ways, inputs = Ways.of(config), self.to_inputs(images, labels, z)
        of_d = ways.of_d(seed)
        updates, step_losses, probabilities, means, drawn = [], [], [], [], []

        # (1) Update D: maximize log D(x) + log(1 - D(G(z))). One pass of G stands for
        # that of each of D's steps, and of the first one of G's, which has not changed.
        G = self.generator(
            z, inputs.y, reuse=True, momentum=MOMENTUM ** (ways.d_steps + 1)
        )
        for _ in range(ways.d_steps):
            with tf.control_dependencies(updates[-1:]), shared_casts(self.d_vars):
                losses = self.losses(inputs, G, **of_d)
                update = self.minimize(self.d_adam, losses.objective, self.d_vars)
                updates.append(update)
            step_losses.append([losses.d_real, losses.d])
            probabilities.append(losses.D)
        means += [losses.D, losses.D_]

        with shared_casts(self.d_vars):  # D keeps its weights from here on
            # (2) Update G: maximize log D(G(z)). Twice by default, unlike the paper:
            # that keeps d_loss from reaching zero.
            for number in range(ways.g_steps):
                with tf.control_dependencies(updates[-1:]):
                    if number:
                        G = self.generator(z, inputs.y, reuse=True)
                    D_, logits = self.discriminator(
                        G, inputs.y, reuse=True, dropout=of_d['dropout']
                    )
                    g_loss = cross_entropy(logits, 1)
                    updates.append(self.minimize(g_adam, g_loss, self.g_vars))
                    step_losses.append([cross_entropy(logits, 0), g_loss])
                probabilities.append(D_)
                drawn.append(G[:3])

            # (3) Report the losses of the weights that result
            with tf.control_dependencies(updates[-1:]):
                G = self.generator(z, inputs.y, reuse=True, momentum=MOMENTUM**2)
                losses = self.losses(inputs, G, merged_momenta(MOMENTUM))
        with tf.control_dependencies([losses.d_fake]):
            moved = [self.averages.move()] if self.averages else []
        with tf.control_dependencies([losses.d_fake, *moved]):
            sums = tf.stack([tf.reduce_sum(v) for v in self.variables])
        return iteration.Iteration(
            tf.stack([losses.d_fake, losses.d_real, losses.g]),
            tf.stack(step_losses),
            tf.stack(probabilities),
            tf.stack([tf.reduce_mean(p) for p in (*means, losses.D_)]),
            [tf.stack(drawn)] if config.G_img_sum else [],
            sums,
        )

    def to_inputs(self, images, labels, z):
        """Inputs of a Batch of tensors: the float32 values that `feed` gives.

        By a table, because XLA would round a division by 127.5 in another way.
        """
        images = tf.gather(self._byte_values, tf.cast(images, tf.int32))
        y = tf.one_hot(labels, self.y_dim) if self.y_dim else None
        return iteration.Inputs(images, y, z)

    def losses(
        self,
        inputs,
        G,
        momenta=(MOMENTUM, MOMENTUM),
        dropout=None,
        real_label=1,
        r1=0.0,
    ):
        """Losses on Inputs, then on images G. The order is that of D's averages."""
        images, y = inputs.images, inputs.y
        if self.workers.count > 1 and not dropout and not r1:
            D, logits, D_, logits_ = passes_in_one(self, inputs, G, momenta)
        else:
            D, logits = self.discriminator(images, y, True, momenta[0], dropout)
            with tf.control_dependencies([logits]):
                D_, logits_ = self.discriminator(G, y, True, momenta[1], dropout)
        d_fake, g = cross_entropy(logits_, 0), cross_entropy(logits_, 1)
        d_real = cross_entropy(logits, real_label)
        penalty = gradient_penalty(logits, images, r1) if r1 else None
        return iteration.Losses(D, d_real, D_, d_fake, g, penalty)

    def feed(self, images, labels, z):
        """The feed of all public tensors, from uint8 images, labels [B] or None, and z.

        An iteration is fed by `batches`, see build_iteration.
        """
        feed = {self.inputs: self._byte_values[images], self.z: z}
        if self.y_dim:
            feed[self.y] = one_hot(labels, self.y_dim)
        return feed

    # Checkpoints and exports

    def save(self, checkpoint_dir, step, filename='model', ckpt=True, frozen=False):
        """Write `{filename}.b{batch_size}-{step}` under checkpoint_dir.

        ckpt: as a checkpoint of the model's variables, which the original can read; the
        newest max_to_keep of them stay. frozen: as `..._frz.pb`, see freeze.
        Raises UserError where it cannot be written.
        """
        name = f'{filename}.b{self.batch_size}'
        if ckpt:
            folder = self.checkpoint_folder(checkpoint_dir)
            folder.write(
                self.sess, self.saver, f'{name}-{step}', meta_graph(self.saver)
            )
        if frozen:
            name = f'{name}-{step:06d}_frz.pb'
            freeze(self, os.path.join(os.path.normpath(checkpoint_dir), name))

    def save_sampler(self, folder):
        """Write the sampler as a SavedModel, see export.save_sampler."""
        export.save_sampler(self, folder)

    def checkpoint_folder(self, checkpoint_dir):
        """The CheckpointFolder of a folder, which remembers what was saved there."""
        folder = CheckpointFolder(checkpoint_dir, self.max_to_keep)
        return self._folders.setdefault(folder.folder, folder)

    def load(self, checkpoint_dir, step=None, path=None):
        """Restore a checkpoint under checkpoint_dir, of this project or the original.

        The newest complete one or, if given, that of iteration `step`; or `path`, which
        newest_checkpoint has found before.
        Returns (True, its step), or (False, 0) where there is none. Raises UserError
        where it cannot be read or is of another model.
        """
        more = self.averages and self.averages.restore
        path = restore_newest(
            self.sess, self.saver, self.variables, checkpoint_dir, step, path, more
        )
        return (False, 0) if path is None else (True, step_of(path))
