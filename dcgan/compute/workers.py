"""Train one model on several workers, with the numbers of a single process.

Each worker holds the whole model, and computes on its slice of each batch. Collective
ops compute batch norm's statistics and the gradients of the joint batch, so weights
stay equal. All workers have to build the same graph, and to run it equally often: a
collective op waits until all workers run it.
"""

import contextlib
import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator

import tensorflow.compat.v1 as tf

from dcgan.compute.cluster import Cluster, bypass_proxies, silent, wait_for
from dcgan.compute.devices import has_gpu
from dcgan.compute.gradients import custom_gradient
from dcgan.compute.session import session_config
from dcgan.util.errors import UserError, short_reason
from dcgan.util.flags import Flag, Group

# raised by TensorFlow if a worker has ended or does not take part
LOST_ERRORS = tf.errors.UnavailableError, tf.errors.DeadlineExceededError
LOST_ERRORS += tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.InternalError
LARGE = 1 << 20  # gradients of at least this size are sent alone, without a copy
SMALL = 1 << 16  # tensors of at most this size, in all, are gathered, then averaged
STEPS = 1  # collective_graph_key: numbers and orders the runs of collective ops
MAX_TEXT = 1 << 16  # bytes of the JSON that workers exchange
SECONDS_BETWEEN_CHECKS = 5  # whether the other workers are alive


