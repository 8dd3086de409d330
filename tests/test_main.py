"""The command line, run as a user would run it."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import threading

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

from dcgan import runs as runs_module
from dcgan.devices import print_device
from dcgan.files import write_json
from dcgan.idx import idx_summary, read_idx
from dcgan.kernels import has_bfloat16
from dcgan.runs import newest_run
from dcgan.startup import report_thread_error

LINE = re.compile(
    r'\[ {7}(\d) Epoch:\[ (\d)/ 2\] \[ {3}(\d)/ {3}2\] '
    r'time: \d+\.\d{4}, d_loss: \d+\.\d{8}, g_loss: \d+\.\d{8}'
)
WIDE = ['--batch_size', 8, '--z_dim', 6, '--sample_freq', 2, '--ckpt_freq', 2]


def train_digits(cwd, *args):
    return run('main.py', '--dataset', 'set', '--train', *WIDE, *args, cwd=cwd)


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """A user's folder with a labelled set and a folder of pictures."""
    home = tmp_path_factory.mktemp('home')
    write_idx_set(home / 'data' / 'set', count=20)
    write_pictures(home / 'data' / 'cats', count=9)
    write_pictures(home / 'data' / 'torn', count=9)
    for path in (home / 'data' / 'torn').iterdir():
        path.write_text('torn')
    return home


@pytest.fixture(scope='module', autouse=True)
def runs(home):
    """What a run on each of them printed."""
    sizes = ['--input_height', 10, '--output_height', 16, '--epoch', 1]
    args = ['--dataset', 'cats', '--crop', '--input_fname_pattern', '*.png', *sizes]
    return {
        'set': train_digits(home, '--epoch', 2),
        'cats': run('main.py', '--train', *args, *WIDE, cwd=home),
    }


def run_folder(home, dataset):
    (folder,) = (p for p in (home / 'out').iterdir() if f' - {dataset} - ' in p.name)
    return folder


@pytest.mark.smoke
def test_a_labelled_set_trains_with_no_other_flag(runs):
    assert runs['set'].returncode == 0, runs['set'].stderr
    lines = [tuple(map(int, groups)) for groups in LINE.findall(runs['set'].stdout)]
    assert lines == [(1, 0, 0), (2, 0, 1), (3, 1, 0), (4, 1, 1)]
    assert runs['set'].stdout.count('[Sample] d_loss: ') == 2
    assert 'iterations/s' in runs['set'].stdout


def test_a_normal_run_has_no_warnings(runs):
    assert runs['set'].stderr == '' and runs['cats'].stderr == ''


def test_no_deprecation_warning_is_printed_whatever_the_level(home):
    args = ['--dataset', 'set', '--freeze', '--export', '--visualize']
    flags = ['-W', 'default::DeprecationWarning']
    level = {'TF_CPP_MIN_LOG_LEVEL': '2'}  # as a user may have set it
    result = run('main.py', *args, cwd=home, python_flags=flags, **level)
    assert result.returncode == 0
    assert str(ROOT) not in result.stderr and 'deprecated' not in result.stderr


def test_flags_and_variables_are_printed_at_start(runs):
    assert "'z_dist': 'uniform_signed'" in runs['set'].stdout
    line = 'generator/g_h0_lin/Matrix:0 (float32 10x1024) [10240, bytes: 40960]'
    assert line in runs['set'].stdout


def test_the_run_folder_is_named_and_filled_as_by_the_original(home):
    folder = run_folder(home, 'set')
    name = r'\d{8}\.\d{6} - data - set - x8\.z6\.uniform_signed\.y8\.b8'
    assert re.fullmatch(name, folder.name)
    names = {'FLAGS.json', 'checkpoint', 'lock', 'logs', 'samples'}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / 'checkpoint' / 'model.b8-4.index').exists()
    sheets = {path.name for path in (folder / 'samples').glob('train_*')}
    assert sheets == {'train_00000002.png', 'train_00000004.png'}


