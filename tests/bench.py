"""Measure how fast DCGAN trains: python tests/bench.py, 8 to 12 minutes on 2 cores.

Compares ways to make one iteration: as the original does (six runs of its session, by
TensorFlow's own ops, float32), and as this project does, in each precision of which the
device is capable; on a GPU without and with XLA. All are timed in one process, in
turns. docs/performance.md explains the columns of the table, and has examples.
"""

import argparse
import contextlib
import gc
import itertools
import json
import math
import os
import re
import resource
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

from main import tf  # comes first, because it silences the log of TensorFlow

# isort: split
import numpy as np
from bench_data import MNIST_IMAGES, make_data

import model
from dcgan.compute import devices
from dcgan.compute.kernels import tensorflow_ops
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.session import session_config
from dcgan.sampling.samples import draw_batches
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.original_iteration import OriginalIteration
from dcgan.training.prefetch import Batch

MATRIX_SIZE = 4096  # height and width of the large matrices
SAMPLES = 1024  # drawn in each turn
RUN_ITERATIONS = 401  # of main.py at least, if that takes at most twice --seconds
SAVE_EVERY = 200  # iterations between two grids and checkpoints, as by default
TURN_SECONDS = 1  # of main.py at least
CONFIG = SimpleNamespace(learning_rate=0.0002, beta1=0.5, G_img_sum=False)
TABLE = {  # column: the pieces of its cell; one whose value is missing is left out
    'ms': ['{ms:,.2f}'],
    'images/s': ['{images/s:,.0f}'],
    "share of the original's time": ['{ratio:.2f}'],
    'GFLOP/s': ['{gflops:,.0f}'],
    'share of the peak': ['{matrix_share:.0%}'],
    'samples/s': ['{samples/s:,.0f} ({loop_samples/s:,.0f})'],
    'main.py, ms': ['{main_ms:,.2f}', ' ({main_overhead:+.1%})'],
    'main.py --cache, ms': ['{cached_ms:,.2f}', ' ({cached_overhead:+.1%})'],
    'start, s': ['{cold_start_s:.1f}; ', '{start_s:.1f}'],
    'peak memory, MB': ['{peak_mb:,.0f}'],
    'GPU memory, MB': ['{gpu_mb:,.0f}'],
}
ORIGINAL = 'original'  # a kind of iteration; the others are those of this project
KINDS = [ORIGINAL, 'float32', 'tf32', 'bfloat16']
KINDS += [f'{precision}-xla' for precision in KINDS[1:]]


def precision_of(kind):
    return 'float32' if kind == ORIGINAL else kind.removesuffix('-xla')


def main():
    args = parse_args()
    # raise SystemExit, so that main.py is killed, which may be stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)  # to count what is used
    kinds = args.kinds or capable_kinds(args.xla)
    rows, show = [], as_rows if args.rows else as_line
    with tempfile.TemporaryDirectory() as folder:
        if not args.bare:
            make_data(folder, args.size, max(args.batch))
        if not (args.json or args.rows):
            print(f'{device_name()}, TensorFlow {tf.__version__}\n')
            print(f'| model, batch | iteration | {" | ".join(TABLE)} |')
            print('|' + '---|' * (len(TABLE) + 2), flush=True)
        for model in itertools.product(args.size, args.layers, args.batch):
            with contextlib.ExitStack() as sessions:
                for row in measure(*model, kinds, args, sessions):
                    step = row.pop('step', None)
                    if not args.bare and row['kind'] != ORIGINAL:
                        measure_runs(row, step, args, folder)
                    rows.append(row)
                    if not args.json:
                        print(show(row), flush=True)
            gc.collect()  # memory of a closed session is free when it is deleted
    if args.json:
        print(json.dumps(rows, indent=4))


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--size', nargs='+', default=['mnist', '64'], help='mnist, or pixels')
    add('--batch', nargs='+', type=int, default=[64], help='batch sizes')
    add('--layers', nargs='+', default=[None], help='as of main.py: numbers, or auto')
    text = 'time N of each kind after one more, and nothing else; memory: of bench.py'
    add('--iterations', type=int, metavar='N', help=text)
    text = 'of iterations; default: all that suit this device'
    add('--kinds', nargs='+', default=[], choices=KINDS, metavar='KIND', help=text)
    add('--seconds', type=float, default=30, help='for all turns of a size and batch')
    for name, text in {
        'bare': 'leave out the runs of main.py',
        'main': 'only the runs of main.py',
        'json': 'print JSON instead of the table',
        'rows': 'print lines of name,value,unit instead of the table',
        'xla': 'measure XLA on a CPU as well',
    }.items():
        add(f'--{name}', action='store_true', help=text)
    add('flags', nargs='*', help='further flags of main.py, after --')
    args = parser.parse_args()
    args.bare |= args.iterations is not None
    if not all(1 <= batch <= SAMPLES for batch in args.batch):
        parser.error(f'--batch takes numbers from 1 to {SAMPLES}')
    return args


