"""The command line of main.py, run as a user runs it."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import (
    ROOT,
    SMALL,
    clean_environment,
    command,
    read_checkpoint,
    run,
    run_anew,
    run_code,
    run_in_process,
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
from dcgan.compute.session import repeat_results
from dcgan.compute.xla import xla_function
from dcgan.data.digits import make_digits
from dcgan.data.idx import idx_summary, read_idx
from dcgan.runs.find_run import newest_run
from dcgan.runs.old_flags import todays_arguments
from dcgan.util import files
from dcgan.util.files import write_json
from dcgan.util.flags import MARKS
from dcgan.util.quiet_import import report_thread_error
from model import DCGAN

# the line of an iteration: (iteration, epoch, batch)
LINE = re.compile(
    r'\[ {7}(\d) Epoch:\[ (\d)/ 2\] \[ {3}(\d)/ {3}2\] '
    r'time: \d+\.\d{4}, d_loss: \d+\.\d{8}, g_loss: \d+\.\d{8}'
)
# flags of a short run with as many filters as by default
FULL_SIZE = ['--batch_size', 8, '--z_dim', 6, '--sample_freq', 2, '--ckpt_freq', 2]


def train_set(cwd, *args):
    """Train on the data set `set`."""
    return run('main.py', '--dataset', 'set', '--train', *FULL_SIZE, *args, cwd=cwd)


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A working folder with three data sets.

    `set` is labelled, `cats` are images.
    """
    workspace = tmp_path_factory.mktemp('workspace')
    write_idx_set(workspace / 'data' / 'set', count=20)
    write_images(workspace / 'data' / 'cats', count=9)
    return workspace


@pytest.fixture(scope='module', autouse=True)
def first_runs(workspace):
    """Train on `set` and on `cats`: {data set: the completed process}."""
    args = ['--dataset', 'cats', '--crop', '--input_fname_pattern', '*.png']
    args += ['--input_height', 10, '--output_height', 16, '--epoch', 1]
    return {
        'set': train_set(workspace, '--epoch', 2),
        'cats': run_in_process('--train', *args, *FULL_SIZE, cwd=workspace),
    }


def run_folder(workspace, dataset):
    """Return the folder of the run that `first_runs` trained on a data set."""
    (folder,) = (workspace / 'out').glob(f'* - {dataset} - *')
    return folder


@pytest.mark.smoke
def test_labelled_set_trains_without_further_flags(first_runs):
    result = first_runs['set']
    assert result.returncode == 0, result.stderr
    lines = [tuple(map(int, groups)) for groups in LINE.findall(result.stdout)]
    assert lines == [(1, 0, 0), (2, 0, 1), (3, 1, 0), (4, 1, 1)]
    assert result.stdout.count('[Sample] d_loss: ') == 2
    assert 'iterations/s' in result.stdout


def test_normal_run_prints_nothing_to_stderr(first_runs):
    assert first_runs['set'].stderr == '' and first_runs['cats'].stderr == ''


def test_deprecation_warnings_are_hidden_at_every_log_level(workspace):
    args = ['--dataset', 'set', '--freeze', '--export', '--visualize']
    flags = ['-W', 'default::DeprecationWarning']
    level = {'TF_CPP_MIN_LOG_LEVEL': '2'}  # as a user may have set it
    result = run_anew('main.py', *args, cwd=workspace, python_flags=flags, **level)
    assert result.returncode == 0
    assert str(ROOT) not in result.stderr and 'deprecated' not in result.stderr


def test_flags_and_variables_are_printed_at_the_start(first_runs):
    lines = first_runs['set'].stdout.splitlines()
    flags = '--train --epoch 2 --batch_size 8 --input_height 8 --input_width 8 '
    flags += '--output_height 8 --output_width 8 --dataset set --sample_freq 2 '
    assert lines[0] == f' [*] Flags: {flags}--ckpt_freq 2 --z_dim 6'
    assert re.search(r' all flags, .* in \./out/.* - set - .*/FLAGS\.json$', lines[1])
    line = 'generator/g_h0_lin/Matrix:0 (float32 10x1024) [10240, bytes: 40960]'
    assert line in first_runs['set'].stdout