def test_flags_json_holds_every_flag_sorted_and_indented(home):
    text = (run_folder(home, 'set') / 'FLAGS.json').read_text()
    flags = json.loads(text, parse_constant=pytest.fail)  # JSON has no Infinity
    assert flags['output_width'] == 8 and flags['train_size'] == 'inf'
    assert text == json.dumps(flags, indent=4, sort_keys=True)


def test_the_last_iteration_is_saved_whatever_the_frequencies(home, runs):
    folder = run_folder(home, 'cats')
    assert runs['cats'].returncode == 0, runs['cats'].stderr
    assert (folder / 'checkpoint' / 'model.b8-1.index').exists()
    sheet = Image.open(folder / 'samples' / 'train_00000001.png')
    assert sheet.size == (16 * 3, 16 * 3) and sheet.mode == 'RGB'
    assert '[Sample]' not in runs['cats'].stdout


@pytest.mark.parametrize(
    ('args', 'variable', 'mode'),
    [
        (['--dataset', 'set', '--unconditional'], 'g_h4/biases:0 (float32 1)', 'L'),
        (['--dataset', 'pets', '--conditional'], 'g_h3/biases:0 (float32 3)', 'RGB'),
        (['--dataset', 'cats', '--grayscale'], 'g_h4/biases:0 (float32 1)', 'L'),
    ],
)
def test_labels_and_colour_are_as_asked_for(args, variable, mode, home):
    out = ['--out_dir', f'{args[1]}{args[2]}', '--epoch', 1]
    for name in ('dog', 'cow'):
        write_pictures(home / 'data' / 'pets' / name, count=5, ending='jpg')
    trained = run('main.py', '--train', *args, *out, *SMALL, cwd=home)
    assert trained.returncode == 0, trained.stderr
    assert f'generator/{variable}' in trained.stdout
    sampled = run_here(*args[:2], *out[:2], cwd=home)
    assert sampled.returncode == 0, sampled.stderr
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', sampled.stdout)
    sheet = Image.open(home / path)
    assert sheet.mode == mode and sheet.size == (16 * 10, 16 * 10)


