"""The page's server: what it draws, whom it refuses, what it survives."""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import threading
import time
import types
import urllib.request
from concurrent import futures
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from conftest import SMALL, interrupting, printed_paths, run_in_process, start
from PIL import Image, ImageSequence

from dcgan.page import server
from dcgan.page.drawing import Drawer
from dcgan.page.requests import Refused, Request, parse, parse_query
from dcgan.page.server import MAX_CONNECTIONS, Server
from dcgan.sampling.samples import draw
from dcgan.util.errors import UserError


@contextlib.contextmanager
def served(workspace, *args):
    """(process, port, query of the address) of a page, which Ctrl-C ends."""
    args = ['--out_name', 'set', '--page', '--page_port', 0, *args]
    with start('main.py', *args, cwd=workspace) as process:
        lines = re.compile(r':(\d+)/(\S*) \(ready.*NAME/PATH/', re.DOTALL)
        while not (found := lines.search(process.output())):
            assert process.is_alive, process.wait().stderr
            time.sleep(0.02)
        yield process, int(found[1]), found[2]
        process.send_signal(signal.SIGINT)
        result = process.wait()
        assert result.returncode == 0 and 'The page has ended' in result.stdout


@pytest.fixture(scope='module')
def process(workspace):
    """The process of a page."""
    with served(workspace) as (process, _, query):
        assert query == ''
        yield process


@pytest.fixture(scope='module')
def page(process):
    """The port of a page and its token."""
    port, token = re.search(r'/proxy/(\d+)/\?token=(\S+)', process.output()).groups()
    return int(port), token


@pytest.fixture(scope='module')
def port(page):
    """The port of a page, which this machine may use without the token."""
    return page[0]


def ask(port, path='/samples', content=None, method='GET', **headers):
    """(status, body) of a request; `content` is posted, as JSON if it is not bytes."""
    body = None
    if content is not None:
        is_bytes = isinstance(content, bytes)
        method, body = 'POST', content if is_bytes else json.dumps(content)
        headers.setdefault('Content-Type', 'application/json')
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()


def drawn(port, **request):
    status, body = ask(port, content=request)
    assert status == 200, body
    return body


def run_main(workspace, *args):
    """The contents of the files that main.py writes."""
    result = run_in_process(*args, cwd=workspace)
    return [Path(path).read_bytes() for path in printed_paths(workspace, result)]


def test_a_request_has_what_is_asked_for_and_defaults():
    request = parse(b'{"count": 6, "step": null}', 5, 4)
    assert request[:3] == (None, 0, 6) and request.labels.tolist() == [0, 1, 2, 3, 0, 1]
    assert request[4:] == (None, None, 'json', 100, '', 0)
    assert parse(b'{}', 5, None).labels.tolist() == [-1]
    content = {'seed': 2**32 - 1, 'step': 0, 'format': 'gif', 'columns': 256}
    content.update({'client': 'x' * 64, 'number': 9, 'milliseconds': 20})
    more = {'z': [[1, 2.5]] * 3, 'labels': [2, 0]}
    request = parse(json.dumps({**content, **more}).encode(), 2, 3)
    assert {name: getattr(request, name) for name in content} == content
    assert request.z.dtype == np.float32 and request.z.tolist() == [[1, 2.5]] * 3
    assert request.labels.tolist() == [2, 0, 2] and request.count == 3


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'send an object in JSON'),
        (b'[' * 100_000, 'send an object in JSON'),
        ([1], 'send an object in JSON'),
        ({'zz': 1}, "'zz' is unknown"),
        ({'z': []}, 'z has to be a list of 1 to 256 lists'),
        ({'z': [[0] * 6] * 257}, 'z has to be a list of 1 to 256 lists'),
        ({'z': [[0] * 5]}, 'each list has to have 6 numbers'),
        ({'z': [[0] * 5 + ['1']]}, 'each list has to have 6 numbers'),
        (b'{"z": [[0, 0, 0, 0, 0, NaN]]}', 'z: numbers have to be between'),
        (b'{"z": [[0, 0, 0, 0, 0, -1e999]]}', 'between -10000 and 10000'),
        ({'count': 257}, 'count has to be a whole number from 1 to 256'),
        ({'count': 0}, 'count has to be a whole number from 1 to 256'),
        ({'count': True}, 'count has to be a whole number'),
        ({'seed': -1}, 'seed has to be a whole number from 0 to 4294967295'),
        ({'labels': [4]}, 'the classes of this model are 0 to 3'),
        ({'labels': [-1]}, 'the classes of this model are 0 to 3'),
        ({'labels': []}, 'labels has to be a list'),
        ({'labels': [1] * 257}, 'labels has to be a list'),
        ({'labels': [True]}, 'labels has to be a list'),
        ({'format': '../x'}, 'format has to be one of json, png, npz, gif'),
        ({'client': 'x' * 65}, 'client has to be a text'),
    ],
)
def test_bad_requests_are_refused_in_one_line(content, message):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(Refused, match=message) as refused:
        parse(body, 6, 4)
    assert refused.value.status == 400 and '\n' not in str(refused.value)
    with pytest.raises(Refused, match='this model has no classes'):
        parse(b'{"labels": [0]}', 6, None)


