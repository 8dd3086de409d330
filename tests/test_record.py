"""What a run records: metrics.csv, curves.png, grids of the beginning, warnings."""

import contextlib
import csv
import errno
import os
import re
import shutil
import signal
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import run, run_code, run_in_process, use
from PIL import Image

from dcgan.data.image_grids import save_gif
from dcgan.record.curves import MAX_BINS, draw_runs, history_of_run, in_bins, smooth
from dcgan.record.metrics_csv import COLUMNS, OLDER, MetricsFile, read_rows
from dcgan.record.recorder import WON_ITERATIONS, Recorder
from dcgan.record.tensorboard import SummaryLog
from dcgan.sampling.samples import make_progress_gif
from dcgan.util.errors import Interrupted, UserError
from dcgan.util.output import Extra

# metrics.csv


def test_metrics_hold_the_printed_losses_of_each_iteration(tiny_runs):
    with open(tiny_runs / 'out' / 'cats' / 'metrics.csv') as file:
        rows = list(csv.DictReader(file))
    position = [(row['iteration'], row['epoch'], row['batch']) for row in rows]
    assert position == [('1', '0', '0'), ('2', '0', '1'), ('3', '0', '2')]
    text = (tiny_runs / 'cats.txt').read_text()
    for row, line in zip(rows, re.findall('Epoch.*', text), strict=True):
        losses = [float(x) for x in re.findall(r'_loss: ([\d.]+)', line)]
        wanted = pytest.approx(losses, abs=1e-7)
        assert [float(row['d_loss']), float(row['g_loss'])] == wanted
        total = float(row['d_loss_real']) + float(row['d_loss_fake'])
        assert float(row['d_loss']) == pytest.approx(total, abs=1e-6)
        assert all(0 < float(row[name]) < 1 for name in ('d_real', 'd_fake'))
        assert row['learning_rate_d'] == row['learning_rate_g'] == '0.0002'
    seconds = [float(row['seconds']) for row in rows]
    assert seconds == sorted(seconds)
    # the line of the pace has the means of D, the start tells the seed
    d_real, d_fake = (float(rows[1][name]) for name in ('d_real', 'd_fake'))
    assert f' left, D(x) {d_real:.2f}, D(G(z)) {d_fake:.2f}\n' in text
    assert ' [*] Seed: 1\n' in text


def test_resumed_run_has_the_metrics_of_one_never_stopped(tiny_copy):
    path = tiny_copy / 'out' / 'cats' / 'metrics.csv'
    never_stopped = np.delete(read_rows(str(path)), 3, axis=1)  # without seconds
    # a process that was killed after iteration 2 has left a torn row
    path.write_text(path.read_text()[:-9])
    args = ['--train', '--out_name', 'cats', '--resume_step', 2]
    assert run_in_process(*args, cwd=tiny_copy).returncode == 0
    resumed = np.delete(read_rows(str(path)), 3, axis=1)
    assert np.array_equal(resumed, never_stopped, equal_nan=True)


def row_values(d_loss=1.4):
    return [d_loss, 0.7, 0.7, 0.7, 0.5, 0.5, 0.5, 2e-4, 2e-4, np.nan, 12.5]


WHOLE = '3,0,2,9,1,1,1,1,1,1,1,1,1,nan,1'


@pytest.mark.parametrize(
    'tail', ['', '3,0,2,9', WHOLE, WHOLE[:-1], WHOLE[:-3], WHOLE[:-4], 'x\n']
)
def test_torn_rows_are_mended_and_old_ones_dropped(tail, tmp_path):
    for _ in range(2):  # the second run is a new one
        metrics = MetricsFile(str(tmp_path), 0)
        for i in (1, 2):
            metrics.add((i, 0, i - 1), row_values(), i)
        metrics.close()
    with open(tmp_path / 'metrics.csv', 'a') as file:
        file.write(tail)
    metrics = MetricsFile(str(tmp_path), 2)
    assert metrics.seconds == 2
    metrics.add((3, 1, 0), row_values(), 0.5)
    metrics.close()
    rows = read_rows(str(tmp_path / 'metrics.csv'))[:, :4]
    assert rows.tolist() == [[1, 0, 0, 1], [2, 0, 1, 2], [3, 1, 0, 2.5]]
    assert (tmp_path / 'metrics.csv').read_text().startswith(','.join(COLUMNS) + '\n')