def test_run_folder_has_the_name_and_the_files_of_the_original(workspace):
    folder = run_folder(workspace, 'set')
    name = r'\d{8}\.\d{6} - data - set - x8\.z6\.uniform_signed\.y8\.b8'
    assert re.fullmatch(name, folder.name)
    names = {'FLAGS.json', 'checkpoint', 'lock', 'lock.owner', 'logs', 'samples'}
    names |= {'metrics.csv', 'curves.png'}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / 'checkpoint' / 'model.b8-4.index').exists()
    grids = {path.name for path in (folder / 'samples').glob('train_*')}
    assert grids == {f'train_0000000{i}.png' for i in (0, 2, 4)}


def test_flags_json_holds_all_flags_sorted_and_indented(workspace):
    text = (run_folder(workspace, 'set') / 'FLAGS.json').read_text()
    flags = json.loads(text, parse_constant=pytest.fail)  # JSON has no Infinity
    assert flags['output_width'] == 8 and flags['train_size'] == 'inf'
    assert text == json.dumps(flags, indent=4, sort_keys=True)


def test_last_iteration_is_always_saved(workspace, first_runs):
    folder = run_folder(workspace, 'cats')
    assert first_runs['cats'].returncode == 0, first_runs['cats'].stderr
    assert (folder / 'checkpoint' / 'model.b8-1.index').exists()
    grid = Image.open(folder / 'samples' / 'train_00000001.png')
    assert grid.size == (16 * 3, 16 * 3) and grid.mode == 'RGB'
    assert '[Sample]' not in first_runs['cats'].stdout


@pytest.mark.parametrize(
    ('args', 'variable', 'mode'),
    [
        (['--dataset', 'set', '--unconditional'], 'g_h4/biases:0 (float32 1)', 'L'),
        (['--dataset', 'pets', '--conditional'], 'g_h3/biases:0 (float32 3)', 'RGB'),
        (['--dataset', 'cats', '--grayscale'], 'g_h4/biases:0 (float32 1)', 'L'),
    ],
)
def test_flags_choose_labels_and_color(args, variable, mode, workspace):
    out = ['--out_dir', f'{args[1]}{args[2]}', '--epoch', 1]
    for name in ('dog', 'cow'):
        write_images(workspace / 'data' / 'pets' / name, count=5, ending='jpg')
    trained = run_in_process('--train', *args, *out, *SMALL, cwd=workspace)
    assert trained.returncode == 0, trained.stderr
    assert f'generator/{variable}' in trained.stdout
    sampled = run_in_process(*args[:2], *out[:2], cwd=workspace)
    assert sampled.returncode == 0, sampled.stderr
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', sampled.stdout)
    grid = Image.open(workspace / path)
    assert grid.mode == mode and grid.size == (16 * 10, 16 * 10)


