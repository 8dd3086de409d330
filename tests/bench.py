"""Measure how fast DCGAN trains: python tests/bench.py, 8 to 12 minutes on 2 cores.

Compares three ways to make one iteration: as the original does (six runs of its
session, plain layers), and as this project does in float32 and, where the processor has
fast kernels for it, in bfloat16. All are timed in one process, in turns. The table
shows medians:

ms, images/s          an iteration whose batch is already in memory
share of the          the time of this iteration, divided by that of the original's six
original's time       runs
GFLOP/s               of the convolutions and matrix multiplications of an iteration,
                      counted with their padding
share of the peak     these GFLOP/s, divided by those of a multiplication of large
                      matrices of the same type, which is timed between the turns
samples/s             samples drawn as main.py draws them, as uint8; in brackets, by the
                      sampler node in a loop, one batch at a time
main.py, ms           an iteration of a real run of main.py on random data. It includes
                      reading, summaries and printing, and a 200th of the time for an
                      image grid, the losses on the sample batch and a checkpoint. In
                      brackets, the overhead: how much longer this is than the iteration
                      alone. Both processes take turns: while one runs, the other waits.
                      The median of the turns counts
start, s              the time of that run until its first iteration is complete
peak memory, MB       the peak memory of that run, without the processes that decode
                      images

    python tests/bench.py --size 64 --batch 8 32 64 128      how the cost grows
    python tests/bench.py --size 32 64 128 --bare            without the runs of main.py
"""

import argparse
import contextlib
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
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from dcgan.startup import import_tensorflow

import_tensorflow()  # comes first, because it silences the log of TensorFlow

# isort: split
import numpy as np
import tensorflow.compat.v1 as tf
from bench_data import make_jpegs

import model
from dcgan import kernels
from dcgan.devices import session_config
from dcgan.idx import write_idx
from dcgan.samples import draw_batches, to_uint8

MATRIX_SIZE = 4096  # height and width of the large matrices
SAMPLES = 1024  # drawn in each turn
SECONDS = 30  # for all turns of one size and batch
RUN_ITERATIONS = 401  # of main.py, if they take no more than MAX_RUN_SECONDS
MAX_RUN_SECONDS = 90
SHORT_RUN_SECONDS = 60  # if they take more, as many iterations as fit into this
SAVE_EVERY = 200  # iterations between two grids and checkpoints, as by default
MNIST_IMAGES = 70000
CONFIG = SimpleNamespace(learning_rate=0.0002, beta1=0.5, G_img_sum=False)
HEADER = (
    "| model, batch | iteration | ms | images/s | share of the original's time "
    '| GFLOP/s | share of the peak | samples/s | main.py, ms | start, s '
    '| peak memory, MB |'
)


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
    parser.add_argument(
        '--bare', action='store_true', help='leave out the runs of main.py'
    )
    parser.add_argument(
        '--json', action='store_true', help='print JSON instead of the table'
    )
    args = parser.parse_args()
    if not all(1 <= batch <= SAMPLES for batch in args.batch):
        parser.error(f'--batch takes numbers from 1 to {SAMPLES}')
    # raise SystemExit, so that run_main kills its main.py, which may be stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not args.bare:
            make_data(folder, args.size)
        if not args.json:
            print(HEADER + '\n|' + '---|' * HEADER.count(' | ') + '---|')
        for size in args.size:
            for batch in args.batch:
                new_rows = measure(size, batch)
                if not args.bare:
                    measure_runs(new_rows, size, batch, folder)
                for row in new_rows:
                    row.pop('step')
                    if not args.json:
                        print(as_line(row), flush=True)
                rows += new_rows
    if args.json:
        print(json.dumps(rows, indent=4))


def model_size(size):
    """The arguments of DCGAN for a --size."""
    if size == 'mnist':
        return {'output_height': 28, 'output_width': 28, 'y_dim': 10, 'c_dim': 1}
    return {'output_height': int(size), 'output_width': int(size)}