def test_rows_of_earlier_versions_are_continued(tmp_path, capsys):
    path, head = tmp_path / 'metrics.csv', ','.join(COLUMNS[:OLDER])
    rows = [f'{i},0,{i},2.000,{",".join(9 * ["0.5"])}' for i in (1, 2)]
    for tail in '', f'\n{rows[1]}'.replace('2', '3', 1)[:-9], '\n':
        path.write_text('\n'.join([head, *rows]) + tail)
        metrics = MetricsFile(str(tmp_path), 2)
        metrics.add((3, 0, 3), [*9 * [0.5], 7.5, 8.5], 1)
        metrics.close()
        found = read_rows(str(path))
        assert (found[:, 0] == [1, 2, 3]).all() and (found[:, 4:OLDER] == 0.5).all()
        assert np.isnan(found[:2, OLDER:]).all()
        assert found[2, OLDER:].tolist() == [7.5, 8.5]
    assert capsys.readouterr().out == ''
    assert [file.name for file in tmp_path.iterdir()] == ['metrics.csv']


def test_metrics_that_cannot_be_read_or_written_are_an_error(tmp_path):
    path = tmp_path / 'metrics.csv'
    path.mkdir()
    message = r'metrics\.csv: cannot be read \(.*\); fix it or remove it'
    with pytest.raises(UserError, match=message):
        read_rows(str(path))
    with pytest.raises(UserError, match=message):
        MetricsFile(str(tmp_path), 1)
    with pytest.raises(UserError, match=r'metrics\.csv: cannot be written'):
        MetricsFile(str(tmp_path), 0)


# Curves


def test_long_runs_are_drawn_by_means_and_ranges_of_few_bins():
    count = 5 * MAX_BINS - 3
    means, lows, highs = in_bins(np.arange(count) % 10)
    assert MAX_BINS / 2 <= len(means) <= MAX_BINS
    assert means[:2].tolist() == [2, 7] and means[-1] == 5.5  # the last bin is short
    assert lows[:2].tolist() == [0, 5] and highs[:2].tolist() == [4, 9]
    iterations, _, _ = in_bins(np.arange(count))
    assert (np.diff(iterations) > 0).all() and iterations[-1] > count - 10
    short = np.arange(100.0)  # with every iteration
    assert all((array == short).all() for array in in_bins(short))


def test_smoothing_keeps_constants_and_lines():
    assert smooth(np.full(500, 3.0)) == pytest.approx(np.full(500, 3.0))
    line = smooth(np.arange(500.0))
    assert line[50:450] == pytest.approx(np.arange(50, 450))


def test_training_goes_on_without_matplotlib(
    tmp_path, tiny_copy, monkeypatch, recorder, capsys
):
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)  # its import fails
    recorder.add((1, 0, 0), row_values(), 1)
    for grid in 2 * [np.zeros((2, 4, 4, 1))]:
        recorder.add_grid(1, grid, grid)
    recorder.close()
    printed = capsys.readouterr().out
    path = tmp_path / 'curves.png'
    assert printed.count(f' [!] No {path}: import of matplotlib.figure') == 1
    result = run_in_process('--curves', 'cats', cwd=tiny_copy)
    assert result.returncode == 1 and 'pip install matplotlib' in result.stderr


def test_what_is_slow_to_import_is_imported_only_where_it_is_used(tmp_path):
    slow = '{"matplotlib", "scipy.sparse"}'
    code = f'import main, sys; sys.exit(not {slow}.isdisjoint(sys.modules))'
    assert run_code(code, cwd=tmp_path).returncode == 0


def test_curves_do_not_depend_on_settings_of_matplotlib(tiny_copy):
    drawn = set()
    for i in range(3):
        environment = {}
        if i == 1:  # a notebook, and files of which each alone fails the import
            (tiny_copy / 'matplotlibrc').write_bytes(b'\xff\xfe')
            (tiny_copy / 'own.txt').write_bytes(b'\xff')
            environment['MPLBACKEND'] = 'module://matplotlib_inline.backend_inline'
            environment['MATPLOTLIBRC'] = str(tiny_copy / 'own.txt')
        if i == 2:  # a pipe, an unwritable folder with bad values, and a window
            (tiny_copy / 'matplotlibrc').unlink()
            os.mkfifo(tiny_copy / 'matplotlibrc')
            (tiny_copy / 'own').mkdir()
            (tiny_copy / 'own' / 'matplotlibrc').write_text('text.usetex: True')
            environment = {'MPLBACKEND': 'TkAgg', 'MPLCONFIGDIR': '/proc/self'}
            environment['MATPLOTLIBRC'] = str(tiny_copy / 'own')
        result = run('main.py', '--curves', 'set', cwd=tiny_copy, **environment)
        assert (result.returncode, result.stderr) == (0, '')
        drawn.add((tiny_copy / 'out' / 'curves.png').read_bytes())
    assert len(drawn) == 1