def test_samples_of_a_seed_equal_the_command_lines(workspace, port):
    args = ['--seed', 7, '--generate_test_images', 20, '--label', '2,0', '--npz']
    png, npz = run_main(workspace, '--dataset', 'set', *args)
    request = {'seed': 7, 'count': 20, 'labels': [2, 0]}
    assert drawn(port, **request, format='png') == png
    arrays = np.load(io.BytesIO(drawn(port, **request, format='npz')))
    expected = np.load(io.BytesIO(npz))
    assert all((arrays[name] == expected[name]).all() for name in expected)
    answer = json.loads(drawn(port, **request))
    assert np.array_equal(np.float32(answer['z']), expected['z'])
    assert answer['labels'] == expected['labels'].tolist() and answer['step'] == 3
    assert answer['columns'] == 5


def test_samples_of_z_equal_the_command_lines(workspace, port):
    z = np.random.RandomState(0).uniform(-1, 1, (7, 6)).tolist()
    request = {'z': z, 'labels': [1], 'columns': 5, 'step': 2}
    (workspace / 'z.npz').write_bytes(drawn(port, **request, format='npz'))
    args = ['--z_file', 'z.npz', '--sheet_columns', 5, '--resume_step', 2]
    (png,) = run_main(workspace, '--dataset', 'set', *args)
    assert drawn(port, **request, format='png') == png
    assert drawn(port, **{**request, 'step': 3}, format='png') != png
    gif = drawn(port, **request, format='gif', milliseconds=50)
    with Image.open(io.BytesIO(gif)) as animation:
        # equal images that follow each other are one, shown for longer
        durations = [i.info['duration'] for i in ImageSequence.Iterator(animation)]
    assert sum(durations) == 7 * 50


def test_the_page_learns_what_the_run_is(workspace, port):
    status, body = ask(port, '/model')
    model = json.loads(body)
    assert status == 200 and model['steps'] == [1, 2, 3]
    assert model['classes'] == ['0', '1', '2', '3'] and model['z_dim'] == 6
    assert model['command'] == 'python main.py --out_name set --dataset set'
    assert model['files'] == ['curves.png']
    curves = (workspace / 'out' / 'set' / 'curves.png').read_bytes()
    assert ask(port, '/curves.png') == (200, curves)
    assert ask(port, '/progress.gif')[0] == 404
    os.mkfifo(workspace / 'out' / 'set' / 'samples' / 'progress.gif')
    status, error = ask(port, '/progress.gif')
    os.remove(workspace / 'out' / 'set' / 'samples' / 'progress.gif')
    assert status == 404 and b'this run has no progress.gif' in error