def measure(size, batch):
    """Return a row of results for each kind of iteration: original, float32, bfloat16.

    `step` in a row is a function that makes one such iteration.
    """
    arguments = {**model_size(size), 'batch_size': batch, 'sample_num': batch}
    iterations = {
        'original': build_original(arguments),
        'float32': build_ours(arguments, 'float32'),
    }
    if kernels.has_bfloat16():
        iterations['bfloat16'] = build_ours(arguments, 'bfloat16')
    steps = {name: step for name, (step, _, _) in iterations.items()}
    multiplications = {
        ('multiplication', dtype): matrix_multiplication(dtype)
        for dtype in iterations
        if dtype != 'original'
    }
    in_loop, as_main = samplers(*iterations['float32'][1:])
    samplings = {'sampler in a loop': in_loop, 'samples': as_main}
    times = median_times({**steps, **multiplications, **samplings})
    flops = count_flops(iterations['original'][2])
    rows = []
    for name, step in steps.items():
        dtype = 'float32' if name == 'original' else name
        rate = flops / times[name]
        peak = 2 * MATRIX_SIZE**3 / times['multiplication', dtype]
        rows.append(
            {
                'size': size,
                'batch': batch,
                'iteration': name,
                'ms': times[name] * 1e3,
                'pictures/s': batch / times[name],
                'ratio': times[name] / times['original'],
                'gflops': rate / 1e9,
                'matrix_gflops': peak / 1e9,
                'matrix_share': rate / peak,
                'step': step,
            }
        )
    rows[1]['samples/s'] = SAMPLES / times['samples']
    rows[1]['loop_samples/s'] = SAMPLES // batch * batch / times['sampler in a loop']
    return rows


def median_times(steps):
    """Call all functions in turns; returns {name: median time in seconds}.

    Each function is called twice before, to warm up.
    """
    times = {name: [] for name in steps}
    for step in [*steps.values()] * 2:
        step()
    start = time.perf_counter()
    while min(map(len, times.values())) < 5 or time.perf_counter() - start < SECONDS:
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(step):
    """Call a function; returns how long it took, in seconds."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


# What is compared. The build_ functions return (step, session, model).


def build_original(arguments):
    """An iteration of the original: six runs of its session, which share nothing."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    with tf.Graph().as_default():
        sess = tf.Session(config=config)
        with kernels.plain_ops(), mock.patch.multiple(model, **ORIGINAL_LAYERS):
            dcgan = model.DCGAN(sess, data_dir=None, **arguments)
        d_step, g_step = (
            tf.train.AdamOptimizer(CONFIG.learning_rate, beta1=CONFIG.beta1).minimize(
                loss, var_list=variables
            )
            for loss, variables in (
                (dcgan.d_loss, dcgan.d_vars),
                (dcgan.g_loss, dcgan.g_vars),
            )
        )
        d_sum = [dcgan.z_sum, dcgan.d_sum, dcgan.d_loss_real_sum, dcgan.d_loss_sum]
        g_sum = [dcgan.z_sum, dcgan.d__sum, dcgan.d_loss_fake_sum, dcgan.g_loss_sum]
        d_run = [d_step, tf.summary.merge(d_sum)]
        g_run = [g_step, tf.summary.merge(g_sum)]
        sess.run(tf.global_variables_initializer())
    losses = dcgan.d_loss_fake, dcgan.d_loss_real, dcgan.g_loss
    feed = random_feed(dcgan)

    def step():
        for fetches in (d_run, g_run, g_run, *losses):
            sess.run(fetches, feed)

    return step, sess, dcgan


def build_ours(arguments, precision):
    """An iteration of this project: one run of the session."""
    with tf.Graph().as_default():
        sess = tf.Session(config=session_config())
        dcgan = model.DCGAN(sess, data_dir=None, precision=precision, **arguments)
        iteration = dcgan.build_iteration(CONFIG)
        sess.run(tf.global_variables_initializer())
    feed = random_feed(dcgan)
    return lambda: sess.run(iteration, feed), sess, dcgan


def random_feed(dcgan):
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, dcgan.inputs.shape.as_list()).astype(np.uint8)
    labels = rng.randint(0, dcgan.y_dim or 1, dcgan.batch_size)
    z = rng.uniform(-1, 1, (dcgan.batch_size, dcgan.z_dim)).astype(np.float32)
    return dcgan.feed(images, labels, z)