def device_name():
    cores = f'{devices.usable_cores()} CPU cores'
    gpu = devices.gpu_details().get('device_name')
    return f'{gpu}, {cores}' if gpu else cores


def capable_kinds(with_xla):
    """The kinds of iteration that suit this device."""
    precisions = ['float32']
    precisions += ['tf32'] if devices.has_tensor_units() else []
    precisions += ['bfloat16'] if has_bfloat16() else []
    suffixes = ['', '-xla'] if devices.has_gpu() or with_xla else ['']
    return [ORIGINAL, *(p + suffix for p in precisions for suffix in suffixes)]


def model_size(size):
    """The arguments of DCGAN for a --size."""
    if size == 'mnist':
        return {'output_height': 28, 'output_width': 28, 'y_dim': 10, 'c_dim': 1}
    return {'output_height': int(size), 'output_width': int(size)}


def measure(size, layers, batch, kinds, args, sessions):
    """Return a row of results for each kind of iteration.

    `step` in a row makes one such iteration, see timed. Closing the ExitStack
    `sessions` closes what it needs.
    """
    common = {'size': size, 'layers': layers, 'batch': batch}
    rows = {kind: {**common, 'kind': kind} for kind in kinds}
    if args.main:
        return rows.values()
    arguments = {**model_size(size), 'batch_size': batch, 'sample_num': batch}
    arguments['layers'] = layers
    steps, models = {}, {}
    memory = tf.config.experimental.get_memory_info  # in bytes
    for kind in kinds:
        build = build_original if kind == ORIGINAL else build_ours
        before = memory('GPU:0')['current'] if devices.has_gpu() else 0
        steps[kind], models[kind] = build(arguments, kind, sessions)
        if devices.has_gpu():
            timed(steps[kind])
            tf.config.experimental.reset_memory_stats('GPU:0')
            timed(steps[kind])
            rows[kind]['gpu_mb'] = (memory('GPU:0')['peak'] - before) / 1e6
        if args.iterations:
            seconds = [timed(steps[kind]) for _ in range(args.iterations + 1)][1:]
            rows[kind]['ms'] = 1e3 * statistics.median(seconds)
            rows[kind]['images/s'] = batch / statistics.median(seconds)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            rows[kind]['peak_mb'] = peak / 1000
    if args.iterations:
        return rows.values()
    precisions = set(map(precision_of, kinds))
    multiplications = {f'{p} matrix': multiplication(p, sessions) for p in precisions}
    first = kinds[kinds[0] == ORIGINAL and len(kinds) > 1]  # samples are drawn with it
    in_loop, as_main = samplers(models[first])
    samplings = {'sampler in a loop': in_loop, 'samples': as_main}
    times = median_times({**steps, **multiplications, **samplings}, args.seconds)
    flops = count_flops(arguments)
    for kind, step in steps.items():
        rate = flops / times[kind]
        peak = 2 * MATRIX_SIZE**3 / times[f'{precision_of(kind)} matrix']
        rows[kind] |= {
            'device': device_name(),
            'tensorflow': tf.__version__,
            'ms': times[kind] * 1e3,
            'images/s': batch / times[kind],
            'gflops': rate / 1e9,
            'matrix_gflops': peak / 1e9,
            'matrix_share': rate / peak,
            'step': step,
        }
        if ORIGINAL in kinds:
            rows[kind]['ratio'] = times[kind] / times[ORIGINAL]
    looped = SAMPLES // batch * batch
    rows[first]['samples/s'] = SAMPLES / times['samples']
    rows[first]['loop_samples/s'] = looped / times['sampler in a loop']
    return rows.values()


def median_times(steps, seconds):
    """Take all steps in turns, after two turns to warm up; returns {name: seconds}."""
    times = {name: [] for name in steps}
    for step in [*steps.values()] * 2:
        timed(step)
    start = time.perf_counter()
    while min(map(len, times.values())) < 5 or time.perf_counter() - start < seconds:
        for name, step in steps.items():
            times[name].append(timed(step))
    return {name: statistics.median(values) for name, values in times.items()}