def test_directions_are_principal_components_of_the_first_layer(port):
    status, body = ask(port, '/directions?step=2')
    vectors, shares = (np.array(json.loads(body)[key]) for key in ('vectors', 'shares'))
    assert status == 200 and vectors.shape == (6, 6)
    assert np.allclose(vectors @ vectors.T, np.eye(6), atol=1e-6)
    assert (np.diff(shares) <= 0).all() and abs(shares.sum() - 1) < 1e-6
    largest = np.take_along_axis(vectors, abs(vectors).argmax(1)[:, None], 1)
    assert (largest > 0).all()
    assert ask(port, '/directions?step=x')[0] == 400


def inverted(port, content, query=''):
    """(status, answer) of a search for the z of a picture, the content of a file."""
    kind = {'Content-Type': 'image/png'}
    status, body = ask(port, f'/invert{query}', content, **kind)
    return status, json.loads(body)


def decoded(answer):
    """The pixels of a picture as it was read."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer['png']))))


def test_a_search_can_be_repeated_and_says_what_it_has_found(port):
    png = drawn(port, seed=7, labels=[2], format='png')
    status, answer = inverted(port, png, '?seed=5&step=2')
    assert status == 200 and answer['step'] == 2 and np.shape(answer['z']) == (24, 6)
    picture = decoded(answer)
    assert (picture == np.asarray(Image.open(io.BytesIO(png)))).all()
    request = {'z': answer['z'][-1:], 'labels': answer['labels'], 'step': 2}
    samples = np.load(io.BytesIO(drawn(port, **request, format='npz')))['images']
    distance = abs(samples[0, ..., 0] / 255 - picture / 255).mean()
    assert distance == pytest.approx(answer['distance'], abs=0.002)
    assert inverted(port, png, '?seed=5&step=2') == (200, answer)
    assert inverted(port, png, '?seed=6&step=2')[1]['z'] != answer['z']


def test_what_is_no_picture_is_refused_in_one_line(port):
    large = io.BytesIO()
    Image.new('1', (4096, 4097)).save(large, 'PNG')
    for content, query, status, message in (
        (b'some text', '', 400, 'the picture: not a readable image'),
        (b'', '', 400, 'the picture: not a readable image'),
        (large.getvalue(), '', 400, 'the picture: larger than 16,777,216 pixels'),
        (bytes((1 << 22) + 1), '', 413, 'a request has at most 4194304 bytes'),
        (b'', '?seed=-1', 400, 'seed has to be a whole number from 0 to 4294967295'),
        (b'', '?step=x', 400, 'step has to be a whole number'),
    ):
        of, answer = inverted(port, content, query)
        assert of == status and answer['error'].startswith(message), answer
        assert '\n' not in answer['error'] and 'max_pixels' not in answer['error']
    answer = ask(port, '/invert', content={})
    assert answer[0] == 415 and b'image/* or application/octet-stream' in answer[1]
    assert ask(port, '/invert')[0] == 404


@pytest.fixture
def make_drawer(make_dcgan, tmp_path):
    """A function that makes a Drawer of a model whose samples have much contrast."""

    def make(**settings):
        dcgan = make_dcgan()
        for weights in dcgan.g_vars:
            if weights.shape.rank > 1:
                weights.load(30 * dcgan.sess.run(weights), dcgan.sess)
        dcgan.save(str(tmp_path), 1)
        settings = {'crop': False, 'input_height': 16, 'background': '', **settings}
        settings = {'resume_step': None, **settings, 'checkpoint_dir': str(tmp_path)}
        settings.update(input_width=None, z_dist='uniform_signed', max_pixels=10**6)
        return Drawer(dcgan, types.SimpleNamespace(**settings), [])

    return make


def found_by(drawer, pixels):
    """What a search for the z of a picture answers."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return drawer.invert(parse_query({}), file.getvalue())


def test_the_best_checkpoint_draws_where_the_command_line_asks_for_it(
    make_drawer, tmp_path
):
    drawer = make_drawer(resume_step='best')
    for step in (7, 9):  # it is replaced while the page is served
        drawer.dcgan.save(str(tmp_path / 'best'), step)
        assert drawer.directions(None)['step'] == step


