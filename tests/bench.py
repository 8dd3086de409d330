"""How fast DCGAN trains: python tests/bench.py, 8 to 12 minutes on 2 cores.

Compares, in one process and turn by turn, an iteration as the original has it (six runs
of the session, the layers in its words, its session) with that of this code in float32
and, where there are kernels for it, in bfloat16. Prints medians as a table:

ms, pictures/s        of an iteration, with its batch at hand
of the original's     that time over the time of the six runs
GFLOP/s               by the convolutions and products that an iteration needs, with
                      their padding
of the matrix rate    that over the rate at which large matrices of the same type are
                      multiplied, measured in between
samples/s             as main.py draws them, in bytes; in brackets, by the sampler node
                      in a loop, a batch at a time
main.py, ms           an iteration of a real run of main.py on random data: reading,
                      summaries, printing, and its 200th part of a sheet, of the losses
                      of a sample and of a checkpoint; and what that takes beyond the
                      bare one, in turns, in which the other's process is halted: the
                      median of turns
start, s; peak, MB    of that run: to its first iteration; its memory, without that of
                      processes that decode pictures

    python tests/bench.py --size 64 --batch 8 32 64 128      how cost grows
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

import_tensorflow()  # first, because it hides TensorFlow's log

# isort: split
import numpy as np
import tensorflow.compat.v1 as tf
from bench_data import make_jpegs

import model
from dcgan import kernels
from dcgan.devices import session_config
from dcgan.idx import write_idx
from dcgan.samples import draw_batches, to_uint8

SIDE = 4096  # of the large matrices
SAMPLES = 1024
SECONDS = 30  # for the turns of the rows of a size and batch
RUN = 401  # iterations of main.py, if they take no longer than
RUN_SECONDS = 90, 60  # this; if they do, as many as in the latter
DUE = 200  # iterations to a sheet and a checkpoint, by main.py's flags
MNIST_PICTURES = 70000
CONFIG = SimpleNamespace(learning_rate=0.0002, beta1=0.5, G_img_sum=False)
HEADER = (
    "| model, batch | iteration | ms | pictures/s | of the original's | GFLOP/s "
    '| of the matrix rate | samples/s | main.py, ms | start, s | peak, MB |'
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = '%(default)s; mnist, or pixels of an unconditional model'
    parser.add_argument('--size', nargs='+', default=['mnist', '64'], help=sizes)
    parser.add_argument('--batch', nargs='+', type=int, default=[64])
    parser.add_argument('--bare', action='store_true', help='without main.py')
    parser.add_argument('--json', action='store_true', help='instead of the table')
    args = parser.parse_args()
    if not all(1 <= batch <= SAMPLES for batch in args.batch):
        parser.error(f'--batch: from 1 to {SAMPLES}')
    # so that real_run leaves no main.py behind, halted
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if not args.bare:
            make_data(folder, args.size)
        if not args.json:
            print(HEADER + '\n|' + '---|' * HEADER.count(' | ') + '---|')
        for size in args.size:
            for batch in args.batch:
                found = measure(size, batch)
                if not args.bare:
                    measure_runs(found, size, batch, folder)
                for row in found:
                    row.pop('step')
                    if not args.json:
                        print(as_line(row), flush=True)
                rows += found
    if args.json:
        print(json.dumps(rows, indent=4))


def settings(size):
    """DCGAN's arguments: mnist, or pixels."""
    if size == 'mnist':
        return {'output_height': 28, 'output_width': 28, 'y_dim': 10, 'c_dim': 1}
    return {'output_height': int(size), 'output_width': int(size)}