def test_faces_are_read_by_their_lists_through_workers_into_a_cache(home):
    write_pictures(home / 'data' / 'faces', count=12, ending='jpg')
    rows = [(f'{i:03d}.jpg', i // 9) for i in range(12)]
    lists = {
        'list_eval_partition.txt': [f'{name} {part}' for name, part in rows],
        'list_bbox_celeba.txt': [f'{name} 2 3 15 16' for name, _ in rows],
    }
    for name, lines in lists.items():
        (home / 'data' / 'faces' / name).write_text('\n'.join(lines))
    args = ['--dataset', 'faces', '--bbox', '--partition', 'train', '--epoch', 1]
    args += ['--cache', '--num_workers', 1, '--out_dir', 'faces']
    for built in (True, False):
        result = run('main.py', '--train', *args, *SMALL, cwd=home)
        assert result.returncode == 0, result.stderr
        assert ' [*] faces: 9 images\n' in result.stdout
        assert ('cache: 100%' in result.stderr) == built


def test_sampling_needs_the_run_folder_alone(home, tmp_path):
    os.symlink(home / 'out', tmp_path / 'out')
    result = run_here('--dataset', 'cats', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r'Newest run of cats: \./out/.*, iteration 1\n', result.stdout)
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', result.stdout)
    assert Image.open(tmp_path / path).size == (16 * 10, 16 * 10)


@pytest.mark.smoke
def test_sampling_leaves_the_record_of_the_run_alone(home):
    flags = run_folder(home, 'set') / 'FLAGS.json'
    before = flags.read_bytes()
    assert run_here('--dataset', 'set', cwd=home).returncode == 0
    assert flags.read_bytes() == before


def test_flags_given_anew_win_over_those_of_the_run(home):
    args = ['--batch_size', 3, '--visualize', '--visualize_option', 'random']
    result = run_here('--dataset', 'set', *args, cwd=home)
    assert result.returncode == 0
    (path,) = re.findall(r' \[\*\] (.*/samples/test_\d{14}\.png)', result.stdout)
    assert Image.open(home / path).size == (16, 16)


@pytest.mark.parametrize('option', range(5))
def test_visualize_writes_the_files_of_each_option(option, home):
    folder = run_folder(home, 'set')
    args = ['--visualize', '--visualize_option', option, '--sample_dir', f'v{option}']
    result = run_here('--dataset', 'set', *args, cwd=home)
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


def test_export_and_freeze_write_under_the_checkpoint_folder(home):
    result = run_here('--dataset', 'set', '--export', '--freeze', cwd=home)
    folder = run_folder(home, 'set') / 'checkpoint'
    assert result.returncode == 0, result.stderr
    assert (folder / 'export_b8' / 'model.b8-4.index').exists()
    assert (folder / 'frozen_b8' / 'model.b8-000004_frz.pb').exists()
    assert (folder / 'model.b8-4.index').exists()


def test_other_output_sizes_resize_the_digits(home):
    args = ['--dataset', 'set', '--train', *WIDE, '--epoch', 1, '--output_height', 12]
    result = run_here(*args, '--out_name', '12', cwd=home)
    sheet = Image.open(home / 'out' / '12' / 'samples' / 'train_00000002.png')
    assert result.returncode == 0 and sheet.size == (12 * 3, 12 * 3)


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
        (['--dataset', 'torn', '--train', *SMALL], '1 of 9 images cannot be used'),
        (['--dataset', 'set', '--z_dim', 9], 'g_h0_lin/Matrix [10, 1024]'),
        (
            ['--dataset', 'set', '--train', *SMALL, '--out_dir', 'data/set/f'],
            'choose another --out_dir',
        ),
        (['--z_dist', 'uniform'], 'normal01|uniform_signed|uniform_unsigned'),
        (['--batch_size', 0], '--batch_size=0'),
        (['--output_height', '-4'], '--output_height=-4'),
        (['--crop', 'False'], "'False' is not a flag"),
        (['--datset', 'mnist'], "'--datset' is not a flag"),
    ],
)
def test_a_mistake_ends_in_a_line_that_names_the_way_out(args, message, home):
    (home / 'data' / 'set' / 'f').touch()
    before = sorted(home.rglob('*'))
    result = run_here(*args, cwd=home)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1
    assert sorted(home.rglob('*')) == before


@pytest.mark.parametrize('args', [['--dataset', 'none'], ['--batch_size', 0]])
def test_a_process_of_its_own_ends_with_the_same_line_and_status(args, home):
    process, here = run('main.py', *args, cwd=home), run_here(*args, cwd=home)
    assert (process.returncode, process.stdout, process.stderr) == (
        here.returncode,
        here.stdout,
        here.stderr,
    )


def test_bfloat16_trains_on_weights_in_float32(home):
    args = ['--dataset', 'set', '--train', *SMALL, '--epoch', 1, '--out_name', 'brief']
    result = run('main.py', *args, '--precision', 'bfloat16', cwd=home)
    if not has_bfloat16():
        assert result.returncode == 1 and 'use --precision float32' in result.stderr
        return
    assert result.returncode == 0 and ' are computed in bfloat16' in result.stdout
    values = stored(home / 'out' / 'brief' / 'checkpoint')
    networks = [n for n in values if n.startswith(('discriminator', 'generator'))]
    assert all(values[name].dtype == np.float32 for name in networks)


def test_bfloat16_is_refused_without_kernels_for_it(home):
    args = ['--dataset', 'set', '--train', *SMALL, '--precision', 'bfloat16']
    # oneDNN then emulates it, whatever units the processor has
    result = run('main.py', *args, cwd=home, ONEDNN_MAX_CPU_ISA='AVX512_CORE')
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'no fast kernels for it; use --precision float32' in result.stderr