def test_the_z_of_samples_is_found_by_one_graph_in_any_thread(make_drawer):
    drawer, counts = make_drawer(), []
    dcgan = drawer.dcgan
    z = np.random.RandomState(3).uniform(-1, 1, (3, 5)).astype(np.float32)
    samples = draw(dcgan.sess, dcgan, z, as_bytes=True)
    for number in range(3):
        with futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(found_by, drawer, samples[number]).result()
        assert (decoded(answer) == samples[number]).all() and answer['distance'] < 0.01
        assert np.allclose(answer['z'][-1], z[number], atol=0.1)
        assert abs(answer['z'][0] - z[number]).max() > 0.3
        assert answer['labels'] == [-1] and answer['step'] == 1
        counts.append(len(dcgan.sess.graph.get_operations()))
    assert len({*counts}) == 1


def test_a_picture_is_read_as_the_data_were(make_drawer):
    pixels = np.random.RandomState(0).randint(0, 256, (20, 24, 4)).astype(np.uint8)
    pixels[..., 3] = pixels[..., 3] // 128 * 255  # transparent, or not
    pixels[10, 12] = 0, 255, 0, 255  # the contrast is full
    drawer = make_drawer(crop=True, background='white')
    read = decoded(found_by(drawer, pixels))
    seen = np.where(pixels[..., 3:] > 0, pixels[..., :3], 255)
    assert (read == seen[2:18, 4:20]).all()


def test_an_older_request_of_a_client_is_dropped(port):
    drawn(port, client='a', number=5)
    assert ask(port, content={'client': 'a', 'number': 3})[0] == 409
    drawn(port, client='b', number=3)
    drawn(port, client='a', number=6)


def test_the_page_draws_by_the_newest_checkpoint(workspace, port):
    folder = workspace / 'out' / 'set' / 'checkpoint'
    assert json.loads(drawn(port))['step'] == 3
    of_2 = drawn(port, step=2, format='png')
    newer = []
    for path in sorted(folder.glob('*-2.*')):  # the index last
        newer.append(path.with_name(path.name.replace('-2.', '-4.')))
        shutil.copyfile(path, newer[-1])
    assert json.loads(drawn(port))['step'] == 4
    assert drawn(port, format='png') == of_2
    for path in newer:
        path.unlink()
    assert json.loads(drawn(port))['step'] == 3


def test_only_local_names_do_without_the_token(port):
    for header, value, of_page, of_model in (
        ('Host', 'evil.example:80', 403, 403),
        ('Host', '127.0.0.1.evil.example', 403, 403),
        ('Host', 'localhost.evil.example', 403, 403),
        ('Host', '', 403, 403),
        ('Host', 'localhost:9000', 200, 200),  # forwarded by SSH
        ('Host', '[::1]:9000', 200, 200),
        ('Host', '127.8.7.6', 200, 200),
        ('Origin', 'http://evil.example', 403, 403),
        ('Origin', 'null', 403, 403),
        ('Origin', 'http://localhost:1', 403, 403),  # another page on this machine
        ('Sec-Fetch-Site', 'cross-site', 200, 403),  # another site links to the page
        ('X-Forwarded-For', '203.0.113.1', 403, 403),  # a proxy speaks for another
        ('Forwarded', 'for=203.0.113.1', 403, 403),
        ('Via', '1.1 proxy', 403, 403),
        ('X-Real-IP', '203.0.113.1', 403, 403),
        ('CF-Connecting-IP', '203.0.113.1', 403, 403),
        ('X-Envoy-External-Address', '203.0.113.1', 403, 403),
        ('X-Token', 'wrong', 200, 200),
    ):
        assert ask(port, '/', **{header: value})[0] == of_page, value
        assert ask(port, '/model', **{header: value})[0] == of_model, value


