"""Measure how fast DCGAN trains: python tests/bench.py, 8 to 12 minutes on 2 cores.

Compares ways to make one iteration: as the original does (six runs of its session, by
TensorFlow's own ops, float32), and as this project does, in each precision of which the
device is capable. On a GPU, each precision is measured without and with XLA; on a CPU,
with XLA only if --xla is given. All are timed in one process, alternately. The first
line names the device. The table shows medians:

ms, images/s          an iteration whose batch is already in the memory of the device.
                      Without XLA, TensorFlow chooses the algorithm of a convolution
                      once a process, for float32 and tf32 alike: the time of tf32 is
                      the time of main.py, which runs in another process
share of the          the time of this iteration, divided by that of the original's six
original's time       runs
GFLOP/s               of the convolutions and matrix multiplications of an iteration,
                      counted with their padding
share of the peak     these GFLOP/s, divided by those of a multiplication of large
                      matrices in the same precision, timed between the turns
samples/s             samples drawn as main.py draws them, as uint8; in brackets, by the
                      sampler node in a loop, one batch at a time
main.py, ms           an iteration of a real run of main.py on random data. It includes
                      reading, summaries and printing, and a 200th of the time for an
                      image grid, the losses on the sample batch and a checkpoint. In
                      brackets, the overhead: how much longer this is than the iteration
                      alone. Both processes take turns: while one runs, the other waits.
                      The median of the turns counts. On a GPU, image models are
                      measured twice: with JPEGs that are decoded, then with --cache
start, s              the time of that run until its first iteration is complete. With
                      XLA twice: with an empty cache of compiled programs, then with
                      what that run has left there
peak memory, MB       the peak memory of that run, without the processes that decode
                      images
GPU memory, MB        the peak memory on the GPU that the model and an iteration alone
                      take, from TensorFlow's allocator

    python tests/bench.py --size 64 --batch 8 32 64 128      how the cost grows
    python tests/bench.py --size 32 64 128 --bare            without the runs of main.py
    python tests/bench.py --batch 64 256 1024                a GPU, at all its sizes
"""

import argparse
import contextlib
import gc
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dcgan.util.quiet_import import import_tensorflow

import_tensorflow()  # comes first, because it silences the log of TensorFlow

# isort: split
import numpy as np
import tensorflow.compat.v1 as tf
from bench_data import IMAGES, make_jpegs

import model
from dcgan.compute import devices
from dcgan.compute.devices import gpu_details, has_tensor_units
from dcgan.compute.kernels import tensorflow_ops
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.session import session_config
from dcgan.data.idx import write_idx
from dcgan.sampling.samples import draw_batches
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.original_iteration import OriginalIteration
from dcgan.training.prefetch import Batch

MATRIX_SIZE = 4096  # height and width of the large matrices
SAMPLES = 1024  # drawn in each turn
SECONDS = 30  # for all turns of one size and batch
RUN_ITERATIONS = 401  # of main.py at least, if they take at most MAX_RUN_SECONDS
RUN_SECONDS = 20  # if 401 take less, as many iterations as fit into this
MAX_RUN_SECONDS = 90
SHORT_RUN_SECONDS = 60  # if they take more, as many iterations as fit into this
SAVE_EVERY = 200  # iterations between two grids and checkpoints, as by default
TURN_SECONDS = 1  # of main.py at least
MNIST_IMAGES = 70000
EPOCH_BATCHES = 31  # of JPEGs at least, because none are decoded beyond an epoch
CONFIG = SimpleNamespace(learning_rate=0.0002, beta1=0.5, G_img_sum=False)
SWITCHES = {
    'bare': 'leave out the runs of main.py',
    'json': 'print JSON instead of the table',
    'xla': 'measure XLA on a CPU as well',
}
HEADER = (
    "| model, batch | iteration | ms | images/s | share of the original's time "
    '| GFLOP/s | share of the peak | samples/s | main.py, ms | start, s '
    '| peak memory, MB | GPU memory, MB |'
)