def test_a_damaged_data_file_ends_in_one_line(home):
    write_idx_set(home / 'data' / 'cut', count=20)
    path = home / 'data' / 'cut' / 'train-images-idx3-ubyte'
    path.write_bytes(path.read_bytes()[:-5])
    result = run('main.py', '--dataset', 'cut', '--train', *SMALL, cwd=home)
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert 'train-images-idx3-ubyte: corrupt or truncated' in result.stderr


def test_losses_that_are_not_numbers_end_in_one_line(home):
    result = train_digits(home, '--learning_rate', 1e30, '--out_name', 'nan')
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    message = r'main.py: iteration 1: not finite: \w_loss.*--learning_rate\n'
    assert re.fullmatch(message, result.stderr)
    assert not list((home / 'out' / 'nan' / 'checkpoint').iterdir())


@pytest.mark.parametrize(
    ('record', 'message'),
    [
        ('{"batch_size": "many"}', "FLAGS.json of the run: batch_size 'many': "),
        ('{"epoch": null}', 'FLAGS.json of the run: epoch None: '),
        ('[1]', 'FLAGS.json: does not hold flags of a run; fix it or remove it'),
    ],
)
def test_a_record_that_cannot_be_is_named(record, message, home):
    (home / 'out' / 'odd').mkdir(exist_ok=True)
    (home / 'out' / 'odd' / 'FLAGS.json').write_text(record)
    result = run_here('--out_name', 'odd', '--train', cwd=home)
    assert result.returncode == 1 and message in result.stderr
    assert result.stderr.startswith('main.py: ') and result.stderr.count('\n') == 1


def test_infinity_in_a_record_of_the_original_is_read(home):
    folder = home / 'out' / 'infinite'
    shutil.copytree(run_folder(home, 'set'), folder)
    flags = json.loads((folder / 'FLAGS.json').read_text())
    (folder / 'FLAGS.json').write_text(json.dumps(flags | {'train_size': math.inf}))
    result = run_here('--out_name', 'infinite', '--train', '--epoch', 3, cwd=home)
    assert result.returncode == 0 and "'train_size': inf" in result.stdout
    assert json.loads((folder / 'FLAGS.json').read_text())['train_size'] == 'inf'


def test_the_device_is_printed_and_a_gpu_that_is_not_seen(runs, capsys, tmp_path):
    assert re.search(r'^ \[\*\] Device: \S', runs['set'].stdout, re.MULTILINE)
    print_device(str(tmp_path / 'nvidia*'))
    assert 'GPU' not in capsys.readouterr().out or tf.config.list_physical_devices(
        'GPU'
    )
    (tmp_path / 'nvidia0').touch()
    print_device(str(tmp_path / 'nvidia*'))
    if not tf.config.list_physical_devices('GPU'):
        assert 'does not see the NVIDIA GPU' in capsys.readouterr().out


