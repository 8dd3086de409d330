"""Several workers train one model: its numbers, its files, and how they fail."""

import contextlib
import json
import os
import random
import re
import runpy
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import (
    ROOT,
    SMALL,
    bounded,
    read_checkpoint,
    run,
    run_in_process,
    same,
    start,
    write_idx_set,
)

from dcgan.compute.batch_norm import normalize
from dcgan.compute.cluster import (
    Cluster,
    absence,
    bypass_proxies,
    list_tasks,
    local_tasks,
    read_cluster,
    tf_config,
    wait_for,
)
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.workers import Workers
from dcgan.record.metrics_csv import read_rows
from dcgan.training.fused_iteration import FusedIteration
from dcgan.training.prefetch import Batch
from dcgan.util.errors import UserError
from model import DCGAN

COND = dict(data_dir=None, y_dim=4, c_dim=1, batch_size=12, sample_num=12, z_dim=6)
COND |= dict(output_height=16, output_width=16, gf_dim=4, df_dim=4)
COND |= dict(gfc_dim=8, dfc_dim=8)
WIDE = {**COND, 'gfc_dim': 256, 'dfc_dim': 256, 'gf_dim': 16}
ALL_OPTIONS = dict(r1=1.0, d_dropout=0.3, g_steps=1, pretrain_d=1, label_smoothing=0.9)
ALL_OPTIONS |= dict(augment='color,translation,cutout')


# The numbers, by servers in this process


def together(function, *lists):
    """function(*items) for the items of lists at once, each in a thread."""
    with ThreadPoolExecutor(len(lists[0])) as threads:
        return list(threads.map(function, *lists))


@pytest.fixture(scope='module')
def groups():
    """{number: so many Workers, each with a server in this process}."""
    groups = {1: [Workers()]}
    for count in (2, 3):
        tasks = local_tasks(count)
        groups[count] = [Workers(Cluster(tasks, i), 60) for i in range(count)]
        together(lambda workers: workers.connect(), groups[count])
    return groups


def trained(group, settings, rate=0.0, iterations=2, **options):
    """The last Iteration and {name: variable} of each worker, once it has trained."""
    config = SimpleNamespace(learning_rate=rate, beta1=0.5, G_img_sum=False, **options)
    replicas = []
    for workers in group:  # not at once: ops are built for one group at a time
        with tf.Graph().as_default():
            tf.set_random_seed(1 + workers.index)  # only the chief's weights count
            sess = tf.Session(workers.target, config=workers.session_config())
            iteration = FusedIteration(DCGAN(sess, workers=workers, **settings), config)
            if iteration.options.pretrain_d:
                assert iteration._pretraining is not None
            sess.run(tf.global_variables_initializer())
        replicas.append(iteration)
    return together(partial(train, iterations=iterations), replicas)


def train(iteration, iterations):
    """Train a worker's part of random batches; see `trained`."""
    dcgan, rng = iteration.dcgan, np.random.RandomState(0)
    sess, size, shape = dcgan.sess, dcgan.batch_size, dcgan.inputs.shape.as_list()
    part, rates = dcgan.workers.slice, sess.run(iteration.learning_rates)
    with sess, sess.graph.as_default():
        dcgan.workers.share(sess, write=lambda sess: None)
        for number in range(iterations):
            batch = Batch(
                rng.randint(0, 256, shape).astype(np.uint8)[part],
                (np.arange(size) % 4)[part],
                rng.uniform(-1, 1, (size, dcgan.z_dim)).astype(np.float32)[part],
                np.int32([number, 7]),
            )
            if number < iteration.options.pretrain_d:
                iteration.pretrain(batch, rates, False)
            feed = iteration.batches.feed(batch)
            feed[iteration.stop] = dcgan.workers.index
            options = dcgan.workers.run_options
            result = sess.run(iteration.tensors, feed, options)
        variables = tf.global_variables()
        names = [variable.op.name for variable in variables]
        return result, dict(zip(names, sess.run(variables)))