class Step(NamedTuple):
    """Something to be timed: run(), each time after prepare()."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


class Kind(NamedTuple):
    """A kind of iteration: of this project, in a precision, or the original's."""

    precision: str = 'float32'
    xla: bool = False
    is_original: bool = False

    def __str__(self):
        if self.is_original:
            return "the original's six runs, float32"
        return f'this project, {self.precision}' + (', XLA' if self.xla else '')


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--size',
        nargs='+',
        default=['mnist', '64'],
        help='mnist, or the height and width of an unconditional model in pixels; '
        'default: mnist 64',
    )
    parser.add_argument(
        '--batch', nargs='+', type=int, default=[64], help='batch sizes; default: 64'
    )
    for name, text in SWITCHES.items():
        parser.add_argument(f'--{name}', action='store_true', help=text)
    args = parser.parse_args()
    if not all(1 <= batch <= SAMPLES for batch in args.batch):
        parser.error(f'--batch takes numbers from 1 to {SAMPLES}')
    # raise SystemExit, so that run_main kills its main.py, which may be stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)  # for gpu_memory
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not args.json:
            print(f'{device_name()}, TensorFlow {tf.__version__}\n', flush=True)
        if not args.bare:
            make_data(folder, args.size, max(args.batch))
        if not args.json:
            print(HEADER + '\n|' + '---|' * HEADER.count(' | ') + '---|', flush=True)
        for size in args.size:
            for batch in args.batch:
                rows += measure_group(size, batch, args, folder)
                gc.collect()  # memory of a closed session is free when it is deleted
    if args.json:
        print(json.dumps(rows, indent=4))


def measure_group(size, batch, args, folder):
    """Measure a model with one batch size; returns its rows, and prints the table's."""
    with contextlib.ExitStack() as sessions:
        rows = measure(size, batch, args.xla, sessions)
        for row in rows:
            step = row.pop('step')
            if not args.bare and not row['kind'].is_original:
                measure_runs(row, step, folder)
            row['kind'] = str(row['kind'])
            if not args.json:
                print(as_line(row), flush=True)
    return rows


def device_name():
    cores = f'{devices.usable_cores()} CPU cores'
    gpu = gpu_details().get('device_name')
    return f'{gpu}, {cores}' if gpu else cores


def kinds(with_xla):
    """The kinds of iteration that this device is to be measured with."""
    has_gpu = devices.has_gpu()
    precisions = ['float32']
    precisions += ['tf32'] if has_tensor_units() else []
    precisions += ['bfloat16'] if has_bfloat16() else []
    xla = [False, True] if has_gpu or with_xla else [False]
    return [Kind(p, x) for p in precisions for x in xla]


def model_size(size):
    """The arguments of DCGAN for a --size."""
    if size == 'mnist':
        return {'output_height': 28, 'output_width': 28, 'y_dim': 10, 'c_dim': 1}
    return {'output_height': int(size), 'output_width': int(size)}