def test_celeba_lists_workers_and_cache_work_together(workspace):
    write_images(workspace / 'data' / 'faces', count=12, ending='jpg')
    rows = [(f'{i:03d}.jpg', i // 9) for i in range(12)]
    lists = {
        'list_eval_partition.txt': [f'{name} {part}' for name, part in rows],
        'list_bbox_celeba.txt': [f'{name} 2 3 15 16' for name, _ in rows],
    }
    for name, lines in lists.items():
        (workspace / 'data' / 'faces' / name).write_text('\n'.join(lines))
    args = ['--dataset', 'faces', '--bbox', '--partition', 'train', '--epoch', 1]
    args += ['--cache', '--num_workers', 1, '--out_dir', 'faces']
    for builds_cache in (True, False):
        result = run_in_process('--train', *args, *SMALL, cwd=workspace)
        assert result.returncode == 0, result.stderr
        assert ' [*] faces: 9 images\n' in result.stdout
        assert ('cache: 100%' in result.stderr) == builds_cache


def test_sampling_needs_only_the_run_folder(workspace, tmp_path):
    os.symlink(workspace / 'out', tmp_path / 'out')
    result = run_in_process('--dataset', 'cats', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r'Newest run of cats: \./out/.*, iteration 1\n', result.stdout)
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', result.stdout)
    assert Image.open(tmp_path / path).size == (16 * 10, 16 * 10)


@pytest.mark.smoke
def test_sampling_does_not_change_flags_json(workspace):
    flags = run_folder(workspace, 'set') / 'FLAGS.json'
    before = flags.read_bytes()
    assert run_in_process('--dataset', 'set', cwd=workspace).returncode == 0
    assert flags.read_bytes() == before


def test_command_line_flags_override_recorded_flags(workspace):
    args = ['--batch_size', 3, '--visualize', '--visualize_option', 'random']
    result = run_in_process('--dataset', 'set', *args, cwd=workspace)
    assert result.returncode == 0
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', result.stdout)
    assert Image.open(workspace / path).size == (16, 16)


@pytest.mark.parametrize('option', range(5))
def test_each_visualize_option_writes_its_files(option, workspace):
    folder = run_folder(workspace, 'set')
    args = ['--visualize', '--visualize_option', option, '--sample_dir', f'v{option}']
    result = run_in_process('--dataset', 'set', *args, cwd=workspace)
    assert result.returncode == 0, result.stderr
    names = {p.name for p in (folder / f'v{option}').iterdir()}
    gifs = {f'test_gif_{dim}.gif' for dim in range(6)}
    if option == 0:
        assert len(names) == 1 and names.pop().startswith('test_2')
    elif option == 1:
        assert names == {f'test_arange_{dim}.png' for dim in range(6)}
    elif option == 2:
        assert names and names <= gifs
    else:
        assert names == gifs | ({'test_gif_merged.gif'} if option == 4 else set())


def test_export_and_freeze_write_to_the_checkpoint_folder(workspace):
    result = run_in_process('--dataset', 'set', '--export', '--freeze', cwd=workspace)
    folder = run_folder(workspace, 'set') / 'checkpoint'
    assert result.returncode == 0, result.stderr
    assert (folder / 'export_b8' / 'model.b8-4.index').exists()
    assert (folder / 'frozen_b8' / 'model.b8-000004_frz.pb').exists()
    assert (folder / 'model.b8-4.index').exists()


def test_output_height_resizes_idx_images(workspace):
    args = ['--dataset', 'set', '--train', *FULL_SIZE, '--epoch', 1]
    args += ['--output_height', 12, '--out_name', '12']
    result = run_in_process(*args, cwd=workspace)
    grid = Image.open(workspace / 'out' / '12' / 'samples' / 'train_00000002.png')
    assert result.returncode == 0 and grid.size == (12 * 3, 12 * 3)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--dataset', 'none', '--train'], './data/none: no such data folder'),
        (
            ['--dataset', 'cats', '--train', '--input_fname_pattern', '*.gif'],
            "matches '*.gif'; the folder holds 9 *.png",
        ),
        (['--dataset', 'none'], './out: no trained run of dataset none'),
        (['--out_name', 'none'], './out/none/checkpoint: no checkpoint found'),
        (['--dataset', 'set', '--train'], '20 images do not fill a batch of 64'),
        (
            ['--dataset', 'set', '--train', *SMALL, '--train_size', 5],
            'train_size 5.0 is less than a batch of 8',
        ),
        (
            ['--dataset', 'set', '--train', *SMALL, '--output_height', 10],
            'output size 10x10: the conditional model needs multiples of 4',
        ),
        (
            ['--dataset', 'set', '--train', '--conditional', '--unconditional'],
            '--conditional and --unconditional exclude each other',
        ),
        (['--dataset', 'cats', '--train', '--conditional'], 'no class folders'),
        (['--dataset', 'none', '--train', '--conditional'], 'no such data folder'),
        (['--dataset', 'set', '--train', '--bbox'], '--bbox is for images'),
        (
            ['--dataset', 'cats', '--train', '--partition', 'val'],
            'list_eval_partition.txt is missing, here and in',
        ),
        (['--dataset', 'set', '--z_dim', 9], 'g_h0_lin/Matrix [10, 1024]'),
        (
            ['--dataset', 'set', '--train', *SMALL, '--out_dir', 'data/set/f'],
            'choose another --out_dir',
        ),
        (['--z_dist', 'uniform'], 'normal01|uniform_signed|uniform_unsigned'),
        (['--batch_size', 0], '--batch_size=0'),
        (['--output_height', '-4'], '--output_height=-4'),
        (['--crop', 'False'], '--crop False: a switch takes no value, give --nocrop'),
        (['--dataset', 'set', 'False'], "'False' is not a flag"),
        (['--c_dim', '4'], '--c_dim 4: images have 3 channels or, gray, 1'),
        (['--datset', 'mnist'], "'--datset' is not a flag"),
    ],
)
def test_user_error_is_one_line_with_the_way_out(args, message, workspace):
    (workspace / 'data' / 'set' / 'f').touch()
    before = sorted(workspace.rglob('*'))
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1
    assert sorted(workspace.rglob('*')) == before


