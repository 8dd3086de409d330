"""Measure how much faster several workers train: python tests/bench_workers.py.

2 to 4 minutes for each size and batch. Each process has one thread and one core, which
also does all of its communication. They are started in turns, and the median of all
their iterations counts:

alone          ms of an iteration of one process
side by side   of processes that know nothing of each other: what they take from each
               other, memory bandwidth and heat, is no fault of workers
together       of workers, on a batch as large for each of them
efficiency     alone / together; in brackets the same of processor time, which does not
               count waiting, and suffers less from other work on the machine
MB, messages   that a worker sends in an iteration, and how many collective ops
in collectives the share of `together` that these ops take when nothing is computed

Then a projection, computed, to 2, 8 and 64 machines, with the messages of graphs for
more workers, sent in rings at --bandwidth and --latency while nothing is computed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from main import tf  # comes first, because it silences the log of TensorFlow

# isort: split
from bench import CONFIG, model_size, random_batch

import model
from dcgan.compute import cluster
from dcgan.compute.kernels import tensorflow_ops
from dcgan.compute.workers import Workers
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.prefetch import Batch

ROUNDS = 2  # starts of each kind
WARM_UP = 3  # iterations before those that count
PROJECTED = (2, 8, 64)  # machines
REDUCE, GATHER = 'CollectiveReduceV2', 'CollectiveGather'  # types of collective ops


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--size', nargs='+', default=['mnist', '64'], help='as of bench.py')
    add('--batch', nargs='+', type=int, default=[64], help='images of each worker')
    add('--workers', type=int, default=2)
    add('--seconds', type=float, default=20, help='of each start, after warming up')
    add('--bandwidth', type=float, default=10, help='of the projection, in Gbit/s')
    add('--latency', type=float, default=0.1, help='of a message, in ms')
    add('--project_ms', type=float, help='project from this time, measure nothing')
    add('--child', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measure(**json.loads(args.child))))
        return
    print('| model, batch of each | alone, ms | side by side | together ', end='')
    print('| efficiency | MB, messages | in collectives |\n|' + '---|' * 7)
    projections = []
    for size in args.size:
        for batch in args.batch:
            alone = args.project_ms or measure_all(size, batch, args)
            projections += project(size, batch, alone, args)
    print(f'\nProjection (computed), {args.bandwidth:g} Gbit/s, {args.latency:g} ms:\n')
    print('| model, batch of each | machines | MB | messages | ms | efficiency |')
    print('\n'.join(['|' + '---|' * 6, *projections]))


def measure_all(size, batch, args):
    """Print the row of a model; returns the time of an iteration alone, in ms."""
    settings = {'size': size, 'batch': batch, 'seconds': args.seconds}
    counts = [1, args.workers, args.workers]  # alone, side by side, together
    results = [[], [], []]
    for _ in range(ROUNDS):
        for kind, count in enumerate(counts):
            settings['is_joint'] = kind == 2
            results[kind] += run_children(count, settings)
    alone, beside, together = (
        statistics.median(ms for result in of_kind for ms in result['ms'])
        for of_kind in results
    )
    busy = [statistics.mean(r['busy_ms'] for r in of_kind) for of_kind in results]
    of_processor = busy[0] / busy[2]
    result = results[2][-1]
    print(
        f'| {size}, {batch} | {alone:.0f} | {beside:.0f} | {together:.0f} '
        f'| {alone / together:.0%} ({of_processor:.0%}) '
        f'| {result["mb"]:.1f}, {result["messages"]} '
        f'| {result["collectives_ms"] / together:.0%} |',
        flush=True,
    )
    return alone


def run_children(count, settings):
    """Run `count` processes, each on a core; returns what they measure."""
    tasks = cluster.local_tasks(count)
    cores, children = sorted(os.sched_getaffinity(0)), []
    one_thread = {'TF_NUM_INTRAOP_THREADS': '1', 'OMP_NUM_THREADS': '1'}
    for i in range(count):
        env = {'TF_NUM_INTEROP_THREADS': '1', **os.environ, **one_thread}
        env['TF_CONFIG'] = cluster.tf_config(tasks, i) if settings['is_joint'] else ''
        child = json.dumps({**settings, 'core': cores[i % len(cores)]})
        command = [sys.executable, __file__, '--child', child]
        children.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE))
    return [json.loads(child.communicate()[0]) for child in children]


def measure(size, batch, seconds, is_joint, core):
    """In a child: the times of iterations, and what the collective ops take."""
    os.sched_setaffinity(0, [core])
    workers = Workers(cluster.read_cluster(os.environ['TF_CONFIG']), 120)
    with contextlib.redirect_stdout(None):
        workers.connect()
    with tf.Session(workers.target, config=workers.session_config()) as sess:
        dcgan, iteration = build(sess, workers, size, batch * workers.count)
        sess.run(tf.global_variables_initializer())
        parts = [a[workers.slice] for a in random_batch(dcgan)]
        rates = 2 * [CONFIG.learning_rate]

        def iterate():
            iteration.batches.put(sess, Batch(*parts))
            iteration(rates, stop=False)

        start = time.process_time()
        times = timed(iterate, seconds, workers)
        busy = 1e3 * (time.process_time() - start) / (len(times) + WARM_UP + 1)
        sent = messages(sess.graph, iteration.tensors) if is_joint else []
    result = {'ms': times, 'busy_ms': busy, 'messages': len(sent)}
    result['mb'], _ = traffic(sent, workers.count)
    replayed = replay(workers, sent) if sent else [0]
    return {**result, 'collectives_ms': statistics.median(replayed)}


def build(sess, workers, size, batch):
    """A model and an iteration on a joint batch."""
    arguments = {**model_size(size), 'batch_size': batch, 'sample_num': batch}
    dcgan = model.DCGAN(sess, data_dir=None, xla=False, workers=workers, **arguments)
    return dcgan, FusedIteration(dcgan, CONFIG)


def timed(step, seconds, workers):
    """The times of a step in ms, for about so long; as many on each worker."""
    for _ in range(WARM_UP):
        step()
    start = time.perf_counter()
    step()
    number = max(5, round(seconds / (time.perf_counter() - start)))
    number = max(map(int, workers.exchange(str(number))))
    times = []
    for _ in range(number):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def messages(graph, iteration):
    """[(type, input)] of an iteration's collective ops."""
    fetches = [t.op.name for t in tf.nest.flatten(iteration)]
    used = tf.graph_util.extract_sub_graph(graph.as_graph_def(), fetches)
    ops = [graph.get_operation_by_name(node.name) for node in used.node]
    return [(op.type, op.inputs[0]) for op in ops if op.type in (REDUCE, GATHER)]