def measure(size, batch, with_xla, sessions):
    """Return a row of results for each kind of iteration.

    `step` in a row is a Step that makes one such iteration. Closing the ExitStack
    `sessions` closes what the steps need.
    """
    arguments = {**model_size(size), 'batch_size': batch, 'sample_num': batch}
    steps, models, memory, multiplications = {}, [], {}, {}
    for kind in [Kind(is_original=True), *kinds(with_xla)]:
        before = gpu_memory('current')
        build = build_original if kind.is_original else build_ours
        steps[kind], dcgan = build(arguments, kind, sessions)
        memory[kind] = peak_gpu_memory(steps[kind]) - before
        models.append(dcgan)
    for kind in steps:
        if kind.precision not in multiplications:
            step = multiplication(kind.precision, sessions)
            multiplications[kind.precision] = step
    in_loop, as_main = samplers(models[1])
    samplings = {'sampler in a loop': in_loop, 'samples': as_main}
    times = median_times({**steps, **multiplications, **samplings})
    flops = count_flops(models[0])
    rows = []
    for kind, step in steps.items():
        rate = flops / times[kind]
        peak = 2 * MATRIX_SIZE**3 / times[kind.precision]
        rows.append(
            {
                'device': device_name(),
                'tensorflow': tf.__version__,
                'size': size,
                'batch': batch,
                'kind': kind,
                'ms': times[kind] * 1e3,
                'images/s': batch / times[kind],
                'ratio': times[kind] / times[Kind(is_original=True)],
                'gflops': rate / 1e9,
                'matrix_gflops': peak / 1e9,
                'matrix_share': rate / peak,
                'step': step,
                **({'gpu_mb': memory[kind] / 1e6} if devices.has_gpu() else {}),
            }
        )
    rows[1]['samples/s'] = SAMPLES / times['samples']
    rows[1]['loop_samples/s'] = SAMPLES // batch * batch / times['sampler in a loop']
    return rows


def median_times(steps):
    """Run all Steps in turns; returns {name: median time in seconds}.

    Each Step runs twice before, to warm up.
    """
    times = {name: [] for name in steps}
    for step in [*steps.values()] * 2:
        timed(step)
    start = time.perf_counter()
    while min(map(len, times.values())) < 5 or time.perf_counter() - start < SECONDS:
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(step):
    """Run a Step; returns how long it took, in seconds."""
    step.prepare()
    start = time.perf_counter()
    step.run()
    return time.perf_counter() - start


def gpu_memory(kind):
    """The bytes of the first GPU that this process uses: 'current', or the 'peak'."""
    if not devices.has_gpu():
        return 0
    return tf.config.experimental.get_memory_info('GPU:0')[kind]


def peak_gpu_memory(step):
    """The peak of gpu_memory while a Step runs, after a first run that prepares it."""
    if not devices.has_gpu():
        return 0
    timed(step)
    tf.config.experimental.reset_memory_stats('GPU:0')
    timed(step)
    return gpu_memory('peak')


# What is compared. The build_ functions return (Step, model).


def open_session(config, sessions):
    """A session of the current graph that is closed with the ExitStack `sessions`."""
    return sessions.enter_context(contextlib.closing(tf.Session(config=config)))


def use_tf32(is_used):
    """Let float32 be computed in TF32 where a GPU can, in the steps that follow."""
    tf.config.experimental.enable_tensor_float_32_execution(is_used)


def build_original(arguments, kind, sessions):
    """An iteration of the original: six runs of its session, which share nothing."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default():
        sess = open_session(config, sessions)
        with tensorflow_ops(), mock.patch.multiple(model, **ORIGINAL_LAYERS):
            dcgan = model.DCGAN(sess, data_dir=None, **arguments)
        iteration = OriginalIteration(dcgan, CONFIG)
        sess.run(tf.global_variables_initializer())
    feed = random_feed(dcgan)

    def step():
        iteration.runs(feed)

    return Step(step, lambda: use_tf32(False)), dcgan


def build_ours(arguments, kind, sessions):
    """An iteration of this project: one run of the session."""
    with tf.Graph().as_default():
        sess = open_session(session_config(), sessions)
        dcgan = model.DCGAN(
            sess, data_dir=None, precision=kind.precision, xla=kind.xla, **arguments
        )
        iteration = FusedIteration(dcgan, CONFIG)
        sess.run(tf.global_variables_initializer())
    put, batch = iteration.batches.putter(sess), Batch(*random_batch(dcgan))

    def prepare():
        use_tf32(kind.precision == 'tf32')
        put(batch)

    rates = 2 * [CONFIG.learning_rate]
    return Step(lambda: iteration(rates, stop=False), prepare), dcgan


def random_feed(dcgan):
    return dcgan.feed(*random_batch(dcgan))


def random_batch(dcgan):
    """Random images, labels (without classes all 0) and z."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, dcgan.inputs.shape.as_list()).astype(np.uint8)
    labels = rng.randint(0, dcgan.y_dim or 1, dcgan.batch_size)
    z = rng.uniform(-1, 1, (dcgan.batch_size, dcgan.z_dim)).astype(np.float32)
    return images, labels, z