def timed(step):
    """Take a step, a pair (prepare, run); returns how many seconds run() took."""
    prepare, run = step
    prepare()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# What is compared. The build_ functions return (step, model).


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
        dcgan = original_model(sess, arguments)
        iteration = OriginalIteration(dcgan, CONFIG)
        sess.run(tf.global_variables_initializer())
    feed = dcgan.feed(*random_batch(dcgan))
    return (lambda: use_tf32(False), lambda: iteration.runs(feed)), dcgan


def original_model(sess, arguments):
    """A model of the layers that the original has."""
    with tensorflow_ops(), mock.patch.multiple(model, **ORIGINAL_LAYERS):
        return model.DCGAN(sess, data_dir=None, **arguments)


def build_ours(arguments, kind, sessions):
    """An iteration of this project: one run of the session."""
    with tf.Graph().as_default():
        sess = open_session(session_config(), sessions)
        how = {'precision': precision_of(kind), 'xla': kind.endswith('-xla')}
        dcgan = model.DCGAN(sess, data_dir=None, **how, **arguments)
        iteration = FusedIteration(dcgan, CONFIG)
        sess.run(tf.global_variables_initializer())
    batch = Batch(*random_batch(dcgan))

    def prepare():
        use_tf32(precision_of(kind) == 'tf32')
        iteration.batches.put(sess, batch)

    rates = 2 * [CONFIG.learning_rate]
    return (prepare, lambda: iteration(rates, stop=False)), dcgan