def test_the_token_is_enough_whatever_a_proxy_does(page):
    port, token = page
    for headers in (
        {'Host': '127.0.0.1:8100', 'Origin': 'https://hub.example.org'},  # bare nginx
        {'Host': 'hub.example.org', 'Origin': 'https://hub.example.org'},  # Jupyter
        {'Host': 'x.ngrok.app', 'X-Forwarded-Proto': 'https', 'Via': '2 x'},
        {'Host': 'pod-8100.proxy.runpod.net', 'Sec-Fetch-Site': 'cross-site'},
        {'Host': '[not a name', 'Origin': 'null'},
        {'Host': 'frontend_upstream', 'Forwarded': 'for=unknown'},
        {'X-Token': 'of another page', 'CF-Ray': '1'},
    ):
        for path in ('/', '/user/x/proxy/8100/', '/model', '/deep/prefix/model'):
            for before in (f'utm=1&{"a=1&" * 20}', 'token=its,own&'):
                for after in ('', '&token=its-own'):
                    query = f'?{before}token={token}{after}'
                    assert ask(port, f'{path}{query}', **headers)[0] == 200, headers
            assert ask(port, path, **headers)[0] in (400, 403), headers
            assert ask(port, f'{path}?token={token}x', **headers)[0] in (400, 403)
        headers = {**headers, 'X-Token': f'own,{token}'}
        status, png = ask(port, content={'format': 'png'}, **headers)
        assert status == 200 and png.startswith(b'\x89PNG')


def test_no_path_of_a_client_is_opened(port):
    names = ['/../page.html', '/%2e%2e/FLAGS.json', '//etc/passwd', '/samples', '/x']
    assert {ask(port, name)[0] for name in names} == {404}
    assert ask(port, '/model', content={})[0] == 404


def raw(port, *pieces):
    """All that comes back for a request in pieces, which ends there."""
    with socket.create_connection(('127.0.0.1', port), timeout=60) as connection:
        with contextlib.suppress(ConnectionError):  # it can answer before it has all
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        return b''.join(iter(lambda: connection.recv(1 << 16), b''))


def test_head_is_get_without_the_content_and_options_says_what_can_be_asked(port):
    for path in ('/', '/model', '/curves.png', '/samples', '/x'):
        request = f' {path} HTTP/1.1\r\nHost: localhost\r\n\r\n'.encode()
        head, _, content = raw(port, b'HEAD', request).partition(b'\r\n\r\n')
        expected, _, body = raw(port, b'GET', request).partition(b'\r\n\r\n')
        assert content == b'' and f'Content-Length: {len(body)}'.encode() in head
        assert head.split()[1] == expected.split()[1]
        for origin in (b'', b'Origin: https://evil.example\r\n'):
            answer = raw(port, b'OPTIONS', request[:-2], origin, b'\r\n')
            assert b' 204 ' in answer and b'Allow: GET, HEAD, POST, OPTIONS' in answer
            assert b'Access-Control' not in answer and answer.endswith(b'\r\n\r\n')
    assert ask(port, '/model', method='DELETE')[0] == 501
    http_1_0 = b'GET /model HTTP/1.0\r\nHost: localhost\r\n\r\n'  # so speaks nginx
    assert b' 403 ' in raw(port, http_1_0) and b' 400 ' in raw(port, b'no HTTP\r\n')