def are_close(a, b):
    """Whether two workers have the numbers and the moving averages of one."""
    pairs = [*zip(a[0][:4], b[0][:4])]
    pairs += [(a[1][name], b[1][name]) for name in a[1] if 'moving' in name]
    return all(np.allclose(x, y, 1e-5, 1e-5) for x, y in pairs)


def are_equal(chief, *others):
    """Whether workers have equal variables."""
    return all(same(chief[1], variables) for _, variables in others)


def have_close_gradients(one, chief, error, network=''):
    """Whether the first moments of Adam agree, within `error` of the largest."""
    (_, a), (_, b) = one, chief
    # biases before batch norm: zero gradients, but for rounding
    zero = 'd_h1_conv/b', 'd_h2_lin/b', 'g_h0_lin/b', 'g_h1_lin/b', 'g_h2/b'
    names = [n for n in a if n.startswith(network) and n.endswith('/Adam')]
    names = [name for name in names if not any(other in name for other in zero)]
    assert len(names) == (10 if network else 21)
    return all(
        np.abs(a[name] - b[name]).max() <= error * np.abs(a[name]).max()
        for name in names
    )


@pytest.mark.slow
def test_three_workers_have_the_numbers_of_one(groups, monkeypatch):
    monkeypatch.setattr('dcgan.compute.workers.LARGE', 1 << 14)
    (one,) = trained(groups[1], WIDE)  # without learning, no rounding is amplified
    chief, *others = trained(groups[3], WIDE)
    assert are_close(one, chief) and are_equal(chief, *others)
    assert have_close_gradients(one, chief, 1e-3)
    assert one[0].probabilities.shape == chief[0].probabilities.shape == (3, 12, 1)
    assert chief[0].stop == 1  # the mean of what 0, 1 and 2 ask


@pytest.mark.parametrize('differentiable', [False, True])
def test_batch_norm_of_two_workers_has_the_gradients_of_one(differentiable, groups):
    values = np.random.RandomState(0).randn(12, 3, 2, 5).astype(np.float32)

    def build(workers):
        with tf.Graph().as_default(), workers.joint(differentiable):
            workers.split_batch(12)
            x = tf.constant(values[workers.slice])
            y, *moments = normalize(x, tf.range(1.0, 6), tf.ones([5]), 1e-5)
            found = [y, *tf.gradients(y**3, [x])]
            if differentiable:
                found += tf.gradients(found[-1] ** 2, [x])
            found = [workers.gather(tensor, axis=0) for tensor in found]
            sess = tf.Session(workers.target, config=workers.session_config())
        return workers, sess, [*found, *moments]

    def evaluate(built):
        workers, sess, tensors = built
        with sess:
            return sess.run(tensors, options=workers.run_options)

    built = [*map(build, groups[1])], [*map(build, groups[2])]
    (one,), (chief, other) = (together(evaluate, workers) for workers in built)
    for a, b, c in zip(one, chief, other):
        assert (b == c).all() and np.allclose(a, b, 1e-4, 1e-4 * abs(a).max())


@pytest.mark.slow
def test_two_workers_have_the_numbers_of_one_with_all_options(groups):
    settings = {**COND, 'y_dim': None, 'c_dim': 3, 'ema': 0.9}
    (one,) = trained(groups[1], settings, **ALL_OPTIONS)
    chief, other = trained(groups[2], settings, **ALL_OPTIONS)
    assert are_close(one, chief) and are_equal(chief, other)


@pytest.mark.slow
def test_two_workers_have_the_gradients_of_one_in_bfloat16(groups):
    if not has_bfloat16():
        pytest.skip('this machine has no fast bfloat16')
    settings = {**WIDE, 'precision': 'bfloat16'}
    (one,) = trained(groups[1], settings, 2e-4, iterations=1)
    chief, other = trained(groups[2], settings, 2e-4, iterations=1)
    # of G, other images have other gradients
    assert are_equal(chief, other)
    assert have_close_gradients(one, chief, 0.05, 'discriminator/')


@pytest.mark.slow
def test_a_penalty_on_wide_layers_leaves_the_weights_equal(groups):
    chief, other = trained(groups[2], WIDE, 2e-4, r1=1.0, pretrain_d=1)
    assert are_equal(chief, other)


