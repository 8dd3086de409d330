"""Runs of main.py: how they are resumed, interrupted, killed and locked."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import (
    ROOT,
    SMALL,
    at_line,
    command,
    interrupting,
    read_checkpoint,
    run,
    run_in_process,
    start,
    with_pipes,
    write_images,
)
from PIL import Image
from soak import losses, soak

from dcgan.training.checkpoints import (
    checkpoints,
    newest_checkpoint,
    next_batch,
    step_of,
)
from dcgan.util.errors import UserError
from dcgan.util.signals import deferred_signals, stop_signals

LOOP = 'dcgan.training.loop'
DATA = ['--dataset', 'cats', '--input_fname_pattern', '*.png', *SMALL]
# flags of a run of 15 iterations: 3 epochs of 5
TRAIN = ['--train', *DATA, '--seed', 5, '--max_to_keep', 2, '--epoch', 3]
TRAIN += ['--ckpt_freq', 4, '--sample_freq', 4]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A working folder with images and with a complete run, `uninterrupted`.

    uninterrupted.txt holds what that run printed.
    """
    workspace = tmp_path_factory.mktemp('workspace')
    write_images(workspace / 'data' / 'cats', count=40, size=(12, 12))
    args = ['--out_name', 'uninterrupted', '--gif']
    result = run_in_process(*TRAIN, *args, cwd=workspace)
    assert result.returncode == 0, result.stderr
    (workspace / 'uninterrupted.txt').write_text(result.stdout)
    return workspace


@pytest.fixture
def run_copy(workspace, tmp_path):
    """The folder of a copy of the run `uninterrupted`, which the test may change."""
    folder = workspace / 'out' / tmp_path.name
    shutil.copytree(workspace / 'out' / 'uninterrupted', folder)
    return folder


def resume(workspace, name, *args):
    """Resume the training of a run, in this process; returns what it printed."""
    return run_in_process('--train', '--out_name', name, *args, cwd=workspace)


@contextlib.contextmanager
def started(workspace, name, until, *args):
    """A process that trains a run, when it has printed the iteration `until`."""
    args = [*TRAIN, '--out_name', name, *args]
    with start('main.py', *args, cwd=workspace) as process:
        while f'[{until:8d} ' not in process.output():
            assert process.is_alive, process.wait().stderr
            time.sleep(0.01)
        yield process


def expected_losses(workspace, first=1):
    """The losses that the run `uninterrupted` printed, from iteration `first` on."""
    printed = losses((workspace / 'uninterrupted.txt').read_text())
    return {n: line for n, line in printed.items() if n >= first}


def assert_equals_uninterrupted(workspace, name, reference='uninterrupted'):
    """Assert that the newest checkpoints of two runs are equal."""
    expected, resumed = (
        read_checkpoint(workspace / 'out' / run / 'checkpoint')
        for run in (reference, name)
    )
    assert expected.keys() == resumed.keys()
    assert all(resumed[n].tobytes() == a.tobytes() for n, a in expected.items())


def saved_steps(run_folder):
    """The iterations of the checkpoints of a run, in ascending order."""
    return sorted(map(step_of, checkpoints(f'{run_folder}/checkpoint')))


def test_checkpoint_holds_the_state_of_the_training(workspace):
    state = read_checkpoint(workspace / 'out' / 'uninterrupted' / 'checkpoint')
    assert 'generator/g_h4/w/Adam' in state and 'generator/g_h4/w/Adam_1' in state
    assert {'beta1_power', 'beta2_power', 'beta1_power_1', 'beta2_power_1'} < set(state)
    assert state['training/counter'] == 15
    assert state['training/sample_z'].shape == (8, 6)
    # after the last of 3 epochs
    assert state['training/epoch'] == 3 and state['training/batch'] == 0
    assert sorted(state['training/order']) == list(range(40))
    assert state['training/random_key'].shape == (624,)


def test_meta_graph_of_a_checkpoint_can_be_differentiated(workspace):
    path = workspace / 'out' / 'uninterrupted' / 'checkpoint' / 'model.b8-15.meta'
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(str(path))
        z, images = map(graph.get_tensor_by_name, ['z:0', 'generator_1/Tanh:0'])
        assert tf.gradients(images, z)[0].shape.as_list() == [None, 6]
        nodes = [op.node_def for op in graph.get_operations()]
        assert not any('_gradient_op_type' in node.attr for node in nodes)