def test_new_process_prints_the_same_error_with_the_same_status(workspace):
    args = ['--batch_size', 0]
    results = (
        run_anew('main.py', *args, cwd=workspace),
        run_in_process(*args, cwd=workspace),
    )
    new, same = ((r.returncode, r.stdout, r.stderr) for r in results)
    assert new == same


def test_bfloat16_training_saves_float32_weights(workspace):
    args = ['--dataset', 'set', '--train', *SMALL, '--epoch', 1, '--out_name', 'brief']
    result = run_in_process(*args, '--precision', 'bfloat16', cwd=workspace)
    if not has_bfloat16():
        assert result.returncode == 1 and 'use --precision float32' in result.stderr
        return
    assert result.returncode == 0 and ' are computed in bfloat16' in result.stdout
    values = read_checkpoint(workspace / 'out' / 'brief' / 'checkpoint')
    networks = [n for n in values if n.startswith(('discriminator', 'generator'))]
    assert all(values[name].dtype == np.float32 for name in networks)


def test_bfloat16_is_rejected_without_fast_kernels(workspace):
    args = ['--dataset', 'set', '--train', *SMALL, '--precision', 'bfloat16']
    # with this setting, oneDNN emulates bfloat16 even if the processor has units for it
    result = run_anew('main.py', *args, cwd=workspace, ONEDNN_MAX_CPU_ISA='AVX512_CORE')
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'no fast kernels for it; use --precision float32' in result.stderr


def test_tf32_is_rejected_without_a_gpu_that_has_it(workspace):
    args = ['--dataset', 'set', '--train', *SMALL, '--precision', 'tf32', '--epoch', 1]
    result = run_in_process(*args, '--out_name', 'tf32', cwd=workspace)
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


def test_truncated_data_file_is_reported_in_one_line(workspace):
    write_idx_set(workspace / 'data' / 'cut', count=20)
    path = workspace / 'data' / 'cut' / 'train-images-idx3-ubyte'
    path.write_bytes(path.read_bytes()[:-5])
    args = ['--dataset', 'cut', '--train', *SMALL]
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'train-images-idx3-ubyte: corrupt or truncated' in result.stderr


def test_nan_losses_are_reported_in_one_line(workspace):
    result = train_set(workspace, '--learning_rate', 1e30, '--out_name', 'nan')
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    message = r'main.py: iteration 1: not finite: \w_loss.*--learning_rate\n'
    assert re.fullmatch(message, result.stderr)
    assert not list((workspace / 'out' / 'nan' / 'checkpoint').iterdir())


@pytest.mark.parametrize(
    ('record', 'message'),
    [
        ('{"batch_size": "many"}', "FLAGS.json of the run: batch_size 'many': "),
        ('{"epoch": null}', 'FLAGS.json of the run: epoch None: '),
        ('[1]', 'FLAGS.json: does not hold flags of a run ('),
    ],
)
def test_invalid_flags_json_is_reported(record, message, workspace):
    (workspace / 'out' / 'odd').mkdir(exist_ok=True)
    (workspace / 'out' / 'odd' / 'FLAGS.json').write_text(record)
    result = run_in_process('--out_name', 'odd', '--train', cwd=workspace)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1


def test_infinity_in_flags_json_of_the_original_is_read(workspace):
    folder = workspace / 'out' / 'infinite'
    shutil.copytree(run_folder(workspace, 'set'), folder)
    flags = json.loads((folder / 'FLAGS.json').read_text())
    (folder / 'FLAGS.json').write_text(json.dumps(flags | {'train_size': math.inf}))
    args = ['--out_name', 'infinite', '--train', '--epoch', 3]
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 0 and '--train_size' not in result.stdout
    assert json.loads((folder / 'FLAGS.json').read_text())['train_size'] == 'inf'


