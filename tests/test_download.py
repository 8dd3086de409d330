"""Obtaining data: from a real server on 127.0.0.1, by hand, and drawn here."""

import gzip
import hashlib
import http.server
import io
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from conftest import ROOT, run
from PIL import Image

import download
from dcgan import digits, transfers
from dcgan.datasets import open_dataset
from dcgan.digits import draw_digits, glyph_distances, make_digits
from dcgan.errors import UserError
from dcgan.idx import idx_summary
from dcgan.transfers import what_is_wrong

QUOTA = b'<!DOCTYPE html><html>Sorry, the download quota for this file is exceeded'


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {name: content}, each under /MODE/name in the way of that mode.

    good           as it should be, parts included (HTTP's Range)
    whole          without parts
    shifted        with parts, but always one byte too early
    slow           a tenth of the file every 0.1 s
    cut, cutwhole  closes half-way through what was asked for; with parts, or without
    cutonce        closes half-way, unless a part was asked for
    stall          falls silent after 20 kB
    nolength       does not say how long the file is
    unasked        calls the whole a part
    busy           503 at first
    html           a page in place of the file
    403, 404       refused
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.requests = {}, []

    def url(self, mode):
        return f'http://127.0.0.1:{self.server_port}/{mode}'


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        _, mode, name = self.path.split('/', 2)
        asked = self.headers.get('Range')
        self.server.requests.append((name, asked))
        content = QUOTA if mode == 'html' else self.server.files.get(name)
        first = self.server.requests.count((name, asked)) == 1
        if content is None or mode in ('403', '404') or (mode == 'busy' and first):
            return self.send_error({'403': 403, 'busy': 503}.get(mode, 404))
        knows_parts = mode not in ('whole', 'cutwhole', 'html')
        start = int(asked[6:-1]) if asked and knows_parts else 0
        if start and start >= len(content):
            return self.send_error(416)
        start -= bool(start) and mode == 'shifted'
        self.send_response(206 if start or mode == 'unasked' else 200)
        if start:
            end = len(content)
            self.send_header('Content-Range', f'bytes {start}-{end - 1}/{end}')
        if mode != 'nolength':
            self.send_header('Content-Length', len(content) - start)
        self.end_headers()
        mode = 'cut' if mode == 'cutonce' and not start else mode
        self.send_body(content[start:], mode)

    def send_body(self, body, mode):
        if mode in ('cut', 'cutwhole') and len(body) > 1000:
            body = body[: len(body) // 2]
        if mode == 'stall' and len(body) > 20000:
            self.wfile.write(body[:20000])
            return time.sleep(1)
        step = len(body) // 10 + 1 if mode == 'slow' else len(body)
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            time.sleep(0.1 if mode == 'slow' else 0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfers, 'PAUSE', 0.01)  # seconds; for impatient tests
    monkeypatch.setattr(transfers, 'TIMEOUT', 0.5)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def md5(content):
    return hashlib.md5(content).hexdigest()


def jpeg(seed, format='JPEG'):
    """A small random picture, as the content of a file."""
    pixels = np.random.RandomState(seed).randint(0, 256, (20, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


# One file


@pytest.fixture
def fetch(server, tmp_path):
    """Obtain a served file of 50 kB in some mode, and return its content."""
    content = np.random.RandomState(0).bytes(50000)
    server.files['file'] = content

    def obtain(mode, right=content):
        path = transfers.obtain(
            'file',
            [str(tmp_path)],
            [f'{server.url(mode)}/file'],
            lambda path: Path(path).read_bytes() == right,
            'fetch it by hand',
        )
        return Path(path).read_bytes() == right

    return obtain


@pytest.mark.parametrize(
    'mode',
    ['good', 'whole', 'slow', 'cut', 'busy', 'stall', 'nolength', 'unasked'],
)
def test_a_file_comes_whole_whatever_happens_on_the_way(mode, fetch, tmp_path):
    assert fetch(mode)
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_a_broken_connection_goes_on_where_it_broke(fetch, server, capsys):
    assert fetch('cut')
    assert server.requests[1] == ('file', 'bytes=25000-')
    assert 'broke off after 25,000 of 50,000 bytes; again in' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('mode', 'asked'),
    [
        ('good', ['bytes=30000-']),
        ('whole', ['bytes=30000-']),
        ('shifted', ['bytes=30000-', None]),
    ],
)
def test_what_an_earlier_run_has_fetched_is_used(mode, asked, fetch, server, tmp_path):
    (tmp_path / 'file.part').write_bytes(server.files['file'][:30000])
    assert fetch(mode)
    assert server.requests == [('file', part) for part in asked]


def test_a_part_that_is_all_of_it_is_enough(fetch, server, tmp_path):
    (tmp_path / 'file.part').write_bytes(server.files['file'])
    assert fetch('good') and server.requests == [('file', 'bytes=50000-')]


def test_a_part_of_another_file_is_removed_and_said(fetch, server, tmp_path, capsys):
    (tmp_path / 'file.part').write_bytes(b'x' * 30000)
    assert fetch('good')
    assert server.requests == [('file', 'bytes=30000-'), ('file', None)]
    assert 'it is removed and fetched anew' in capsys.readouterr().out


def test_tries_that_bring_nothing_more_end(fetch, server):
    with pytest.raises(UserError, match='broke off .*, tries: 5; fetch it by hand'):
        fetch('cutwhole')
    assert len(server.requests) == 5


@pytest.mark.parametrize('mode', ['html', 'cutwhole', '403'])
def test_what_was_fetched_is_not_given_up_for_less(mode, fetch, server, tmp_path):
    (tmp_path / 'file.part').write_bytes(server.files['file'][:30000])
    with pytest.raises(UserError):
        fetch(mode)
    assert [path.name for path in tmp_path.iterdir()] == ['file.part']
    assert (tmp_path / 'file.part').read_bytes() == server.files['file'][:30000]


@pytest.mark.parametrize(
    ('mode', 'message'),
    [
        ('403', '/403/file: 403 Forbidden; fetch it by hand'),
        ('404', '/404/file: 404 Not Found; fetch it by hand'),
        ('html', "an HTML page .* Google Drive's quota .* try again in a day"),
    ],
)
def test_a_refusal_is_told_at_once_with_what_else_to_do(mode, message, fetch, server):
    with pytest.raises(UserError, match=message):
        fetch(mode)
    assert len(server.requests) == 1


def test_wrong_content_is_removed_and_said(fetch, tmp_path):
    with pytest.raises(UserError, match=r'\(50,000 bytes\); what came was removed'):
        fetch('good', right=b'something else')
    assert not list(tmp_path.glob('*'))


@pytest.mark.parametrize(
    ('page', 'reason'),
    [
        (b"can't scan this file for viruses. download anyway?", 'confirm large files'),
        (b'please sign in to go on', 'wants a login'),
        (b'502', 'dead link or a proxy'),
    ],
)
def test_a_page_is_told_from_a_file_and_guessed_at(page, reason, tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'\xef\xbb\xbf\n<HTML><body>' + page)
    assert reason in what_is_wrong(str(path), lambda path: True)


@pytest.mark.parametrize(
    'url', ['nothing', 'http://127.0.0.1:1', 'http://no.such.host.invalid']
)
def test_an_url_that_is_none_is_told(url, tmp_path, server):
    how = ([url], bool, 'try --mirror')
    with pytest.raises(UserError, match=f'{url}.*; try --mirror'):
        transfers.obtain('file', [str(tmp_path)], *how)


# MNIST


def serve_mnist(server):
    """Files under MNIST's names, of other content; returns their checksums."""
    checksums = {}
    for name in download.MNIST_MD5:
        content = name.encode() * 1000
        server.files[f'{name}.gz'] = gzip.compress(content)
        checksums[name] = md5(content)
    return checksums


def test_mnist_is_fetched_unpacked_and_checked(server, tmp_path):
    checksums = serve_mnist(server)
    download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    for name in checksums:
        assert (tmp_path / 'mnist' / name).read_bytes() == name.encode() * 1000
    assert len(list((tmp_path / 'mnist').iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ['mnist']


def test_what_is_whole_is_not_fetched_again(server, tmp_path, capsys):
    checksums = serve_mnist(server)
    for _ in range(2):
        download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    assert len(server.requests) == 4
    assert capsys.readouterr().out.count('already there') == 4


def test_only_what_is_damaged_is_fetched_again(server, tmp_path):
    checksums = serve_mnist(server)
    download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    name = next(iter(checksums))
    (tmp_path / 'mnist' / name).write_bytes(b'damaged')
    download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    assert len(server.requests) == 5
    assert md5((tmp_path / 'mnist' / name).read_bytes()) == checksums[name]


def test_the_next_mirror_is_tried(server, tmp_path):
    checksums = serve_mnist(server)
    mirrors = [server.url(mode) for mode in ('404', 'html', 'good')]
    download.fetch_mnist(str(tmp_path), mirrors, checksums)
    assert len(list((tmp_path / 'mnist').iterdir())) == 4


def test_half_a_set_is_no_data_folder_yet(server, tmp_path):
    checksums = serve_mnist(server)
    last = server.files.pop('t10k-labels-idx1-ubyte.gz')
    with pytest.raises(UserError, match='t10k-labels.*404 Not Found'):
        download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    assert not (tmp_path / 'mnist').exists()
    server.files['t10k-labels-idx1-ubyte.gz'] = last
    download.fetch_mnist(str(tmp_path), [server.url('good')], checksums)
    assert len(list((tmp_path / 'mnist').iterdir())) == 4
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    'content',
    [gzip.compress(bytes(999))[:-20], gzip.compress(b'something else'), b'no gz'],
    ids=['cut short', 'something else', 'no gz'],  # gzip's bytes hold the time
)
def test_mnist_of_other_content_is_refused(content, server, tmp_path):
    server.files['train-images-idx3-ubyte.gz'] = content
    with pytest.raises(UserError, match='train-images.*damaged.*; try --mirror'):
        download.fetch_mnist(str(tmp_path), [server.url('good')])
    assert not (tmp_path / 'mnist').exists()


# CelebA


def serve_celeba(server, count=5, times=1, **more):
    """A small set in the form of CelebA's files, as `files` of fetch_celeba."""
    names = {i: f'img_align_celeba/{i:06d}.jpg' for i in range(1, count + 1)}
    pictures = {name: jpeg(i) * times for i, name in names.items()}
    server.files['img_align_celeba.zip'] = zipped({**pictures, **more})
    for name in list(download.CELEBA)[1:]:
        server.files[name] = b'2\nheader\n' + name.encode()
    return {name: ('id', md5(server.files[name])) for name in download.CELEBA}


def test_celeba_is_pictures_with_the_lists_beside_them(server, tmp_path):
    files = serve_celeba(server)
    download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    names = {f'{i:06d}.jpg' for i in range(1, 6)} | set(list(files)[1:])
    assert {path.name for path in (tmp_path / 'celebA').iterdir()} == names
    assert (tmp_path / 'celebA' / '000003.jpg').read_bytes() == jpeg(3)
    assert [path.name for path in tmp_path.iterdir()] == ['celebA']
    download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    assert len(server.requests) == 4


def test_members_of_an_archive_cannot_leave_the_folder(server, tmp_path):
    evil = {name: b'evil' for name in ('../a.jpg', '/tmp/b.jpg', 'x\\..\\..\\c.jpg')}
    files = serve_celeba(server, **evil)
    home = tmp_path / 'deep' / 'data'
    download.fetch_celeba(str(home), server.url('good'), files, 8)
    assert {path.name for path in tmp_path.rglob('[abc].jpg')} == {
        path.name for path in (home / 'celebA').glob('[abc].jpg')
    }
    assert len(list(home.rglob('[abc].jpg'))) == 3


@pytest.mark.parametrize('place', ['.', 'celebA'])
def test_an_archive_fetched_by_hand_is_used_and_kept(place, server, tmp_path):
    files = serve_celeba(server)
    archive = tmp_path / place / 'img_align_celeba.zip'
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(server.files.pop('img_align_celeba.zip'))
    download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    assert archive.exists() and len(list((tmp_path / 'celebA').glob('*.jpg'))) == 5


def test_a_page_saved_by_hand_as_an_archive_is_told_and_left(server, tmp_path):
    files = serve_celeba(server)
    archive = tmp_path / 'img_align_celeba.zip'
    archive.write_bytes(QUOTA)
    with pytest.raises(UserError, match='celeba.zip: an HTML page .*; remove it'):
        download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    assert archive.exists() and not server.requests


def test_an_interrupted_unpacking_is_finished(server, tmp_path):
    files = serve_celeba(server)
    stage = tmp_path / '.celebA.part'
    stage.mkdir()
    (stage / '000001.jpg').write_bytes(jpeg(1))
    (stage / '000002.jpg').write_bytes(jpeg(2)[:100])
    download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    assert (tmp_path / 'celebA' / '000002.jpg').read_bytes() == jpeg(2)


def test_a_folder_of_other_pictures_is_left_alone(server, tmp_path):
    files = serve_celeba(server)
    (tmp_path / 'celebA').mkdir()
    (tmp_path / 'celebA' / 'mine.jpg').write_bytes(jpeg(0))
    with pytest.raises(UserError, match='holds 1 pictures, and CelebA has 5; move it'):
        download.fetch_celeba(str(tmp_path), server.url('good'), files, 5)
    assert not server.requests


def test_celeba_comes_from_drive_by_gdown(server, tmp_path, monkeypatch):
    files = serve_celeba(server)
    monkeypatch.setattr(transfers, 'DRIVE', server.url('good/'))
    files = {name: (name, checksum) for name, (_, checksum) in files.items()}
    download.fetch_celeba(str(tmp_path), None, files, 5)
    assert len(list((tmp_path / 'celebA').iterdir())) == 8


def test_a_broken_connection_to_drive_goes_on_where_it_broke(
    server, tmp_path, monkeypatch
):
    files = serve_celeba(server, times=1000)  # gdown reads by half a megabyte
    monkeypatch.setattr(transfers, 'DRIVE', server.url('cutonce/'))
    files = {name: (name, checksum) for name, (_, checksum) in files.items()}
    download.fetch_celeba(str(tmp_path), None, files, 5)
    assert len(list((tmp_path / 'celebA').iterdir())) == 8
    assert any(asked for _, asked in server.requests)
    assert [path.name for path in tmp_path.iterdir()] == ['celebA']


@pytest.mark.parametrize('there', [True, False])
def test_a_folder_that_is_a_link_is_filled_where_it_leads(there, server, tmp_path):
    files = serve_celeba(server)
    disk = tmp_path / 'disk' / 'faces'
    if there:
        disk.mkdir(parents=True)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'celebA').symlink_to(disk)
    download.fetch_celeba(str(tmp_path / 'data'), server.url('good'), files, 5)
    assert (
        len(list(disk.glob('*.jpg'))) == 5 and (tmp_path / 'data/celebA').is_symlink()
    )


def test_what_gdown_cannot_fetch_is_told_in_one_line(server, tmp_path, monkeypatch):
    monkeypatch.setattr(transfers, 'DRIVE', server.url('404/'))
    with pytest.raises(
        UserError, match='404.*; or fetch it by hand: open http'
    ) as error:
        download.fetch_celeba(str(tmp_path))
    assert '\n' not in str(error.value)


# LSUN


def serve_lsun(server, tmp_path, category='bedroom', format='WEBP', **more):
    """Databases of 6 and 3 pictures, in the form of LSUN's."""
    for part, keys in (('train', range(6)), ('val', range(6, 9))):
        folder = tmp_path / f'{category}_{part}_lmdb'
        with lmdb.open(str(folder)) as environment, environment.begin(write=True) as t:
            for key in keys:
                t.put(f'key{key}'.encode(), more.get(f'key{key}', jpeg(key, format)))
        members = {f'{folder.name}/{p.name}': p.read_bytes() for p in folder.iterdir()}
        server.files[f'{folder.name}.zip'] = zipped(members)
    return server.url('good')


def test_lsun_is_exported_to_jpeg(server, tmp_path):
    url = serve_lsun(server, tmp_path)
    download.fetch_lsun(str(tmp_path / 'data'), url)
    folder = tmp_path / 'data' / 'lsun'
    paths = sorted(folder.glob('*.jpg'))
    assert [path.name for path in paths] == [f'key{i}.jpg' for i in range(9)]
    with Image.open(paths[0]) as image:
        assert image.format == 'JPEG' and image.size == (16, 20)
    assert [path.name for path in (tmp_path / 'data').iterdir()] == ['lsun']
    download.fetch_lsun(str(tmp_path / 'data'), url)
    assert len(server.requests) == 2


def test_lsun_s_jpeg_is_left_as_it_is(server, tmp_path):
    url = serve_lsun(server, tmp_path, format='JPEG')
    download.fetch_lsun(str(tmp_path / 'data'), url)
    assert (tmp_path / 'data' / 'lsun' / 'key4.jpg').read_bytes() == jpeg(4)


@pytest.mark.parametrize(('limit', 'fetched'), [(4, 1), (6, 1), (7, 2), (20, 2)])
def test_a_limit_is_kept_and_no_more_is_fetched(limit, fetched, server, tmp_path):
    url = serve_lsun(server, tmp_path)
    download.fetch_lsun(str(tmp_path / 'data'), url, limit=limit)
    assert len(list((tmp_path / 'data' / 'lsun').glob('*.jpg'))) == min(limit, 9)
    assert len(server.requests) == fetched


def test_an_interrupted_export_is_finished_without_what_is_done(server, tmp_path):
    url = serve_lsun(server, tmp_path)
    last = server.files.pop('bedroom_val_lmdb.zip')
    with pytest.raises(UserError, match='bedroom_val_lmdb.zip: 404'):
        download.fetch_lsun(str(tmp_path / 'data'), url)
    assert not (tmp_path / 'data' / 'lsun').exists()
    server.files['bedroom_val_lmdb.zip'] = last
    download.fetch_lsun(str(tmp_path / 'data'), url)
    assert len(list((tmp_path / 'data' / 'lsun').glob('*.jpg'))) == 9
    names = [name for name, _ in server.requests]
    assert names.count('bedroom_train_lmdb.zip') == 1


def test_another_category_does_not_join_the_first(server, tmp_path):
    url = serve_lsun(server, tmp_path)
    serve_lsun(server, tmp_path, 'tower')
    download.fetch_lsun(str(tmp_path / 'data'), url)
    for options in ({'category': 'tower'}, {'limit': 3}):
        with pytest.raises(UserError, match='lsun: holds something else than'):
            download.fetch_lsun(str(tmp_path / 'data'), url, **options)


def test_an_entry_that_is_no_picture_is_named_and_left_out(server, tmp_path, capsys):
    url = serve_lsun(server, tmp_path, key3=b'torn')
    download.fetch_lsun(str(tmp_path / 'data'), url)
    assert len(list((tmp_path / 'data' / 'lsun').glob('*.jpg'))) == 8
    assert 'Left out key3' in capsys.readouterr().out


def test_a_killed_run_goes_on_with_what_it_had(server, tmp_path):
    pictures = {f'key{i}': jpeg(i) * 1000 for i in range(6)}  # some megabytes
    serve_lsun(server, tmp_path, **pictures)
    command = [sys.executable, ROOT / 'download.py', 'lsun', '--mirror']
    killed = subprocess.Popen([*command, server.url('slow')], cwd=tmp_path)
    part = tmp_path / 'data' / '.lsun.part' / 'bedroom_train_lmdb.zip.part'
    while killed.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    result = run('download.py', 'lsun', '--mirror', server.url('good'), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert int(server.requests[1][1][6:-1]) > 0
    assert len(list((tmp_path / 'data' / 'lsun').glob('*.jpg'))) == 9


# The command line


@pytest.mark.parametrize('name', ['mnist', 'celebA', 'lsun'])
@pytest.mark.parametrize('mode', ['404', 'html'])
def test_command_line_tells_a_failure_in_one_line(name, mode, server, tmp_path):
    result = run('download.py', name, '--mirror', server.url(mode), cwd=tmp_path)
    lines = [x for x in result.stderr.splitlines() if x and 'B/s' not in x]
    assert result.returncode == 1
    assert len(lines) == 1 and lines[0].startswith(f'download.py: {server.url(mode)}/')
    assert ('404 Not Found' if mode == '404' else 'an HTML page') in lines[0]
    assert 'by hand' in lines[0] or '--mirror' in lines[0]


def test_several_sets_are_fetched_at_once_with_progress(server, tmp_path):
    mirror = serve_lsun(server, tmp_path)
    make_digits(str(tmp_path / 'd'), counts=(30, 10))  # all would take long
    args = ['lsun', 'digits', '--mirror', mirror, '--limit', 2, '--data_dir', 'd']
    result = run('download.py', *args, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / 'd' / 'lsun').glob('*.jpg'))) == 2
    assert 'd/digits: already there' in result.stdout
    assert 'bedroom_train_lmdb.zip: 100%' in result.stderr


def test_a_mirror_that_is_no_url_is_refused(tmp_path):
    result = run('download.py', 'mnist', '--mirror', '127.0.0.1:80', cwd=tmp_path)
    assert result.returncode == 2 and 'lacks a http://' in result.stderr


@pytest.mark.parametrize(('name', 'package'), [('celebA', 'gdown'), ('lsun', 'lmdb')])
def test_a_missing_package_is_named(name, package, tmp_path):
    (tmp_path / f'{package}.py').write_text('raise ImportError')
    result = run('download.py', name, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 1 and result.stderr.count('\n') == 1
    assert f'pip install {package}' in result.stderr


# Digits


def test_digits_do_not_replace_what_is_the_user_s(tmp_path):
    (tmp_path / 'digits').mkdir()
    (tmp_path / 'digits' / 'mine.jpg').touch()
    with pytest.raises(UserError, match='digits: holds something else'):
        make_digits(str(tmp_path))


def test_digits_are_an_idx_set_and_the_same_every_time(tmp_path):
    for folder in ('a', 'b'):
        make_digits(str(tmp_path / folder), counts=(300, 100))
    first, second = (
        open_dataset(str(tmp_path / f / 'digits'), '', (28, 28), 0, 0, 0)
        for f in ('a', 'b')
    )
    assert (first.images == second.images).all() and len(first) == 400
    assert idx_summary(str(tmp_path / 'a' / 'digits')) == (28, 28, 10)
    assert sorted(p.name for p in (tmp_path / 'a').iterdir()) == ['digits']


def test_digits_look_like_their_labels_and_like_no_other_digit():
    rng = np.random.RandomState(1)
    glyphs = np.stack([glyph_distances(digit) for digit in range(10)])
    labels = np.arange(1000) % 10
    images = draw_digits(glyphs, labels, rng).reshape(1000, -1).astype(float)
    means = np.stack([images[:500][labels[:500] == d].mean(0) for d in range(10)])
    distances = ((images[500:, None] - means) ** 2).sum(-1)
    assert (distances.argmin(1) == labels[500:]).mean() > 0.45  # by chance: 0.1
    assert len(np.unique(images, axis=0)) == 1000


def test_digits_that_another_process_has_drawn_meanwhile_are_used(
    tmp_path, monkeypatch
):
    draw = digits.draw_digits

    def draw_second(*args):
        monkeypatch.setattr(digits, 'draw_digits', draw)
        make_digits(str(tmp_path), counts=(40, 10))
        return draw(*args)

    monkeypatch.setattr(digits, 'draw_digits', draw_second)
    make_digits(str(tmp_path), counts=(40, 10))
    assert idx_summary(str(tmp_path / 'digits'))[:2] == (28, 28)
    assert [path.name for path in tmp_path.iterdir()] == ['digits']