def samplers(sess, dcgan):
    """Two functions that draw SAMPLES: the sampler node in a loop, and as main.py."""
    feed = random_feed(dcgan)
    feed.pop(dcgan.inputs)
    z = np.resize(feed[dcgan.z], (SAMPLES, dcgan.z_dim))
    labels = np.arange(SAMPLES) % (dcgan.y_dim or 1)

    def in_loop():
        for _ in range(SAMPLES // dcgan.batch_size):
            sess.run(dcgan.sampler, feed)

    def as_main():
        for images in draw_batches(sess, dcgan, z, labels):
            to_uint8(dcgan, images)

    return in_loop, as_main


def matrix_multiplication(dtype):
    """A function that multiplies two large matrices of a type."""
    with tf.Graph().as_default():
        sess = tf.Session(config=session_config())
        values = (tf.random_normal([MATRIX_SIZE, MATRIX_SIZE]) for _ in range(2))
        a, b = (tf.Variable(tf.cast(value, dtype)) for value in values)
        run = tf.matmul(a, b).op
        sess.run([a.initializer, b.initializer])
    return lambda: sess.run(run)


def count_flops(dcgan):
    """Count the floating-point operations of an iteration of a model.

    They are those of convolutions, with their padding, and of matrix multiplications: a
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


def make_data(folder, sizes):
    """Write the random data sets that the sizes need to folder/data."""
    rng = np.random.RandomState(0)
    if 'mnist' in sizes:
        mnist = os.path.join(folder, 'data', 'mnist')
        os.makedirs(mnist)
        images = rng.randint(0, 256, (MNIST_IMAGES, 28, 28)).astype(np.uint8)
        write_idx(f'{mnist}/train-images-idx3-ubyte', images)
        labels = rng.randint(0, 10, MNIST_IMAGES).astype(np.uint8)
        write_idx(f'{mnist}/train-labels-idx1-ubyte', labels)
    if set(sizes) - {'mnist'}:
        make_jpegs(os.path.join(folder, 'data', 'jpegs'))


def measure_runs(rows, size, batch, folder):
    """Add the results of real runs of main.py to the rows, one run per precision."""
    if size == 'mnist':
        data, images = ['--dataset', 'mnist'], MNIST_IMAGES
    else:
        data = ['--dataset', 'jpegs', '--crop', '--output_height', size]
        images = len(os.listdir(f'{folder}/data/jpegs'))
    for row in rows[1:]:
        seconds = row['ms'] / 1e3
        count = RUN_ITERATIONS
        if count * seconds >= MAX_RUN_SECONDS:
            count = max(5, int(SHORT_RUN_SECONDS / seconds))
        batches = min(count, images // batch)
        args = [*data, '--precision', row['iteration'], '--batch_size', batch]
        args += ['--train_size', batches * batch, '--epoch', -(-count // batches)]
        start, pace, overhead, peak = run_main(args, folder, row['step'], count)
        row['main_ms'], row['main_overhead'] = pace * 1e3, overhead
        row['start_s'], row['peak_mb'] = start, peak


def run_main(args, folder, step, count):
    """Train with main.py; after each turn of its iterations, stop it for bare steps.

    A turn of bare steps is half as long as a turn of main.py. Returns the seconds until
    the first iteration is complete, the seconds of a later one, how much longer that
    one is than a bare step (0.01 for 1%), and the peak memory of main.py in MB.
    """
    turn, save_every = max(2, count // 40), min(SAVE_EVERY, count // 2)
    args = [*args, '--sample_freq', save_every, '--ckpt_freq', save_every]
    command = [sys.executable, ROOT / 'main.py', '--train', *args]
    environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
    main_times, bare_times, peak, start = [], [], 0, time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a process group, with the processes that decode
        text=True,
    ) as process:
        try:
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
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        sys.exit(f'bench.py: {" ".join(map(str, command))} failed, see above')
    first, *main_times = main_times
    return first, *compare_times(main_times, bare_times, turn, save_every), peak


def compare_times(main_times, bare_times, turn, save_every):
    """Return the seconds of an iteration of main.py, and its overhead as a fraction.

    main_times has the seconds of each iteration after the first, bare_times the mean
    seconds of a bare step in each turn.
    """
    # After the iterations save_every, 2 * save_every, ..., main.py saves a grid and a
    # checkpoint. `saving` is their share of one iteration with the default flags.
    plain_times = [
        statistics.mean(
            seconds
            for i, seconds in enumerate(main_times[first : first + turn], first + 1)
            if i % save_every
        )
        for first in range(0, len(main_times) - turn + 1, turn)
    ]
    plain = statistics.median(plain_times)
    saving_times = main_times[save_every - 1 :: save_every]
    saving = (statistics.mean(saving_times) - plain) / SAVE_EVERY
    ratio = statistics.median(a / b for a, b in zip(plain_times, bare_times))
    return plain + saving, ratio + saving / plain - 1


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

    name = 'MNIST 28x28' if row['size'] == 'mnist' else f'{row["size"]}x{row["size"]}'
    iteration = f'this project, {row["iteration"]}'
    if row['iteration'] == 'original':
        iteration = "the original's six runs, float32"
    samples = cell('samples/s', ',.0f')
    if samples:
        samples += f' ({cell("loop_samples/s", ",.0f")})'
    main_py = cell('main_ms', ',.0f')
    if main_py:
        main_py += f' ({row["main_overhead"]:+.1%})'
    cells = [f'{name}, {row["batch"]}', iteration, cell('ms', ',.0f')]
    cells += [cell('pictures/s', ',.0f'), cell('ratio', '.2f'), cell('gflops', ',.0f')]
    cells += [cell('matrix_share', '.0%'), samples, main_py]
    cells += [cell('start_s', '.1f'), cell('peak_mb', ',.0f')]
    return '| ' + ' | '.join(cells) + ' |'


if __name__ == '__main__':
    main()