def test_curves_are_drawn_of_a_run_and_of_several(tiny_copy):
    # a run of the original has event files only
    original = tiny_copy / 'out' / 'original'
    shutil.copytree(tiny_copy / 'out' / 'set' / 'logs', original / 'logs')
    result = run_in_process('--curves', f'set,{original}', cwd=tiny_copy)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ' [*] ./out/curves.png\n'
    for path in 'out/curves.png', 'out/set/curves.png':
        with Image.open(tiny_copy / path) as image:
            assert image.width >= 800 and image.height >= 500
            assert len(image.convert('RGB').getcolors(1 << 20)) > 50
    history, of_events = (
        history_of_run(str(tiny_copy / 'out' / name)) for name in ('set', 'original')
    )
    assert (of_events['iteration'] == history['iteration']).all()
    assert of_events['d_real'] == pytest.approx(history['d_real'], abs=1e-5)


def test_event_files_of_several_starts_are_one_history(tiny_runs, tmp_path):
    (events,) = (tiny_runs / 'out' / 'cats' / 'logs').glob('events*')
    content = events.read_bytes()
    (tmp_path / 'events.out.tfevents.1.host').write_bytes(content[:-9])  # torn
    shutil.copy(events, tmp_path / 'events.out.tfevents.2.host')
    history = history_of_run(str(tmp_path))
    assert history['iteration'].tolist() == [1, 2, 3]
    (tmp_path / 'events.out.tfevents.2.host').unlink()
    assert history_of_run(str(tmp_path))['iteration'].tolist() == [1, 2, 3]
    (tmp_path / 'events.out.tfevents.3.host').mkdir()
    (tmp_path / 'events.out.tfevents.4.host').symlink_to('nowhere')
    os.mkfifo(tmp_path / 'events.out.tfevents.5.host')
    assert history_of_run(str(tmp_path))['iteration'].tolist() == [1, 2, 3]


def test_scalars_of_tensorflow_2_are_read_and_a_file_without_rows_hides_none(tmp_path):
    texts = {'d_loss': 1.5, 'g_loss': [1.0, 2.0], 'd': 'text'}
    protos = {tag: tf.make_tensor_proto(value) for tag, value in texts.items()}
    values = [tf.Summary.Value(tag=tag, tensor=x) for tag, x in protos.items()]
    with tf.Graph().as_default(), tf.summary.FileWriter(str(tmp_path)) as writer:
        writer.add_summary(tf.Summary(value=values), 3)
    (tmp_path / 'metrics.csv').write_text(','.join(COLUMNS) + '\n')
    history = history_of_run(str(tmp_path))
    assert (history['iteration'], history['d_loss']) == (3, 1.5)
    assert np.isnan([history['g_loss'], history['d_real']]).all()


