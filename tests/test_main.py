"""The command line of main.py, run as a user runs it."""

import errno
import io
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import (
    ROOT,
    SMALL,
    command,
    read_checkpoint,
    run,
    run_anew,
    run_code,
    run_in_process,
    with_pipes,
    write_idx_set,
    write_images,
)
from PIL import Image
from tensorflow.python.framework.config import (
    disable_op_determinism,
    is_op_determinism_enabled,
)

import main
from dcgan.compute.devices import has_gpu, has_tensor_units, print_device
from dcgan.compute.precision import has_bfloat16
from dcgan.compute.session import repeat_results, xla_function
from dcgan.runs.command_line import todays_arguments
from dcgan.util.errors import Interrupted, UserError, printable
from dcgan.util.flags import MARKS
from dcgan.util.gpus import visible_gpus
from dcgan.util.output import error_line, escape_output, print_line, print_path
from dcgan.util.progress import progress_bar
from dcgan.util.quiet_import import (
    describe_machine,
    keep_compiled_programs,
    mark_whole,
    report_thread_error,
)
from model import DCGAN
from utils import visualize

TRAIN_SET = ['--train', '--dataset', 'set', '--epoch', 1, *SMALL]


# A training


@pytest.mark.smoke
def test_labelled_set_trains_without_further_flags(tiny_runs):
    printed = (tiny_runs / 'set.txt').read_text()
    line = r'\[ {7}(\d) Epoch:\[ (\d)/ 1\] \[ {3}(\d)/ {3}3\] '
    line += r'time: \d+\.\d{4}, d_loss: \d+\.\d{8}, g_loss: \d+\.\d{8}'
    positions = [('1', '0', '0'), ('2', '0', '1'), ('3', '0', '2')]
    assert re.findall(line, printed) == positions
    assert printed.count('[Sample] d_loss: ') == 3
    assert 'iterations/s' in printed and '--batch_size 8 ' in printed
    assert 'g_h0_lin/Matrix:0 (float32 10x8) [80, bytes: 320]' in printed
    assert re.search(r'^ \[\*\] Device: \S', printed, re.MULTILINE)


def test_run_folder_has_the_files_of_the_original(tiny_runs):
    folder = tiny_runs / 'out' / 'set'
    names = {'FLAGS.json', 'checkpoint', 'lock', 'lock.owner', 'logs', 'samples'}
    names |= {'metrics.csv', 'curves.png'}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / 'checkpoint' / 'model.b8-3.index').exists()
    for name, mode in ('set', 'L'), ('cats', 'RGB'):
        grid = Image.open(tiny_runs / 'out' / name / 'samples' / 'train_00000003.png')
        assert grid.size == (16 * 3, 16 * 3) and grid.mode == mode


def test_flags_json_holds_all_flags_sorted_and_indented(tiny_runs):
    text = (tiny_runs / 'out' / 'set' / 'FLAGS.json').read_text()
    flags = json.loads(text, parse_constant=pytest.fail)  # JSON has no Infinity
    assert flags.keys() == main.TABLE.table.keys()
    assert flags['output_width'] == 16 and flags['train_size'] == 'inf'
    assert text == json.dumps(flags, indent=4, sort_keys=True)


