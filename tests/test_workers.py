"""Several processes train one model: its numbers, its files, and how they fail."""

import contextlib
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import (
    ROOT,
    SMALL,
    clean_environment,
    command,
    read_checkpoint,
    run,
    write_idx_set,
    write_images,
)

from dcgan.compute.cluster import (
    answers,
    local_tasks,
    read_cluster,
    tf_config,
)
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.workers import Workers
from dcgan.data.image_folder import ImageSet
from dcgan.record.metrics_csv import read_rows
from dcgan.util.errors import UserError

COND = dict(dataset_name='idx', y_dim=4, c_dim=1, batch_size=12, sample_num=12)
COND |= dict(z_dim=6, output_height=16, output_width=16)
COND |= dict(gf_dim=4, df_dim=4, gfc_dim=8, dfc_dim=8)
PLAIN = {**COND, 'dataset_name': 'cats', 'y_dim': None, 'c_dim': 3}
PLAIN |= dict(input_fname_pattern='*.png', crop=False)
FLAGS = ['--dataset', 'idx', *SMALL, '--seed', 1, '--ckpt_freq', 3, '--out_name', 'run']


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with data/idx and data/cats, of 96 images each."""
    folder = tmp_path_factory.mktemp('workers')
    write_idx_set(folder / 'data' / 'idx', count=96, size=16)
    write_images(folder / 'data' / 'cats', count=96)
    return folder


@contextlib.contextmanager
def started(commands, cwd):
    """Processes of a cluster, by their commands; killed in the end."""
    tasks = local_tasks(len(commands))
    processes = []
    for i, arguments in enumerate(commands):
        environment = clean_environment()
        if len(commands) > 1:
            environment['TF_CONFIG'] = tf_config(tasks, i)
        processes.append(
            subprocess.Popen(
                arguments,
                cwd=cwd,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def results(processes):
    """[(status, output)] of processes, once they have ended."""
    outputs = [process.communicate(timeout=200)[0] for process in processes]
    return [(p.returncode, text) for p, text in zip(processes, outputs)]


def train(workspace, name, count, dcgan, joint_statistics=True, **config):
    """Train by tests/worker.py; returns the arrays of each worker."""
    settings = workspace / f'{name}.json'
    folder = {'data_dir': str(workspace / 'data')}
    content = {'dcgan': {**dcgan, **folder}, 'config': config}
    settings.write_text(json.dumps({**content, 'joint_statistics': joint_statistics}))
    paths = [workspace / f'{name}.{count}.{i}.npz' for i in range(count)]
    commands = [command('tests/worker.py', 'train', settings, path) for path in paths]
    with started(commands, workspace) as processes:
        for status, text in results(processes):
            assert status == 0, text
    return [dict(np.load(path)) for path in paths]


def is_close(a, b, tolerance):
    """Whether the averages of batch norm and the metrics of two trainings agree."""
    names = [name for name in a if 'moving' in name or name == 'metrics']
    return all(np.allclose(a[n], b[n], tolerance, tolerance) for n in names)


def is_equal(chief, other):
    """Whether the variables of two workers are the same bytes."""
    names = [name for name in other if not name.startswith('training/')]
    return all(chief[n].tobytes() == other[n].tobytes() for n in names)


# without learning, no rounding is amplified
CASES = {
    'with classes': (COND, {'learning_rate': 0}),
    'images, all options': (
        {**PLAIN, 'ema': 0.9},
        dict(learning_rate=0, r1=1.0, d_dropout=0.3, flip=True, d_steps=2, g_steps=1)
        | dict(pretrain_d=2, label_smoothing=0.9),
    ),
}
WIDE = {**COND, 'gfc_dim': 256, 'dfc_dim': 256, 'gf_dim': 16}


@pytest.mark.parametrize('case', CASES)
def test_two_workers_have_the_numbers_of_one(case, workspace):
    dcgan, config = CASES[case]
    (one,) = train(workspace, case, 1, dcgan, **config)
    first, second = train(workspace, case, 2, dcgan, **config)
    assert len(first['metrics']) == 8 and is_close(one, first, 1e-5)
    assert is_equal(first, second)


@pytest.mark.parametrize('precision, error', [('float32', 1e-3), ('bfloat16', 0.05)])
def test_two_workers_have_the_gradients_of_one(precision, error, workspace):
    if precision == 'bfloat16' and not has_bfloat16():
        pytest.skip('this machine has no fast bfloat16')
    dcgan = {**WIDE, 'precision': precision}
    (one,) = train(workspace, precision, 1, dcgan, train_size=12)
    first, second = train(workspace, precision, 2, dcgan, train_size=12)
    assert is_equal(first, second)
    # biases before batch norm: zero gradients, but for rounding, which Adam scales up
    zero = 'd_h1_conv/b', 'd_h2_lin/b', 'g_h0_lin/b', 'g_h1_lin/b', 'g_h2/b'
    moments = [n for n in one if n.endswith('/Adam') and not any(z in n for z in zero)]
    if precision == 'bfloat16':  # and so come out other images, and other gradients
        moments = [name for name in moments if name.startswith('discriminator/')]
    assert len(moments) == (21 if precision == 'float32' else 10)
    for name in moments:
        limit = error * np.abs(one[name]).max()
        assert np.abs(one[name] - first[name]).max() <= limit, name


def test_statistics_of_each_slice_alone_are_other_numbers(workspace):
    dcgan, config = CASES['with classes']
    joint, *_ = train(workspace, 'three', 3, dcgan, **config)
    (one,) = train(workspace, 'one', 1, dcgan, **config)
    assert is_close(one, joint, 1e-5)
    own, *_ = train(workspace, 'slices', 3, dcgan, joint_statistics=False, **config)
    assert not is_close(one, own, 1e-4)


def test_a_penalty_on_wide_layers_leaves_the_weights_equal(workspace):
    config = dict(r1=1.0, pretrain_d=2, train_size=24)
    first, second = train(workspace, 'penalty', 2, WIDE, **config)
    assert is_equal(first, second) and len(first['metrics']) == 2


@pytest.mark.parametrize('case', ['cond28', 'rgb64'])
def test_recordings_of_the_original_are_reproduced_by_two_workers(
    case, tmp_path, capsys
):
    golden, commands = ROOT / 'tests' / 'golden' / case, []
    for i in range(2):
        out = tmp_path / str(i)
        shutil.copytree(golden / 'checkpoint', out / 'checkpoint')
        args = ['run', '--impl', ROOT, '--case', golden / 'case.json', '--out', out]
        commands.append(command('tests/worker.py', 'drive', *args))
    with started(commands, tmp_path) as processes:
        for status, text in results(processes):
            assert status == 0, text
    compare = runpy.run_path(str(ROOT / 'tests' / 'conformance' / 'compare.py'))['main']
    assert not compare(str(golden), str(tmp_path / '0')), capsys.readouterr().out


# The command line


def commands(count, *args, out_dirs=None):
    """Commands of main.py, each with a separate out_dir, or as given."""
    out_dirs = out_dirs or [f'out{i}' for i in range(count)]
    return [
        command('main.py', '--train', *FLAGS, '--out_dir', out_dir, *args)
        for out_dir in out_dirs
    ]


def wait_for_iteration(process, number):
    """Read what a process prints until that iteration."""
    for line in process.stdout:
        match = re.match(r'\[ *(\d+) Epoch', line)
        if match and int(match[1]) >= number:
            return
    raise AssertionError('it has ended')


def test_only_the_chief_writes_and_runs_go_on_with_any_number_of_workers(tmp_path):
    write_idx_set(tmp_path / 'data' / 'idx', count=96, size=16)
    for count, epochs in (2, 1), (1, 2), (4, 3):
        with started(commands(count, '--epoch', epochs), tmp_path) as processes:
            for status, text in results(processes):
                assert status == 0, text
    assert not any((tmp_path / f'out{i}').exists() for i in (1, 2, 3))
    run_dir = tmp_path / 'out0' / 'run'
    assert len(read_rows(run_dir / 'metrics.csv')) == 36
    assert (run_dir / 'samples' / 'train_00000036.png').exists()
    names = {
        name.split('.')[1] for name in os.listdir(run_dir / 'checkpoint') if '.' in name
    }
    assert names == {'b8-36'}


def test_two_workers_resume_bit_for_bit_with_the_recorded_data(tmp_path):
    write_idx_set(tmp_path / 'elsewhere' / 'idx', count=96, size=16)
    data = ['--data_dir', 'elsewhere']
    for out, epochs, flags in ('a', 1, data), ('a', 2, []), ('b', 2, data):
        args = ['--workers', 2, '--epoch', epochs, '--out_dir', out, *flags]
        result = run('main.py', '--train', *FLAGS, *args, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    resumed, unbroken = (read_checkpoint(tmp_path / o / 'run/checkpoint') for o in 'ab')
    assert all(resumed[n].tobytes() == unbroken[n].tobytes() for n in unbroken)


@pytest.mark.parametrize('victim, number', [(0, signal.SIGSTOP), (1, signal.SIGKILL)])
def test_a_worker_that_is_killed_or_stopped_ends_the_other(victim, number, workspace):
    out_dirs = [f'fault{victim}{number}', 'none']
    args = ['--epoch', 1000, '--worker_timeout', 4]
    with started(commands(2, *args, out_dirs=out_dirs), workspace) as processes:
        wait_for_iteration(processes[0], 5)
        start = time.monotonic()
        processes[victim].send_signal(number)
        status, text = results([processes[1 - victim]])[0]
        assert time.monotonic() - start < 30
    assert status == 1
    address = f'worker {victim} (127.0.0.1:'
    line = text.splitlines()[-1]
    assert (
        line.startswith(f'main.py: no answer from {address}') and '--out_name' in line
    )
    assert victim or 'model.b8-' not in line
    if victim:
        assert 'it resumes' in line and '--out_name run' in line


def test_a_signal_to_any_worker_saves_and_stops_all(workspace):
    out_dirs = ['signal', 'none']
    args = commands(2, '--epoch', 1000, out_dirs=out_dirs)
    with started(args, workspace) as processes:
        wait_for_iteration(processes[0], 5)
        processes[1].send_signal(signal.SIGINT)
        chief, other = results(processes)
    assert chief[0] == 143 and other[0] == 128 + signal.SIGINT
    last = [
        re.search(r'(?:saved up to|after) iteration (\d+)', text)[1]
        for _, text in (chief, other)
    ]
    checkpoint = workspace / out_dirs[0] / 'run' / 'checkpoint'
    assert last[0] == last[1]
    assert (checkpoint / f'model.b8-{last[0]}.index').exists()


def test_local_workers_end_with_the_one_that_started_them(workspace):
    args = ['--train', *FLAGS, '--workers', 2, '--epoch', 1000, '--out_dir', 'local']
    with started([command('main.py', *args)], workspace) as (chief,):
        wait_for_iteration(chief, 5)
        children = subprocess.check_output(['pgrep', '-P', str(chief.pid)], text=True)
        chief.send_signal(signal.SIGTERM)
        assert results([chief])[0][0] == 143
        for child in map(int, children.split()):
            with pytest.raises(ProcessLookupError):
                os.kill(child, 0)


DIFFERENT = {
    'flags': (['--learning_rate', 0.001], 'has --learning_rate 0.001, and the chief'),
    'data': (['--data_dir', 'other'], 'data '),
}


@pytest.mark.parametrize('what', DIFFERENT)
def test_workers_that_differ_are_told_at_the_start(what, workspace):
    write_idx_set(workspace / 'other' / 'idx', count=90, size=16)
    flags, message = DIFFERENT[what]
    args = commands(2, '--epoch', 1, out_dirs=[f'differ_{what}', 'none'])
    args[1] += map(str, flags)
    with started(args, workspace) as processes:
        for status, text in results(processes):
            assert status == 1 and 'main.py: worker 1 (' in text, text
            assert message in text
    assert not (workspace / f'differ_{what}' / 'run' / 'FLAGS.json').exists()


def test_workers_without_flags_take_those_of_the_chief(workspace):
    args = commands(2, '--epoch', 1, '--r1', 1, out_dirs=['whole', 'none'])
    args[1] = command('main.py', '--train', '--dataset', 'idx')
    with started(args, workspace) as processes:
        for status, text in results(processes):
            assert status == 0, text


def test_an_absent_worker_is_named(workspace):
    args = commands(2, '--epoch', 1, '--worker_timeout', 2, out_dirs=['absent', 'b'])
    args[1] = [sys.executable, '-c', 'pass']
    with started(args, workspace) as (chief, other):
        other.wait()
        status, text = results([chief])[0]
    assert status == 1 and 'worker 1 (127.0.0.1:' in text
    assert 'no answer within 2 s' in text


REFUSED = {
    'ps': ({'cluster': {'ps': ['a:1'], 'worker': ['b:1', 'c:1']}}, 'the job ps'),
    'evaluator': (
        {'cluster': {'worker': ['b:1', 'c:1']}, 'task': {'type': 'evaluator'}},
        'the job evaluator',
    ),
    'no address': (
        {'cluster': {'worker': ['b', 'c:1']}, 'task': {'type': 'worker', 'index': 0}},
        'no address',
    ),
    'no task': ({'cluster': {'worker': ['b:1', 'c:1']}}, 'not in the cluster'),
    'list': ([], 'TF_CONFIG: give'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_tf_config_that_cannot_be_used_is_refused(case):
    content, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        read_cluster(json.dumps(content))


def test_a_cluster_has_the_chief_first():
    content = {'cluster': {'worker': ['b:1', 'c:1'], 'chief': ['a:1']}}
    content['task'] = {'type': 'worker', 'index': 1}
    tasks, index = read_cluster(json.dumps(content))
    assert [task.address for task in tasks] == ['a:1', 'b:1', 'c:1'] and index == 2
    assert read_cluster(tf_config(tasks, index)) == (tasks, index)


@pytest.mark.parametrize('text', ['', '{}', '{"cluster": {"worker": ["a:1"]}}'])
def test_without_other_workers_there_is_no_cluster(text):
    assert read_cluster(text) is None


def test_the_batch_has_to_be_a_multiple_of_the_workers():
    workers = Workers((local_tasks(3), 1))
    assert workers.split_batch(12) == 4 and workers.slice == slice(4, 8)
    with pytest.raises(UserError, match='multiple of 3'):
        workers.split_batch(8)


def test_parts_of_batches_with_broken_images_make_up_the_whole(tmp_path):
    write_images(tmp_path, count=200)
    for i in range(0, 200, 100):
        (tmp_path / f'{i:03d}.png').write_bytes(b'broken')
    sizes = dict(resize_height=8, resize_width=8, crop=False, grayscale=False)
    sizes |= dict(input_height=8, input_width=8)

    def batches(part):
        np.random.seed(3)
        data = ImageSet(str(tmp_path), '*.png', **sizes)
        return [images for images, _ in data.batches(20, 10, part=part)]

    halves = zip(batches(slice(0, 10)), batches(slice(10, 20)))
    for whole, parts in zip(batches(slice(None)), halves):
        assert (whole == np.concatenate(parts)).all()


def test_nothing_answers_at_a_port_where_no_server_is():
    assert not answers(local_tasks(1)[0].address)
