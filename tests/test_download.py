"""Obtaining data: from a real server on 127.0.0.1, and drawn here."""

import functools
import gzip
import http.server
import threading

import numpy as np
import pytest
from conftest import run

import download
import utils
from utils import UserError


@pytest.fixture
def mirror(tmp_path):
    """A folder and the URL at which it is served."""
    folder = tmp_path / 'mirror'
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def serve_set(folder):
    """Files under MNIST's names, of other content; returns their checksums."""
    checksums = {}
    for name in download.MNIST_MD5:
        content = name.encode() * 1000
        (folder / f'{name}.gz').write_bytes(gzip.compress(content))
        checksums[name] = download.md5_of(content)
    return checksums


def test_mnist_is_fetched_unpacked_and_checked(mirror, tmp_path):
    folder, url = mirror
    checksums = serve_set(folder)
    download.fetch_mnist(str(tmp_path), [url], checksums)
    for name in checksums:
        assert (tmp_path / 'mnist' / name).read_bytes() == name.encode() * 1000


def test_what_is_whole_is_not_fetched_again(mirror, tmp_path, capsys):
    folder, url = mirror
    checksums = serve_set(folder)
    download.fetch_mnist(str(tmp_path), [url], checksums)
    for path in folder.iterdir():
        path.unlink()
    download.fetch_mnist(str(tmp_path), [url], checksums)
    assert capsys.readouterr().out.count('already there') == 4


def test_the_next_mirror_is_tried(mirror, tmp_path):
    folder, url = mirror
    checksums = serve_set(folder)
    download.fetch_mnist(str(tmp_path), [f'{url}nothing/', url], checksums)
    assert len(list((tmp_path / 'mnist').iterdir())) == 4


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, '404'),
        (b'<html>quota exceeded</html>', 'Not a gzipped file'),
        (gzip.compress(bytes(999))[:-20], 'end-of-stream'),
        (gzip.compress(b'something else'), 'has other content than it should'),
    ],
)
def test_wrong_content_is_refused_and_nothing_written(
    content, message, mirror, tmp_path
):
    folder, url = mirror
    if content:
        (folder / 'train-images-idx3-ubyte.gz').write_bytes(content)
    with pytest.raises(UserError, match=f'{url}train-images.*{message}.*--mirror'):
        download.fetch_mnist(str(tmp_path), [url])
    assert not (tmp_path / 'mnist').exists()


def test_command_line_tells_a_failure_in_one_line(mirror, tmp_path):
    _, url = mirror
    result = run('download.py', 'mnist', '--mirror', url, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith('download.py: ') and result.stderr.count('\n') == 1


@pytest.mark.parametrize('mirror', ['nothing', 'http://127.0.0.1:1'])
def test_a_mirror_that_is_none_is_told(mirror, tmp_path):
    with pytest.raises(UserError, match='try --mirror'):
        download.fetch_mnist(str(tmp_path), [mirror])


def test_progress_is_told_once_a_second_and_at_the_end(capsys):
    for total, done in ((10, [1, 2, 10]), (0, [1, 2, 10])):
        progress = download.Progress('x', total, 'bytes')
        for count in done:
            progress.show(count)
    assert capsys.readouterr().out.count('\n') == 1


def test_digits_do_not_replace_what_is_the_user_s(tmp_path):
    (tmp_path / 'digits').mkdir()
    (tmp_path / 'digits' / 'mine.jpg').touch()
    with pytest.raises(UserError, match='digits: holds something else'):
        download.make_digits(str(tmp_path))


@pytest.mark.parametrize('name', ['celebA', 'lsun'])
def test_sets_that_need_hands_say_what_to_do(name, tmp_path):
    result = run('download.py', name, cwd=tmp_path)
    assert result.returncode == 1
    assert 'by hand' in result.stderr and f'./data/{name}' in result.stderr


def test_digits_are_an_idx_set_and_the_same_every_time(tmp_path):
    for folder in ('a', 'b'):
        download.make_digits(str(tmp_path / folder), counts=(300, 100))
    first, second = (
        utils.open_dataset(str(tmp_path / f / 'digits'), '', (28, 28), 0, 0, 0)
        for f in ('a', 'b')
    )
    assert (first.images == second.images).all() and len(first) == 400
    assert utils.idx_summary(str(tmp_path / 'a' / 'digits')) == (28, 28, 10)
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == ['digits']


def test_digits_look_like_their_labels_and_like_no_other_digit():
    rng = np.random.RandomState(1)
    glyphs = np.stack([download.glyph_distances(digit) for digit in range(10)])
    labels = np.arange(1000) % 10
    images = download.draw_digits(glyphs, labels, rng).reshape(1000, -1).astype(float)
    means = np.stack([images[:500][labels[:500] == d].mean(0) for d in range(10)])
    distances = ((images[500:, None] - means) ** 2).sum(-1)
    assert (distances.argmin(1) == labels[500:]).mean() > 0.45  # by chance: 0.1
    assert len(np.unique(images, axis=0)) == 1000