def test_device_is_printed_with_a_warning_if_a_gpu_is_not_found(
    first_runs, capsys, tmp_path
):
    assert re.search(r'^ \[\*\] Device: \S', first_runs['set'].stdout, re.MULTILINE)
    print_device('float32', str(tmp_path / 'nvidia*'))
    assert has_gpu() or 'GPU' not in capsys.readouterr().out
    (tmp_path / 'nvidia0').touch()
    print_device('float32', str(tmp_path / 'nvidia*'))
    assert has_gpu() or 'does not see the NVIDIA GPU' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('end', 'message'),
    [
        ('raise ImportError("no libfoo")', 'use AVX instructions\nTraceback'),
        ('os.abort()', 'Fatal Python error: Aborted'),
    ],
)
def test_failures_of_the_import_of_tensorflow_are_shown(end, message, tmp_path):
    (tmp_path / 'tensorflow').mkdir()
    lines = "import os\nos.write(2, b'compiled to use AVX instructions\\n')\n"
    (tmp_path / 'tensorflow' / '__init__.py').write_text(lines + end)
    result = run_anew('main.py', cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode and message in result.stderr
    assert 'tensorflow/__init__.py", line 3' in result.stderr


def test_stopping_during_the_import_prints_nothing(tmp_path):
    (tmp_path / 'tensorflow').mkdir()
    lines = 'import os, time\nos.write(2, b"a log")\nprint("importing", flush=True)\n'
    (tmp_path / 'tensorflow' / '__init__.py').write_text(f'{lines}time.sleep(60)')
    process = subprocess.Popen(
        command('main.py'),
        env={**clean_environment(), 'PYTHONPATH': str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == 'importing\n'
    process.terminate()
    _, error = process.communicate()
    assert process.returncode == -signal.SIGTERM and error == ''


def test_sampling_works_with_closed_stderr(workspace):
    shell = f'exec {shlex.join(command("main.py", "--dataset", "set"))} 2>&-'
    status = subprocess.run(shell, shell=True, cwd=workspace, env=clean_environment())
    assert status.returncode == 0


def test_thread_errors_are_printed_except_in_the_summary_thread(capsys):
    class _EventLoggerThread(threading.Thread):  # the name of TensorFlow's class
        pass

    for thread_class, is_printed in (
        (threading.Thread, True),
        (_EventLoggerThread, False),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, 'excepthook', report_thread_error)
            thread = thread_class(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        assert ('ZeroDivisionError' in capsys.readouterr().err) == is_printed


def test_debug_flag_prints_the_traceback(workspace):
    result = run_in_process('--dataset', 'none', '--debug=true', cwd=workspace)
    assert result.returncode == 1 and 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('main.py: ./out: no trained run')


def test_newest_run_is_found_while_it_deletes_a_checkpoint(tmp_path, monkeypatch):
    indices = [tmp_path / 'a' / 'checkpoint' / f'model.b8-{n}.index' for n in (1, 2)]
    indices[0].parent.mkdir(parents=True)
    for index in indices:
        index.touch()
    write_json(f'{tmp_path}/a/FLAGS.json', {'dataset': 'set'})
    glob_files = files.glob_files

    def glob_and_delete(folder, pattern):
        paths = glob_files(folder, pattern)
        indices[0].unlink()
        return paths

    monkeypatch.setattr('dcgan.runs.find_run.glob_files', glob_and_delete)
    assert newest_run(flags_of(tmp_path), {}).folder == f'{tmp_path}/a'


def flags_of(out_dir):
    """What newest_run reads of the flags, for the data set `set`."""
    folders = {'out_dir': str(out_dir), 'data_dir': 'data', 'dataset': 'set'}
    return SimpleNamespace(**folders)


def test_newest_run_is_the_one_saved_last(tmp_path):
    for name, time in (('a', 2000), ('b', 3000), ('c', 1000)):
        index = tmp_path / name / 'checkpoint' / 'model.b8-1.index'
        index.parent.mkdir(parents=True)
        index.touch()
        os.utime(index, (time, time))
        dataset = {'a': 'set', 'b': 'other', 'c': 'set'}[name]
        write_json(f'{tmp_path}/{name}/FLAGS.json', {'dataset': dataset})
    (tmp_path / 'c' / 'FLAGS.json').write_text('[1]')
    assert newest_run(flags_of(tmp_path), {}).folder == f'{tmp_path}/a'


def test_home_and_variables_in_paths_are_expanded(workspace):
    args = ['--dataset', 'set', '--out_dir', '~/$RUNS']
    result = run('main.py', *args, cwd='/', HOME=str(workspace), RUNS='out')
    assert result.returncode == 0, result.stderr
    assert f'Newest run of set: {workspace}/out/' in result.stdout


def test_run_with_a_checkpoint_of_another_shape_is_not_changed(workspace):
    folder = run_folder(workspace, 'set')
    paths = [p for p in folder.rglob('*') if p.is_file() and 'lock' not in p.name]
    before = {path: path.stat().st_mtime_ns for path in paths}
    result = train_set(workspace, '--out_name', folder.name, '--output_height', 16)
    assert result.returncode == 1 and 'g_h1_lin/Matrix' in result.stderr
    paths = [p for p in folder.rglob('*') if p.is_file() and 'lock' not in p.name]
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_missing_digits_are_drawn(tmp_path, monkeypatch):
    assert make_digits.__defaults__ == ((60000, 10000), 0)
    monkeypatch.setattr(make_digits, '__defaults__', ((600, 100), 0))  # faster
    args = ['--dataset', 'digits', '--train', '--epoch', 1, '--train_size', 16]
    result = run_in_process(*args, '--batch_size', 8, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert idx_summary(str(tmp_path / 'data' / 'digits')) == (28, 28, 10)
    images = read_idx(f'{tmp_path}/data/digits/train-images-idx3-ubyte')
    assert images.shape == (600, 28, 28) and np.ptp(images) > 200


def test_help_fits_on_a_screen_and_leads_to_every_flag(workspace):
    for name in ('--help', '-h', '--helpshort'):
        result = run_in_process(name, cwd=workspace)
        lines = result.stdout.splitlines()
        assert result.returncode == 0 and result.stderr == ''
        assert len(lines) <= 60 and max(map(len, lines)) <= 80
    names = re.findall(r'^  --(\w+) ', result.stdout, re.MULTILINE)
    assert names == [flag.name for flag in main.ORIGINAL.flags]
    assert all(f'  {group.title} ' in result.stdout for group in main.TABLE.groups[1:])


def test_full_help_describes_all_flags_by_groups(workspace):
    result = run_in_process('--helpfull', cwd=workspace)
    assert result.returncode == 0 and result.stderr == ''
    names = re.findall(r'^  --(?:\[no\])?(\w+)', result.stdout, re.MULTILINE)
    flags = json.loads((run_folder(workspace, 'set') / 'FLAGS.json').read_text())
    assert names[:3] == ['train', 'epoch', 'learning_rate'] and set(names) == set(flags)
    assert '\nData: ' in result.stdout and '\n  --seed <int>\n' in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_flags_have_marks_that_are_known():
    for flag in main.TABLE.table.values():
        assert set(flag.marks.split()) <= set(MARKS), flag.name
    assert len(main.TABLE.table) == sum(len(g.flags) for g in main.TABLE.groups)


def test_data_set_is_the_same_however_it_is_spelled(workspace, tmp_path):
    (workspace / 'data' / 'link').unlink(missing_ok=True)
    (workspace / 'data' / 'link').symlink_to('set')
    spellings = ['set/', './set', str(workspace / 'data' / 'set'), 'link']
    for dataset in spellings:
        args = ['--dataset', dataset, '--generate_test_images', 1]
        result = run_in_process(*args, cwd=workspace)
        assert result.returncode == 0, result.stderr
        assert f'Newest run of {dataset}: ./out/' in result.stdout


def test_missing_run_is_reported_with_the_data_sets_that_have_runs(workspace):
    result = run_in_process('--dataset', 'sets', cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'no trained run of dataset sets found; there are runs of ' in result.stderr
    assert 'set; train one with --train' in result.stderr


@pytest.fixture
def run_copy(workspace, first_runs, tmp_path):
    """The folder of a copy of a trained run, which the test may change."""
    (source,) = (workspace / 'out').glob('* - set - *')
    shutil.copytree(source, tmp_path / 'out' / 'copy')
    return tmp_path / 'out' / 'copy'


def windows_flags(folder, **paths):
    """Write paths to FLAGS.json of a run as the original does on Windows."""
    flags = json.loads((folder / 'FLAGS.json').read_text())
    flags |= {'out_dir': '.\\out\\old', 'checkpoint_dir': './out\\old\\checkpoint'}
    flags |= {'sample_dir': './out\\old\\samples', **paths}
    (folder / 'FLAGS.json').write_text(json.dumps(flags))


@pytest.mark.parametrize(
    'paths',
    [
        {},
        {
            'out_dir': 'C:\\runs\\old',
            'checkpoint_dir': 'C:\\runs\\old\\checkpoint',
            'sample_dir': None,
        },
    ],
)
def test_run_lies_where_it_is_whatever_its_flags_say(paths, workspace, run_copy):
    windows_flags(run_copy, **paths)
    steps = len(list((run_copy / 'checkpoint').glob('*.index')))
    args = ['--out_dir', run_copy.parent, '--generate_test_images', 1]
    result = run_in_process('--dataset', 'set', *args, cwd=workspace)
    assert result.returncode == 0 and f'{run_copy}, iteration 4' in result.stdout
    assert list((run_copy / 'samples').glob('test_*.png'))
    args = ['--out_dir', run_copy.parent, '--out_name', 'copy', '--epoch', 3, '--train']
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 0, result.stderr
    assert '[       5 Epoch:[ 2/ 3]' in result.stdout
    assert len(list((run_copy / 'checkpoint').glob('*.index'))) == steps
    assert sorted(os.listdir(run_copy.parent)) == ['copy']


def test_run_can_be_named_by_its_path(workspace, run_copy):
    nested = run_copy.parent / 'a' / 'b'
    run_copy.rename(nested.parent.mkdir() or nested)
    for name in (f'{nested}/', 'a/b', 'a/b/'):
        args = ['--out_dir', nested.parent.parent, '--out_name', name]
        result = run_in_process(*args, '--generate_test_images', 1, cwd=workspace)
        assert result.returncode == 0, result.stderr
        assert f'Run {nested}, iteration 4' in result.stdout
    args = ['--out_dir', nested.parent.parent, '--dataset', 'set']
    assert f'{nested}, iteration 4' in run_in_process(*args, cwd=workspace).stdout


@pytest.mark.parametrize('name', ['v2 [1] a*b?', 'back\\slash \xe9'])
def test_run_folders_may_have_names_that_tensorflow_takes_for_patterns(name, tmp_path):
    write_idx_set(tmp_path / f'data {name}' / f'set {name}', count=20)
    args = ['--data_dir', f'data {name}', '--dataset', f'set {name}', *SMALL]
    args = [*args, '--out_dir', f'out {name}', '--out_name', name]
    for task in (
        ['--train', '--epoch', 1],
        ['--train', '--epoch', 2],
        ['--generate_test_images', 1, '--export', '--freeze', '--saved_model'],
    ):
        result = run_in_process(*args, *task, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert f'out {name}/{name}, iteration 4' in result.stdout


def test_checkpoint_without_an_iteration_in_its_name_is_named(workspace, run_copy):
    shutil.rmtree(run_copy / 'samples')
    folder = run_copy / 'checkpoint'
    for path in folder.glob('model.b8-4.*'):
        path.rename(folder / path.name.replace('model.b8-4', 'DCGAN.model'))
    (folder / 'checkpoint').unlink()
    args = ['--out_dir', run_copy.parent, '--out_name', 'copy']
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'checkpoint: has DCGAN.model.index, but the name of a' in result.stderr
    assert 'has to end in -ITERATION' in result.stderr


def test_names_that_a_terminal_cannot_show_are_escaped(workspace, run_copy):
    name = os.fsdecode(b'caf\xe9 \xe2\x9c\x93')
    run_copy.rename(run_copy.parent / name)
    args = ['--out_dir', run_copy.parent, '--out_name', name]
    result = subprocess.run(
        command('main.py', *args),
        cwd=workspace,
        env={**clean_environment(), 'PYTHONIOENCODING': 'latin-1:strict'},
        capture_output=True,
    )
    assert result.returncode == 0 and result.stderr == b''
    assert rb'Run ' in result.stdout and rb'\udce9' in result.stdout


# Images that cannot be used


@pytest.fixture(scope='module')
def bad_set(workspace):
    """The data set `bad`: 30 of 600 images are no images, all in the first epoch."""
    write_images(workspace / 'data' / 'bad', count=600, size=(8, 8))
    bad = sorted((workspace / 'data' / 'bad').iterdir())[::20]
    for path in bad:
        path.write_text('<html>')
    return [str(path.relative_to(workspace)) for path in bad]


BAD = ['--dataset', 'bad', '--train', *SMALL, '--epoch', 1, '--seed', 3]


def test_too_many_bad_images_are_all_named_and_the_work_is_saved(bad_set, workspace):
    result = run('main.py', *BAD, '--out_name', 'bad', cwd=workspace)
    saved = re.search(
        r'main.py: 30 of 600 images cannot be used, which is more than 1%; fix or '
        r'remove those in \./out/bad/unusable\.txt; saved up to iteration (\d+)$',
        result.stderr,
    )
    assert result.returncode == 1 and saved, result.stderr
    assert 'check: 100%' in result.stderr
    rows = (workspace / 'out' / 'bad' / 'unusable.txt').read_text().splitlines()
    assert [row.split('\t')[0] for row in rows] == bad_set
    name = f'model.b8-{saved[1]}.index'
    assert (workspace / 'out' / 'bad' / 'checkpoint' / name).exists()


def test_few_bad_images_are_named_in_the_message(workspace):
    write_images(workspace / 'data' / 'few', count=40, size=(8, 8))
    names = ['001.png', '020.png']
    for name in names:
        (workspace / 'data' / 'few' / name).write_text('<html>')
    args = ['--dataset', 'few', *BAD[2:], '--cache', '--out_name', 'few']
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 1
    assert '2 of 40 images cannot be used, which is more than 1%' in result.stderr
    assert all(f'data/few/{name}' in result.stderr for name in names)


# Flags of older versions of the original


@pytest.mark.parametrize(
    'old, todays',
    [
        ('--is_train True --is_crop=False', '--train --nocrop'),
        ('--is_train --is_crop --dataset x', '--train --crop --dataset x'),
        ('--nois_train --is_crop False', '--notrain --nocrop'),
        ('--image_size 96 --output_size=48', '--input_height=96 --output_height=48'),
        ('--c_dim 3 --options 1', '--visualize_option=1'),
        ('--c_dim=1 --dataset x', '--grayscale --dataset x'),
        ('--c_dim=1 --dataset mnist', '--grayscale --dataset mnist'),
        ('--train True --dataset is_train', '--train True --dataset is_train'),
        ('--noema --npz', '--ema 0 --npz'),
        ('--nonoema --npz', '--npz'),
    ],
)
def test_old_flags_have_names_of_today(old, todays, capsys):
    arguments = todays_arguments(['main.py', *old.split()], main.TABLE)
    assert arguments == ['main.py', *todays.split()]
    line = f'[*] Flags have other names today: main.py {todays}\n'
    assert (line in capsys.readouterr().out) == (old != todays)


def test_commands_of_old_tutorials_work(workspace):
    folder = ['--dataset', 'set', '--out_name', 'tutorial']
    train = ['--is_train', 'True', '--epoch', '1', *map(str, SMALL[:4]), *folder]
    result = run_in_process(*train, '--output_size', 16, cwd=workspace)
    assert result.returncode == 0 and '[*] Trained: ' in result.stdout
    use = ['--is_train', 'False', '--is_crop', 'True', '--visualize', 'True']
    result = run_in_process(*use, '--options', 0, *folder, cwd=workspace)
    assert result.returncode == 0 and 'tutorial/samples/test_' in result.stdout


# More than once in an interpreter

TWICE = """
import runpy, signal, sys
before = signal.getsignal(signal.SIGINT)
for args in {runs!r}:
    sys.argv = ['main.py', *args]
    try:
        runpy.run_path({script!r}, run_name='__main__')
    except SystemExit as end:
        assert not end.code, end.code
assert signal.getsignal(signal.SIGINT) is before
"""


def test_main_works_twice_in_one_interpreter(workspace):
    train = ['--train', '--dataset', 'set', *map(str, SMALL), '--epoch', '1']
    runs = [[*train, '--seed', '1', '--out_name', 'first']]
    runs.append([*train, '--out_name', 'second'])
    runs.append(['--dataset', 'set', '--out_name', 'first'])
    code = TWICE.format(runs=runs, script=str(ROOT / 'main.py'))
    result = run_code(code, cwd=workspace)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('[*] Trained: ') == 2
    assert '[*] Run ./out/first, iteration ' in result.stdout


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


# Other systems

LACKING = """
import os, signal, sys
sys.modules['fcntl'] = None  # so that its import fails
for module, names in (os, ['fork', 'sched_getaffinity']), (signal, ['SIGHUP']):
    for name in names:
        delattr(module, name)
import main
main.run(sys.argv)
"""


def test_main_needs_nothing_that_other_systems_lack(workspace):
    args = ['--dataset', 'cats', '--train', *SMALL, '--epoch', 1, '--cache']
    args += ['--num_workers', 1, '--out_name', 'lacking']
    result = run_code(LACKING, *args, cwd=workspace)
    assert result.returncode == 0 and '[*] Trained: ' in result.stdout, result.stderr
