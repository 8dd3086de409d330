"""The page's server: what it draws, whom it refuses, what it survives."""

import contextlib
import http.client
import io
import json
import random
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SMALL,
    clean_environment,
    command,
    printed_paths,
    run_in_process,
    write_idx_set,
)
from PIL import Image

TRAIN = ['--train', *SMALL, '--epoch', 1, '--seed', 1, '--ckpt_freq', 1]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with a run of 4 classes, 16x16 pixels and the iterations 1 to 3."""
    return train_run(tmp_path_factory.mktemp('workspace'))


def train_run(folder):
    """Train that run in a folder; returns the folder."""
    write_idx_set(folder / 'data' / 'set', count=24, size=16)
    args = ['--dataset', 'set', '--out_name', 'run', '--max_to_keep', 0]
    result = run_in_process(*TRAIN, *args, '--sample_freq', 1, cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


@contextlib.contextmanager
def served(workspace, *args):
    """(process, lines that it prints, address) of a page; ended by Ctrl-C."""
    process = subprocess.Popen(
        command('main.py', '--dataset', 'set', '--page', *args),
        cwd=workspace,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines, found = [], None
    try:
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r'http://(\S+?):(\d+)/(\S*) \(ready', line):
                break
        assert found, process.stderr.read()
        yield process, lines, found
        assert process.poll() is None, process.stderr.read()
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.communicate()


@pytest.fixture(scope='module')
def port(workspace):
    """The port of a page."""
    with served(workspace, '--page_port', 0) as (_, _, found):
        yield int(found[2])


def ask(port, path='/samples', content=None, method=None, **headers):
    """(status, body) of a request; `content` is what is sent as JSON."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    if content is not None:
        headers.setdefault('Content-Type', 'application/json')
    method = method or ('GET' if content is None else 'POST')
    with contextlib.closing(connection):
        connection.request(method, path, None if content is None else body, headers)
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


def test_samples_of_a_seed_equal_the_command_lines(workspace, port):
    args = ['--seed', 7, '--generate_test_images', 20, '--label', '2,0', '--npz']
    png, npz = run_main(workspace, '--dataset', 'set', *args)
    request = {'seed': 7, 'count': 20, 'labels': [2, 0]}
    assert drawn(port, **request, format='png') == png
    assert drawn(port, **request, format='npz') == npz
    answer = json.loads(drawn(port, **request))
    arrays = np.load(io.BytesIO(npz))
    assert np.array_equal(np.float32(answer['z']), arrays['z'])
    assert answer['labels'] == arrays['labels'].tolist() and answer['step'] == 3


def test_samples_of_z_equal_the_command_lines(workspace, port):
    z = np.random.RandomState(0).uniform(-1, 1, (7, 6)).tolist()
    request = {'z': z, 'labels': [1], 'columns': 5, 'step': 2}
    (workspace / 'z.npz').write_bytes(drawn(port, **request, format='npz'))
    args = ['--z_file', 'z.npz', '--sheet_columns', 5, '--resume_step', 2]
    (png,) = run_main(workspace, '--dataset', 'set', *args)
    assert drawn(port, **request, format='png') == png
    assert drawn(port, **{**request, 'step': 3}, format='png') != png


def test_an_animation_has_an_image_for_each_z(port):
    gif = drawn(port, seed=1, count=9, format='gif', milliseconds=50)
    with Image.open(io.BytesIO(gif)) as animation:
        assert animation.n_frames == 9 and animation.info['duration'] == 50


def test_the_page_learns_what_the_run_is(workspace, port):
    status, body = ask(port, '/model')
    model = json.loads(body)
    assert status == 200 and model['steps'] == [1, 2, 3]
    assert model['classes'] == ['0', '1', '2', '3'] and model['z_dim'] == 6
    assert model['command'] == 'python main.py --dataset set --out_name run'
    assert model['files'] == ['curves.png']


def test_directions_are_principal_components_of_the_first_layer(port):
    status, body = ask(port, '/directions?step=2')
    vectors = np.array(json.loads(body)['vectors'])
    assert status == 200 and vectors.shape == (6, 6)
    assert np.allclose(vectors @ vectors.T, np.eye(6), atol=1e-6)
    shares = json.loads(body)['shares']
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-6


def test_an_older_request_of_a_client_is_dropped(port):
    drawn(port, client='a', number=5)
    assert ask(port, content={'client': 'a', 'number': 3})[0] == 409
    drawn(port, client='b', number=3)
    drawn(port, client='a', number=6)


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'send an object in JSON'),
        (b'[' * 100_000, 'send an object in JSON'),
        ([1], 'send an object in JSON'),
        ({'zz': 1}, "'zz' is unknown"),
        ({'z': []}, 'z has to be a list of 1 to 256 lists'),
        ({'z': [[0] * 5]}, 'each list has to have 6 numbers'),
        ({'z': [[0] * 5 + ['1']]}, 'each list has to have 6 numbers'),
        (b'{"z": [[0, 0, 0, 0, 0, NaN]]}', 'NaN is not a finite number'),
        (b'{"z": [[0, 0, 0, 0, 0, 1e999]]}', 'between -10000 and 10000'),
        ({'count': 257}, 'count has to be a whole number from 1 to 256'),
        ({'count': True}, 'count has to be a whole number'),
        ({'seed': -1}, 'seed has to be a whole number from 0 to 4294967295'),
        ({'labels': [4]}, 'the classes of this model are 0 to 3'),
        ({'labels': []}, 'labels has to be a list'),
        ({'step': 99}, 'iteration 99'),
        ({'format': '../x'}, 'format has to be one of json, png, npz, gif'),
        ({'columns': 0}, 'columns has to be a whole number'),
        ({'client': 'x' * 65}, 'client has to be a text'),
    ],
)
def test_bad_requests_get_one_line_that_says_why(port, content, message):
    status, body = ask(port, content=content)
    error = json.loads(body)['error']
    assert status == 400 and message in error and '\n' not in error