@pytest.mark.parametrize('size', [(4 << 20) + 1, 40 << 20])
def test_an_error_arrives_in_one_line_even_if_the_request_is_not_read(port, size):
    head = 'POST /{} HTTP/1.1\r\nHost: {}\r\nContent-Type: {}\r\n{}\r\n\r\n'
    local, json_type, length = 'localhost', 'application/json', 'Content-Length: '
    for values, status, message in (
        (('samples', local, json_type, f'{length}{size}'), 413, 'at most 4194304'),
        (('samples', local, json_type, length + '9' * 5000), 413, 'at most 4194304'),
        (('samples', local, json_type, f'{length}-1'), 411, 'is missing, or no number'),
        (('samples', local, 'text/plain', f'{length}9'), 415, json_type),
        (('samples', 'evil.example', json_type, f'{length}{size}'), 403, '?token='),
        (('x', local, json_type, f'{length}{size}'), 404, 'not found'),
        (('samples', local, 'x', 'Transfer-Encoding: chunked'), 411, 'is missing'),
    ):
        answer = raw(port, head.format(*values).encode(), bytes(size))
        error = json.loads(answer.partition(b'\r\n\r\n')[2])['error']
        assert int(answer.split()[1]) == status
        assert message in error and '\n' not in error
    assert raw(port, b'PUT / HTTP/1.1\r\n\r\n', bytes(size)).split()[1] == b'501'
    status, body = ask(port, content={'step': 99})
    assert status == 400 and b'no checkpoint of iteration 99' in body


GOOD = (
    b'POST /samples HTTP/1.1\r\nHost: localhost\r\nX-Token: TOKEN\r\n'
    b'Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{"count":3}',
    b'POST /samples HTTP/1.1\r\nHost: x\r\nX-Token: TOKEN\r\nContent-Type: '
    b'application/json\r\nContent-Length: 60\r\n\r\n{"z":[[1,2,3,4,5,6]],"labels":[1],'
    b'"format":"gif","step":2}   ',
    b'GET /directions?step=2&token=TOKEN HTTP/1.0\r\nHost: [::1]:80\r\n\r\n',
    b'HEAD /a/b/model HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n\r\n',
    b'OPTIONS /samples HTTP/1.1\r\nHost: x\r\nVia: 1.1 x\r\nSec-Fetch-Site: x\r\n\r\n',
)
PIECES = [b'', b'\r\n', b'9' * 20, b'[' * 5000, b'\xff', b'%00', b'?token=']
PIECES += [b'"', b'://']


def broken(good, rng):
    """A request with a few mistakes, often without its end."""
    request = bytearray(good)
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(len(request))
        piece = rng.choice([*PIECES, bytes([rng.randrange(256)])])
        request[at : at + rng.randint(0, 3)] = piece
    return request[: rng.randrange(len(request)) if rng.random() < 0.2 else None]


# values of fields, most of which they cannot have
STRANGE = [None, True, -1, 0.5, 1e999, 10**400, 2**53, '', 99 * 'x', '\ud800', [], {}]
STRANGE += [[[]], [True], [10**30], [[1, 2, 3, 4, 5, None]], [6 * ['1']], [6 * [1e5]]]
STRANGE += [[6 * [1e999]], 300 * [[1] * 6], [{}], {'a': [1]}, 'gif', 'npz', [6 * [1]]]


def strange(rng):
    """A whole request with strange values of some fields, or too deep."""
    names = [*Request._fields, 'x\x1b\n']
    fields = {rng.choice(names): rng.choice(STRANGE) for _ in range(rng.randint(1, 3))}
    body = rng.choice([b'', b'', b'', b'[' * 100_000]) + json.dumps(fields).encode()
    head = GOOD[0].partition(b'11\r\n\r\n')[0]
    return b'%b%d\r\n\r\n%b' % (head, len(body), body)