def test_runs_of_one_name_in_two_folders_are_both_drawn(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr('dcgan.record.curves.draw_curves', lambda x, _: drawn.update(x))
    for folder in ('a', 'b'):
        (tmp_path / folder / 'run').mkdir(parents=True)
        metrics = MetricsFile(str(tmp_path / folder / 'run'), 0)
        metrics.add((1, 0, 0), row_values(), 1)
        metrics.close()
    draw_runs('a/run, b/run', str(tmp_path))
    assert [*drawn] == ['run', 'b/run']


def test_runs_without_numbers_are_named(tmp_path):
    for names, message in ('none', 'no such run'), ('.', 'has no'):
        result = run_in_process('--curves', names, '--out_dir', tmp_path, cwd=tmp_path)
        assert result.returncode == 1 and message in result.stderr
        assert result.stderr.count('\n') == 1


# Extras that fail


def block(path):
    """Make a folder that is not empty where a run writes a file."""
    path.unlink(missing_ok=True)
    (path / 'folder').mkdir(parents=True)


def test_training_goes_on_without_its_extras_and_says_so_once(tiny_copy, monkeypatch):
    run_dir = tiny_copy / 'out' / 'cats'
    for name in ('curves.png', 'warnings.txt', 'samples/progress.gif'):
        block(run_dir / name)
    for i in range(4, 10):
        block(run_dir / 'samples' / f'train_{i:08d}.png')
    shutil.rmtree(run_dir / 'logs')
    (run_dir / 'logs').touch()
    monkeypatch.setattr('dcgan.record.recorder.WON_ITERATIONS', 5)
    monkeypatch.setattr('dcgan.record.recorder.WON_LOSS', 1e9)
    args = ['--train', '--epoch', 3, '--gif', '--profile', '4,5']
    printed = use(tiny_copy, 'cats', *args, with_curves=True)
    lines = re.findall(r'^ \[!\] No (.*?): ', printed, re.M)
    extras = [f'./out/cats/{name}' for name in ('curves.png', 'logs', 'warnings.txt')]
    extras += ['image grids', 'progress.gif', 'trace in ./out/cats/logs']
    assert sorted(lines) == sorted(extras)
    assert printed.count('D has won') == 1
    assert '[*] Trained: see ./out/cats/checkpoint\n' in printed
    assert (run_dir / 'checkpoint' / 'model.b8-9.index').exists()
    assert len(read_rows(str(run_dir / 'metrics.csv'))) == 9


@pytest.mark.parametrize(
    'function',
    ['curves.in_bins', 'tensorboard.SummaryLog._write', 'profiler.profiler.stop'],
)
def test_any_error_of_a_library_costs_no_more_than_its_extra(
    function, tiny_copy, monkeypatch
):
    def fail(*args, **kwargs):
        raise KeyError('broken\nlibrary')

    monkeypatch.setattr(f'dcgan.record.{function}', fail)
    args = ['--train', '--epoch', 2, '--profile', '4,5']
    printed = use(tiny_copy, 'cats', *args, with_curves=True)
    lines = re.findall(r'^ \[!\] No .*$', printed, re.M)
    assert len(lines) == 1 and lines[0].endswith(r": KeyError: 'broken\nlibrary'")
    assert (tiny_copy / 'out/cats/checkpoint/model.b8-6.index').exists()


def test_signals_other_errors_and_a_closed_output_pass_an_extra(monkeypatch, capsys):
    with pytest.raises(Interrupted), Extra('curves'):
        raise Interrupted(signal.SIGTERM)
    with pytest.raises(UserError), Extra('cache', OSError):
        raise UserError('the data are broken')
    extra = Extra('curves')
    for number in (errno.ENOSPC, errno.EDQUOT):
        with extra:
            raise OSError(number, os.strerror(number), 'a')
    assert not extra.works
    assert capsys.readouterr().out == ' [!] No curves: No space left on device\n'
    monkeypatch.setattr('dcgan.util.output.abandon_output', lambda: None)
    # it is closed with an error, too
    with contextlib.suppress(OSError), open('/dev/full', 'w') as full:
        monkeypatch.setattr(sys, 'stdout', full)
        with pytest.raises(UserError, match='standard output'), Extra('curves'):
            raise OSError(errno.ENOSPC, 'No space')


@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),  # within its pixels
        lambda path: path.write_bytes(path.read_bytes()[:20]),
        lambda path: path.write_bytes(b''),
        lambda path: path.write_text('<!DOCTYPE html>'),
        lambda path: path.unlink() or os.mkfifo(path),
        lambda path: path.unlink() or path.symlink_to('/dev/zero'),
    ],
)
@pytest.mark.parametrize('number', [1, 3])
def test_an_image_grid_that_cannot_be_read_is_named(damage, number, tiny_copy, capsys):
    folder = tiny_copy / 'out' / 'cats' / 'samples'
    path = folder / f'train_0000000{number}.png'
    damage(path)
    with Extra('progress.gif'):
        make_progress_gif(str(folder))
    assert capsys.readouterr().out.startswith(
        f' [!] No progress.gif: {path}: cannot be'
    )
    assert not (folder / 'progress.gif').exists()


def test_the_line_of_an_extra_has_its_name_once(tmp_path, capsys):
    path = tmp_path / 'a.gif'
    (path / 'folder').mkdir(parents=True)
    with Extra(str(path)):
        save_gif([Image.new('L', (4, 4))], str(path), 20)
    line = f' [!] No {path}: cannot be written (Is a directory); '
    assert capsys.readouterr().out.startswith(line)


# Grids of the beginning, lines, events


def test_first_grids_show_real_images_and_samples_before_training(tiny_runs):
    samples = tiny_runs / 'out' / 'cats' / 'samples'
    names = {path.name for path in samples.iterdir()}
    assert names == {'real.png', *(f'train_{i:08d}.png' for i in range(4))}
    sizes = {Image.open(path).size for path in samples.iterdir()}
    assert len(sizes) == 1
    real, before = (
        np.asarray(Image.open(samples / name))
        for name in ('real.png', 'train_00000000.png')
    )
    assert real.std() > 30 and (real != before).any()