def test_run_leaves_few_checkpoints_an_animation_and_warnings_of_few_images(workspace):
    run_dir = workspace / 'out' / 'uninterrupted'
    assert saved_steps(run_dir) == [8, 12, 15]  # the final one and max_to_keep others
    with Image.open(run_dir / 'samples' / 'progress.gif') as gif:
        assert gif.n_frames == 5 and gif.size == (16 * 3, 16 * 3)
    printed = (workspace / 'uninterrupted.txt').read_text()
    first, second = re.findall(r'^ \[!\] .*', printed, re.MULTILINE)
    assert 'Only 40 images' in first and 'batch of 8' in second


def test_run_of_the_original_is_resumed_as_the_original_does(workspace):
    folder = workspace / 'out' / 'original'
    shutil.copytree(ROOT / 'tests/golden/rgb_odd/checkpoint', folder / 'checkpoint')
    flags = {'batch_size': 9, 'z_dim': 16, 'gf_dim': 4, 'df_dim': 4, 'dataset': 'cats'}
    flags |= {'output_height': 50, 'output_width': 36, 'input_fname_pattern': '*.png'}
    (folder / 'FLAGS.json').write_text(json.dumps(flags))
    before = (folder / 'checkpoint' / 'model.b9-1.index').read_bytes()
    result = resume(workspace, 'original', '--epoch', 1, '--ckpt_freq', 1)
    assert result.returncode == 0, result.stderr
    assert 'It holds weights only: epochs and Adam start anew' in result.stdout
    assert list(losses(result.stdout)) == [1, 2, 3, 4]
    assert '[       1 Epoch:[ 0/ 1] [   0/   4]' in result.stdout
    # the checkpoint of the original is not deleted; of our own, the newest is kept
    assert saved_steps(folder) == [1, 4]
    assert (folder / 'checkpoint' / 'model.b9-1.index').read_bytes() == before


def test_resume_step_chooses_an_older_checkpoint(workspace, run_copy):
    result = resume(workspace, run_copy.name, '--resume_step', 8)
    assert losses(result.stdout) == expected_losses(workspace, 9)
    assert_equals_uninterrupted(workspace, run_copy.name)
    assert saved_steps(run_copy) == [8, 12, 15]
    before = read_checkpoint(run_copy / 'checkpoint')
    args = ['--out_name', run_copy.name, '--resume_step', 8]
    result = run_in_process(*args, cwd=workspace)
    assert f'Run ./out/{run_copy.name}, iteration 8' in result.stdout
    assert read_checkpoint(run_copy / 'checkpoint').keys() == before.keys()
    result = resume(workspace, run_copy.name, '--resume_step', 9)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    message = 'no checkpoint of iteration 9; --resume_step takes one of [8, 12, 15]'
    assert message in result.stderr


def test_conditional_run_that_goes_on_equals_one_of_as_many_epochs(tiny_copy):
    args = ['--train', '--dataset', 'set', '--out_name']
    (tiny_copy / 'out' / 'set').rename(tiny_copy / 'out' / 'goes on')
    goes_on = run_in_process(*args, 'goes on', '--epoch', 2, cwd=tiny_copy)
    at_once = [*args, 'at once', *SMALL, '--seed', 1, '--epoch', 2]
    at_once += ['--sample_freq', 1]
    complete = run_in_process(*at_once, cwd=tiny_copy)
    first = losses((tiny_copy / 'set.txt').read_text())
    assert first | losses(goes_on.stdout) == losses(complete.stdout)
    assert_equals_uninterrupted(tiny_copy, 'goes on', 'at once')


def test_recorded_flags_apply_unless_the_command_line_overrides_them(
    workspace, run_copy
):
    result = resume(workspace, run_copy.name)
    assert result.returncode == 0 and not losses(result.stdout)
    assert 'All 3 epochs are done; a higher --epoch resumes training' in result.stdout
    # another process was killed while it deleted this checkpoint
    (run_copy / 'checkpoint' / 'model.b8-12.data-00000-of-00001').unlink()
    result = resume(workspace, run_copy.name, '--epoch', 4, '--sample_freq', 7)
    assert result.returncode == 0, result.stderr
    flags = json.loads((run_copy / 'FLAGS.json').read_text())
    assert flags['batch_size'] == 8 and flags['input_fname_pattern'] == '*.png'
    assert flags['epoch'] == 4 and flags['sample_freq'] == 7 and flags['seed'] == 5
    grids = {path.name for path in (run_copy / 'samples').glob('train_*')}
    assert 'train_00000020.png' in grids and 'train_00000016.png' not in grids
    assert saved_steps(run_copy) == [16, 20]  # max_to_keep is 2
    assert not list(run_copy.glob('checkpoint/*-12.*'))