def random_batch(dcgan):
    """Random images, labels (without classes all 0) and z."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, dcgan.inputs.shape.as_list()).astype(np.uint8)
    labels = rng.randint(0, dcgan.y_dim or 1, dcgan.batch_size)
    z = rng.uniform(-1, 1, (dcgan.batch_size, dcgan.z_dim)).astype(np.float32)
    return images, labels, z


def samplers(dcgan):
    """Two steps that draw SAMPLES: the sampler node in a loop, and as main.py."""
    feed = dcgan.feed(*random_batch(dcgan))
    feed.pop(dcgan.inputs)
    z = np.resize(feed[dcgan.z], (SAMPLES, dcgan.z_dim))
    labels = np.arange(SAMPLES) % (dcgan.y_dim or 1)

    def in_loop():
        for _ in range(SAMPLES // dcgan.batch_size):
            dcgan.sess.run(dcgan.sampler, feed)

    def as_main():
        for _ in draw_batches(dcgan.sess, dcgan, z, labels, as_bytes=True):
            pass

    return [(lambda: use_tf32(False), run) for run in (in_loop, as_main)]


def multiplication(precision, sessions):
    """A step that multiplies two large matrices in a precision."""
    dtype = tf.bfloat16 if precision == 'bfloat16' else tf.float32
    with tf.Graph().as_default():
        sess = open_session(session_config(), sessions)
        values = (tf.random_normal([MATRIX_SIZE, MATRIX_SIZE]) for _ in range(2))
        a, b = (tf.Variable(tf.cast(value, dtype)) for value in values)
        run = tf.matmul(a, b).op
        sess.run([a.initializer, b.initializer])
    return lambda: use_tf32(precision == 'tf32'), lambda: sess.run(run)


def count_flops(arguments):
    """Count the floating-point operations of an iteration, by the layers of a model.

    G makes three passes, because its weights change twice. D makes passes on both
    batches in its own step, one in each step of G, and on both batches at the end. A
    gradient with respect to weights or to an input costs as much as a pass. D's step
    needs none with respect to D's input, G's steps none with respect to z.
    """
    layers = {'generator': [], 'discriminator': []}
    with tf.Graph().as_default() as graph:
        original_model(None, arguments)
    for op in graph.get_operations():
        network = op.name.split('/')[0]
        if network in layers and op.type in SMALLER_IMAGE:
            pixels = SMALLER_IMAGE[op.type](op).shape.as_list()[1:-1]
            weights = [t for t in op.inputs if t.op.type == 'ReadVariableOp']
            weight_count = math.prod(weights[0].shape.as_list())
            terms = arguments['batch_size'] * math.prod(pixels) * weight_count
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


def measure_runs(row, step, args, folder):
    """Add the results of real runs of main.py to the row of a kind, made by `step`."""
    size, batch, kind = row['size'], row['batch'], row['kind']
    seconds = row['ms'] / 1e3 if step else 0.01
    least, most = 0.7 * args.seconds / seconds, 2 * args.seconds / seconds
    count = max(5, int(min(max(RUN_ITERATIONS, least), most)))
    if size == 'mnist':
        data, images = ['--dataset', 'mnist'], MNIST_IMAGES
    else:
        data = ['--dataset', 'jpegs', '--crop', '--output_height', size]
        images = len(os.listdir(f'{folder}/data/jpegs'))
    batches = min(count, images // batch)
    flags = [*data, '--precision', precision_of(kind), '--batch_size', batch]
    flags += ['--xla' if kind.endswith('-xla') else '--noxla', *args.flags]
    flags += ['--layers', row['layers']] if row['layers'] else []
    flags += ['--train_size', batches * batch, '--epoch', -(-count // batches)]
    # an empty folder for compiled programs
    environment = {**os.environ, 'XDG_CACHE_HOME': tempfile.mkdtemp(dir=folder)}
    for name in ('TF_XLA_FLAGS', 'TF_CPP_MIN_LOG_LEVEL'):  # set by the import
        environment.pop(name, None)
    if kind.endswith('-xla'):
        with contextlib.closing(iterations(flags, folder, environment)) as started:
            _, row['cold_start_s'] = next(started)
    turn = min(max(2, count // 40, math.ceil(TURN_SECONDS / seconds)), count // 2)
    settings = folder, environment, step, count, turn
    row['start_s'], row['peak_mb'], times = run_main(flags, *settings)
    row |= {f'main_{name}': value for name, value in times.items()}
    if devices.has_gpu() and size != 'mnist':
        _, _, times = run_main([*flags, '--cache'], *settings)
        row |= {f'cached_{name}': value for name, value in times.items()}


def iterations(flags, folder, environment):
    """Train by main.py; yields (process id, seconds) for each iteration that it prints.

    These are the seconds since the start of main.py, or since this generator goes on.
    main.py is killed when the generator is closed.
    """
    command = [sys.executable, ROOT / 'main.py', '--train', *flags]
    start = time.perf_counter()
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
                if ' Epoch:[' in line:
                    yield process.pid, time.perf_counter() - start
                    start = time.perf_counter()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        sys.exit(f'bench.py: main.py {" ".join(map(str, flags))} failed, see above')


def run_main(flags, folder, environment, step, count, turn):
    """Train `count` iterations by main.py; stop it after each turn, for bare steps.

    `turn` is the number of iterations in a turn of main.py; one of bare steps is half
    as long. Without `step`, there are none. Returns the seconds until the first
    iteration is complete, the peak memory of main.py in MB, and the `ms` of a later
    iteration and, with `step`, its `overhead`, 0.01 for 1%.
    """
    save_every = min(SAVE_EVERY, count // 2)
    flags = [*flags, '--sample_freq', save_every, '--ckpt_freq', save_every]
    turns, bare, saving = [], [], []
    with contextlib.closing(iterations(flags, folder, environment)) as trained:
        for i, (pid, seconds) in enumerate(trained):
            if not i:
                start = seconds
            elif i % save_every:
                turns[-1].append(seconds)
            else:  # with a grid and a checkpoint
                saving.append(seconds)
            # getrusage has the memory of this process, from which main.py was forked
            status = Path(f'/proc/{pid}/status').read_text()
            if match := re.search(r'VmHWM:\s*(\d+) kB', status):  # it has not ended
                peak = int(match[1]) / 1000
            if i % turn == 0:
                turns.append([])
                os.killpg(pid, signal.SIGSTOP)
                times = [timed(step) for _ in range(-(-turn // 2))] if step else [1]
                bare.append(statistics.mean(times))
                os.killpg(pid, signal.SIGCONT)
    means = [statistics.mean(times) for times in turns if times]
    other = statistics.median(means)
    # the share of a grid and a checkpoint with the default flags
    share = (statistics.mean(saving) - other) / SAVE_EVERY
    ratio = statistics.median(a / b for a, b in zip(means, bare))
    overhead = {'overhead': ratio + share / other - 1} if step else {}
    return start, peak, {'ms': (other + share) * 1e3, **overhead}


def model_name(row, separator):
    """Size, layers if they are given, and batch."""
    layers = row['layers'] and f'{row["layers"]} layers'
    return separator.join(filter(None, [row['size'], layers, str(row['batch'])]))


def as_line(row):
    """A row of results as a line of the table."""
    cells = [model_name(row, ', '), row['kind']]
    for pieces in TABLE.values():
        cells.append('')
        for piece in pieces:
            with contextlib.suppress(KeyError):
                cells[-1] += piece.format_map(row)
    return '| ' + ' | '.join(cells) + ' |'


def as_rows(row):
    """A row of results as lines of a name, a value and its unit."""
    name = f'{model_name(row, " ")} {row["kind"]}'
    values = {key: value for key, value in row.items() if isinstance(value, float)}
    return '\n'.join(f'{name},{value:.6g},{key}' for key, value in values.items())


if __name__ == '__main__':
    main()