@pytest.mark.slow
def test_celeba_lists_workers_and_cache_work_together(tmp_path):
    folder = tmp_path / 'data' / 'faces'
    write_images(folder, count=12, ending='jpg')
    parts = [f'{i:03d}.jpg {i // 9}' for i in range(12)]
    boxes = [f'{i:03d}.jpg 2 3 15 16' for i in range(12)]
    (folder / 'list_eval_partition.txt').write_text('\n'.join(parts))
    (folder / 'list_bbox_celeba.txt').write_text('\n'.join(boxes))
    args = ['--dataset', 'faces', '--bbox', '--partition', 'train', '--epoch', 1]
    for builds_cache in (True, False):
        args += ['--cache', '--num_workers', 1]
        result = run_in_process('--train', *args, *SMALL, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert ' [*] faces: 9 images\n' in result.stdout
        assert ('cache: 100%' in result.stderr) == builds_cache


@pytest.mark.slow
def test_run_folders_may_have_names_that_tensorflow_takes_for_patterns(tmp_path):
    name = 'v2 [1] a*b? back\\slash \xe9'
    write_idx_set(tmp_path / f'data {name}' / f'set {name}', count=8)
    args = ['--data_dir', f'data {name}', '--dataset', f'set {name}', *SMALL]
    args = [*args, '--out_dir', f'out {name}', '--out_name', name]
    for task in (
        ['--train', '--epoch', 1],
        ['--train', '--epoch', 2],
        ['--generate_test_images', 1, '--export', '--freeze', '--saved_model'],
    ):
        result = run_in_process(*args, *task, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert f'out {name}/{name}, iteration 2' in result.stdout
    written = {path.name for path in (tmp_path / f'out {name}' / name).rglob('*')}
    assert {'model.b8-000002_frz.pb', 'saved_model.pb', 'export_b8'} <= written


def test_bfloat16_training_saves_float32_weights(workspace):
    args = ['--output_height', 12, '--out_name', 'brief', '--sample_freq', 3]
    args += ['--precision', 'bfloat16']
    result = run_in_process(*TRAIN_SET, *args, cwd=workspace)
    if not has_bfloat16():
        assert result.returncode == 1 and 'use --precision float32' in result.stderr
        return
    assert result.returncode == 0 and ' are computed in bfloat16' in result.stdout
    values = read_checkpoint(workspace / 'out' / 'brief' / 'checkpoint')
    networks = [n for n in values if n.startswith(('discriminator', 'generator'))]
    assert all(values[name].dtype == np.float32 for name in networks)
    grid = Image.open(workspace / 'out' / 'brief' / 'samples' / 'train_00000003.png')
    assert grid.size == (12 * 3, 12 * 3)  # of images of 16x16


@pytest.mark.slow
def test_bfloat16_is_rejected_without_fast_kernels(workspace):
    # with this setting, oneDNN emulates bfloat16 even if the processor has units for it
    emulated = {'ONEDNN_MAX_CPU_ISA': 'AVX512_CORE'}
    args = [*TRAIN_SET, '--precision', 'bfloat16']
    result = run_anew('main.py', *args, cwd=workspace, **emulated)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'no fast kernels for it; use --precision float32' in result.stderr


def test_tf32_is_rejected_without_a_gpu_that_has_it(workspace):
    args = [*TRAIN_SET, '--precision', 'tf32', '--out_name', 'tf32']
    result = run_in_process(*args, cwd=workspace)
    if has_tensor_units():
        assert result.returncode == 0 and ' are computed in tf32' in result.stdout
        return
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'compute capability 8.0 or higher; use --precision float32' in result.stderr
    assert not (workspace / 'out' / 'tf32').exists()


def test_seed_makes_operations_deterministic_and_gives_programs_another_name():
    try:
        names = [xla_function(abs).__name__]
        repeat_results(3)
        assert is_op_determinism_enabled()
        names.append(xla_function(abs).__name__)
    finally:
        disable_op_determinism()
    assert names == ['compiled', 'repeatable']


def test_seed_decides_on_z_although_idx_files_seed_numpy_with_547(tiny_runs):
    stored = read_checkpoint(tiny_runs / 'out' / 'set' / 'checkpoint')
    z = np.random.RandomState(1).uniform(-1, 1, (8, 6))
    assert (stored['training/sample_z'] == z).all()


WSL = 'usr/lib/wsl/lib/'
IN_WSL = {'dev/dxg': '', WSL + 'libcuda.so.1': ''}
ONCE = '#!/bin/sh\nmkdir "$0$1" && printf "GPU 0: A (UUID: 1)\\n MIG B\\nGPU 1: C"'


@pytest.mark.parametrize(
    'files, models',
    [
        ({'dev/dxg': '', WSL + 'libd3d12.so': '', 'System32/nvcuda.dll': ''}, []),
        ({'proc/driver/nvidia/gpus/0/information': 'Model: A\nIRQ:'}, ['Model: A']),
        ({'dev/nvidia0': '', 'dev/nvidia1': '', 'dev/nvidiactl': ''}, ['', '']),
        (IN_WSL | {WSL + 'nvidia-smi': ONCE}, ['GPU 0: A', 'GPU 1: C']),
        (IN_WSL | {WSL + 'nvidia-smi': '#!/bin/sh\nexit 9'}, ['']),
        (IN_WSL | {WSL + 'nvidia-smi': '#!/bin/sh\necho No devices found.'}, []),
    ],
)
def test_gpus_are_those_of_the_driver(files, models, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('dcgan.util.gpus.ROOT', tmp_path)
    monkeypatch.setenv('SYSTEMROOT', str(tmp_path))
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    machine = describe_machine()
    print_device('float32')
    assert has_gpu() or ' [!] ' not in capsys.readouterr().out
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    assert describe_machine() == machine + models
    assert visible_gpus() == [str(i) for i in range(len(models))]
    print_device('float32')
    printed = capsys.readouterr().out
    assert has_gpu() or ('does not see the NVIDIA GPU' in printed) == bool(models)
    is_windows = any('System32' in name for name in files)
    assert has_gpu() or ('on Windows only in WSL2' in printed) == is_windows
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')  # the user wants none
    print_device('float32')
    assert visible_gpus() == [] and 'does not see' not in capsys.readouterr().out


# A trained run


@pytest.mark.smoke
def test_sampling_needs_only_the_run_folder_and_keeps_its_flags(tiny_copy):
    shutil.rmtree(tiny_copy / 'data')
    before = (tiny_copy / 'out' / 'cats' / 'FLAGS.json').read_bytes()
    result = run('main.py', '--dataset', 'cats', cwd=tiny_copy)
    assert result.returncode == 0 and result.stderr == ''
    assert '[*] Newest run of cats: ./out/cats, iteration 3\n' in result.stdout
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', result.stdout)
    with Image.open(tiny_copy / path) as grid:
        assert grid.mode == 'RGB' and grid.size == (16 * 10, 16 * 10)
    assert (tiny_copy / 'out' / 'cats' / 'FLAGS.json').read_bytes() == before


def test_each_visualize_option_writes_its_files(sess, make_dcgan, tmp_path):
    dcgan, config = make_dcgan(z_dim=2), SimpleNamespace(batch_size=2)
    folders = [tmp_path / str(option) for option in range(5)]
    for option, folder in enumerate(folders):
        folder.mkdir()
        visualize(sess, dcgan, config, option, str(folder))
    random, sweep, some, *all_dims = ({*os.listdir(folder)} for folder in folders)
    gifs = {f'test_gif_{dim}.gif' for dim in range(2)}
    assert len(random) == 1 and random.pop().startswith('test_2')
    assert sweep == {f'test_arange_{dim}.png' for dim in range(2)}
    assert some and some <= gifs
    assert all_dims == [gifs, gifs | {'test_gif_merged.gif'}]


def test_run_with_a_checkpoint_of_another_shape_is_not_changed(workspace):
    folder = workspace / 'out' / 'set'
    files = [p for p in folder.rglob('*') if p.is_file() and 'lock' not in p.name]
    before = {path: path.stat().st_mtime_ns for path in files}
    args = ['--train', '--out_name', 'set', '--output_height', 32]
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and 'g_h1_lin/Matrix' in result.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == before


# Errors


def test_user_error_is_one_line_with_the_way_out(tiny_copy):
    before = sorted(tiny_copy.rglob('*'))
    for flags, message in {
        '--train --dataset cats --input_fname_pattern *.gif': 'holds 24 *.png',
        '--train --dataset set --batch_size 64': '24 images do not fill a batch of 64',
        '--dataset set --z_dim 9': 'g_h0_lin/Matrix [10, 8]',
        '--z_dist uniform': 'normal01|uniform_signed|uniform_unsigned',
        '--batch_size 0': '--batch_size=0',
        '--output_height -4': '--output_height=-4',
        '--crop False': 'a switch takes no value, it is given as --crop or --nocrop',
        '--c_dim 4': '--c_dim 4: images have 3 channels or, gray, 1',
        '--datset mnist': "'--datset' is not a flag",
    }.items():
        args = [*SMALL, *flags.split()] if '--train' in flags else flags.split()
        result = run_in_process(*args, cwd=tiny_copy)
        assert result.returncode == 1 and message in result.stderr, flags
        assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1
    assert sorted(tiny_copy.rglob('*')) == before


def test_new_process_prints_the_same_error_with_the_same_status(tmp_path):
    args = ['--batch_size', 0]
    anew, forked = (r('main.py', *args, cwd=tmp_path) for r in (run_anew, run))
    same = run_in_process(*args, cwd=tmp_path)
    for result in anew, forked:
        assert result.returncode == same.returncode == 1
        assert (result.stdout, result.stderr) == (same.stdout, same.stderr)


def test_errors_of_the_system_become_one_line():
    missing = OSError(errno.ENOENT, 'No such file', 'a')
    assert error_line(missing) == "[Errno 2] No such file: 'a'"


def test_debug_flag_prints_the_traceback(tmp_path):
    result = run_in_process('--dataset', 'none', '--debug=true', cwd=tmp_path)
    assert result.returncode == 1 and 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('main.py: ./out: no trained run')


def test_thread_errors_are_printed_except_in_the_summary_thread(capsys):
    class _EventLoggerThread(threading.Thread):  # the name of TensorFlow's class
        pass

    for thread_class in threading.Thread, _EventLoggerThread:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, 'excepthook', report_thread_error)
            thread = thread_class(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        is_printed = 'ZeroDivisionError' in capsys.readouterr().err
        assert is_printed == (thread_class is threading.Thread)


def test_names_that_a_terminal_cannot_show_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, 'latin-1'))
    escape_output()
    print(os.fsdecode(b'caf\xe9 \xe2\x9c\x93'), flush=True)
    assert written.getvalue() == b'caf\\udce9 \\u2713\n'


# of terminals (C0, C1), of lines, and of directions of writing
CONTROLS = '\x1b\x07\r\n\b\x0b\x7f\x85\x9b\u2028\u2029\u061c\u200f\u202e\u2066'


@pytest.mark.parametrize('char', CONTROLS)
def test_no_line_holds_a_control_character(char, capsys):
    written, text = char.encode('unicode_escape').decode(), f'a{char} \u3042 \xe9'
    expected = f'a{written} \u3042 \xe9'
    print_line(text)
    print_path(text)
    assert capsys.readouterr().out == f'{expected}\n [*] {expected}\n'
    progress_bar(text, 1, ' images').close()
    assert expected in capsys.readouterr().err
    error = UserError(text)
    error.note = text
    assert str(error) == f'{expected}; {expected}'
    assert str(Interrupted(2, text)) == expected
    assert error_line(OSError(errno.EACCES, text)) == f'[Errno 13] {expected}'
    assert printable(f'{text}b').isprintable()


def test_names_of_data_and_classes_cannot_steer_the_terminal(tmp_path):
    name = 'a\x1b[31m\r\b\x07\u202eb'
    write_images(tmp_path / 'data' / name / 'one\x1b[32m')
    write_images(tmp_path / 'data' / name / 'two\u2028 [!]', count=9)
    args = ['--dataset', name, *SMALL, '--epoch', 1, '--conditional', '--debug']
    done = run_in_process('--train', *args, '--out_name', name, cwd=tmp_path)
    failed = run_in_process('--dataset', name[:-1], '--debug', cwd=tmp_path)
    assert (done.returncode, failed.returncode) == (0, 1), done.stderr
    printed = done.stdout + failed.stdout + failed.stderr
    assert not {*printed} & {*CONTROLS} - {'\n'}
    assert r'a\x1b[31m\r\x08\x07\u202eb: 19 images: 10 one\x1b[32m' in printed
    assert failed.stderr.splitlines()[-1].startswith('main.py: ./out: no trained run')


def test_too_many_bad_images_are_all_named_and_the_work_is_saved(tmp_path):
    write_images(tmp_path / 'data' / 'bad', count=600, size=(8, 8))
    bad = sorted((tmp_path / 'data' / 'bad').iterdir())[::20]
    for path in bad:
        path.write_text('<html>')
    args = ['--train', '--dataset', 'bad', *SMALL, '--epoch', 1, '--seed', 3]
    result = run_in_process(*args, '--out_name', 'bad', cwd=tmp_path)
    message = 'main.py: 30 of 600 images cannot be used, which is more than 1%; fix or '
    message += r'remove those in \./out/bad/unusable\.txt; saved up to iteration (\d+)$'
    saved = re.search(message, result.stderr)
    assert result.returncode == 1 and saved, result.stderr
    assert 'check: 100%' in result.stderr
    folder = tmp_path / 'out' / 'bad'
    rows = (folder / 'unusable.txt').read_text().splitlines()
    assert [tmp_path / row.split('\t')[0] for row in rows] == bad
    assert (folder / 'checkpoint' / f'model.b8-{saved[1]}.index').exists()


# Errors that nobody foresaw


class Unprintable(RuntimeError):
    def __str__(self):
        raise ValueError


@pytest.mark.parametrize(
    'error', [KeyError('x'), RuntimeError('a\nb'), AssertionError(), Unprintable()]
)
def test_an_error_that_nobody_foresaw_leaves_what_a_report_needs(
    error, tiny_copy, monkeypatch
):
    def fail(self):
        raise error

    monkeypatch.setattr('dcgan.training.loop.Training.print_sample_losses', fail)
    args = ['--train', '--out_name', 'cats', '--epoch', 2, '--ckpt_freq', 99]
    result = run_in_process(*args, cwd=tiny_copy)
    assert result.returncode == 1 and 'Traceback' in result.stderr
    last = './out/cats/error.txt has what a report of this error needs'
    assert result.stderr.splitlines()[-1] == f'main.py: {last}'
    text = (tiny_copy / 'out' / 'cats' / 'error.txt').read_text()
    assert 'in fail\n    raise error\n' in text and '\nckpt_freq: 99\n' in text
    for name in ('command', 'Python', 'TensorFlow', 'NumPy', 'Pillow', 'system'):
        assert f'\n{name}: ' in text
    assert re.search(r'^device: [CG]PU$', text, re.M)
    assert (tiny_copy / 'out/cats/checkpoint/model.b8-4.index').exists()


NATIVE = [
    tf.errors.InternalError(None, None, "At:\nNode: 'a'\ncuDNN failed\n\t [[a]]"),
    tf.errors.ResourceExhaustedError(None, None, 'No space left\n\t [[a]]'),
    tf.errors.InvalidArgumentError(None, None, 'Incompatible: [1] vs. [2]'),
]


@pytest.mark.parametrize('error', NATIVE)
@pytest.mark.parametrize('debug', [(), ('--debug',)])
def test_an_error_of_tensorflow_is_one_line_and_leaves_the_report(
    error, debug, tiny_copy, monkeypatch
):
    def fail(*args):
        raise error

    monkeypatch.setattr('main.write_outputs', fail)
    result = run_in_process('--dataset', 'cats', *debug, cwd=tiny_copy)
    path = tiny_copy / 'out' / 'cats' / 'error.txt'
    reason = re.sub(r'(?s)At:.*\n(?=cu)|\n\t.*', '', error.message)
    last = f'main.py: {reason}; ./out/cats/error.txt has what a report of this error '
    assert result.returncode == 1 and last in result.stderr.splitlines()[-1]
    assert ('Traceback' in result.stderr) == bool(debug)
    assert 'in fail\n    raise error\n' in path.read_text()


@pytest.mark.parametrize('error', [UserError('a'), OSError('b'), Interrupted(15)])
def test_a_foreseen_error_leaves_no_report(error, tiny_copy, monkeypatch):
    monkeypatch.setattr('main.write_outputs', mock.Mock(side_effect=error))
    result = run_in_process('--dataset', 'cats', cwd=tiny_copy)
    assert result.returncode and result.stderr == f'main.py: {error}\n'
    assert not list(tiny_copy.rglob('error.txt'))


def test_an_error_is_reported_where_that_is_possible(tiny_copy, monkeypatch):
    monkeypatch.setattr('dcgan.runs.settings.settle_use', None)
    result = run_in_process('--dataset', 'cats', cwd=tiny_copy)  # there is no run yet
    assert result.stderr.splitlines()[-1].startswith('main.py: ./out/error.txt has ')
    with pytest.raises(TypeError):  # Python prints it
        run_in_process('--out_dir', 'none', cwd=tiny_copy)
    assert not (tiny_copy / 'none').exists()
    (tiny_copy / 'out' / 'error.txt').unlink()
    (tiny_copy / 'out' / 'error.txt' / 'folder').mkdir(parents=True)
    with pytest.raises(TypeError):
        run_in_process(cwd=tiny_copy)


# The import of TensorFlow


def keep_programs(monkeypatch, folder):
    """The folder in which XLA would keep programs, in this cache, or None."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    monkeypatch.setenv('TF_XLA_FLAGS', '--tf_xla_min_cluster_size=4')
    keep_compiled_programs(['a machine'])
    kept, _, path = os.environ['TF_XLA_FLAGS'].partition(' ')
    assert kept == '--tf_xla_min_cluster_size=4'
    return Path(path.partition("='")[2][:-1]) if path else None


def test_damaged_programs_of_xla_are_removed(tmp_path, monkeypatch):
    folder, content = keep_programs(monkeypatch, tmp_path), bytes(range(200))
    folder.mkdir(parents=True)
    changed = {'flipped': b'\1' + content[1:], 'short': content[:199]}
    changed |= {'empty': b'', 'longer': content + b'\0'}
    others = [folder / f'{name}.pb' for name in ('folder', 'pipe', 'link')]
    paths = [folder / 'whole.pb', *(folder / f'{n}.pb' for n in changed), *others]
    for path in paths:
        path.write_bytes(content)
    mark_whole(folder, set())
    assert keep_programs(monkeypatch, tmp_path) == folder
    assert {*folder.iterdir()} == {*paths}
    for path, damaged in zip(paths[1:], changed.values()):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_bytes(damaged)
        os.utime(path, ns=times)  # as where the disk is broken
    for path in others:
        path.unlink()
    (others[0] / 'x').mkdir(parents=True)
    os.mkfifo(others[1])
    others[2].symlink_to(folder / 'nothing')
    for name in ('new.pb', 'new.pb.tmp'):  # of a process that still runs
        (folder / name).touch()
    keep_programs(monkeypatch, tmp_path)
    assert sorted(os.listdir(folder)) == ['new.pb.tmp', 'whole.pb']


def test_a_cache_of_xla_that_cannot_be_written_is_not_used(tmp_path, monkeypatch):
    assert keep_programs(monkeypatch, tmp_path)
    assert not list(tmp_path.iterdir())  # XLA makes the folder
    assert not keep_programs(monkeypatch, '/proc/self')
    assert not keep_programs(monkeypatch, tmp_path / "with'quote")
    (tmp_path / 'file').touch()
    assert not keep_programs(monkeypatch, tmp_path / 'file')
    (tmp_path / 'link').symlink_to('nowhere')
    assert not keep_programs(monkeypatch, tmp_path / 'link')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # as a full disk
    try:
        assert not keep_programs(monkeypatch, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


LOG = r"""
import contextlib, os, time
with contextlib.suppress(OSError):  # stderr is closed
    os.write(2, b'compiled to use AVX instructions\n')
"""


def stand_in(folder, code):
    """Put code, which logs first, in the place of TensorFlow by this environment."""
    (folder / 'tensorflow').mkdir(exist_ok=True)
    (folder / 'tensorflow' / '__init__.py').write_text(LOG + code)
    return {'PYTHONPATH': str(folder)}


def test_failures_of_the_import_of_tensorflow_are_shown(tmp_path):
    for end, message in {
        'raise ImportError("no libfoo")': 'use AVX instructions\nTraceback',
        'os.abort()': 'Fatal Python error: Aborted',
    }.items():
        result = run_anew('main.py', cwd=tmp_path, **stand_in(tmp_path, end))
        assert result.returncode and message in result.stderr
        assert 'tensorflow/__init__.py", line 5' in result.stderr


def test_the_plugin_of_apple_and_missing_packages_are_told_in_one_line(tmp_path):
    for name in ('tensorflow-2.21.0', 'tensorflow_metal-1.2.0'):  # both are damaged
        (tmp_path / f'{name}.dist-info').mkdir()
    failing = stand_in(tmp_path, 'raise OSError("dlopen(metal.dylib)\\nReferenced")')
    result = run_anew('main.py', cwd=tmp_path, **failing)
    assert result.returncode == 1 and result.stdout.count('\n') == 1
    assert result.stdout.startswith(' [!] TensorFlow fails with tensorflow-metal')
    assert 'imported: dlopen(metal.dylib); pip uninstall' in result.stderr
    missing = run_anew('main.py', cwd=tmp_path, python_flags=['-S'])  # no packages
    assert missing.stderr.count('\n') == 1 and missing.stdout == ''
    assert "No module named 'tensorflow'; pip install" in missing.stderr


def test_the_log_of_the_import_is_shown_only_where_it_is_wanted(tmp_path):
    imported = stand_in(tmp_path, 'os._exit(5)')
    for level in ({}, {'TF_CPP_MIN_LOG_LEVEL': '3'}):  # which main.py sets for workers
        quiet = run_anew('main.py', cwd=tmp_path, **imported, **level)
        assert quiet.returncode == 5 and quiet.stderr == ''
    loud = run_anew('main.py', cwd=tmp_path, **imported, TF_CPP_MIN_LOG_LEVEL='0')
    assert loud.stderr == 'compiled to use AVX instructions\n'
    shell = f'exec {shlex.join(command("main.py"))} 2>&-'  # stderr is closed
    closed = subprocess.run(shell, shell=True, **with_pipes(tmp_path, **imported))
    assert closed.returncode == 5


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_stopping_during_the_import_prints_nothing(number, tmp_path):
    imported = stand_in(tmp_path, 'print("importing", flush=True)\ntime.sleep(60)')
    pipes = with_pipes(tmp_path, **imported)
    with subprocess.Popen(command('main.py'), **pipes) as process:
        assert process.stdout.readline() == 'importing\n'
        process.send_signal(number)
        _, error = process.communicate()
    assert process.returncode == -number and error == ''


@pytest.mark.slow
def test_sampling_prints_nothing_to_stderr(tiny_copy):
    result = run_anew('main.py', '--dataset', 'set', cwd=tiny_copy)
    assert result.returncode == 0 and result.stderr == ''
    shell = f'exec {shlex.join(command("main.py", "--dataset", "set"))} 2>&-'
    closed = subprocess.run(shell, shell=True, **with_pipes(tiny_copy))
    assert closed.returncode == 0


@pytest.mark.slow
def test_deprecation_warnings_are_hidden_at_every_log_level(tiny_copy):
    args = ['--dataset', 'set', '--freeze', '--export', '--visualize']
    flags = ['-W', 'default::DeprecationWarning']
    level = {'TF_CPP_MIN_LOG_LEVEL': '2'}  # as a user may have set it
    result = run_anew('main.py', *args, cwd=tiny_copy, python_flags=flags, **level)
    assert result.returncode == 0
    assert str(ROOT) not in result.stderr and 'deprecated' not in result.stderr


# Help, and flags of older versions of the original


def test_help_fits_on_a_screen_and_full_help_describes_all_flags_by_groups(tmp_path):
    for name in ('--helpfull', '--help', '-h', '--helpshort'):
        result = run_in_process(name, cwd=tmp_path)
        assert result.returncode == 0 and result.stderr == ''
        lines = result.stdout.splitlines()
        assert max(map(len, lines)) <= 80
        names = re.findall(r'^  --(?:\[no\])?(\w+)', result.stdout, re.MULTILINE)
        if name == '--helpfull':
            assert names == list(main.TABLE.table)
            assert {'  --seed <int>'} < {*lines} and '\nData: ' in result.stdout
        else:
            assert len(lines) <= 60
            assert names == [flag.name for flag in main.ORIGINAL.flags]
            titles = [f'  {group.title} ' for group in main.TABLE.groups[1:]]
            assert all(title in result.stdout for title in titles)


def test_help_ends_quietly_where_nobody_reads_on(tmp_path):
    line = command('main.py', '--helpfull')
    with subprocess.Popen(line, **with_pipes(tmp_path)) as process:
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == ''
    assert process.returncode == 0


def test_flags_have_marks_that_are_known():
    for flag in main.TABLE.table.values():
        assert set(flag.marks.split()) <= set(MARKS), flag.name


def test_old_flags_have_names_of_today(capsys):
    for old, todays in {
        '--is_train True --is_crop=False': '--train --nocrop',
        '--is_train --is_crop --dataset x': '--train --crop --dataset x',
        '--nois_train --is_crop False': '--notrain --nocrop',
        '--image_size 96 --output_size=48': '--input_height=96 --output_height=48',
        '--c_dim 3 --options 1': '--visualize_option=1',
        '--c_dim=1 --dataset x': '--grayscale --dataset x',
        '--train True --dataset is_train': '--train True --dataset is_train',
        '--image_height 96 --image_width 48': '--input_height=96 --input_width=48',
        '--fid_n_samples=99 --incept_path x': '--evaluate_samples=99 --features=x',
        '--noema --npz': '--ema 0 --npz',
        '--nonoema --npz': '--npz',
    }.items():
        arguments = todays_arguments(['main.py', *old.split()])
        assert arguments == ['main.py', *todays.split()]
        line = f'[*] Flags have other names today: main.py {todays}\n'
        assert (line in capsys.readouterr().out) == (old != todays)


@pytest.mark.parametrize('flag', ['log_dir', 'lr_decay_rate_d', 'fid_verbose'])
def test_flags_of_forks_without_a_counterpart_are_named_in_one_line(flag, tmp_path):
    result = run_in_process('--train', f'--{flag}=1', cwd=tmp_path)
    assert result.returncode == 1 and flag in result.stderr
    assert result.stderr.count('\n') == 1 and not [*tmp_path.iterdir()]


# More than once in an interpreter; other systems

TWICE = """
import runpy, signal, sys
before = signal.getsignal(signal.SIGINT)
script, *train = sys.argv[1:]
for args in train, ['--dataset', 'set', '--out_name', 'first']:
    sys.argv = ['main.py', *args]
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as end:
        assert not end.code, end.code
assert signal.getsignal(signal.SIGINT) is before
"""


def test_main_works_twice_in_one_interpreter(tiny_copy):
    (tiny_copy / 'twice.py').write_text(TWICE)
    args = [ROOT / 'main.py', *TRAIN_SET, '--out_name', 'first', '--seed', 1]
    result = run(tiny_copy / 'twice.py', *args, cwd=tiny_copy)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('[*] Trained: ') == 1
    assert '[*] Run ./out/first, iteration 3\n' in result.stdout


def test_subclass_is_built_in_place_of_the_model(workspace):
    class MyDCGAN(DCGAN):
        def build_model(self):
            super().build_model()
            print('This is mine')

    args = ['--dataset', 'set', '--generate_test_images', 1]
    result = run_in_process(*args, cwd=workspace, model=MyDCGAN)
    assert result.returncode == 0 and 'This is mine' in result.stdout
    args = ['--dataset', 'set', '--train', '--workers', 2]
    result = run_in_process(*args, cwd=workspace, model=MyDCGAN)
    assert '--workers starts main.py, without your model' in result.stderr


LACKING = """
import os, signal, sys
sys.modules['fcntl'] = None  # so that its import fails
for module, names in (os, ['fork', 'sched_getaffinity']), (signal, ['SIGHUP']):
    for name in names:
        delattr(module, name)
import main
main.run(sys.argv)
"""


@pytest.mark.slow
def test_main_needs_nothing_that_other_systems_lack(tiny_copy):
    args = ['--dataset', 'cats', '--train', *SMALL, '--epoch', 1, '--cache']
    args += ['--num_workers', 1, '--out_name', 'lacking']
    result = run_code(LACKING, *args, cwd=tiny_copy)
    assert result.returncode == 0 and '[*] Trained: ' in result.stdout, result.stderr