def test_truncated_checkpoint_is_reported_and_the_previous_one_used(
    workspace, run_copy, capsys
):
    newest = run_copy / 'checkpoint' / 'model.b8-15'
    for ending in 'index', 'data-00000-of-00001':
        path = newest.with_suffix(f'.b8-15.{ending}')
        content = path.read_bytes()
        path.write_bytes(content[:-9])
        used = newest_checkpoint(str(run_copy / 'checkpoint'))
        assert used == str(run_copy / 'checkpoint' / 'model.b8-12')
        message = rf' \[!\] {newest}: this checkpoint cannot be read \(.+\); using '
        assert re.fullmatch(rf'{message}model\.b8-12\n', capsys.readouterr().out)
        path.write_bytes(content)
    # where all are corrupt, training does not start again
    for path in run_copy.glob('checkpoint/*.data*'):
        path.write_bytes(b'corrupt')
    result = resume(workspace, run_copy.name)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'model.b8-15: this checkpoint cannot be read' in result.stderr


def test_infinite_losses_keep_the_last_good_checkpoint(workspace, run_copy):
    args = ['--learning_rate', 1e30, '--epoch', 9, '--ckpt_freq', 1]
    result = resume(workspace, run_copy.name, *args)
    assert result.returncode == 1
    message = r'main.py: iteration (\d+): not finite: .*_loss.*; training stops; '
    message += r'last good checkpoint: .*model\.b8-(\d+); '
    match = re.match(message, result.stderr)
    assert match and int(match[1]) == int(match[2]) + 1
    state = read_checkpoint(run_copy / 'checkpoint')
    assert state['training/counter'] == int(match[2])
    assert all(np.isfinite(array).all() for array in state.values())


def test_same_seed_gives_the_same_losses_and_another_seed_does_not(workspace):
    same, other = (
        run_in_process(*TRAIN, '--epoch', 1, '--seed', seed, cwd=workspace)
        for seed in (5, 6)
    )
    expected = expected_losses(workspace)
    assert losses(same.stdout) == {n: expected[n] for n in range(1, 6)}
    assert losses(other.stdout).keys() == losses(same.stdout).keys()
    assert not {*losses(other.stdout).values()} & {*expected.values()}


def test_an_epoch_begins_with_a_shuffle_after_z_of_the_grids_is_drawn(tiny_runs):
    stored = read_checkpoint(tiny_runs / 'out' / 'cats' / 'checkpoint')
    rng = np.random.RandomState(1)
    assert (stored['training/sample_z'] == rng.uniform(-1, 1, (8, 6))).all()
    assert (stored['training/order'] == rng.permutation(24)).all()


def test_resumed_epoch_restarts_if_the_batch_size_changed(workspace, run_copy):
    args = ['--batch_size', 10, '--resume_step', 12]
    result = resume(workspace, run_copy.name, *args)
    assert result.returncode == 0, result.stderr
    message = 'in epoch 2, from its beginning: the batch size has changed'
    assert f'after iteration 12, {message}' in result.stdout
    assert list(losses(result.stdout)) == [13, 14, 15, 16]


def test_completed_epoch_is_not_trained_again_on_other_images(workspace, tmp_path):
    write_images(tmp_path / 'data' / 'cats', count=41, size=(12, 12))
    shutil.copytree(workspace / 'out', tmp_path / 'out')
    result = resume(tmp_path, 'uninterrupted', '--epoch', 4, '--seed', 6)
    assert result.returncode == 0, result.stderr
    message = 'in epoch 3, from its beginning: the data set has changed'
    assert f'after iteration 15, {message}' in result.stdout
    assert list(losses(result.stdout)) == [16, 17, 18, 19, 20]


def test_older_versions_saved_the_end_of_an_epoch_as_its_last_batch(workspace):
    state = read_checkpoint(workspace / 'out' / 'uninterrupted' / 'checkpoint')
    stored = {name.partition('/')[2]: value for name, value in state.items()}
    old = {**stored, 'epoch': stored['epoch'] - 1, 'batch': stored['batch'] + 5}
    assert next_batch(stored, np.inf) == next_batch(old, np.inf) == (3, 0)


# Signals, kills and full disks


def test_hangup_saves_a_run_unless_it_is_ignored_as_under_nohup():
    before = signal.getsignal(signal.SIGHUP)
    for handler in signal.SIG_DFL, signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)
        is_stop = signal.SIGHUP in stop_signals()
        signal.signal(signal.SIGHUP, before)
        assert is_stop == (handler == signal.SIG_DFL)