def samplers(dcgan):
    """Two Steps that draw SAMPLES: the sampler node in a loop, and as main.py."""
    feed = random_feed(dcgan)
    feed.pop(dcgan.inputs)
    z = np.resize(feed[dcgan.z], (SAMPLES, dcgan.z_dim))
    labels = np.arange(SAMPLES) % (dcgan.y_dim or 1)

    def in_loop():
        for _ in range(SAMPLES // dcgan.batch_size):
            dcgan.sess.run(dcgan.sampler, feed)

    def as_main():
        for _ in draw_batches(dcgan.sess, dcgan, z, labels, as_bytes=True):
            pass

    def prepare():
        use_tf32(False)

    return Step(in_loop, prepare), Step(as_main, prepare)


def multiplication(precision, sessions):
    """A Step that multiplies two large matrices in a precision."""
    dtype = tf.bfloat16 if precision == 'bfloat16' else tf.float32
    with tf.Graph().as_default():
        sess = open_session(session_config(), sessions)
        values = (tf.random_normal([MATRIX_SIZE, MATRIX_SIZE]) for _ in range(2))
        a, b = (tf.Variable(tf.cast(value, dtype)) for value in values)
        run = tf.matmul(a, b).op
        sess.run([a.initializer, b.initializer])
    return Step(lambda: sess.run(run), lambda: use_tf32(precision == 'tf32'))


def count_flops(dcgan):
    """Count the floating-point operations of an iteration of a model.

    They belong to convolutions, with their padding, and matrix multiplications: a
    multiplication and an addition for each term.

    G makes three passes, because its weights change twice: before its first step, after
    it, and after its second step. D makes passes on both batches in its own step, one
    in each step of G, and on both batches at the end. A gradient with respect to
    weights or to an input costs as much as a pass. D's step needs no gradient with
    respect to D's input, and G's steps need none with respect to z.
    """
    layers = {'generator': [], 'discriminator': []}
    for op in dcgan.sess.graph.get_operations():
        network = op.name.split('/')[0]
        if network in layers and op.type in SMALLER_IMAGE:
            pixels = SMALLER_IMAGE[op.type](op).shape.as_list()[1:-1]
            weights = [t for t in op.inputs if t.op.type == 'ReadVariableOp']
            weight_count = math.prod(weights[0].shape.as_list())
            terms = dcgan.batch_size * math.prod(pixels) * weight_count
            layers[network].append(2 * terms)
    G, D = sum(layers['generator']), sum(layers['discriminator'])
    d_step = G + 2 * (D + D + D - layers['discriminator'][0])
    g_steps = G + 2 * (D + D + G + G - layers['generator'][0])
    return d_step + g_steps + G + 2 * D


# each weight of a layer is used once for each of its pixels
SMALLER_IMAGE = {
    'Conv2D': lambda op: op.outputs[0],
    'Conv2DBackpropInput': lambda op: op.inputs[2],  # transposed convolution
    'MatMul': lambda op: op.outputs[0],
}


def original_conv_cond_concat(x, y):
    ones = tf.ones([tf.shape(x)[0], *x.shape[1:3], y.shape[3]])
    return tf.concat([x, y * ones], 3)


# layers that this project computes by other operations than the original
ORIGINAL_LAYERS = {
    'conv_cond_concat': original_conv_cond_concat,
    'lrelu': lambda x: tf.maximum(x, 0.2 * x),
}


# Real runs


def make_data(folder, sizes, batch):
    """Write the random data sets that the sizes need to folder/data.

    The JPEGs fill EPOCH_BATCHES batches, if need be by links to the same files.
    """
    rng = np.random.RandomState(0)
    if 'mnist' in sizes:
        mnist = os.path.join(folder, 'data', 'mnist')
        os.makedirs(mnist)
        images = rng.randint(0, 256, (MNIST_IMAGES, 28, 28)).astype(np.uint8)
        write_idx(f'{mnist}/train-images-idx3-ubyte', images)
        labels = rng.randint(0, 10, MNIST_IMAGES).astype(np.uint8)
        write_idx(f'{mnist}/train-labels-idx1-ubyte', labels)
    if set(sizes) - {'mnist'}:
        jpegs = os.path.join(folder, 'data', 'jpegs')
        make_jpegs(jpegs)
        for i in range(IMAGES, EPOCH_BATCHES * batch):
            os.symlink(f'{i % IMAGES:06d}.jpg', f'{jpegs}/{i:06d}.jpg')


def measure_runs(row, step, folder):
    """Add the results of real runs of main.py to the row of a kind, made by `step`."""
    size, batch, kind = row['size'], row['batch'], row['kind']
    if size == 'mnist':
        data, images = ['--dataset', 'mnist'], MNIST_IMAGES
    else:
        data = ['--dataset', 'jpegs', '--crop', '--output_height', size]
        images = len(list(Path(folder, 'data', 'jpegs').glob('*.jpg')))
    seconds = row['ms'] / 1e3
    count = max(RUN_ITERATIONS, int(RUN_SECONDS / seconds))
    if count * seconds >= MAX_RUN_SECONDS:
        count = max(5, int(SHORT_RUN_SECONDS / seconds))
    batches = min(count, images // batch)
    args = [*data, '--precision', kind.precision, '--batch_size', batch]
    args += ['--xla' if kind.xla else '--noxla']
    args += ['--train_size', batches * batch, '--epoch', -(-count // batches)]
    # a folder for compiled programs that is empty at first
    environment = {**os.environ, 'XDG_CACHE_HOME': tempfile.mkdtemp(dir=folder)}
    for name in ('TF_XLA_FLAGS', 'TF_CPP_MIN_LOG_LEVEL'):  # set by import_tensorflow
        environment.pop(name, None)
    if kind.xla:
        row['cold_start_s'] = time_to_first_iteration(args, folder, environment)
    turn = max(2, count // 40, math.ceil(TURN_SECONDS / seconds))
    settings = folder, environment, step, count, turn
    start, pace, overhead, peak = run_main(args, *settings)
    row['main_ms'], row['main_overhead'] = pace * 1e3, overhead
    row['start_s'], row['peak_mb'] = start, peak
    if devices.has_gpu() and size != 'mnist':
        _, pace, overhead, _ = run_main([*args, '--cache'], *settings)
        row['cached_ms'], row['cached_overhead'] = pace * 1e3, overhead


def time_to_first_iteration(args, folder, environment):
    """The seconds until main.py has printed its first iteration. Kills it then."""
    start = time.perf_counter()
    with start_main(args, folder, environment) as process:
        for line in process.stdout:
            if ' Epoch:[' in line:
                seconds = time.perf_counter() - start
                os.killpg(process.pid, signal.SIGKILL)
                return seconds
    sys.exit('bench.py: main.py failed, see above')


@contextlib.contextmanager
def start_main(args, folder, environment):
    """A process that trains with main.py; it is killed where the block fails."""
    command = [sys.executable, ROOT / 'main.py', '--train', *args]
    with subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a process group, with the processes that decode
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def run_main(args, folder, environment, step, count, turn):
    """Train `count` iterations by main.py; stop it after each turn, for bare steps.

    `turn` is the number of iterations in a turn of main.py; one of bare steps is half
    as long. Returns the seconds until the first iteration is complete, the seconds of a
    later one, how much longer that one is than a bare step (0.01 for 1%), and the peak
    memory of main.py in MB.
    """
    save_every = min(SAVE_EVERY, count // 2)
    args = [*args, '--sample_freq', save_every, '--ckpt_freq', save_every]
    main_times, bare_times, peak, start = [], [], 0, time.perf_counter()
    with start_main(args, folder, environment) as process:
        for line in process.stdout:
            if ' Trained: ' in line:  # the work is done, but the process is alive
                peak = max(peak, peak_memory(process.pid))
            if ' Epoch:[' not in line:
                continue
            main_times.append(time.perf_counter() - start)
            if len(main_times) % turn == 1:
                os.killpg(process.pid, signal.SIGSTOP)
                steps = [timed(step) for _ in range(-(-turn // 2))]
                bare_times.append(statistics.mean(steps))
                peak = max(peak, peak_memory(process.pid))
                os.killpg(process.pid, signal.SIGCONT)
            start = time.perf_counter()
    if process.returncode:
        sys.exit(f'bench.py: main.py {" ".join(map(str, args))} failed, see above')
    first, *main_times = main_times
    times = compare_times(main_times, bare_times, turn, save_every)
    return first, *times, peak


def compare_times(main_times, bare_times, turn, save_every):
    """Return the seconds of an iteration of main.py, and its overhead as a fraction.

    main_times has the seconds of each iteration after the first, bare_times the mean
    seconds of a bare step in each turn.
    """
    # After the iterations save_every, 2 * save_every, ..., main.py saves a grid and a
    # checkpoint. `saving` is their share of one iteration with the default flags.
    other_times = [
        statistics.mean(
            seconds
            for i, seconds in enumerate(main_times[first : first + turn], first + 1)
            if i % save_every
        )
        for first in range(0, len(main_times) - turn + 1, turn)
    ]
    other = statistics.median(other_times)
    saving_times = main_times[save_every - 1 :: save_every]
    saving = (statistics.mean(saving_times) - other) / SAVE_EVERY
    ratio = statistics.median(a / b for a, b in zip(other_times, bare_times))
    return other + saving, ratio + saving / other - 1


def peak_memory(pid):
    """The peak memory of a process so far, in MB; 0 if it has ended.

    getrusage would not do: its maximum includes the memory of this process, from which
    the other one was forked.
    """
    match = re.search(r'VmHWM:\s*(\d+) kB', Path(f'/proc/{pid}/status').read_text())
    return int(match[1]) / 1000 if match else 0


def as_line(row):
    """A row of results as a line of the table."""

    def cell(key, form, scale=1):
        return format(row[key] * scale, form) if key in row else ''

    def pair(first, second, form='{} ({})'):
        return form.format(first, second) if first and second else first

    name = 'MNIST 28x28' if row['size'] == 'mnist' else f'{row["size"]}x{row["size"]}'
    digits = ',.0f' if row['ms'] >= 100 else ',.2f'
    main_py = pair(cell('main_ms', digits), cell('main_overhead', '+.1%'))
    cached = pair(cell('cached_ms', digits), cell('cached_overhead', '+.1%'))
    cells = [f'{name}, {row["batch"]}', row['kind'], cell('ms', digits)]
    cells += [cell('images/s', ',.0f'), cell('ratio', '.2f'), cell('gflops', ',.0f')]
    cells += [cell('matrix_share', '.0%')]
    cells += [pair(cell('samples/s', ',.0f'), cell('loop_samples/s', ',.0f'))]
    cells += [pair(main_py, cached, '{}; {}')]
    starts = cell('cold_start_s', '.1f'), cell('start_s', '.1f')
    cells += [pair(*starts, '{}; {}') or starts[1]]
    cells += [cell('peak_mb', ',.0f'), cell('gpu_mb', ',.0f')]
    return '| ' + ' | '.join(cells) + ' |'


if __name__ == '__main__':
    main()