class Workers:
    """All workers of a training. Without a cluster, this process is the only one.

    index is of this process: 0 is the chief, the only one that writes files. target is
    for sessions. A worker that does not answer for timeout seconds counts as lost.
    """

    current = None  # the Workers of the `joint` block that is being built, if any

    def __init__(self, cluster: Cluster | None = None, timeout: float = 300.0):
        self.tasks, self.index = cluster or ([], 0)
        self.count, self.is_chief = max(1, len(self.tasks)), self.index == 0
        self.others = [task for i, task in enumerate(self.tasks) if i != self.index]
        self.timeout, self.target = timeout, ''
        self._keys, self._check = itertools.count(1), lambda: None
        self._device = '/gpu:0' if self.count > 1 and has_gpu() else '/cpu:0'
        self._last = None  # the last collective op of the block that is being built
        self.is_differentiable = False  # see `joint`
        self._batch, self._has_exchanged = 0, False  # the batch is of one worker

    def connect(self, check: Callable[[], None] = lambda: None) -> None:
        """Start TensorFlow's server; wait for the other workers', calling `check`.

        Raises UserError if the server cannot start, or another does not answer in time.
        """
        if self.count == 1:
            return
        own = self.tasks[self.index]
        bypass_proxies(self.tasks)
        # no timeout: sessions without a timeout would take the server's
        config = self.session_config(timeout=0)
        spec, where = {}, (own.tf_job, own.number)
        for task in self.tasks:
            spec.setdefault(task.tf_job, []).append(task.address)
        try:
            self._server = tf.train.Server(spec, *where, config=config, start=False)
            self.target = self._server.target
            if self.is_chief:
                # It begins the sequence STEPS before others can ask for it: or else
                # TensorFlow may begin it twice, and the two wait for each other forever
                with tf.Graph().as_default():
                    zero = tf.constant(0)
                    with tf.Session(self.target, config=self.session_config()) as sess:
                        sess.run(zero, options=self.run_options)
            self._server.start()
        except tf.errors.OpError as error:
            problem = f'{own}: the server cannot start ({short_reason(error)})'
            raise UserError(f'{problem}; is the port in use?') from error
        port = own.address.rsplit(':', 1)[1]
        where = f'port {port} of all network interfaces, without authentication'
        advice = 'use a private network or a firewall'
        print(f' [!] {self.count} workers. TensorFlow listens on {where}: {advice}')
        self._check = check
        wait_for(self.others, self.timeout, check)

    @property
    def run_options(self) -> tf.RunOptions | None:
        """The options with which a session runs collective ops."""
        if self.count == 1:
            return None
        experimental = tf.RunOptions.Experimental(collective_graph_key=STEPS)
        return tf.RunOptions(experimental=experimental)

    def session_config(self, timeout: float | None = None) -> tf.ConfigProto:
        """Options of sessions on this worker. timeout, in s, of each run; 0: none."""
        config = session_config()
        if self.count > 1:
            config.device_filters.append(self.tasks[self.index].tf_name)
            config.experimental.collective_group_leader = self.tasks[0].tf_name
            # a timeout of a collective op would start a sleeping thread in each run
            timeout = self.timeout if timeout is None else timeout
            config.operation_timeout_in_ms = round(1000 * timeout)
        return config

    # Before training

    def exchange(self, value: object) -> list:
        """Wait for a value of each worker, which JSON can represent; returns all."""
        if self.count == 1:
            return [value]
        text = json.dumps(value).encode().ljust(MAX_TEXT)
        with tf.Graph().as_default(), tf.device('/cpu:0'):
            rows = self._run_watched(self._gather(tf.constant([list(text)])))
        self._has_exchanged = True
        return [json.loads(bytes(row.tolist())) for row in rows]

    def _run_watched(self, fetches):
        """Run collective ops; UserError if the other workers are silent meanwhile."""
        # a session of its own: another one could not be closed before these ops end
        sess, results = tf.Session(self.target, config=self.session_config(0)), []

        def run():
            try:
                results.append(sess.run(fetches, options=self.run_options))
            except tf.errors.OpError as error:
                results.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        heard, pause = time.monotonic(), min(SECONDS_BETWEEN_CHECKS, self.timeout)
        while thread.join(pause) or thread.is_alive():
            self._check()
            if self._has_exchanged and not silent(self.others):  # it may read its data
                heard = time.monotonic()
            if time.monotonic() - heard >= self.timeout:
                names = ', '.join(map(str, self.others))
                raise self.lost(TimeoutError(f'no message from {names}: a firewall?'))
        sess.close()
        if isinstance(results[0], Exception):
            raise self.lost(results[0]) from results[0]
        return results[0]

    def require_same(self, facts: dict[str, object]) -> None:
        """Raise UserError, on all workers, if facts differ from the chief's."""
        chiefs, *others = self.exchange(facts)
        for task, other in zip(self.tasks[1:], others):
            for name, value in chiefs.items():
                if other[name] != value:
                    problem = f'{name} {other[name]}, but the chief has {value}'
                    advice = 'start all workers with the same code, data and flags'
                    raise UserError(f'{task}: {problem}; {advice}')

    def share(self, sess: tf.Session, write: Callable[[tf.Session], None]) -> bool:
        """Call write(sess), then set all variables to the chief's.

        Returns whether they are of another process. One that is alone does nothing.
        """
        if self.count == 1:
            return False
        write(sess)
        moves = []
        with tf.device('/cpu:0'):
            for variable in tf.global_variables():
                value = variable.read_value()
                options = {'group_size': self.count, 'group_key': 2}
                options['instance_key'] = next(self._keys)
                if self.is_chief:
                    send = tf.raw_ops.CollectiveBcastSendV2
                    moves.append(send(input=value, **options).op)
                else:
                    options |= {'T': value.dtype, 'shape': tf.shape(value)}
                    value = tf.raw_ops.CollectiveBcastRecvV2(**options)
                    moves.append(tf.assign(variable, value, validate_shape=False))
        self._run_watched(moves)
        return not self.is_chief

    # In an iteration

    @property
    def slice(self) -> slice:
        """This worker's part of a joint batch, after `split_batch`."""
        if self.count == 1:
            return slice(None)
        return slice(self.index * self._batch, (self.index + 1) * self._batch)

    def split_batch(self, joint_batch: int) -> int:
        """Set the size of the joint batch; returns the size of a worker's part."""
        self._batch, rest = divmod(joint_batch, self.count)
        if rest:
            problem = f'is the batch of all {self.count} workers together'
            advice = f'give a multiple of {self.count}'
            raise UserError(f'--batch_size {joint_batch}: {problem}; {advice}')
        return self._batch

    def points(self, x: tf.Tensor) -> int:
        """Number of values in each channel of x, [b, h, w, c], on this worker."""
        return self._batch * x.shape[1] * x.shape[2]

    @contextlib.contextmanager
    def joint(self, differentiable: bool = False) -> Iterator[None]:
        """Let layers built in this block compute on the joint batch.

        `minimize` alone completes their gradients, which can be differentiated again
        if `differentiable`.
        """
        before, Workers.current = Workers.current, self if self.count > 1 else None
        self._last, self.is_differentiable = None, differentiable
        try:
            yield
        finally:
            Workers.current = before

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """The mean of x over the workers, differentiable."""
        if self.count == 1:
            return x
        return custom_gradient([self._reduce(x)], lambda dy: [self.mean(dy)], x)[0]

    def means(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """The mean of each tensor over the workers, by one message."""
        if self.count == 1:
            return tensors
        flat = self._reduce(tf.concat([tf.reshape(x, [-1]) for x in tensors], 0))
        parts = tf.split(flat, [x.shape.num_elements() for x in tensors])
        return [tf.reshape(part, x.shape) for part, x in zip(parts, tensors)]

    def gather(self, x: tf.Tensor, axis: int) -> tf.Tensor:
        """x of all workers, joined along an axis."""
        if self.count == 1:
            return x
        return tf.concat(tf.split(self._gather(x), self.count), axis)

    def common_stop(self, stop: float, signals: list[int]) -> bool:
        """Whether all end, by a signal; with others, by the mean `stop` of all.

        A worker that got no signal takes it for SIGTERM.
        """
        if self.count == 1:
            return bool(signals)
        if stop and not signals:
            signals.append(signal.SIGTERM)
        return bool(stop)

    def minimize(self, optimizer, loss: tf.Tensor, variables: list, dtype: tf.DType):
        """An op, a step of an optimizer on the loss of the joint batch.

        Workers send each other gradients in `dtype`.
        """
        if self.count == 1:
            return optimizer.minimize(loss, var_list=variables)
        gradients, variables = zip(*optimizer.compute_gradients(loss, variables))
        sent = [tf.cast(x, dtype) for x in gradients]
        are_small = [x.shape.num_elements() < LARGE for x in sent]
        small = iter(self.means(list(itertools.compress(sent, are_small))))
        means = [next(small) if s else self._reduce(x) for x, s in zip(sent, are_small)]
        means = [tf.cast(mean, tf.float32) for mean in means]
        return optimizer.apply_gradients(zip(means, variables))

    def _gather(self, x):
        shape = [x.shape[0] * self.count, *x.shape[1:]]
        return self._collective(tf.raw_ops.CollectiveGather, x, shape=shape)

    def _reduce(self, x):
        """The mean of x over the workers."""
        if self.count * x.shape.num_elements() <= SMALL:
            # half the time for small messages; CollectiveGather takes no bfloat16
            rows = self._gather(tf.cast(x, tf.float32)[tf.newaxis])
            return tf.cast(tf.reduce_mean(rows, 0), x.dtype)
        options = {'merge_op': 'Add', 'final_op': 'Div', 'ordering_token': []}
        options['max_subdivs_per_device'] = 8  # pieces that are sent at once
        mean = self._collective(tf.raw_ops.CollectiveReduceV2, x, **options)
        mean.set_shape(x.shape)
        return mean

    def _collective(self, op, x, **options):
        options |= {'group_size': self.count, 'instance_key': next(self._keys)}
        if self._device == '/cpu:0' or x.dtype.is_integer:
            with tf.device('/cpu:0'):
                return op(input=x, group_key=2, communication_hint='auto', **options)
        # after the last one, because NCCL needs the same order of ops on all workers
        before = [] if self._last is None else [self._last]
        with tf.device(self._device), tf.control_dependencies(before):
            result = op(input=x, group_key=1, communication_hint='nccl', **options)
        self._last = result.op
        return result

    # Lost workers

    @contextlib.contextmanager
    def errors(self, advice: Callable[[], str]) -> Iterator[None]:
        """Raise UserError, which ends in advice(), if this block loses a worker."""
        try:
            yield
        except LOST_ERRORS as error:
            if self.count == 1:
                raise
            raise self.lost(error, advice()) from error

    def lost(self, error: Exception, advice='start all workers again') -> UserError:
        """An error that names the workers that do not answer."""
        if absent := ', '.join(silent(self.others)):
            return UserError(f'no answer from {absent}; {advice}')
        problem = 'a worker failed, or took longer than --worker_timeout'
        return UserError(f'{problem} ({short_reason(error)}); {advice}')


# fmt: off
FLAGS = Group(
    'Workers',
    '--workers trains with several processes, docs/workers.md',
    Flag('workers', 1, 'Processes on this machine that train together, each on a GPU '
         'if there are any; on several machines, set TF_CONFIG instead, see '
         'docs/workers.md', least=1),
    Flag('worker_timeout', 300.0, 'Seconds after which training ends because a worker '
         'does not answer', least=1, most=10**6),
)