def test_tensorboard_gets_rates_and_descriptions(tiny_runs):
    (path,) = (tiny_runs / 'out' / 'cats' / 'logs').glob('events*')
    events = tf.train.summary_iterator(str(path))
    values = [value for event in events for value in event.summary.value]
    rates = [v.simple_value for v in values if v.tag == 'learning_rate_g']
    assert rates == pytest.approx(3 * [2e-4])
    for tag in ('d', 'd_', 'z_1'):
        first = next(value for value in values if value.tag == tag)
        assert first.metadata.summary_description


@pytest.mark.slow
def test_profile_writes_a_trace(tiny_copy):
    args = ['--train', '--out_name', 'cats', '--epoch', 2, '--profile', '5,6']
    result = run('main.py', *args, cwd=tiny_copy)
    assert result.returncode == 0 and '[*] Trace in ./out/cats/logs' in result.stdout
    assert list((tiny_copy / 'out' / 'cats' / 'logs').rglob('*.xplane.pb'))


# Failures of training


@pytest.fixture
def recorder(tmp_path):
    recorder = Recorder(str(tmp_path), 0)
    yield recorder
    recorder.close()


def test_a_d_that_has_won_is_warned_of_once(recorder, tmp_path, capsys):
    losses = [*(WON_ITERATIONS - 1) * [0.001], 0.5, *3 * WON_ITERATIONS * [0.009]]
    for i, d_loss in enumerate(losses):
        recorder.add((i + 1, 0, i), row_values(d_loss), i)
    out = capsys.readouterr().out
    assert out.count('D has won') == 1
    assert f' [!] Iteration {2 * WON_ITERATIONS}: D has won: ' in out
    again = Recorder(str(tmp_path), len(losses))  # a resumed run does not repeat it
    for i in range(len(losses), len(losses) + 2 * WON_ITERATIONS):
        again.add((i + 1, 0, 0), row_values(0.9 if i % 300 == 0 else 0.001), 1)
    again.close()
    assert 'D has won' not in capsys.readouterr().out


def test_equilibrium_is_no_failure(recorder, capsys):
    rng = np.random.RandomState(0)
    for i in range(300):
        recorder.add((i + 1, 0, i), row_values(2 * np.log(2)), i)
    images = rng.rand(8, 4, 4, 1)
    for i in range(5):
        recorder.add_grid(1000 + i, images + 0.01, images)
    assert capsys.readouterr().out == ''


def test_a_g_that_draws_one_picture_is_warned_of_once(recorder, tmp_path, capsys):
    rng = np.random.RandomState(0)
    images, one = rng.rand(8, 4, 4, 1), np.tile(rng.rand(1, 4, 4, 1), (8, 1, 1, 1))
    for i, samples in enumerate([one, images, one, one, one, one]):
        recorder.add_grid(100 * i, samples + 0.001 * images, images)  # it is early
        assert not capsys.readouterr().out
    for i, samples in enumerate([one, images, one, one, one, one]):
        recorder.add_grid(1000 + 100 * i, samples + 0.001 * images, images)
    out = capsys.readouterr().out
    assert out.count('G draws one picture') == 1 and 'Iteration 1300: ' in out
    kept = (tmp_path / 'warnings.txt').read_text()
    assert f' [!] {kept}' == out
    recorder.close()
    again = Recorder(str(tmp_path), 2000)
    for i in range(3):
        again.add_grid(2000 + i, one, images)
    again.close()
    assert capsys.readouterr().out == ''


def test_images_of_g_are_in_the_summaries_of_its_steps_alone(tmp_path):
    shapes = (3, 2), (3, 5, 1), (1, 3, 4, 4, 1)
    losses, probabilities, images = map(np.zeros, shapes)
    result = SimpleNamespace(
        step_losses=losses, probabilities=probabilities, images=[images]
    )
    log = SummaryLog(str(tmp_path), None, 0, d_steps=2, g_steps=1)
    log.add(result, np.zeros(6), 1, {'learning_rate_g': 0.2})
    log.close()
    events = tf.train.summary_iterator(str(next(tmp_path.iterdir())))
    steps = [event.summary.value for event in events if event.step]
    assert [sum(v.HasField('image') for v in step) for step in steps] == [0, 0, 3]