def test_workers_tell_each_other_texts_and_differences(groups):
    texts = together(lambda workers: workers.exchange(f'é{workers.index}'), groups[2])
    assert texts == 2 * [['é0', 'é1']]

    def differ(workers):
        with pytest.raises(UserError, match=r'worker 1 .*: code 1, but the chief has '):
            workers.require_same({'code': workers.index})

    together(differ, groups[2])


def test_a_stop_of_any_worker_stops_all(groups):
    alone, several = groups[1][0], groups[2][0]
    assert not alone.common_stop(1.0, []) and alone.common_stop(0.0, [signal.SIGINT])
    signals = []
    assert not several.common_stop(0.0, signals) and several.common_stop(0.5, signals)
    assert signals == [signal.SIGTERM]


# The command line


# where nothing answers: gRPC would ask it even for 127.0.0.1
NAMES = 'http_proxy', 'https_proxy', 'grpc_proxy'
PROXIES = dict.fromkeys(NAMES, 'http://127.0.0.1:9')
PROXIES |= {'no_proxy': 'example.org', 'GRPC_ADDRESS_HTTP_PROXY': '127.0.0.1:9'}
PROXIES |= {'GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES': '127.0.0.0/8'}
FLAGS = ['--dataset', 'idx', *SMALL, '--seed', 1, '--ckpt_freq', 3, '--out_name', 'run']


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with data/idx, 96 images."""
    folder = tmp_path_factory.mktemp('workers')
    write_idx_set(folder / 'data' / 'idx', count=96, size=16)
    return folder


@contextlib.contextmanager
def started(count, *args, cwd, others=()):
    """Processes of main.py that train together, with out0, out1, ...; then killed.

    The last ones run `others` instead: a script and its arguments each.
    """
    tasks = local_tasks(count)
    with contextlib.ExitStack() as stack:
        processes = []
        for i in range(count):
            out_dir = ['--out_dir', f'out{i}']
            line = ['main.py', '--train', *FLAGS, *out_dir, *args]
            if i >= count - len(others):
                line = others[i - count]
            config = tf_config(tasks, i) if count > 1 else ''
            process = start(*line, cwd=cwd, TF_CONFIG=config)
            processes.append(stack.enter_context(process))
        yield processes


def passed(processes):
    """Wait until all have ended well."""
    for process in processes:
        result = process.wait()
        assert result.returncode == 0, result.stderr


def wait_for_iteration(process, number):
    """Wait until a process has printed that iteration."""
    while not re.search(rf'^\[ *{number} Epoch', process.output(), re.M):
        assert process.is_alive, process.wait().stderr
        time.sleep(0.1)


def test_two_workers_go_on_with_the_numbers_of_one(tiny_runs, tmp_path):
    args = ['--train', '--out_name', 'set', '--epoch', 2, '--learning_rate', 0]
    args += ['--flip', '--d_dropout', 0.3, '--augment', 'translation']
    one, two = (shutil.copytree(tiny_runs, tmp_path / name) for name in ('one', 'two'))
    of_two = run('main.py', *args, '--workers', 2, cwd=two, **PROXIES)
    of_one = run_in_process(*args, cwd=one)
    assert of_two.returncode == of_one.returncode == 0, of_two.stderr
    rows = [read_rows(folder / 'out/set/metrics.csv')[3:] for folder in (two, one)]
    rows = [np.delete(array, 3, axis=1) for array in rows]  # without seconds
    close = partial(np.allclose, rtol=0, atol=1e-6)
    assert rows[0].shape == (3, 14) and close(*rows, equal_nan=True)
    losses = re.compile(r'\[Sample\] d_loss: (.*), g_loss: (.*)')
    samples = [np.float64(losses.findall(one.stdout)) for one in (of_two, of_one)]
    assert len(samples[0]) == 3 and close(*samples)


@pytest.mark.slow
def test_only_the_chief_writes_and_runs_go_on_with_any_number_of_workers(tmp_path):
    write_idx_set(tmp_path / 'data' / 'idx', count=96, size=16)
    bare = ['main.py', '--train', '--dataset', 'idx']  # other flags are the chief's
    for count, epochs, others in (2, 1, [bare]), (1, 2, []), (4, 3, []):
        args = ['--epoch', epochs, '--r1', 1]
        with started(count, *args, cwd=tmp_path, others=others) as processes:
            passed(processes)
    assert not any((tmp_path / f'out{i}').exists() for i in (1, 2, 3))
    run_dir = tmp_path / 'out0' / 'run'
    assert len(read_rows(run_dir / 'metrics.csv')) == 36
    assert (run_dir / 'samples' / 'train_00000036.png').exists()
    names = os.listdir(run_dir / 'checkpoint')
    assert {name.split('.')[1] for name in names if '.' in name} == {'b8-36'}


@pytest.mark.slow
def test_two_workers_resume_bit_for_bit_with_the_recorded_data(tmp_path):
    write_idx_set(tmp_path / 'elsewhere' / 'idx', count=96, size=16)
    data = ['--data_dir', 'elsewhere']
    for out, epochs, flags in ('a', 1, data), ('a', 2, []), ('b', 2, data):
        args = ['--workers', 2, '--epoch', epochs, '--out_dir', out, *flags]
        args += ['--recipe', 'best'] if flags else []  # the chief's, of few images
        result = run('main.py', '--train', *FLAGS, *args, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert not flags or 'best of 96 images: --augment' in result.stdout
    resumed, unbroken = (read_checkpoint(tmp_path / o / 'run/checkpoint') for o in 'ab')
    assert same(unbroken, resumed)


@pytest.mark.slow
@pytest.mark.parametrize('victim, number', [(0, signal.SIGSTOP), (1, signal.SIGKILL)])
def test_a_worker_that_is_killed_or_stopped_ends_the_other(victim, number, workspace):
    args = ['--epoch', 1000, '--worker_timeout', 10, '--out_name', f'fault{victim}']
    with started(2, *args, cwd=workspace) as processes:
        wait_for_iteration(processes[0], 5)
        processes[victim].send_signal(number)
        result = processes[1 - victim].wait(60)
    assert result.returncode == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f'main.py: no answer from worker {victim} (127.0.0.1:')
    resumes = f'--out_name fault{victim}: it resumes out0/fault{victim}/checkpoint'
    assert (resumes if victim else "the --out_name of the chief's run") in line


@pytest.mark.slow
def test_a_signal_to_any_worker_saves_and_stops_all(workspace):
    args = ['--epoch', 1000, '--out_name', 'signal']
    with started(2, *args, cwd=workspace) as processes:
        wait_for_iteration(processes[0], 5)
        processes[1].send_signal(signal.SIGINT)
        chief, other = (process.wait() for process in processes)
    assert chief.returncode == 143 and other.returncode == 128 + signal.SIGINT
    saved = re.search(r'saved up to iteration (\d+)', chief.stderr)[1]
    assert f'interrupted; after iteration {saved}' in other.stderr
    checkpoint = workspace / 'out0' / 'signal' / 'checkpoint'
    assert (checkpoint / f'model.b8-{saved}.index').exists()


@pytest.mark.slow
def test_local_workers_end_with_the_one_that_started_them(workspace):
    args = ['--workers', 2, '--epoch', 1000, '--out_name', 'local']
    with started(1, *args, cwd=workspace) as (chief,):
        wait_for_iteration(chief, 5)
        children = subprocess.check_output(['pgrep', '-P', str(chief.pid)], text=True)
        chief.send_signal(signal.SIGTERM)
        assert chief.wait().returncode == 143
        for child in map(int, children.split()):
            with pytest.raises(ProcessLookupError):
                os.kill(child, 0)


@pytest.mark.slow
def test_workers_that_differ_are_told_at_the_start(workspace):
    write_idx_set(workspace / 'other' / 'idx', count=90, size=16)
    for name, value, message in (
        ('--learning_rate', 0.001, 'has --learning_rate 0.001, and the chief'),
        ('--data_dir', 'other', 'data '),
    ):
        other = ['main.py', '--train', *FLAGS, name, value]
        args = ['--epoch', 1, '--out_name', 'differ']
        with started(2, *args, cwd=workspace, others=[other]) as processes:
            for process in processes:
                result = process.wait()
                assert result.returncode == 1 and 'main.py: worker 1 (' in result.stderr
                assert message in result.stderr
        assert not (workspace / 'out0' / 'differ' / 'FLAGS.json').exists()


@pytest.mark.slow
@pytest.mark.parametrize('case', ['cond28', 'rgb64'])
def test_recordings_of_the_original_are_reproduced_by_two_workers(
    case, tmp_path, capsys
):
    golden, lines = ROOT / 'tests' / 'golden' / case, []
    for i in range(2):
        out = tmp_path / str(i)
        shutil.copytree(golden / 'checkpoint', out / 'checkpoint')
        args = ['run', '--impl', ROOT, '--case', golden / 'case.json', '--out', out]
        lines.append(['tests/worker.py', *args])
    with started(2, cwd=tmp_path, others=lines) as processes:
        passed(processes)
    compare = runpy.run_path(str(ROOT / 'tests' / 'conformance' / 'compare.py'))['main']
    assert not compare(str(golden), str(tmp_path / '0')), capsys.readouterr().out


# The cluster


@contextlib.contextmanager
def answering(content, times=1, port=0):
    """The Task of a program that sends this to all who connect, and goes on."""

    def serve():
        with contextlib.ExitStack() as kept, contextlib.suppress(OSError):
            while True:
                one = kept.enter_context(server.accept()[0])
                with contextlib.suppress(OSError):
                    for _ in range(times):
                        one.sendall(content)

    with socket.create_server(('127.0.0.1', port)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield list_tasks({'worker': [f'127.0.0.1:{server.getsockname()[1]}']})[0]
        server.shutdown(socket.SHUT_RDWR)


def test_an_absent_worker_is_named_with_the_reason():
    task, lost = local_tasks(1)[0], list_tasks({'worker': ['no-such-host.invalid:1']})
    long = list_tasks({'worker': [f'{64 * "a"}.b:1']})
    message = r'no answer within 0.1 s from worker 0 \(127.*\): Connection refused, '
    with pytest.raises(UserError, match=rf'{message}worker 0 \(no-such.*\): '):
        wait_for([task, *lost], 0.1, lambda: None)
    assert absence(*lost) and 'too long' in absence(*long)
    with socket.create_server(('127.0.0.1', 0)) as stopped:  # it never accepts
        tasks = list_tasks({'worker': [f'127.0.0.1:{stopped.getsockname()[1]}']})
        assert absence(*tasks, 0.1) == 'timed out'


HTTP2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # the first frame, SETTINGS


@pytest.mark.parametrize(
    'content, times',
    [
        (b'HTTP/1.1 400 Bad Request\r\n\r\n', 1),
        (b'SSH-2.0-OpenSSH_9.2\r\n', 1),
        (b'*3\r\n', 1),
        (bytes(1 << 16), 1000),
        (HTTP2, 1_000_000),
        (HTTP2 + b'\0\0\1\1\5\0\0\0\1\x88', 1),  # HEADERS, the end of the reply
        (HTTP2 + b'\0\0\0\0\1\0\0\0\1', 1),  # DATA
    ],
)
def test_a_program_that_is_not_tensorflow_is_told_from_a_worker(content, times):
    with answering(content, times) as task:
        assert absence(task, 60) == 'something else answers, not TensorFlow'


def test_a_worker_of_another_cluster_is_told_from_one_of_this(groups):
    one, two = (task.address for task in groups[2][0].tasks)
    for jobs in (
        {'worker': [one, 'host:1']},
        {'worker': ['host:1', one]},
        {'worker': [two, one]},
        {'worker': [one, two, 'host:1']},
        {'chief': [one], 'worker': [two]},
        {'worker': [one, two.replace('127.0.0.1', socket.gethostname())]},
    ):
        tasks = [task for task in list_tasks(jobs) if task.address in (one, two)]
        reasons = {absence(task, 60) for task in tasks}
        assert reasons == {'a worker of another training or TF_CONFIG answers'}
    spelled = [address.replace('127.0.0.1', 'LOCALHOST') for address in (one, two)]
    assert not any(absence(t, 60) for t in list_tasks({'worker': spelled}))


def test_who_is_waited_for_is_said_again_when_the_reason_changes(capsys):
    task = local_tasks(1)[0]
    with contextlib.ExitStack() as stack:
        programs = [answering(b'SSH-2.0-x\r\n', port=int(task.address[10:]))]

        def check():
            if not programs:
                raise UserError('enough')
            stack.enter_context(programs.pop())

        with pytest.raises(UserError, match='enough'):
            wait_for([task], 60, check)
        lines = [f' [*] Waiting for {task}: Connection refused']
        lines += [f' [*] Waiting for {task}: something else answers, not TensorFlow']
        assert capsys.readouterr().out.splitlines() == lines
        with pytest.raises(UserError, match='something else answers'):
            wait_for([task], 0, lambda: None)


def test_a_worker_that_sends_no_first_message_is_named():
    tasks = local_tasks(2)
    pair = [Workers(Cluster(tasks, i), 60) for i in range(2)]
    together(lambda workers: workers.connect(), pair)
    pair[0].timeout = 1
    with pytest.raises(UserError, match=r'no message from worker 1 \(127'):
        pair[0].exchange(0)
    assert pair[1].exchange(1) == [0, 1]  # ends what the first one waits for


@pytest.mark.slow
def test_a_worker_that_stops_before_the_weights_are_shared_is_named(tmp_path):
    tasks, script = local_tasks(2), tmp_path / 'worker.py'
    script.write_text("""