@pytest.mark.parametrize('end', ['os.abort()', 'raise ImportError("no libfoo")'])
def test_messages_of_an_import_that_fails_are_shown(end, tmp_path):
    (tmp_path / 'tensorflow').mkdir()
    lines = "import os\nos.write(2, b'compiled to use AVX instructions\\n')\n"
    (tmp_path / 'tensorflow' / '__init__.py').write_text(lines + end)
    result = run('main.py', cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode and 'compiled to use AVX instructions' in result.stderr


def test_a_closed_stderr_is_no_obstacle(home):
    shell = f'exec {shlex.join(command("main.py", "--dataset", "set"))} 2>&-'
    status = subprocess.run(shell, shell=True, cwd=home, env=clean_environment())
    assert status.returncode == 0


def test_an_error_in_a_thread_is_shown_but_for_that_of_the_summaries(capsys):
    class _EventLoggerThread(threading.Thread):
        pass

    for kind, shown in ((threading.Thread, True), (_EventLoggerThread, False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, 'excepthook', report_thread_error)
            thread = kind(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        assert ('ZeroDivisionError' in capsys.readouterr().err) == shown


def test_a_traceback_is_shown_where_it_is_asked_for_or_the_code_is_wrong(home):
    result = run_here('--dataset', 'none', '--debug', cwd=home)
    assert result.returncode == 1 and 'Traceback' in result.stderr
    assert result.stderr.splitlines()[-1].startswith('main.py: ./out: no trained run')


def test_samples_of_a_run_that_removes_its_checkpoints_meanwhile(tmp_path, monkeypatch):
    indices = [tmp_path / 'a' / 'checkpoint' / f'model.b8-{n}.index' for n in (1, 2)]
    indices[0].parent.mkdir(parents=True)
    for index in indices:
        index.touch()
    write_json(f'{tmp_path}/a/FLAGS.json', {'dataset': 'set'})
    found = runs_module.glob_files

    def find_and_remove(folder, pattern):
        paths = found(folder, pattern)
        indices[0].unlink()
        return paths

    monkeypatch.setattr(runs_module, 'glob_files', find_and_remove)
    assert newest_run(str(tmp_path), 'set', 'checkpoint') == f'{tmp_path}/a'


def test_the_newest_run_is_the_one_saved_last(tmp_path):
    for name, time in (('a', 2000), ('b', 3000), ('c', 1000)):
        index = tmp_path / name / 'checkpoint' / 'model.b8-1.index'
        index.parent.mkdir(parents=True)
        index.touch()
        os.utime(index, (time, time))
        dataset = {'a': 'set', 'b': 'other', 'c': 'set'}[name]
        write_json(f'{tmp_path}/{name}/FLAGS.json', {'dataset': dataset})
    (tmp_path / 'c' / 'FLAGS.json').write_text('[1]')
    assert newest_run(str(tmp_path), 'set', 'checkpoint') == f'{tmp_path}/a'


def test_paths_are_expanded(home):
    args = ['--dataset', 'set', '--out_dir', '~/$RUNS']
    result = run('main.py', *args, cwd='/', HOME=str(home), RUNS='out')
    assert result.returncode == 0, result.stderr
    assert f'Newest run of set: {home}/out/' in result.stdout


def test_a_checkpoint_that_does_not_fit_leaves_the_run_as_it_was(home):
    folder = run_folder(home, 'set')
    paths = [path for path in folder.rglob('*') if path.name != 'lock']
    before = {path: path.stat().st_mtime_ns for path in paths}
    result = train_digits(home, '--out_name', folder.name, '--output_height', 16)
    assert result.returncode == 1 and 'g_h1_lin/Matrix' in result.stderr
    paths = [path for path in folder.rglob('*') if path.name != 'lock']
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_digits_are_made_where_they_are_missing(tmp_path):
    args = ['--dataset', 'digits', '--train', '--epoch', 1, '--train_size', 16]
    result = run('main.py', *args, '--batch_size', 8, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert idx_summary(str(tmp_path / 'data' / 'digits')) == (28, 28, 10)
    images = read_idx(f'{tmp_path}/data/digits/train-images-idx3-ubyte')
    assert images.shape == (60000, 28, 28) and np.ptp(images) > 200


def test_help_lists_flags_by_concern_in_lines_that_stand_alone(home):
    result = run('main.py', '--help', cwd=home)
    assert result.returncode == 0 and result.stderr == ''
    names = re.findall(r'^  --(?:\[no\])?(\w+)', result.stdout, re.MULTILINE)
    flags = json.loads((run_folder(home, 'set') / 'FLAGS.json').read_text())
    assert names[:3] == ['train', 'epoch', 'learning_rate'] and set(names) == set(flags)
    assert 'Data:\n  --dataset <string>\n' in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 88