@pytest.mark.parametrize(
    'headers, status',
    [
        ({'Host': 'evil.example:80'}, 403),
        ({'Host': '127.0.0.1.evil.example'}, 403),
        ({'Host': 'localhost:9000'}, 200),  # forwarded by SSH
        ({'Origin': 'http://evil.example'}, 403),
        ({'Origin': 'null'}, 403),
    ],
)
def test_only_the_page_itself_is_answered(port, headers, status):
    assert ask(port, '/model', **headers)[0] == status
    assert ask(port, '/', **headers)[0] == status


def test_other_sites_cannot_send_a_form(port):
    assert ask(port, content={}, **{'Content-Type': 'text/plain'})[0] == 415
    assert ask(port, '/samples', method='OPTIONS')[0] == 501


@pytest.mark.parametrize(
    'path', ['/../page.html', '/%2e%2e/FLAGS.json', '/FLAGS.json', '//etc/passwd', '/x']
)
def test_no_path_of_a_client_is_opened(port, path):
    assert ask(port, path)[0] == 404


def test_requests_have_a_largest_size(port):
    assert ask(port, content={}, **{'Content-Length': str((1 << 22) + 1)})[0] == 413


def test_two_hundred_broken_requests_leave_it_serving(port):
    rng = random.Random(1)
    good = b'POST /samples HTTP/1.1\r\nHost: localhost\r\n'
    good += b'Content-Type: application/json\r\nContent-Length: 11\r\n\r\n{"count":3}'
    for i in range(200):
        broken = bytearray(good)
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(len(broken))
            piece = rng.choice([b'', bytes([rng.randrange(256)]), b'\r\n', b'9' * 20])
            broken[at : at + rng.randint(0, 3)] = piece
        broken = broken[: rng.randrange(len(broken))] if i % 5 == 0 else broken
        with socket.create_connection(('127.0.0.1', port), timeout=30) as connection:
            connection.sendall(broken)
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                answer = connection.recv(100)
                assert not answer.startswith(b'HTTP/1.0 500')
    assert ask(port, '/model')[0] == 200 and drawn(port, count=3)


def test_twenty_clients_at_once_get_their_own_pictures(port):
    expected = [drawn(port, seed=seed, count=8, format='png') for seed in range(20)]
    assert len(set(expected)) == 20
    got = {}

    def draw(seed):
        for _ in range(3):
            got[seed] = drawn(port, seed=seed, count=8, format='png')

    threads = [threading.Thread(target=draw, args=[seed]) for seed in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [got[seed] for seed in range(20)] == expected


def test_a_client_that_sends_nothing_does_not_stop_others(port):
    with socket.create_connection(('127.0.0.1', port)) as silent:
        silent.sendall(b'POST /samples HTTP/1.1\r\nHost: localhost\r\n')
        assert drawn(port, count=1)


def test_the_page_loads_nothing_from_elsewhere(port):
    connection = http.client.HTTPConnection('127.0.0.1', port)
    connection.request('GET', '/')
    response = connection.getresponse()
    policy, page = response.headers['Content-Security-Policy'], response.read().decode()
    assert "default-src 'none'" in policy and 'unsafe' not in policy
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', page))
    assert f"'nonce-{nonce}'" in policy
    assert 'http:' not in page and 'https:' not in page


def test_ctrl_c_ends_it(workspace):
    with served(workspace, '--page_port', 0) as (process, _, found):
        drawn(int(found[2]), count=1)
        silent = socket.create_connection(('127.0.0.1', int(found[2])))
    assert process.returncode == 0
    silent.close()


def test_other_machines_need_the_token(workspace):
    args = ['--page_host', '0.0.0.0', '--page_port', 0]
    with served(workspace, *args) as (_, lines, found):
        assert any('other machines can open the page' in line for line in lines)
        port, token = int(found[2]), found[3].removeprefix('?token=')
        assert len(token) > 16
        for wrong in ({}, {'X-Token': 'x'}, {'X-Token': 'é'}):
            assert ask(port, '/model', **wrong)[0] == 403
        assert ask(port, '/model', **{'X-Token': token})[0] == 200
        assert ask(port, f'/?token={token}')[0] == 200
        assert ask(port, '/')[0] == 403


def test_a_port_in_use_is_named(workspace, port):
    result = run_in_process(
        *('--dataset', 'set', '--page', '--page_port', port), cwd=workspace
    )
    assert result.returncode == 1
    assert f'port {port}: ' in result.stderr and '--page_port' in result.stderr


def test_the_page_follows_a_run_that_is_training(workspace):
    args = ['--dataset', 'set', '--out_name', 'long', '--ckpt_freq', 5]
    training = subprocess.Popen(
        command(
            'main.py', '--train', *map(str, SMALL), '--epoch', '10000', *map(str, args)
        ),
        cwd=workspace,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        folder = workspace / 'out' / 'long' / 'checkpoint'
        deadline = time.monotonic() + 120
        while not list(folder.glob('*.index')) and time.monotonic() < deadline:
            time.sleep(0.2)
        with served(workspace, '--out_name', 'long', '--page_port', 0) as (_, _, found):
            steps = set()
            while len(steps) < 3 and time.monotonic() < deadline:
                steps.add(json.loads(drawn(int(found[2])))['step'])
            assert len(steps) == 3
    finally:
        training.send_signal(signal.SIGINT)
        training.wait(60)