import os, signal
from dcgan.compute.cluster import read_cluster
from dcgan.compute.workers import Workers
workers = Workers(read_cluster(os.environ['TF_CONFIG']))
workers.connect()
workers.exchange(0)
signal.pause()
""")
    chief = Workers(Cluster(tasks, 0), 60)
    with start(script, cwd=tmp_path, TF_CONFIG=tf_config(tasks, 1)) as worker:
        chief.connect()
        chief.exchange(0)
        worker.send_signal(signal.SIGSTOP)
        chief.timeout = 2
        with tf.Graph().as_default():
            tf.get_variable('w', [2])
            with (
                pytest.raises(UserError, match=r'no answer from worker 1 \(127'),
                tf.Session(chief.target, config=chief.session_config()) as sess,
            ):
                write = tf.global_variables_initializer()
                chief.share(sess, lambda sess: sess.run(write))


def test_a_port_in_use_is_reported():
    for host in ('127.0.0.1', '0.0.0.0'):
        with socket.create_server((host, 0)) as server:
            tasks = [f'127.0.0.1:{server.getsockname()[1]}', '127.0.0.1:1']
            workers = Workers(Cluster(list_tasks({'worker': tasks}), 0), 1)
            with pytest.raises(UserError, match='worker 0 .* is the port in use'):
                workers.connect()


def test_the_hosts_of_a_cluster_bypass_proxies():
    tasks = list_tasks({'worker': ['Host1:1', '[fd00:0::1]:1', '127.0.0.1:1']})
    hosts = 'host1,fd00::1,127.0.0.1,Host1,fd00:0::1'
    for before, kept in (
        ({}, ''),
        ({'no_proxy': 'a.b,*.c'}, 'a.b,*.c,'),
        ({'no_grpc_proxy': 'd', 'no_proxy': 'a.b'}, 'd,'),
        ({'no_grpc_proxy': '', 'no_proxy': 'a.b'}, ''),
        ({'GRPC_ADDRESS_HTTP_PROXY': 'x:1'}, ''),
    ):
        after = dict(before)
        bypass_proxies(tasks, after)
        assert after.pop('no_grpc_proxy') == kept + hosts
        assert after.items() <= before.items() and not any('GRPC' in x for x in after)


def test_a_cluster_has_the_chief_first():
    two = {'worker': ['b:1', 'c:1']}
    content = {'cluster': {**two, 'chief': ['a:1'], 'ps': [], 'evaluator': None}}
    content['task'] = {'type': 'worker', 'index': '1'}
    tasks, index = read_cluster(json.dumps(content))
    assert [task.address for task in tasks] == ['a:1', 'b:1', 'c:1'] and index == 2
    assert read_cluster(tf_config(tasks, index)) == (tasks, index)
    for text in ('', ' \n', '{}', '{"cluster": {"worker": ["a"]}}', '{"task": null}'):
        assert read_cluster(text) is None  # no others


def test_a_tf_config_that_cannot_be_used_is_reported():
    two, own = {'worker': ['b:1', 'c:1']}, {'type': 'worker', 'index': 0}
    for message, content in (
        ('the job ps', {'cluster': {'ps': ['a:1'], **two}}),
        ('the job evaluator', {'cluster': two, 'task': {'type': 'evaluator'}}),
        ('in lower case', {'cluster': {'Worker': ['a:1', 'b:1']}, 'task': own}),
        ('not in the cluster', {'cluster': two}),
        ('not in the cluster', {'cluster': two, 'task': {**own, 'index': -1}}),
        ('worker 1 is not in .* no tasks', {'task': {**own, 'index': 1}}),
        ('not in .* worker 0$', {'cluster': {'worker': ['a:1']}, 'task': {'index': 2}}),
        ('not in .* no', {'sparseCluster': two, 'task': {**own, 'index': 1}}),
        (r'the job \[\[', {'cluster': two, 'task': {**own, 'type': [[]]}}),
        ("'0.5'", {'cluster': two, 'task': {**own, 'index': 0.5}}),
        ('cannot be read', {'cluster': two, 'task': {**own, 'index': True}}),
        ('cannot be read', {'cluster': two, 'task': 'worker'}),
        ('cannot be read', {'cluster': ['a:1', 'b:1'], 'task': own}),
        ('cannot be read', {'cluster': {'worker': 2}, 'task': own}),
        ('no address', {'cluster': {'worker': 'a:1,b:1'}, 'task': own}),
        *[('cannot be read .*; give {"cluster"', x) for x in ([], None, 'a', 7)],
    ):
        with pytest.raises(UserError, match=f'^TF_CONFIG: .*{message}'):
            read_cluster(json.dumps(content))
    for text in ('{', '[' * 100_000, 'worker', '\udcff', '{"task": {"index": NaN}}'):
        with pytest.raises(UserError, match='^TF_CONFIG: cannot be read'):
            read_cluster(text)


def test_what_is_no_address_is_reported():
    texts = 'b|b:|:1|b:0|b:65536|b:-1|b:+1|b:1.0|b:1/|b:٢|é:1|*:1| b:1|b :1|b:1\n|b\0:1'
    texts += '|http://b:1|grpc://b:1|u@b:1||b:1,c:1'
    texts += '|::1:1|[::1]|[::1]1|[::g]:1|[1:2]:1|[b]:1'
    for address in (*texts.split('|'), '[fe80::1%eth0]:1', None, 7, ['b:1']):
        content = {'cluster': {'worker': ['a:1', address]}}
        content['task'] = {'type': 'worker', 'index': 0}
        message = r'^TF_CONFIG: .*(is no address; give host:port|cannot be read)'
        with pytest.raises(UserError, match=message):
            read_cluster(json.dumps(content))
    for address in ('b:1', 'b:65535', 'b_c-d.e:1', '10.0.0.1:1', '[fd00::1]:1'):
        content['cluster']['worker'][1] = address
        assert read_cluster(json.dumps(content)).tasks[1].address == address


@pytest.mark.parametrize(
    'first, second',
    [
        ('b:1', 'b:1'),
        ('b:1', 'B:01'),
        ('localhost:1', '127.0.0.1:1'),
        ('[::1]:1', '127.1.2.3:1'),
        ('[fd00::1]:1', '[FD00:0::0001]:1'),
        ('0.0.0.0:1', 'LocalHost:1'),
    ],
)
def test_an_address_that_is_there_twice_is_reported(first, second):
    content = {'cluster': {'chief': [first], 'worker': ['a:1', second]}}
    with pytest.raises(UserError) as caught:
        read_cluster(json.dumps(content))
    assert f'TF_CONFIG: {first} and {second} are one address' in str(caught.value)


# values for anything in a TF_CONFIG
STRANGE = json.loads(
    """[null, true, 1, "1", -1, 0.5, 1e999, 9e99, "", "ps", "a\\u001b:1", [], {}, [[]],
    ["a:1", "a:1"], ["a:1"], {"Worker": ["a:1"]}, "[::1[::1]", [1, {"a": []}]]"""
)
STRANGE += [10**30, 5000 * 'x', '\udcff:1']


def mutated(text, rng):
    """A TF_CONFIG with random changes: of its characters, or of one value in it."""
    if rng.random() < 0.4:
        for _ in range(rng.randint(1, 4)):
            i = rng.randrange(len(text))
            part = rng.choice(['', chr(rng.randrange(0x3000)), text[i:], '"', '[{'])
            text = text[:i] + part + text[i + rng.randint(0, 3) :]
        return text
    content = node = json.loads(text)
    while True:
        key = rng.choice([*node] if isinstance(node, dict) else range(len(node)))
        if not node[key] or isinstance(node[key], (str, int)) or rng.random() < 0.3:
            if isinstance(node, dict) and rng.random() < 0.2:
                node[rng.choice(['ps', '', 'master', 'WORKER', '\n'])] = node.pop(key)
            else:
                node[key] = rng.choice(STRANGE)
            return json.dumps(content)
        node = node[key]


@pytest.mark.slow
def test_any_tf_config_gives_a_cluster_or_an_error_of_one_line():
    cluster = {'chief': ['a:1'], 'worker': ['b:2222', '[::1]:3', 'c.d:65535'], 'ps': []}
    text = json.dumps({'cluster': cluster, 'task': {'type': 'worker', 'index': 1}})
    rng, read = random.Random(0), 0
    for _ in range(2000):
        try:
            with bounded():
                found = read_cluster(mutated(text, rng))
        except UserError as error:
            assert re.fullmatch('TF_CONFIG: .{10,400}', str(error)), repr(str(error))
        else:
            read += 1
            assert found is None or found.tasks[found.index].address
    assert 100 < read < 1500


@pytest.mark.parametrize('nodes, tasks', [(3, 1), (2, 3)])
def test_the_slurm_script_gives_each_task_its_own_port(nodes, tasks, tmp_path):
    page = (ROOT / 'docs' / 'workers.md').read_text()
    script = page[page.index('#!/bin/bash') :].split('```')[0]
    lists = []
    for number in range(nodes * tasks):
        env = {'SLURM_NTASKS_PER_NODE': tasks, 'SLURM_JOB_NODELIST': 'n[1-9]'}
        env |= {'SLURM_NODEID': number // tasks, 'SLURM_LOCALID': number % tasks}
        stubs = f"""scontrol() {{ for i in $(seq {nodes}); do echo n$i; done; }}
        srun() {{ "$@"; }}
        python() {{ echo "$TF_CONFIG"; }}; export -f python
        """
        env = {**os.environ, **{name: str(value) for name, value in env.items()}}
        printed = subprocess.check_output(['bash', '-c', stubs + script], env=env)
        found, index = read_cluster(printed.decode())
        assert found[index].address == f'n{1 + number // tasks}:{2222 + number % tasks}'
        lists.append((index, found))
    assert lists == [(number, lists[0][1]) for number in range(nodes * tasks)]


def test_the_batch_has_to_be_a_multiple_of_the_workers():
    workers = Workers((local_tasks(3), 1))
    assert workers.split_batch(12) == 4 and workers.slice == slice(4, 8)
    with pytest.raises(UserError, match='multiple of 3'):
        workers.split_batch(8)
