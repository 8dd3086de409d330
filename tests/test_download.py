"""Downloads from a real server on 127.0.0.1, files placed by hand, and drawn digits."""

import gzip
import hashlib
import http.server
import io
import itertools
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
from conftest import (
    ROOT,
    run,
    with_pipes,
    write_batches,
    write_idx_set,
    write_images,
)
from PIL import Image

import download
from dcgan.data import resumable_download
from dcgan.data.dataset import open_dataset
from dcgan.data.digits import draw_digits, glyph_distances, make_digits
from dcgan.data.idx import array_summary
from dcgan.data.resumable_download import describe_problem, find_or_download
from dcgan.util.errors import UserError

QUOTA = b'<!DOCTYPE html><html>Sorry, the download quota for this file is exceeded'


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, {name: content}, each at /MODE/name; MODE sets its behaviour.

    good        sends the file, or the range requested (HTTP's Range)
    norange     ignores the range requested and sends the whole file
    shifted     starts each range one byte too early
    slow        sends a tenth of the file every 0.1 s
    cut         closes the connection half-way through the response
    cutnorange  does so too, and ignores the range requested
    cutonce     closes the connection half-way, unless a range is requested
    stall       sends nothing more after 20 kB
    nolength    sends no Content-Length
    always206   answers 206, partial content, although no range is requested
    busy        answers each request with 503 the first time
    html        sends an HTML page instead of the file
    moved       redirects to `target`, the URL of a server and a mode
    403, 404    refuses with this status
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.requests = {}, []
        self.scheme, self.target = 'http', ''

    def url(self, mode):
        return f'{self.scheme}://127.0.0.1:{self.server_port}/{mode}'


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        _, mode, name = self.path.split('/', 2)
        requested = self.headers.get('Range')
        self.server.requests.append((name, requested))
        if mode == 'moved':
            self.send_response(302)
            self.send_header('Location', f'{self.server.target}/{name}')
            return self.end_headers()
        content = QUOTA if mode == 'html' else self.server.files.get(name)
        is_first = self.server.requests.count((name, requested)) == 1
        if content is None or mode in ('403', '404') or (mode == 'busy' and is_first):
            return self.send_error({'403': 403, 'busy': 503}.get(mode, 404))
        supports_ranges = mode not in ('norange', 'cutnorange', 'html')
        start = int(requested[6:-1]) if requested and supports_ranges else 0
        if start and start >= len(content):
            return self.send_error(416)
        start -= bool(start) and mode == 'shifted'
        self.send_response(206 if start or mode == 'always206' else 200)
        if start:
            end = len(content)
            self.send_header('Content-Range', f'bytes {start}-{end - 1}/{end}')
        if mode != 'nolength':
            self.send_header('Content-Length', len(content) - start)
        self.end_headers()
        mode = 'cut' if mode == 'cutonce' and not start else mode
        self.send_body(content[start:], mode)

    def send_body(self, body, mode):
        if mode in ('cut', 'cutnorange') and len(body) > 1000:
            body = body[: len(body) // 2]
        if mode == 'stall' and len(body) > 20000:
            self.wfile.write(body[:20000])
            return self.rfile.read(1)  # returns when the client has gone
        step = len(body) // 10 + 1 if mode == 'slow' else len(body)
        for i in range(0, len(body), step):
            self.wfile.write(body[i : i + step])
            time.sleep(0.1 if mode == 'slow' else 0)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr('dcgan.data.resumable_download.PAUSE', 0.01)
    monkeypatch.setattr('dcgan.data.resumable_download.TIMEOUT', 60)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


def jpeg(seed, format='JPEG'):
    """The content of an image file with random pixels."""
    pixels = np.random.RandomState(seed).randint(0, 256, (20, 16, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def zipped(members):
    """The content of a zip archive of `members`, {name: content}."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def jpegs(folder):
    """The number of JPEGs in a folder; 0 if there is none."""
    return len(list(folder.glob('*.jpg')))


# Single files


@pytest.fixture
def download_file(server, tmp_path):
    """A function that downloads a file of 50 kB, and returns whether it is correct."""
    content = np.random.RandomState(0).bytes(50000)
    server.files['file'] = content

    def download_in_mode(mode, expected=content):
        path = find_or_download(
            'file',
            [str(tmp_path)],
            [f'{server.url(mode)}/file'],
            lambda path: Path(path).read_bytes() == expected,
            'download it by hand',
        )
        return Path(path).read_bytes() == expected

    return download_in_mode


@pytest.mark.parametrize(
    ('mode', 'there', 'ranges'),
    [
        ('good', 0, [None]),
        ('norange', 0, [None]),
        ('nolength', 0, [None]),
        ('always206', 0, [None]),
        ('busy', 0, [None, None]),
        ('cut', 0, [None, 'bytes=25000-']),
        pytest.param('slow', 0, [None], marks=pytest.mark.slow),
        pytest.param('stall', 0, [None, 'bytes=20000-'], marks=pytest.mark.slow),
        ('good', 30000, ['bytes=30000-']),
        ('norange', 30000, ['bytes=30000-']),
        ('shifted', 30000, ['bytes=30000-']),
        ('good', 50000, ['bytes=50000-']),
    ],
)
def test_download_is_resumed_at_the_same_byte_despite_difficult_servers(
    mode, there, ranges, download_file, server, tmp_path, monkeypatch
):
    if mode in ('slow', 'stall'):
        monkeypatch.setattr('dcgan.data.resumable_download.TIMEOUT', 0.9)
    if there:
        (tmp_path / 'file.part').write_bytes(server.files['file'][:there])
    assert download_file(mode)
    assert [requested for _, requested in server.requests][:2] == ranges
    assert [path.name for path in tmp_path.iterdir()] == ['file']


def test_part_of_a_different_file_and_an_invalid_download_are_removed(
    download_file, server, tmp_path, capsys
):
    (tmp_path / 'file.part').write_bytes(b'x' * 30000)
    assert download_file('good')
    assert server.requests == [('file', 'bytes=30000-'), ('file', None)]
    assert 'removing it and downloading it again' in capsys.readouterr().out
    (tmp_path / 'file').unlink()
    with pytest.raises(UserError, match=r'\(50,000 bytes\); the download was removed'):
        download_file('good', expected=b'different content')
    assert not list(tmp_path.glob('*'))


@pytest.mark.parametrize(
    ('mode', 'requests', 'message'),
    [
        ('403', 1, '/403/file: 403 Forbidden; download it by hand'),
        ('404', 1, '/404/file: 404 Not Found; download it by hand'),
        ('html', 1, "an HTML page .*Google Drive's download quota .* again in a day"),
        ('cutnorange', 5, r'lost after 25,000 of 50,000 bytes \(tries: 5\); down'),
    ],
)
@pytest.mark.parametrize('size', [0, 30000])
def test_refusal_is_reported_and_keeps_what_is_there(
    mode, requests, message, size, download_file, server, tmp_path
):
    part = tmp_path / 'file.part'
    if size:
        part.write_bytes(server.files['file'][:size])
    with pytest.raises(UserError, match=message):
        download_file(mode)
    assert len(server.requests) == requests
    if size:
        assert list(tmp_path.iterdir()) == [part] and part.stat().st_size == size


def test_html_page_is_recognized_and_explained(tmp_path):
    pages = {
        b"can't scan this file for viruses. download anyway?": 'confirm large files',
        b'please sign in to continue': 'asks for a login',
        b'502': 'dead link or a proxy',
    }
    path = tmp_path / 'file'
    for page, reason in pages.items():
        path.write_bytes(b'\xef\xbb\xbf\n<HTML><body>' + page)
        assert reason in describe_problem(str(path), lambda path: True)


@pytest.fixture
def https(server, tmp_path, monkeypatch):
    """A server by https, whose certificate is trusted, with the files of `server`."""
    if not shutil.which('openssl'):
        pytest.skip('openssl makes the certificate')
    certificate, key = str(tmp_path / 'certificate.pem'), str(tmp_path / 'key.pem')
    options = '-x509 -nodes -newkey rsa:2048 -subj /CN=a'
    options += ' -addext subjectAltName=IP:127.0.0.1'
    command = ['openssl', 'req', *options.split(), '-keyout', key, '-out', certificate]
    subprocess.run(command, check=True, capture_output=True)
    monkeypatch.setenv('SSL_CERT_FILE', certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server() as secure:
        secure.files, secure.scheme = server.files, 'https'
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        threading.Thread(target=secure.serve_forever, args=[0.01], daemon=True).start()
        yield secure
        secure.shutdown()


def fetch_file(url, folder):
    find_or_download('file', [str(folder)], [f'{url}/file'], bool, 'try again')
    return (folder / 'file').read_bytes()


def test_redirects_to_https_are_followed(server, https, tmp_path):
    server.files['file'] = b'content'
    server.target = https.target = https.url('good')
    for i, url in enumerate(
        [https.url('good'), https.url('moved'), server.url('moved')]
    ):
        assert fetch_file(url, tmp_path / str(i)) == b'content'


@pytest.mark.parametrize('target', ['http', 'HTTP', 'ftp', 'file', 'to https to http'])
def test_redirects_never_lead_from_https_to_what_is_not(
    target, server, https, tmp_path
):
    server.files['file'] = b'content'
    https.target = server.url('good').replace('http:', f'{target}:')
    if ' ' in target:  # back to https in the end
        https.target, server.target = server.url('moved'), https.url('good')
    with pytest.raises(UserError, match='^https://'):
        fetch_file(https.url('moved'), tmp_path / 'folder')
    assert not server.requests and not (tmp_path / 'folder').exists()


@pytest.mark.parametrize('answer', ['404 \x1b[31m', '404 \x85\x9b', '404 a\x07\x7f'])
def test_what_a_server_answers_cannot_steer_the_terminal(answer, tmp_path, capsys):
    class Answer(http.server.BaseHTTPRequestHandler):
        def handle(self):
            self.rfile.readline()
            self.wfile.write(f'HTTP/1.1 {answer}\r\n\r\n'.encode('latin-1'))

    with http.server.HTTPServer(('127.0.0.1', 0), Answer) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(UserError, match=r': 404 .*\\x.*try again$') as error:
            fetch_file(f'http://127.0.0.1:{server.server_port}', tmp_path / 'a')
    assert str(error.value).isprintable()


def test_invalid_url_is_reported(tmp_path, server):
    for url in ('nothing', 'http://127.0.0.1:1', 'http://no.such.host.invalid'):
        with pytest.raises(UserError, match=f'{url}.*; try --mirror'):
            find_or_download('file', [str(tmp_path)], [url], bool, 'try --mirror')


# MNIST

MNIST = [name.removesuffix('.gz') for name in download.FILES['mnist']]


@pytest.fixture
def fetch_mnist(server, tmp_path, monkeypatch):
    """A function that downloads small files under the names of MNIST's."""
    files = {}
    for name in MNIST:
        server.files[f'{name}.gz'] = gzip.compress(name.encode() * 1000)
        files[f'{name}.gz'] = {name: hashlib.md5(name.encode() * 1000).hexdigest()}
    monkeypatch.setitem(download.FILES, 'mnist', files)

    def fetch(*modes):
        mirrors = [server.url(f'{mode}/') for mode in modes or ['good']]
        download.fetch_files(str(tmp_path), 'mnist', mirrors)

    return fetch


def test_mnist_is_unpacked_once_and_only_corrupt_files_are_downloaded_again(
    fetch_mnist, server, tmp_path, capsys
):
    for _ in range(2):
        fetch_mnist()
    assert len(server.requests) == 4
    assert capsys.readouterr().out.count('already there') == 4
    (tmp_path / 'mnist' / 't10k-labels-idx1-ubyte').write_bytes(b'corrupt')
    fetch_mnist('404', 'html', 'good')  # mirrors, one after the other
    assert len(server.requests) == 4 + 3
    for name in MNIST:
        assert (tmp_path / 'mnist' / name).read_bytes() == name.encode() * 1000
    assert len(list((tmp_path / 'mnist').iterdir())) == 4
    assert [path.name for path in tmp_path.iterdir()] == ['mnist']


def test_mnist_folder_appears_only_when_it_is_complete_and_valid(
    fetch_mnist, server, tmp_path
):
    name = 't10k-labels-idx1-ubyte.gz'
    valid = server.files.pop(name)
    with pytest.raises(UserError, match='t10k-labels.*404 Not Found'):
        fetch_mnist()
    truncated, different = gzip.compress(bytes(999))[:-20], gzip.compress(b'different')
    for content in (truncated, different, b'no gzip'):
        server.files[name] = content
        with pytest.raises(UserError, match='t10k-labels.*corrupt.*; try --mirror'):
            fetch_mnist()
    assert not (tmp_path / 'mnist').exists()
    server.files[name] = valid
    fetch_mnist()
    assert len(list((tmp_path / 'mnist').iterdir())) == 4
    assert len(server.requests) == 4 + 4


# Fashion-MNIST, CIFAR-10, SVHN


def test_fashion_is_taken_from_its_package_and_not_from_mnist(
    fetch_mnist, server, tmp_path, monkeypatch
):
    package = tmp_path / 'package'
    package.mkdir()
    for name, content in server.files.items():
        (package / name).write_bytes(content)
        (tmp_path / name).write_bytes(gzip.compress(b'of MNIST'))
    monkeypatch.setitem(download.INSTALLED, 'fashion', str(package))
    monkeypatch.setitem(download.FILES, 'fashion', download.FILES['mnist'])
    download.main(['fashion', '--data_dir', str(tmp_path)])
    for name in MNIST:
        assert (tmp_path / 'fashion' / name).read_bytes() == name.encode() * 1000
    assert len([*package.iterdir()]) == 4 and not server.requests


@pytest.mark.skipif(
    not os.path.exists(download.INSTALLED['fashion']), reason='needs the package'
)
def test_the_package_of_fashion_has_the_published_digests(tmp_path):
    download.main(['fashion', '--data_dir', str(tmp_path)])
    assert array_summary(str(tmp_path / 'fashion')) == (28, 28, 10)


def serve_batches(server, tmp_path, monkeypatch, **extra):
    """Serve CIFAR-10 and SVHN of 40 images each."""
    write_batches(tmp_path / 'x')
    write_batches(tmp_path / 'x', '.mat')
    contents = {path.name: path.read_bytes() for path in (tmp_path / 'x').iterdir()}
    shutil.rmtree(tmp_path / 'x')
    md5 = {name: hashlib.md5(x).hexdigest() for name, x in contents.items()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as archive:
        for name in [name for name in contents if name.endswith('.bin')]:
            info = tarfile.TarInfo(f'cifar-10-batches-bin/../../{name}')
            info.size = len(contents[name])
            archive.addfile(info, io.BytesIO(contents[name]))
    svhn = {name: {name: md5[name]} for name in contents if name.endswith('.mat')}
    cifar10 = {name: x for name, x in md5.items() if name.endswith('.bin')}
    archives = {'cifar-10-binary.tar.gz': cifar10}
    monkeypatch.setitem(download.FILES, 'svhn', svhn)
    monkeypatch.setitem(download.FILES, 'cifar10', archives)
    server.files = {**contents, 'cifar-10-binary.tar.gz': file.getvalue()}


def test_cifar10_and_svhn_are_downloaded_once(server, tmp_path, monkeypatch, capsys):
    serve_batches(server, tmp_path, monkeypatch)
    args = ['cifar10', 'svhn', '--data_dir', str(tmp_path), '--mirror']
    for _ in range(2):
        download.main([*args, server.url('good')])
    assert len(server.requests) == 3
    assert capsys.readouterr().out.count('already there') == 4
    for name in ('cifar10', 'svhn'):
        assert len([*(tmp_path / name).iterdir()]) == 2
        assert len(open_dataset(str(tmp_path / name), '', (32, 32), 0, 0, 0)) == 40
    assert len([*tmp_path.iterdir()]) == 2
    download.main(['check', 'cifar10', 'svhn', '--data_dir', str(tmp_path)])
    assert capsys.readouterr().out.count('classes: 20 in') == 2


def test_a_damaged_batch_is_downloaded_again(server, tmp_path, monkeypatch):
    serve_batches(server, tmp_path, monkeypatch)
    args = ['cifar10', '--data_dir', str(tmp_path), '--mirror']
    download.main([*args, server.url('good')])
    batch = tmp_path / 'cifar10' / 'test_batch.bin'
    content = batch.read_bytes()
    batch.write_bytes(b'damaged')
    server.files['wrong'] = server.files.pop('cifar-10-binary.tar.gz')
    archive = tmp_path / 'cifar-10-binary.tar.gz'  # by hand
    archive.write_bytes(server.files['wrong'][:-99])
    with pytest.raises(UserError, match=r'tar\.gz: corrupt .*; remove it, then try'):
        download.main([*args, server.url('404')])
    assert batch.read_bytes() == b'damaged'
    archive.write_bytes(server.files['wrong'])
    download.main([*args, server.url('404')])
    assert batch.read_bytes() == content and archive.exists()


# CelebA


def serve_celeba(server, repeat=1, **extra_members):
    """Serve small files in the form of CelebA's; return `files` for fetch_celeba."""
    members = {f'img_align_celeba/{i:06d}.jpg': jpeg(i) * repeat for i in range(1, 6)}
    archive, *lists = download.CELEBA_FILES
    server.files[archive] = zipped({**members, **extra_members})
    server.files.update({name: b'2\nheader\n' + name.encode() for name in lists})
    return {n: (n, hashlib.md5(x).hexdigest()) for n, x in server.files.items()}


def fetch_celeba(server, data_dir, files, count=5, mode='good/'):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, 'CELEBA_FILES', files)
        patch.setattr(download, 'CELEBA_IMAGES', count)
        download.fetch_celeba(str(data_dir), [server.url(mode)] if mode else [])


def test_celeba_folder_holds_images_and_lists(server, tmp_path):
    files = serve_celeba(server)
    for _ in range(2):
        fetch_celeba(server, tmp_path, files)
    names = {f'{i:06d}.jpg' for i in range(1, 6)} | set(list(files)[1:])
    assert {path.name for path in (tmp_path / 'celebA').iterdir()} == names
    assert (tmp_path / 'celebA' / '000003.jpg').read_bytes() == jpeg(3)
    assert [path.name for path in tmp_path.iterdir()] == ['celebA']
    assert len(server.requests) == 4


def test_archive_members_cannot_leave_the_folder(server, tmp_path):
    evil = {name: b'evil' for name in ('../a.jpg', '/tmp/b.jpg', 'x\\..\\..\\c.jpg')}
    data_dir = tmp_path / 'deep' / 'data'
    fetch_celeba(server, data_dir, serve_celeba(server, **evil), 8)
    inside = sorted((data_dir / 'celebA').glob('[abc].jpg'))
    assert len(inside) == 3 and sorted(tmp_path.rglob('[abc].jpg')) == inside


@pytest.mark.parametrize('folder', ['.', 'celebA'])
def test_archive_downloaded_by_hand_is_used_and_kept(folder, server, tmp_path):
    files = serve_celeba(server)
    archive = tmp_path / folder / 'img_align_celeba.zip'
    part = tmp_path / '.celebA.part'
    archive.parent.mkdir(exist_ok=True)
    archive.write_bytes(server.files.pop('img_align_celeba.zip'))
    part.mkdir()  # of an unpacking that was interrupted
    (part / '000001.jpg').write_bytes(jpeg(1))
    (part / '000002.jpg').write_bytes(jpeg(2)[:100])
    fetch_celeba(server, tmp_path, files)
    assert archive.exists() and jpegs(tmp_path / 'celebA') == 5
    assert (tmp_path / 'celebA' / '000002.jpg').read_bytes() == jpeg(2)


def test_foreign_files_are_reported_and_kept(server, tmp_path):
    files = serve_celeba(server)
    archive = tmp_path / 'img_align_celeba.zip'
    archive.write_bytes(QUOTA)
    with pytest.raises(UserError, match='celeba.zip: an HTML page .*; remove it'):
        fetch_celeba(server, tmp_path, files)
    (tmp_path / 'celebA').mkdir()
    (tmp_path / 'celebA' / 'mine.jpg').write_bytes(jpeg(0))
    with pytest.raises(UserError, match='holds 1 images, but CelebA has 5; move it'):
        fetch_celeba(server, tmp_path, files)
    assert archive.exists() and not server.requests


@pytest.mark.parametrize('target_exists', [True, False])
def test_symbolic_link_as_folder_is_followed(target_exists, server, tmp_path):
    disk = tmp_path / 'disk' / 'faces'
    if target_exists:
        disk.mkdir(parents=True)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'celebA').symlink_to(disk)
    fetch_celeba(server, tmp_path / 'data', serve_celeba(server))
    assert jpegs(disk) == 5 and (tmp_path / 'data' / 'celebA').is_symlink()


def use_drive(url, monkeypatch):
    """Put a URL in the place of Google Drive's."""
    for module in (download, resumable_download):
        monkeypatch.setattr(module, 'DRIVE', url)


@pytest.mark.parametrize('mode', ['good', 'cutonce'])
def test_gdown_downloads_celeba_from_drive_and_resumes(
    mode, server, tmp_path, monkeypatch
):
    files = serve_celeba(server, repeat=1000)  # gdown reads half a megabyte at a time
    use_drive(server.url(f'{mode}/'), monkeypatch)
    fetch_celeba(server, tmp_path, files, mode='')
    assert len(list((tmp_path / 'celebA').iterdir())) == 8
    was_resumed = any(requested for _, requested in server.requests)
    assert was_resumed == (mode == 'cutonce')
    assert [path.name for path in tmp_path.iterdir()] == ['celebA']


def test_gdown_failure_is_reported_on_one_line(server, tmp_path, monkeypatch):
    use_drive(server.url('404/'), monkeypatch)
    message = '404.*; download it by hand: open http'
    with pytest.raises(UserError, match=message) as error:
        download.fetch_celeba(str(tmp_path), [])
    assert '\n' not in str(error.value)


# LSUN


def serve_lsun(server, tmp_path, **contents):
    """Serve databases of 6 and 3 images, in the form of LSUN's; return their URL.

    `contents` replaces the content of some images, by key.
    """
    for part, keys in (('train', range(6)), ('val', range(6, 9))):
        folder = tmp_path / f'bedroom_{part}_lmdb'
        with lmdb.open(str(folder)) as environment, environment.begin(write=True) as t:
            for key in keys:
                content = contents.get(f'key{key}', jpeg(key, 'WEBP'))
                t.put(f'key{key}'.encode(), content)
        members = {f'{folder.name}/{p.name}': p.read_bytes() for p in folder.iterdir()}
        server.files[f'{folder.name}.zip'] = zipped(members)
    return server.url('good/')


def fetch_lsun(data, url, category='bedroom', limit=None):
    download.fetch_lsun(str(data), [url], category, limit)


@pytest.fixture
def data(tmp_path):
    return tmp_path / 'data'


@pytest.fixture(autouse=True)
def digests(server, monkeypatch):
    """In place of the published digests, those of what the server has."""

    class Digests(dict):
        def __missing__(self, name):
            return hashlib.sha256(server.files[name]).hexdigest()

    monkeypatch.setattr(download, 'LSUN_SHA256', Digests())


def test_archives_of_lsun_need_their_published_digests(
    server, tmp_path, data, monkeypatch
):
    digests = json.loads((ROOT / 'dcgan' / 'data' / 'digests.json').read_text())
    published = digests['lsun']
    assert 'tensorflow_datasets/url_checksums/lsun.txt' in digests['about']['lsun']
    parts = itertools.product(download.LSUN_CATEGORIES, ('train', 'val'))
    assert {*published} == {f'{name}_{part}_lmdb.zip' for name, part in parts}
    assert all(re.fullmatch('[0-9a-f]{64}', digest) for digest in published.values())
    assert len({*published.values()}) == 20
    url = serve_lsun(server, tmp_path)
    monkeypatch.setattr(download, 'LSUN_SHA256', published)
    for problem in 'the download was removed', 'remove it, then try':
        with pytest.raises(UserError, match=f'bedroom_train.*not the expec.*{problem}'):
            fetch_lsun(data, url)
        data.mkdir(exist_ok=True)
        (data / 'bedroom_train_lmdb.zip').write_bytes(b'put there by hand')
    assert [path.name for path in data.iterdir()] == ['bedroom_train_lmdb.zip']


def test_lsun_images_are_exported_as_jpeg(server, tmp_path, data, capsys):
    url = serve_lsun(server, tmp_path, key3=b'corrupt', key4=jpeg(4))
    for _ in range(2):
        fetch_lsun(data, url)
    paths = sorted((data / 'lsun').glob('*.jpg'))
    assert [path.stem[3:] for path in paths] == [*'01245678']
    assert 'Left out key3' in capsys.readouterr().out
    with Image.open(paths[0]) as image:
        assert image.format == 'JPEG' and image.size == (16, 20)
    assert paths[3].read_bytes() == jpeg(4)  # which was a JPEG
    assert [path.name for path in data.iterdir()] == ['lsun']
    assert len(server.requests) == 2
    for options in ({'category': 'tower'}, {'limit': 3}):
        with pytest.raises(UserError, match='lsun: holds something other than'):
            fetch_lsun(data, url, **options)


@pytest.mark.parametrize(('limit', 'downloads'), [(4, 1), (6, 1), (7, 2), (20, 2)])
def test_lsun_limit_saves_needless_downloads(limit, downloads, server, tmp_path, data):
    url = serve_lsun(server, tmp_path)
    fetch_lsun(data, url, limit=limit)
    assert jpegs(data / 'lsun') == min(limit, 9)
    assert len(server.requests) == downloads


def test_interrupted_export_skips_the_finished_part(server, tmp_path, data):
    url = serve_lsun(server, tmp_path)
    content = server.files.pop('bedroom_val_lmdb.zip')
    with pytest.raises(UserError, match='bedroom_val_lmdb.zip: 404'):
        fetch_lsun(data, url)
    assert not (data / 'lsun').exists()
    server.files['bedroom_val_lmdb.zip'] = content
    corrupt = content.replace(b'RIFF', b'riff')  # images
    (data / '.lsun.part' / 'bedroom_val_lmdb.zip.part').write_bytes(corrupt)
    fetch_lsun(data, url)
    assert jpegs(data / 'lsun') == 9
    names = [name[8:] for name, _ in server.requests]
    assert names == ['train_lmdb.zip', *['val_lmdb.zip'] * 3]


@pytest.mark.slow
def test_download_resumes_after_a_kill(server, tmp_path, data):
    images = {f'key{i}': jpeg(i) * 1000 for i in range(6)}  # some megabytes
    serve_lsun(server, tmp_path, **images)
    digests = {n: hashlib.sha256(x).hexdigest() for n, x in server.files.items()}
    code = f'import download; download.LSUN_SHA256 = {digests}; download.main()'
    command = [sys.executable, '-c', code, 'lsun', '--mirror']
    options = with_pipes(tmp_path, PYTHONPATH=str(ROOT))
    part = data / '.lsun.part' / 'bedroom_train_lmdb.zip.part'
    with subprocess.Popen([*command, server.url('stall')], **options) as process:
        while not (part.exists() and part.stat().st_size):
            time.sleep(0.01)
        process.kill()
    result = subprocess.run([*command, server.url('good')], **options)
    assert result.returncode == 0, result.stderr
    assert int(server.requests[1][1][6:-1]) > 0
    assert jpegs(data / 'lsun') == 9


# Inception


def test_a_later_download_of_inception_has_to_be_the_first_one(server, tmp_path):
    path = tmp_path / 'inception' / 'classify_image_graph_def.pb'
    record = path.with_name(f'{path.name}.sha256')

    def fetch(content):
        path.unlink(missing_ok=True)
        info, file = tarfile.TarInfo(path.name), io.BytesIO()
        info.size = len(content)
        with tarfile.open(fileobj=file, mode='w:gz') as archive:
            archive.addfile(info, io.BytesIO(content))
        server.files[download.INCEPTION_ARCHIVE] = file.getvalue()
        download.fetch_inception(str(tmp_path), [server.url('good/')])
        return path.read_bytes()

    assert fetch(b'first') == fetch(b'first') == b'first'
    assert record.read_text() == hashlib.sha256(b'first').hexdigest()
    for content in b'second', b'first\n', b'':
        with pytest.raises(UserError, match=f'the download was removed.*{record}'):
            fetch(content)
        assert [*tmp_path.iterdir()] == [path.parent]  # and not path
    record.write_bytes(b'damaged')
    with pytest.raises(UserError, match=f'{record}, .*: remove it'):
        fetch(b'first')
    record.unlink()
    assert fetch(b'second') == b'second'


# The command line


def test_command_line_reports_failure_on_one_line(server, tmp_path):
    url = server.url('404')
    result = run('download.py', 'mnist', '--mirror', url, cwd=tmp_path)
    lines = [x for x in result.stderr.splitlines() if x and 'B/s' not in x]
    assert result.returncode == 1 and len(lines) == 1
    assert lines[0].startswith(f'download.py: {url}/') and '404 Not Found' in lines[0]


def test_failure_of_a_mirror_names_a_way_out(server, tmp_path):
    url = server.url('html')
    for name in ('mnist', 'cifar10', 'svhn', 'celebA', 'lsun', 'inception'):
        args = [name, '--data_dir', str(tmp_path), '--mirror', url]
        with pytest.raises(UserError, match=f'^{url}/.*an HTML') as error:
            download.main(args)
        assert 'by hand' in str(error.value) or '--mirror' in str(error.value)


def test_command_line_takes_several_data_sets(server, tmp_path, capsys):
    mirror = serve_lsun(server, tmp_path)
    make_digits(str(tmp_path / 'd'), counts=(30, 10))  # 70,000 would take long
    args = ['lsun', 'digits', '--mirror', mirror, '--limit', '2', '--data_dir']
    download.main([*args, str(tmp_path / 'd')])
    assert jpegs(tmp_path / 'd' / 'lsun') == 2
    out, err = capsys.readouterr()
    assert 'd/digits: already there' in out and 'bedroom_train_lmdb.zip: 100%' in err


def test_invalid_arguments_are_rejected(capsys):
    problems = {
        'mnist --mirror 127.0.0.1:80': 'must begin with http://',
        'lsun --limit 0': '--limit must be positive',
        'lsun cats': "'cats' is none of mnist, fashion, cifar10, svhn, celebA, lsun",
        'check': 'which data set?',
        '': 'the following arguments are required: NAME',
    }
    for args, problem in problems.items():
        with pytest.raises(SystemExit, match='2'):
            download.main(args.split())
        assert problem in capsys.readouterr().err.splitlines()[-1]


def test_missing_package_is_reported(tmp_path, monkeypatch):
    for name, package in (('celebA', 'gdown'), ('lsun', 'lmdb')):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=f'pip install {package}'):
            download.main([name, '--data_dir', str(tmp_path)])


# Digits


def test_make_digits_writes_identical_idx_files_each_time(tmp_path):
    sets = []
    for folder in (tmp_path / 'a', tmp_path / 'b'):
        make_digits(str(folder), counts=(300, 100))
        assert [path.name for path in folder.iterdir()] == ['digits']
        assert array_summary(str(folder / 'digits')) == (28, 28, 10)
        sets.append(open_dataset(str(folder / 'digits'), '', (28, 28), 0, 0, 0))
    assert (sets[0].images == sets[1].images).all() and len(sets[0]) == 400
    (tmp_path / 'digits').mkdir()
    (tmp_path / 'digits' / 'mine.jpg').touch()
    with pytest.raises(UserError, match='digits: holds something other than digits'):
        make_digits(str(tmp_path))


def test_digits_are_distinct_and_resemble_their_class():
    rng = np.random.RandomState(1)
    glyphs = np.stack([glyph_distances(digit) for digit in range(10)])
    labels = np.arange(1000) % 10
    images = draw_digits(glyphs, labels, rng).reshape(1000, -1).astype(float)
    means = np.stack([images[:500][labels[:500] == d].mean(0) for d in range(10)])
    distances = ((images[500:, None] - means) ** 2).sum(-1)
    assert (distances.argmin(1) == labels[500:]).mean() > 0.45  # by chance: 0.1
    assert len(np.unique(images, axis=0)) == 1000


# check


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """A function that checks sets in the folder `data`; returns output and error."""
    monkeypatch.chdir(tmp_path)

    def check(*args):
        error = ''
        try:
            download.main(['check', *args])
        except UserError as e:
            error = str(e)
        return capsys.readouterr().out, error

    return check


@pytest.mark.parametrize('is_by_class', [False, True])
def test_check_names_images_that_cannot_be_used(is_by_class, check):
    folder = Path('data/cats')
    for name in ('a', 'b') if is_by_class else ('',):
        write_images(folder / name, count=12)
        (folder / name / '003.png').write_text('<html>')
    paths = sorted(map(str, folder.rglob('003.png')))
    out, error = check('cats')
    line = f'{len(paths)} of {12 * len(paths)} images cannot be used, which is more'
    assert line in out and ', '.join(paths) in out
    assert error == 'training would end on cats, see above'


def test_check_names_above_ten_images_in_a_file(check):
    write_images('data/cats', count=20)
    for i in range(11):
        Path(f'data/cats/{i:03d}.png').write_bytes(b'')
    out, error = check('cats', '--input_fname_pattern', '*.png')
    assert 'training would end on cats' in error
    assert 'those in data/cats.unusable.txt' in out
    rows = Path('data/cats.unusable.txt').read_text().splitlines()
    names = [f'data/cats/{i:03d}.png' for i in range(11)]
    assert [row.split('\t')[0] for row in rows] == names
    assert all('not a readable image' in row.split('\t')[1] for row in rows)
    write_images('data/cats', count=20)
    assert check('cats')[1] == '' and not Path('data/cats.unusable.txt').exists()


def test_check_passes_good_sets(check):
    write_images('data/cats', count=101)
    Path('data/cats/003.png').write_bytes(b'')
    write_images('data/dogs', count=3)
    os.makedirs('data/shapes')
    write_idx_set('data/shapes')
    out, error = check('cats', 'dogs', 'shapes')
    line = '1 of 101 images cannot be used; fix or remove them: data/cats/003.png'
    assert line in out and error == ''
    assert 'data/dogs: all 3 images can be used' in out
    assert 'data/shapes: 40 images in 4 classes' in out
    assert check('none', 'dogs')[1] == 'training would end on none, see above'
