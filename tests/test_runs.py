"""Runs on the command line: stopped, killed, resumed, refused."""

import json
import os
import re
import resource
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
    clean_environment,
    command,
    run,
    run_here,
    stored,
    write_idx_set,
    write_pictures,
)
from PIL import Image
from soak import losses, soak

from dcgan import runs
from dcgan.checkpoints import checkpoints, step_of
from model import DCGAN

PICTURES = ['--dataset', 'cats', '--input_fname_pattern', '*.png', *SMALL]
TRAIN = ['--train', *PICTURES, '--seed', 5, '--max_to_keep', 2, '--epoch', 3]
TRAIN += ['--ckpt_freq', 4, '--sample_freq', 4]  # of 15 iterations


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A user's folder with pictures, and a run on them, `whole`, never stopped."""
    home = tmp_path_factory.mktemp('home')
    write_pictures(home / 'data' / 'cats', count=40, size=(12, 12))
    result = run('main.py', *TRAIN, '--out_name', 'whole', '--gif', cwd=home)
    assert result.returncode == 0, result.stderr
    (home / 'whole.txt').write_text(result.stdout)
    return home


@pytest.fixture
def copy(home, tmp_path):
    """A copy of that run, to be spoilt, and its name."""
    name = tmp_path.name
    shutil.copytree(home / 'out' / 'whole', home / 'out' / name)
    return home / 'out' / name / 'checkpoint', name


def go_on(home, name, *args):
    return run('main.py', '--train', '--out_name', name, *args, cwd=home)