@pytest.mark.parametrize('count', [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_broken_requests_leave_it_serving(page, process, count):
    (port, token), rng = page, random.Random(count)

    def peak():  # of memory, in KiB
        status = Path(f'/proc/{process.pid}/status').read_text()
        return int(re.search(r'VmHWM:\s+(\d+)', status)[1])

    before = peak()
    for i in range(count):
        good = GOOD[i % len(GOOD)].replace(b'TOKEN', token.encode())
        whole = strange(rng).replace(b'TOKEN', token.encode())
        with contextlib.suppress(ConnectionError):
            answer = raw(port, whole if i % 2 else broken(good, rng))
            head, _, content = answer.partition(b'\r\n\r\n')
            status = int(re.match(rb'HTTP/1.0 (\d+) ', head)[1])
            assert status < 500 or status in (501, 505), answer
            assert status < 400 or not content or {'error'} == {*json.loads(content)}
    assert peak() < before + (1 << 20)
    assert ask(port, '/model')[0] == 200 and drawn(port, count=3)


def test_twenty_clients_at_once_get_their_own_pictures(port):
    def draw(seed):
        return drawn(port, seed=seed, count=8, format='png')

    expected = [draw(seed) for seed in range(20)]
    assert len(set(expected)) == 20
    with futures.ThreadPoolExecutor(20) as pool:
        assert [*pool.map(draw, [*range(20)] * 3)] == expected * 3


@pytest.fixture
def hasty(monkeypatch, tmp_path):
    """A server that waits for half a second at once, for two in all."""
    for name, seconds in (('PAUSE', 0.5), ('LINGER', 0.5), ('TOTAL', 2)):
        monkeypatch.setattr(server, name, seconds)
    (tmp_path / 'large').write_bytes(bytes(20 << 20))
    drawer = types.SimpleNamespace(path_of=lambda name: tmp_path / 'large')
    with Server(drawer, '127.0.0.1', 0) as hasty:
        threading.Thread(target=hasty.serve_forever, args=(0.01,)).start()
        yield hasty
        hasty.shutdown()


def wait_until(is_so):
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    'start, more',
    [
        (b'', b''),
        (b'GET / HT', b''),
        (b'POST /samples HTTP/1.1\r\nHost: localhost\r\n', b'X: y\r\n'),
        (b'GET / HTTP/1.1\r\nX: ', b'y'),
        (
            b'POST /samples HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n'
            b'Content-Type: application/json\r\n\r\n',
            b' ',
        ),
    ],
)
def test_a_client_that_takes_too_long_is_told_so(hasty, start, more):
    with socket.create_connection(hasty.server_address, timeout=60) as client:
        client.sendall(start)
        for _ in range(300 if more else 0):
            if select.select([client], [], [], 0.1)[0]:
                break
            client.sendall(more)
        answer = b''.join(iter(lambda: client.recv(1000), b''))
    assert answer.split()[1] == b'408' and b'send a request in 2 s' in answer


@pytest.mark.parametrize('size', [0, 100])
def test_a_client_that_does_not_read_loses_its_connection(hasty, size):
    with mock.patch.multiple(server, PAUSE=60, TOTAL=60):
        assert len(ask(hasty.server_address[1], '/progress.gif')[1]) == 20 << 20
    earlier = {*hasty._held}
    with contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(hasty.server_address)
        client.sendall(b'GET /progress.gif HTTP/1.1\r\nHost: localhost\r\n\r\n')
        wait_until(lambda: {*hasty._held} - earlier)
        (connection,) = {*hasty._held} - earlier
        received = 0
        while connection.fileno() >= 0:
            time.sleep(0.01)
            received += len(client.recv(size))  # slowly
    assert received < 20 << 20


def test_idle_clients_stop_others_for_a_moment_only(hasty, monkeypatch):
    have_all_come, wait_for = threading.Event(), server.Handler._wait_for

    def wait_for_all(*args):
        have_all_come.wait(60)
        return wait_for(*args)

    monkeypatch.setattr(server.Handler, '_wait_for', wait_for_all)
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            silent = socket.create_connection(hasty.server_address)
            stack.enter_context(silent)
            silent.sendall(b'POST /samples HTTP/1.1\r\nHost: localhost\r\n')
        wait_until(lambda: len(hasty._held) == MAX_CONNECTIONS)
        with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
            assert not ask(hasty.server_address[1], '/')  # one too many
        have_all_come.set()
        wait_until(lambda: all(c.fileno() < 0 for c in [*hasty._held]))
        with mock.patch.multiple(server, PAUSE=60, TOTAL=60):
            assert ask(hasty.server_address[1], '/')[0] == 200


def test_another_machine_has_a_part_of_the_connections_and_a_proxy_has_all():
    def admitted(host):
        with Server(None, '[::]', 0) as server, contextlib.ExitStack() as stack:
            new = [stack.enter_context(socket.socket()) for _ in range(70)]
            return [server.verify_request(c, (host, 1)) for c in new]

    for host in ('192.0.2.1', '2001:db8::1', '::ffff:192.0.2.1', 'fe80::1%eth0'):
        assert admitted(host) == [True] * 16 + [False] * 54
    for host in ('127.0.0.1', '127.9.9.9', '::1', '::ffff:127.0.0.1'):
        assert admitted(host) == [True] * 64 + [False] * 6


def test_the_page_loads_nothing_from_elsewhere_and_only_the_token_lets_it_in(page):
    port, token = page
    for query in ('', f'?token={token}'):
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/{query}') as response:
            policy, text = response.headers['Content-Security-Policy'], response.read()
        assert "default-src 'none'" in policy and 'unsafe' not in policy
        assert ("frame-ancestors 'none'" in policy) == (not query)
        (nonce,) = set(re.findall(r'nonce="([^"]+)"', text.decode()))
        assert f"'nonce-{nonce}'" in policy
        assert b'http:' not in text and b'https:' not in text


def test_other_machines_need_the_token_until_ctrl_c(workspace):
    with served(workspace, '--page_host', '0.0.0.0') as (process, port, query):
        assert 'the page is open to other machines' in process.output()
        assert f'/proxy/{port}/{query}\n' in process.output()
        assert f' https://NAME/PATH/{query}\n' in process.output()
        token = query.removeprefix('?token=')
        assert len(token) > 16
        for wrong in ({}, {'X-Token': 'x'}, {'X-Token': 'é'}):
            assert ask(port, '/model', **wrong)[0] == 403
        assert ask(port, '/model', **{'X-Token': token})[0] == 200
        assert ask(port, f'/?token={token}')[0] == 200
        assert ask(port, '/')[0] == 403
        silent = socket.create_connection(('127.0.0.1', port))
    silent.close()


@pytest.mark.parametrize('part', ['(ready', 'Jupyter', 'PATH'])
def test_ctrl_c_ends_a_page_as_soon_as_its_address_is_read(workspace, part):
    with interrupting('dcgan.page.server', part):
        args = ['--out_name', 'set', '--page', '--page_port', 0]
        result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 0 and result.stdout.endswith('The page has ended\n')


@pytest.mark.parametrize(
    'host, shown',
    [
        ('LocalHost', 'LocalHost'),
        ('0x7f000001', '0x7f000001'),
        ('::ffff:127.1.2.3', '[::ffff:127.1.2.3]'),
        ('0', None),
        ('', None),
        ('[::]', None),
    ],
)
def test_an_address_is_of_this_machine_by_what_it_means(host, shown):
    with Server(None, host, 0) as server:
        assert server.is_local == bool(shown)
        name = shown or socket.gethostname()
        assert server.address().startswith(f'http://{name}:')
        assert ('?token=' in server.address()) == (not shown)


def test_a_port_in_use_is_named_or_left_to_others():
    with Server(None, '127.0.0.1', None) as server:
        used = server.server_address[1]
        with pytest.raises(UserError, match=f'port {used}: .*; give another host'):
            Server(None, '127.0.0.1', used)
        with (
            mock.patch('dcgan.page.server.PORTS', range(used, used + 100)),
            Server(None, '127.0.0.1', None) as other,
        ):
            assert other.server_address[1] > used


@pytest.mark.slow
def test_the_page_follows_a_run_that_is_training(workspace):
    args = ['--train', '--epoch', 10000, '--dataset', 'set', '--ckpt_freq', 5, *SMALL]
    with start('main.py', *args, '--out_name', 'long', cwd=workspace) as training:
        while not [*workspace.glob('out/long/checkpoint/*.index')]:
            assert training.is_alive, training.wait().stderr
            time.sleep(0.1)
        with served(workspace, '--out_name', 'long') as (_, port, _):
            steps = set()
            while len(steps) < 3:
                assert training.is_alive
                steps.add(json.loads(drawn(port))['step'])