def traffic(sent, count):
    """What one of `count` workers sends in rings: MB, and steps one after another."""
    size, all_steps = 0, 0
    for kind, x in sent:
        turns, parts = (2, count) if kind == REDUCE else (1, 1)
        steps = (count - 1) * turns
        size += steps * x.shape.num_elements() * x.dtype.size / parts
        all_steps += steps
    return size / 1e6, all_steps


def replay(workers, sent):
    """Times in ms of the collective ops of an iteration, one after another, alone."""
    with tf.Graph().as_default(), tf.device('/cpu:0'):
        values, last = [], []
        for kind, x in sent:
            values.append(tf.Variable(tf.zeros(x.shape, x.dtype)))
            with tf.control_dependencies(last):
                send = workers._reduce if kind == REDUCE else workers._gather
                last = [send(tf.identity(values[-1])).op]
        with tf.Session(workers.target, config=workers.session_config()) as sess:
            sess.run([value.initializer for value in values])
            run = sess.make_callable(last[0], accept_options=True)
            options = workers.run_options
            return timed(lambda: run(options=options), 5, workers)


def project(size, batch, alone, args):
    """Rows of the projection of a model, from the time of an iteration alone, in ms."""
    rows = []
    for count in PROJECTED:
        tasks = cluster.list_tasks({'worker': [f'host{i}:2222' for i in range(count)]})
        workers = Workers(cluster.Cluster(tasks, 0))
        # a GPU's layers are TensorFlow's own
        layers = tensorflow_ops() if args.project_ms else contextlib.nullcontext()
        with tf.Graph().as_default(), layers:
            _, iteration = build(None, workers, size, batch * count)
            sent = messages(tf.get_default_graph(), iteration.tensors)
        mb, steps = traffic(sent, count)
        ms = alone + 8 * mb / args.bandwidth + steps * args.latency
        rows.append(
            f'| {size}, {batch} | {count} | {mb:.1f} | {len(sent)} '
            f'| {ms:.0f} | {alone / ms:.0%} |'
        )
    return rows


if __name__ == '__main__':
    main()