def test_the_second_signal_is_handled_at_once(request):
    handler, before = signal.default_int_handler, signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)  # it is ignored in the background
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt), deferred_signals() as caught:
        signal.raise_signal(signal.SIGINT)
        assert caught == [signal.SIGINT]
        signal.raise_signal(signal.SIGINT)
    assert caught == [signal.SIGINT] and signal.getsignal(signal.SIGINT) is handler
    with deferred_signals():
        pass
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.slow
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(workspace):
    for number, until in ((signal.SIGINT, 6), (signal.SIGTERM, 10)):
        with interrupting(LOOP, f'[{until:8d} ', number):
            result = run_in_process(*TRAIN, '--out_name', 'stopped', cwd=workspace)
        printed = losses(result.stdout)
        assert max(printed) == until and result.returncode == 128 + number
        message = f'main.py: interrupted; saved up to iteration {until}\n'
        assert result.stderr == message
        expected = expected_losses(workspace)
        assert printed == {n: expected[n] for n in range(min(printed), until + 1)}
        assert saved_steps(workspace / 'out' / 'stopped')[-1] == until
    # FLAGS.json holds the other flags
    result = resume(workspace, 'stopped')
    assert result.returncode == 0, result.stderr
    assert losses(result.stdout) == expected_losses(workspace, until + 1)
    assert_equals_uninterrupted(workspace, 'stopped')