def start(home, name, until, *args, before=None):
    """Start a run; returns the process, and what it printed up to an iteration."""
    process = subprocess.Popen(
        command('main.py', *TRAIN, '--out_name', name, *args),
        cwd=home,
        env=clean_environment(),
        preexec_fn=before,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    while f'[{until:8d} ' not in ''.join(lines[-1:]):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    return process, ''.join(lines)


def expected(home, first=1):
    shown = losses((home / 'whole.txt').read_text())
    return {counter: line for counter, line in shown.items() if counter >= first}


def assert_as_never_stopped(home, name):
    whole, other = (
        stored(home / 'out' / run / 'checkpoint') for run in ('whole', name)
    )
    assert whole.keys() == other.keys()
    assert all(other[key].tobytes() == array.tobytes() for key, array in whole.items())


def steps(checkpoint_dir, home=''):
    paths = checkpoints(os.path.join(home, checkpoint_dir))
    return sorted(step_of(path) for path in paths)


def test_a_checkpoint_holds_the_whole_state(home):
    state = stored(home / 'out' / 'whole' / 'checkpoint')
    assert 'generator/g_h4/w/Adam' in state and 'generator/g_h4/w/Adam_1' in state
    assert {'beta1_power', 'beta2_power', 'beta1_power_1', 'beta2_power_1'} < set(state)
    assert state['training/counter'] == 15 and state['training/sample_z'].shape == (
        8,
        6,
    )
    assert state['training/epoch'] == 2 and state['training/batch'] == 5  # done, of 5
    assert sorted(state['training/order']) == list(range(40))
    assert state['training/random_key'].shape == (624,)


def test_the_graph_beside_a_checkpoint_can_be_differentiated(home):
    path = home / 'out' / 'whole' / 'checkpoint' / 'model.b8-15.meta'
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(str(path))
        z, images = map(graph.get_tensor_by_name, ['z:0', 'generator_1/Tanh:0'])
        assert tf.gradients(images, z)[0].shape.as_list() == [None, 6]
        assert not any(
            '_gradient_op_type' in op.node_def.attr for op in graph.get_operations()
        )


def test_the_last_checkpoint_is_kept_beside_those_of_max_to_keep(home):
    assert steps(home / 'out' / 'whole' / 'checkpoint') == [8, 12, 15]


def test_training_can_end_with_an_animation_of_its_sheets(home):
    with Image.open(home / 'out' / 'whole' / 'samples' / 'progress.gif') as gif:
        assert gif.n_frames == 4 and gif.size == (16 * 3, 16 * 3)


def test_a_run_of_the_original_goes_on_as_with_the_original(home):
    folder = home / 'out' / 'original'
    shutil.copytree(ROOT / 'tests/golden/rgb_odd/checkpoint', folder / 'checkpoint')
    flags = {'batch_size': 9, 'z_dim': 16, 'gf_dim': 4, 'df_dim': 4, 'dataset': 'cats'}
    flags |= {'output_height': 50, 'output_width': 36, 'input_fname_pattern': '*.png'}
    (folder / 'FLAGS.json').write_text(json.dumps(flags))
    before = (folder / 'checkpoint' / 'model.b9-1.index').read_bytes()
    result = go_on(home, 'original', '--epoch', 1, '--ckpt_freq', 1)
    assert result.returncode == 0, result.stderr
    assert 'It holds weights alone: epochs and Adam start anew' in result.stdout
    assert list(losses(result.stdout)) == [1, 2, 3, 4]
    assert '[       1 Epoch:[ 0/ 1] [   0/   4]' in result.stdout
    assert steps(folder / 'checkpoint') == [1, 4]  # of max_to_keep 1, and its own
    assert (folder / 'checkpoint' / 'model.b9-1.index').read_bytes() == before


def test_a_run_interrupted_and_resumed_is_as_one_never_stopped(home):
    for number, until in ((signal.SIGINT, 6), (signal.SIGTERM, 10)):
        process, text = start(home, 'stopped', until)
        process.send_signal(number)
        rest, error = process.communicate()
        last = max(losses(text + rest))
        assert process.returncode == 128 + number
        assert error == f'main.py: interrupted; all is saved up to iteration {last}\n'
        shown = losses(text + rest)
        assert shown == {n: expected(home)[n] for n in range(min(shown), last + 1)}
        assert steps(home / 'out' / 'stopped' / 'checkpoint')[-1] == last
    result = go_on(home, 'stopped')  # its flags are in its folder
    assert result.returncode == 0, result.stderr
    assert losses(result.stdout) == expected(home, last + 1)
    assert_as_never_stopped(home, 'stopped')


def test_epoch_is_the_total(home):
    assert (
        run('main.py', *TRAIN, '--epoch', 2, '--out_name', 'e', cwd=home).stderr == ''
    )
    result = go_on(home, 'e', '--epoch', 3)
    assert losses(result.stdout) == expected(home, 11)
    assert_as_never_stopped(home, 'e')
    result = go_on(home, 'e')
    assert result.returncode == 0 and not losses(result.stdout)
    assert 'All 3 epochs are done: a higher --epoch goes on' in result.stdout


def test_an_older_checkpoint_can_be_picked(home, copy):
    result = go_on(home, copy[1], '--resume_step', 8)
    assert losses(result.stdout) == expected(home, 9)
    assert_as_never_stopped(home, copy[1])
    assert steps(copy[0]) == [8, 12, 15]
    before = stored(copy[0])
    result = run('main.py', '--out_name', copy[1], '--resume_step', 8, cwd=home)
    assert f'Run ./out/{copy[1]}, iteration 8' in result.stdout
    assert stored(copy[0]).keys() == before.keys()
    result = go_on(home, copy[1], '--resume_step', 9)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'no checkpoint of iteration 9; --resume_step takes one of [8, 12, 15]' in (
        result.stderr
    )


@pytest.mark.parametrize('ending', ['index', 'data-00000-of-00001'])
def test_a_torn_checkpoint_is_named_and_the_one_before_used(ending, home, copy):
    path = copy[0] / f'model.b8-15.{ending}'
    path.write_bytes(path.read_bytes()[:-9])
    result = go_on(home, copy[1])
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('cannot be read') == 1
    told = (
        r' \[!\] .*model\.b8-15: this checkpoint cannot be read \(.+\), model\.b8-12 '
    )
    assert re.search(told, result.stdout)
    assert losses(result.stdout) == expected(home, 13)
    assert_as_never_stopped(home, copy[1])


def test_a_checkpoint_half_removed_is_removed_by_the_next_run(home, copy):
    (copy[0] / 'model.b8-12.data-00000-of-00001').unlink()
    result = go_on(home, copy[1], '--epoch', 4, '--max_to_keep', 1)
    assert result.returncode == 0, result.stderr
    assert steps(copy[0]) == [20] and not list(copy[0].glob('*-12.*'))


def test_a_run_whose_checkpoints_are_all_torn_is_not_started_anew(home, copy):
    for path in copy[0].glob('*.data*'):
        path.write_bytes(b'torn')
    result = go_on(home, copy[1])
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'model.b8-15: this checkpoint cannot be read' in result.stderr


def test_a_full_disk_ends_the_run_which_goes_on_later(home, copy):
    def limit():  # no file larger than this, as if there was no room
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    args = command('main.py', '--train', '--out_name', copy[1], '--resume_step', 8)
    result = subprocess.run(
        args,
        cwd=home,
        env=clean_environment(),
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and result.stderr.count('\n') == 1, result.stderr
    assert 'model.b8-12: cannot be written (' in result.stderr
    assert steps(copy[0]) == [8, 12, 15] and not list(copy[0].glob('.*'))
    result = go_on(home, copy[1])
    assert result.returncode == 0, result.stderr
    assert_as_never_stopped(home, copy[1])


def test_a_folder_that_cannot_be_written_ends_the_run_which_goes_on_later(home):
    process, _ = start(home, 'moved', 5, '--ckpt_freq', 3, '--epoch', 200)
    folder = home / 'out' / 'moved' / 'checkpoint'
    os.rename(folder, folder.with_suffix('.away'))
    folder.touch()
    _, error = process.communicate()
    assert process.returncode == 1 and error.count('\n') == 1
    assert re.search(r'checkpoint/model\.b8-\d+: cannot be written \(', error)
    folder.unlink()
    os.rename(folder.with_suffix('.away'), folder)
    result = go_on(home, 'moved', '--epoch', 3, '--ckpt_freq', 4)
    assert result.returncode == 0, result.stderr


def test_a_run_killed_at_random_instants_is_as_one_never_stopped(tmp_path):
    soak(str(tmp_path), kills=3, seed=time.time_ns(), iterations=100)


def test_losses_that_are_not_finite_keep_the_last_good_checkpoint(home, copy):
    args = ['--learning_rate', 1e30, '--epoch', 9, '--ckpt_freq', 1]
    result = go_on(home, copy[1], *args)
    assert result.returncode == 1
    message = r'main.py: iteration (\d+): not finite: .*_loss.* training stops, '
    match = re.match(message + r'.*model\.b8-(\d+) is the last good', result.stderr)
    assert match and int(match[1]) == int(match[2]) + 1
    state = stored(copy[0])
    assert state['training/counter'] == int(match[2])
    assert all(np.isfinite(array).all() for array in state.values())


def test_runs_started_in_one_second_have_folders_of_their_own(home, monkeypatch):
    monkeypatch.setattr(runs, 'timestamp', lambda: '20200101.000000')
    check = DCGAN.check

    def check_second(*args):  # while another run of that second starts
        monkeypatch.setattr(DCGAN, 'check', check)
        assert run_here(*TRAIN, '--epoch', 1, cwd=home).returncode == 0
        return check(*args)

    assert run_here(*TRAIN, '--epoch', 1, cwd=home).returncode == 0
    monkeypatch.setattr(DCGAN, 'check', check_second)
    assert run_here(*TRAIN, '--epoch', 1, cwd=home).returncode == 0
    names = sorted(path.name for path in (home / 'out').glob('20200101*'))
    assert names == [names[0], f'{names[0]} - 2', f'{names[0]} - 3']
    for name in names:
        flags = json.loads((home / 'out' / name / 'FLAGS.json').read_text())
        assert (
            flags['out_name'] == name and steps(flags['checkpoint_dir'], home)[-1] == 5
        )


def test_a_closed_terminal_saves_the_run_unless_it_is_ignored(home):
    process, _ = start(home, 'hup', 3, '--epoch', 100)
    process.send_signal(signal.SIGHUP)
    _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGHUP and 'all is saved up to' in error
    process, _ = start(home, 'hup', 20, '--epoch', 8, before=ignore_hangup)
    process.send_signal(signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0 and steps(home / 'out/hup/checkpoint')[-1] == 40


def ignore_hangup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does


def test_a_summary_is_on_the_disk_once_its_checkpoint_is(home):
    process, _ = start(home, 'flushed', 9, '--epoch', 100)
    process.kill()
    process.communicate()
    saved = max(steps(home / 'out' / 'flushed' / 'checkpoint'))
    (events,) = (home / 'out' / 'flushed' / 'logs').iterdir()
    assert saved <= max(e.step for e in tf.train.summary_iterator(str(events)))


def test_a_second_run_in_a_run_folder_is_refused_until_the_first_is_dead(home):
    first, _ = start(home, 'locked', 2, '--epoch', 500)
    flags = (home / 'out' / 'locked' / 'FLAGS.json').read_text()
    second = go_on(home, 'locked', '--epoch', 3)
    assert second.returncode == 1 and second.stderr.count('\n') == 1
    assert f'out/locked: process {first.pid} on ' in second.stderr
    assert (home / 'out' / 'locked' / 'FLAGS.json').read_text() == flags
    first.kill()
    first.communicate()
    assert go_on(home, 'locked', '--epoch', 1).returncode == 0


def test_the_same_seed_gives_the_same_losses_and_another_does_not(home):
    again = run('main.py', *TRAIN, '--epoch', 1, '--out_name', 'a', cwd=home)
    other = run('main.py', *TRAIN, '--epoch', 1, '--seed', 6, cwd=home)
    shown = [losses(text.stdout) for text in (again, other)]
    assert shown[0] == {n: line for n, line in expected(home).items() if n <= 5}
    assert shown[1].keys() == shown[0].keys()
    assert not set(shown[1].values()) & set(shown[0].values())


def test_settings_known_to_fail_get_a_line_of_warning(home):
    lines = (home / 'whole.txt').read_text().splitlines()
    warnings = [line for line in lines if line.startswith(' [!]')]
    assert len(warnings) == 2
    assert '40 pictures are few' in warnings[0] and 'batch of 8' in warnings[1]


def test_another_number_of_pictures_begins_the_epoch_anew(home, tmp_path):
    write_pictures(tmp_path / 'data' / 'cats', count=41, size=(12, 12))
    shutil.copytree(home / 'out', tmp_path / 'out')
    result = go_on(tmp_path, 'whole', '--resume_step', 12)
    assert result.returncode == 0, result.stderr
    assert 'begins anew: other pictures' in result.stdout
    assert max(losses(result.stdout)) == 12 + 5  # of epoch 2 again


def test_another_batch_size_begins_the_epoch_anew(home, copy):
    args = ['--batch_size', 10, '--resume_step', 12]
    result = go_on(home, copy[1], *args)
    assert result.returncode == 0, result.stderr
    assert 'begins anew: another batch size' in result.stdout
    assert max(losses(result.stdout)) == 12 + 4


def test_the_checkpoint_of_the_last_end_stays_until_the_next(home, copy):
    args = ['--max_to_keep', 1, '--ckpt_freq', 2]
    for until, expected_steps in ((19, {15, 18}), (23, {15, 18, 22})):
        process, _ = start(home, copy[1], until, *args, '--epoch', 100)
        process.kill()
        process.communicate()
        assert {15} < set(steps(copy[0])) and len(steps(copy[0])) <= 4
        assert expected_steps & set(steps(copy[0]))
    result = go_on(home, copy[1], *args, '--epoch', 8)
    assert result.returncode == 0, result.stderr
    assert steps(copy[0]) == [40]


def test_digits_of_classes_go_on_as_if_never_stopped(tmp_path):
    write_idx_set(tmp_path / 'data' / 'set', count=40)
    args = ['--train', '--dataset', 'set', *SMALL, '--epoch', 3, '--ckpt_freq', 4]
    args += ['--sample_freq', 4, '--seed', 5, '--out_dir', tmp_path / 'runs']
    whole = run('main.py', *args, '--out_name', 'whole', cwd=tmp_path)
    assert run('main.py', *args, '--epoch', 2, '--out_name', 'x', cwd=tmp_path).stdout
    rest = go_on(tmp_path, 'x', '--out_dir', tmp_path / 'runs', '--epoch', 3)
    shown = losses(whole.stdout)
    assert losses(rest.stdout) == {n: shown[n] for n in range(11, 16)}
    ends = [stored(tmp_path / 'runs' / name / 'checkpoint') for name in ('whole', 'x')]
    assert all(ends[1][name].tobytes() == a.tobytes() for name, a in ends[0].items())


def test_what_a_run_was_given_is_taken_up_unless_given_anew(home, copy):
    result = go_on(home, copy[1], '--epoch', 4, '--sample_freq', 7)
    assert result.returncode == 0, result.stderr
    flags = json.loads((copy[0].parent / 'FLAGS.json').read_text())
    assert flags['batch_size'] == 8 and flags['input_fname_pattern'] == '*.png'
    assert flags['epoch'] == 4 and flags['sample_freq'] == 7 and flags['seed'] == 5
    sheets = {path.name for path in (copy[0].parent / 'samples').glob('train_*')}
    assert 'train_00000020.png' in sheets and 'train_00000016.png' not in sheets
    assert steps(copy[0]) == [16, 20]  # the last two, of which one is the end's