def measure(size, batch):
    """A row for each way: the original's, float32, bfloat16."""
    arguments = {**settings(size), 'batch_size': batch, 'sample_num': batch}
    row = {'size': size, 'batch': batch}
    ways = {'original': original(arguments), 'float32': ours(arguments, 'float32')}
    if kernels.has_bfloat16():
        ways['bfloat16'] = ours(arguments, 'bfloat16')
    steps = {name: step for name, (step, _, _) in ways.items()}
    products = {dtype: product(dtype) for dtype in ways if dtype != 'original'}
    bare, drawn = samplers(*ways['float32'][1:])
    others = {('product', dtype): step for dtype, step in products.items()}
    times = turns({**steps, **others, 'bare': bare, 'drawn': drawn})
    work = flops(ways['original'][2])
    rows = []
    for name, step in steps.items():
        dtype = 'float32' if name == 'original' else name
        rate, peak = work / times[name], 2 * SIDE**3 / times['product', dtype]
        rows.append(
            {
                **row,
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
    rows[1]['samples/s'] = SAMPLES / times['drawn']
    rows[1]['loop_samples/s'] = SAMPLES // batch * batch / times['bare']
    return rows


def turns(steps):
    """{name: median seconds}; each step is taken in turn, after two to warm up."""
    times = {name: [] for name in steps}
    for step in [*steps.values()] * 2:
        step()
    start = time.perf_counter()
    while min(map(len, times.values())) < 5 or (time.perf_counter() - start < SECONDS):
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


# What is compared


def original(arguments):
    """(step, session, model): the six runs of an iteration, and nothing shared."""
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
        d_run, g_run = (
            [d_step, tf.summary.merge(d_sum)],
            [g_step, tf.summary.merge(g_sum)],
        )
        sess.run(tf.global_variables_initializer())
    losses = dcgan.d_loss_fake, dcgan.d_loss_real, dcgan.g_loss
    feed = random_feed(dcgan)

    def step():
        for fetches in (d_run, g_run, g_run, *losses):
            sess.run(fetches, feed)

    return step, sess, dcgan


def ours(arguments, precision):
    """(step, session, model)"""
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
    """Two ways to draw SAMPLES: the sampler node in a loop, and that of main.py."""
    feed = random_feed(dcgan)
    feed.pop(dcgan.inputs)
    z = np.resize(feed[dcgan.z], (SAMPLES, dcgan.z_dim))
    labels = np.arange(SAMPLES) % (dcgan.y_dim or 1)

    def bare():
        for _ in range(SAMPLES // dcgan.batch_size):
            sess.run(dcgan.sampler, feed)

    def drawn():
        for images in draw_batches(sess, dcgan, z, labels):
            to_uint8(dcgan, images)

    return bare, drawn


def product(dtype):
    """A product of two large matrices."""
    with tf.Graph().as_default():
        sess = tf.Session(config=session_config())
        values = (tf.random_normal([SIDE, SIDE]) for _ in range(2))
        a, b = (tf.Variable(tf.cast(value, dtype)) for value in values)
        run = tf.matmul(a, b).op
        sess.run([a.initializer, b.initializer])
    return lambda: sess.run(run)


def flops(dcgan):
    """Of an iteration's convolutions, padding counted, and products; two for each term.

    G runs three times, as it changes twice: first, after its first step, and after its
    second. D runs in its step, on two batches, in each step of G, and twice at the end.
    A gradient by weights or input is as much as the pass; D's step needs none by its
    input, G's steps none by G's.
    """
    layers = {'generator': [], 'discriminator': []}
    for op in dcgan.sess.graph.get_operations():
        network = op.name.split('/')[0]
        if network in layers and op.type in SMALLER_SIDE:
            points = SMALLER_SIDE[op.type](op).shape.as_list()[1:-1]
            weights = [t for t in op.inputs if t.op.type == 'ReadVariableOp']
            taps = math.prod(weights[0].shape.as_list())
            layers[network].append(2 * dcgan.batch_size * math.prod(points) * taps)
    G, D = sum(layers['generator']), sum(layers['discriminator'])
    d_step = G + 2 * (D + D + D - layers['discriminator'][0])
    g_steps = G + 2 * (D + D + G + G - layers['generator'][0])
    return d_step + g_steps + G + 2 * D


SMALLER_SIDE = {
    'Conv2D': lambda op: op.outputs[0],
    'Conv2DBackpropInput': lambda op: op.inputs[2],  # transposed convolution
    'MatMul': lambda op: op.outputs[0],
}


# What the original writes in other words than TensorFlow's own ops


def original_conv_cond_concat(x, y):
    ones = tf.ones([tf.shape(x)[0], *x.shape[1:3], y.shape[3]])
    return tf.concat([x, y * ones], 3)


ORIGINAL_LAYERS = {
    'conv_cond_concat': original_conv_cond_concat,
    'lrelu': lambda x: tf.maximum(x, 0.2 * x),
}


# Real runs


def make_data(folder, sizes):
    rng = np.random.RandomState(0)
    if 'mnist' in sizes:
        where = os.path.join(folder, 'data', 'mnist')
        os.makedirs(where)
        images = rng.randint(0, 256, (MNIST_PICTURES, 28, 28)).astype(np.uint8)
        write_idx(f'{where}/train-images-idx3-ubyte', images)
        labels = rng.randint(0, 10, MNIST_PICTURES).astype(np.uint8)
        write_idx(f'{where}/train-labels-idx1-ubyte', labels)
    if set(sizes) - {'mnist'}:
        make_jpegs(os.path.join(folder, 'data', 'pictures'))


def measure_runs(rows, size, batch, folder):
    """Add to the rows what real runs of main.py in these precisions take."""
    if size == 'mnist':
        data, pictures = ['--dataset', 'mnist'], MNIST_PICTURES
    else:
        data = ['--dataset', 'pictures', '--crop', '--output_height', size]
        pictures = len(os.listdir(f'{folder}/data/pictures'))
    for row in rows[1:]:
        seconds = row['ms'] / 1e3
        longest, shorter = RUN_SECONDS
        count = RUN if RUN * seconds < longest else max(5, int(shorter / seconds))
        batches = min(count, pictures // batch)
        args = [*data, '--precision', row['iteration'], '--batch_size', batch]
        args += ['--train_size', batches * batch, '--epoch', -(-count // batches)]
        start, pace, overhead, peak = real_run(args, folder, row['step'], count)
        row['main_ms'], row['main_overhead'] = pace * 1e3, overhead
        row['start_s'], row['peak_mb'] = start, peak


def real_run(args, folder, step, count):
    """Of main.py, halted for turns of bare steps, half as many as its own.

    Returns seconds to the first iteration and of another one, the part by which that is
    longer than a bare step, and the peak of its memory in MB.
    """
    turn, due = max(2, count // 40), min(DUE, count // 2)
    args = [*args, '--sample_freq', due, '--ckpt_freq', due]
    command = [sys.executable, ROOT / 'main.py', '--train', *args]
    environment = {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
    inside, bare, peak, start = [], [], 0, time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a group with the processes that decode pictures
        text=True,
    ) as process:
        try:
            for line in process.stdout:
                if ' Trained: ' in line:  # all is done, and the process still there
                    peak = max(peak, peak_memory(process.pid))
                if ' Epoch:[' not in line:
                    continue
                inside.append(time.perf_counter() - start)
                if len(inside) % turn == 1:
                    os.killpg(process.pid, signal.SIGSTOP)
                    steps = [timed(step) for _ in range(-(-turn // 2))]
                    bare.append(statistics.mean(steps))
                    peak = max(peak, peak_memory(process.pid))
                    os.killpg(process.pid, signal.SIGCONT)
                start = time.perf_counter()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        sys.exit(f'bench.py: {" ".join(map(str, command))} has failed, see above')
    first, *inside = inside
    # iterations `due`, `2 * due`, ... are followed by a sheet and a checkpoint
    plain = [
        statistics.mean(
            s for i, s in enumerate(inside[at : at + turn], at + 1) if i % due
        )
        for at in range(0, len(inside) - turn + 1, turn)
    ]
    pace = statistics.median(plain)
    extra = (statistics.mean(inside[due - 1 :: due]) - pace) / DUE
    ratio = statistics.median(a / b for a, b in zip(plain, bare)) + extra / pace
    return first, pace + extra, ratio - 1, peak


def peak_memory(pid):
    """In MB, so far; 0 of a process that has ended.

    Not the maximum of getrusage, which counts what this process is as it forks.
    """
    match = re.search(r'VmHWM:\s*(\d+) kB', Path(f'/proc/{pid}/status').read_text())
    return int(match[1]) / 1000 if match else 0


def as_line(row):
    def cell(name, form, scale=1):
        return format(row[name] * scale, form) if name in row else ''

    name = 'MNIST 28x28' if row['size'] == 'mnist' else f'{row["size"]}x{row["size"]}'
    way = row['iteration']
    way = 'six runs, float32' if way == 'original' else f'this code, {way}'
    main_py = cell('main_ms', ',.0f')
    if main_py:
        main_py += f' ({row["main_overhead"]:+.1%})'
    cells = [f'{name}, {row["batch"]}', way, cell('ms', ',.0f')]
    cells += [cell('pictures/s', ',.0f'), cell('ratio', '.2f'), cell('gflops', ',.0f')]
    samples = cell('samples/s', ',.0f')
    if samples:
        samples += f' ({cell("loop_samples/s", ",.0f")})'
    cells += [cell('matrix_share', '.0%'), samples, main_py]
    cells += [cell('start_s', '.1f'), cell('peak_mb', ',.0f')]
    return '| ' + ' | '.join(cells) + ' |'


if __name__ == '__main__':
    main()