@pytest.mark.slow
def test_run_whose_output_goes_away_saves_what_it_has_done(workspace):
    args = [*TRAIN, '--out_name', 'piped', '--ckpt_freq', 9999, '--epoch', 999]
    line = command('main.py', *args)
    with subprocess.Popen(line, **with_pipes(workspace)) as process:
        while '[       2 ' not in process.stdout.readline():
            pass
        process.stdout.close()  # as `| head -2` does
        error = process.stderr.read()
    message = r'main.py: standard output: cannot be written \(Broken pipe\); .*; '
    match = re.fullmatch(rf'{message}saved up to iteration (\d+)\n', error)
    assert process.returncode == 1 and match, error
    step = int(match[1])
    assert step >= 3 and saved_steps(workspace / 'out' / 'piped') == [step]
    args = [*TRAIN, '--epoch', step // 5 + 1, '--out_name']
    expected = losses(run_in_process(*args, 'unpiped', cwd=workspace).stdout)
    resumed = losses(run_in_process(*args, 'piped', cwd=workspace).stdout)
    assert resumed == {n: line for n, line in expected.items() if n > step}
    assert_equals_uninterrupted(workspace, 'piped', 'unpiped')


@pytest.mark.slow
def test_an_error_before_the_losses_of_samples_makes_no_difference_later(workspace):
    def fail():
        raise UserError('the output is gone')

    with at_line(LOOP, '[       4 ', fail):  # sample losses would come next
        result = run_in_process(*TRAIN, '--out_name', 'cut', cwd=workspace)
    assert result.stderr == 'main.py: the output is gone; saved up to iteration 4\n'
    resume(workspace, 'cut')
    assert_equals_uninterrupted(workspace, 'cut')


@pytest.mark.slow
def test_run_whose_data_goes_away_saves_what_it_has_done(workspace, run_copy):
    data = run_copy / 'data' / 'cats'
    shutil.copytree(workspace / 'data' / 'cats', data)
    args = ['--data_dir', data.parent, '--ckpt_freq', 99, '--num_workers', 0]
    args += ['--out_name', 'no_data', '--epoch', 15]
    with at_line(LOOP, '[       2 ', lambda: data.rename(data.parent / 'elsewhere')):
        result = run_in_process(*TRAIN, *args, cwd=workspace)
    match = re.search(r'; saved up to iteration (\d+)\n$', result.stderr)
    assert result.returncode == 1 and 'images cannot be used' in result.stderr
    assert saved_steps(workspace / 'out' / 'no_data') == [int(match[1])]


@pytest.mark.slow
def test_full_disk_under_the_output_is_named(workspace):
    for args in ['--help'], [*TRAIN, '--out_name', 'full']:
        line = command('main.py', *args)
        with open('/dev/full', 'w') as full:
            result = subprocess.run(line, **{**with_pipes(workspace), 'stdout': full})
        assert result.returncode == 1
        message = 'standard output: cannot be written (No space left on device)'
        assert result.stderr.startswith(f'main.py: {message}')
        assert result.stderr.count('\n') == 1


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one_under_xla(workspace):
    cache, out = workspace / 'cache with spaces', workspace / 'out'
    environment = {'TF_XLA_FLAGS': '', 'XDG_CACHE_HOME': str(cache)}
    for step in None, 4:
        args = ['--out_name', 'xla', '--epoch', 2, '--xla']
        args += ['--out_name', 'xla_resumed', '--resume_step', step] if step else []
        result = run('main.py', *TRAIN, *args, cwd=workspace, **environment)
        assert result.returncode == 0, result.stderr
        assert re.search(r'XLA has compiled it, in \d+\.\d s', result.stdout)
        if not step:
            shutil.copytree(out / 'xla', out / 'xla_resumed')
            programs = sorted(cache.glob('dcgan/*/*'), key=os.path.getsize)
            content = bytearray(programs[0].read_bytes())
            content[len(content) // 2] ^= 1  # which can crash XLA
            programs[0].write_bytes(content)
            times = [os.path.getmtime(path) for path in programs]
    assert min(losses(result.stdout)) == 5
    assert_equals_uninterrupted(workspace, 'xla_resumed', 'xla')
    # what one process compiles, the next one loads: the iteration, not the trial
    assert sorted(cache.glob('dcgan/*/*'), key=os.path.getsize) == programs
    assert os.path.getmtime(programs[1]) == times[1]
    assert os.path.getmtime(programs[0]) != times[0]


@pytest.mark.slow
def test_run_can_be_resumed_after_the_disk_was_full(workspace, run_copy, tmp_path):
    script = tmp_path / 'full.py'
    script.write_text(f"""
import resource, runpy, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # of a file, in bytes
runpy.run_path({str(ROOT / 'main.py')!r}, run_name='__main__')
""")
    args = ['--train', '--out_name', run_copy.name, '--resume_step', 8]
    result = run(script, *args, cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1, result.stderr
    assert 'model.b8-12: cannot be written (' in result.stderr
    assert result.stdout.count(f' [!] No ./out/{run_copy.name}/logs: ') == 1
    assert saved_steps(run_copy) == [8, 12, 15]
    assert not list(run_copy.glob('checkpoint/.*'))
    result = resume(workspace, run_copy.name)
    assert result.returncode == 0, result.stderr
    assert_equals_uninterrupted(workspace, run_copy.name)


@pytest.mark.slow
def test_run_can_be_resumed_after_its_folder_was_not_writable(workspace):
    args = ['--out_name', 'moved', '--ckpt_freq', 3]
    folder = workspace / 'out' / 'moved' / 'checkpoint'

    def replace_folder():
        os.rename(folder, folder.with_suffix('.away'))
        folder.touch()

    with at_line(LOOP, '[       5 ', replace_folder):
        result = run_in_process(*TRAIN, *args, cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'checkpoint/model.b8-6: cannot be written (' in result.stderr
    folder.unlink()
    os.rename(folder.with_suffix('.away'), folder)
    result = resume(workspace, 'moved', '--epoch', 3, '--ckpt_freq', 4)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_run_killed_at_random_instants_equals_an_uninterrupted_one(tmp_path):
    soak(str(tmp_path), kills=2, seed=time.time_ns())


@pytest.mark.slow
def test_run_folder_is_locked_until_its_process_ends(workspace):
    with started(workspace, 'locked', 2, '--epoch', 9999) as first:
        flags = (workspace / 'out' / 'locked' / 'FLAGS.json').read_text()
        second = resume(workspace, 'locked', '--epoch', 3)
        assert second.returncode == 1 and second.stderr.count('\n') == 1
        assert f'out/locked: process {first.pid} on ' in second.stderr
        assert (workspace / 'out' / 'locked' / 'FLAGS.json').read_text() == flags
    assert resume(workspace, 'locked', '--epoch', 1).returncode == 0


@pytest.mark.slow
def test_final_checkpoint_is_kept_until_the_next_final_one(workspace, run_copy):
    args = ['--max_to_keep', 1, '--ckpt_freq', 2]
    for _ in range(2):
        until = saved_steps(run_copy)[-1] + 4
        with started(workspace, run_copy.name, until, *args, '--epoch', 100):
            pass  # it is killed
        steps = set(saved_steps(run_copy))
        assert {15} < steps and len(steps) <= 4
    result = resume(workspace, run_copy.name, *args, '--epoch', 20)
    assert result.returncode == 0, result.stderr
    assert saved_steps(run_copy) == [100]
