"""A page to explore what a model has learned: its server, and what draws for it.

page.html is the page. What it asks for, and what other programs may ask for, stands in
docs/page.md.
"""

import base64
import collections
import hmac
import http.server
import io
import ipaddress
import json
import os
import secrets
import shlex
import signal
import threading
import time
import urllib.parse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dcgan.checkpoints import checkpoints, newest_checkpoint, step_of
from dcgan.errors import Interrupted, UserError
from dcgan.export import sampled_weights
from dcgan.files import file_signature
from dcgan.images import grid_image, write_gif
from dcgan.runs import class_names_in
from dcgan.samples import arrays_in, draw_batches, gen_random, grid_size
from dcgan.settings import MODEL_FLAGS

FIRST_PORT, PORTS = 8100, 20  # without --page_port, the first of these that is free
MAX_SAMPLES = 256  # of a request
MAX_BYTES = 1 << 22  # of a request
MAX_Z = 1e4  # of a number of z
MAX_CONNECTIONS = 64  # at once
MAX_CLIENTS = 1000  # whose last request is remembered
SECONDS_TO_SEND = 30  # that a client has for its request
DIRECTIONS = 8  # principal components
# flags that say which run it is, and what model
OF_RUN = [*MODEL_FLAGS, 'out_dir', 'out_name', 'checkpoint_dir', 'noema']
FORMATS = {
    'json': 'application/json',
    'png': 'image/png',
    'npz': 'application/octet-stream',
    'gif': 'image/gif',
}
FILES = {'curves.png': 'image/png', 'progress.gif': 'image/gif'}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Refused(Exception):
    """A request that is not answered as asked: HTTP status, and why in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Request(NamedTuple):
    """What samples to draw, checked."""

    z: np.ndarray | None  # float32 [n, z_dim]; None: drawn with the seed
    seed: int
    count: int
    labels: np.ndarray  # of the samples, [n]; -1 without classes
    step: int | None  # of the checkpoint; None: the newest
    columns: int | None  # of the grid; None: a square
    format: str
    milliseconds: int  # of each image of an animation
    client: str  # only the last request of a client is answered; '': all are
    number: int  # of the request, which rises


def parse(body: bytes, z_dim: int, classes: int | None) -> Request:
    """Check a request. Raises Refused for what does not fit the model or the limits."""
    try:
        fields = json.loads(body, parse_constant=lambda name: _refuse(f'has {name}'))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        _refuse('send an object in JSON, such as {"seed": 1, "count": 16}')
    known = {'z', 'seed', 'count', 'labels', 'step', 'columns', 'format'}
    known |= {'milliseconds', 'client', 'number'}
    if unknown := sorted(fields.keys() - known):
        _refuse(f'{unknown[0][:40]!r} is unknown; use {", ".join(sorted(known))}')

    def whole(name, default, least, most):
        value = fields.get(name)
        if value is None:
            return default
        if type(value) is not int or not least <= value <= most:
            _refuse(f'{name} has to be a whole number from {least} to {most}')
        return value

    z = _parse_z(fields['z'], z_dim) if 'z' in fields else None
    count = whole('count', 1, 1, MAX_SAMPLES) if z is None else len(z)
    labels = fields.get('labels')
    if labels is not None and not _is_list_of(labels, int, 1, MAX_SAMPLES):
        _refuse(f'labels has to be a list of 1 to {MAX_SAMPLES} whole numbers')
    if labels and not all(0 <= label < (classes or 0) for label in labels):
        has = f'are 0 to {classes - 1}' if classes else 'do not exist'
        _refuse(f'labels: the classes of this model {has}')
    labels = labels or (range(classes) if classes else [-1])
    name, client = fields.get('format', 'json'), fields.get('client', '')
    if not isinstance(name, str) or name not in FORMATS:
        _refuse(f'format has to be one of {", ".join(FORMATS)}')
    if not isinstance(client, str) or len(client) > 64:
        _refuse('client has to be a text of at most 64 characters')
    return Request(
        z,
        whole('seed', 0, 0, 2**32 - 1),
        count,
        np.resize(list(labels), count),
        whole('step', None, 0, 2**62),
        whole('columns', None, 1, MAX_SAMPLES),
        name,
        whole('milliseconds', 100, 20, 10_000),
        client,
        whole('number', 0, 0, 2**53),
    )


def _refuse(reason):
    raise Refused(400, reason)


def _is_list_of(value, types, least, most):
    is_list = isinstance(value, list) and least <= len(value) <= most
    return is_list and all(type(v) in np.atleast_1d(types) for v in value)


def _parse_z(rows, z_dim):
    numbers = [int, float]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_SAMPLES:
        _refuse(f'z has to be a list of 1 to {MAX_SAMPLES} lists')
    if not all(_is_list_of(row, numbers, z_dim, z_dim) for row in rows):
        _refuse(f'z: each list has to have {z_dim} numbers')
    if not all(abs(value) <= MAX_Z for row in rows for value in row):
        _refuse(f'z: numbers have to be between -{MAX_Z:g} and {MAX_Z:g}')
    return np.array(rows, np.float32)


class Painter:
    """Draws by a trained model and the checkpoints of its run, for one at a time."""

    def __init__(self, dcgan, config, command: list[str]):
        """command: arguments of main.py that use the same run, for people to repeat."""
        self.dcgan, self.config, self.command = dcgan, config, command
        self.names = class_names_in(config.out_dir)
        self.is_drawing = threading.Lock()  # TensorFlow and NumPy's random numbers
        self._noting = threading.Lock()
        self._numbers: collections.OrderedDict[str, int] = collections.OrderedDict()
        self._loaded: tuple | None = None  # path, and signature of the checkpoint
        self._directions: list | None = None  # of that checkpoint

    def about(self) -> dict[str, Any]:
        """What the page has to know of the model and its run."""
        dcgan, config = self.dcgan, self.config
        paths = checkpoints(config.checkpoint_dir)
        names = self.names or list(map(str, range(dcgan.y_dim or 0)))
        return {
            'dataset': config.dataset,
            'run': os.path.basename(os.path.normpath(config.out_dir)),
            'z_dim': dcgan.z_dim,
            'z_dist': config.z_dist,
            'height': dcgan.output_height,
            'width': dcgan.output_width,
            'classes': names[: dcgan.y_dim or 0],
            'steps': sorted(
                {step_of(p) for p in paths if os.path.exists(f'{p}.index')}
            ),
            'files': [name for name in FILES if os.path.exists(self.path_of(name))],
            'command': f'python main.py {shlex.join(self.command)}',
            'max_samples': MAX_SAMPLES,
        }

    def path_of(self, name: str) -> str:
        """The path of one of FILES."""
        folder = self.config.out_dir if name == 'curves.png' else self.config.sample_dir
        return os.path.join(folder, name)

    def directions(self, step: int | None) -> dict[str, Any]:
        """Unit vectors of z along which the response of G's first layer varies most.

        Its principal components, for z whose dimensions are independent and vary alike:
        then they are the left singular vectors of the layer's weights. With each goes
        its share of the variance.
        """
        with self.is_drawing:
            step = self._load(step)
            if self._directions is None:
                weights = sampled_weights(self.dcgan)['generator/g_h0_lin/Matrix']
                rows = self.dcgan.sess.run(weights)[: self.dcgan.z_dim]
                values, vectors = np.linalg.eigh(np.float64(rows @ rows.T))
                vectors = vectors.T[::-1][:DIRECTIONS]
                largest = np.abs(vectors).argmax(1)[:, None]
                vectors *= np.sign(np.take_along_axis(vectors, largest, 1))
                shares = values[::-1][:DIRECTIONS] / max(values.sum(), 1e-30)
                self._directions = [vectors.tolist(), shares.tolist()]
            vectors, shares = self._directions
            return {'step': step, 'vectors': vectors, 'shares': shares}

    def draw(self, request: Request) -> bytes:
        """Draw samples, in the format of the request.

        Raises Refused for a request that a later one of its client has replaced, and
        UserError for a checkpoint that does not exist.
        """
        self._note(request)
        with self.is_drawing:
            if request.number < self._numbers.get(request.client, 0):
                raise Refused(409, 'out of date: a later request has replaced it')
            step, z = self._load(request.step), request.z
            if z is None:
                np.random.seed(request.seed)
                shape = (request.count, self.dcgan.z_dim)
                z = gen_random(self.config.z_dist, shape).astype(np.float32)
            batches = draw_batches(
                self.dcgan.sess, self.dcgan, z, request.labels, as_bytes=True
            )
            images = np.concatenate(list(batches))
        return encode(request, step, z, images)

    def _note(self, request):
        """Remember the number of a client's last request."""
        if not request.client:
            return
        with self._noting:
            last = self._numbers.pop(request.client, 0)
            self._numbers[request.client] = max(last, request.number)
            while len(self._numbers) > MAX_CLIENTS:
                self._numbers.popitem(last=False)

    def _load(self, step):
        """Use the weights of that iteration, or of the newest; returns its number."""
        folder = self.config.checkpoint_dir
        paths = checkpoints(folder)
        if step is not None:
            paths = [path for path in paths if step_of(path) == step]
        if paths and _signed(paths[0]) == self._loaded:
            return step_of(paths[0])  # without reading it: that takes 60 ms
        path = newest_checkpoint(folder, step)
        if path is None:
            raise UserError(f'{folder}: has no checkpoint any more')
        self._loaded = self._directions = None
        loaded = _signed(path)
        _, step = self.dcgan.load(folder, step, path)
        self._loaded = loaded
        return step


def _signed(path):
    """A checkpoint, and what changes when its files do."""
    return path, file_signature(f'{path}.index')


def encode(request: Request, step: int, z: np.ndarray, images: np.ndarray) -> bytes:
    """Samples in the format of the request.

    step    of the checkpoint that has drawn them
    z       float32 [n, z_dim]
    images  uint8 [n, h, w, c]
    """
    file = io.BytesIO()
    if request.format == 'gif':
        frames = (Image.fromarray(i[..., 0] if i.shape[2] == 1 else i) for i in images)
        write_gif(frames, file, request.milliseconds)
    elif request.format == 'npz':
        arrays = {'images': images, 'labels': request.labels.astype(np.int64), 'z': z}
        with zipfile.ZipFile(file, 'w') as archive:
            for name, array in arrays.items():
                with arrays_in(archive)(name, array.shape, array.dtype) as write:
                    write(array)
    else:
        size = grid_size(len(images), request.columns)
        grid_image(images, size).save(file, 'PNG')
    if request.format != 'json':
        return file.getvalue()
    answer = {
        'step': step,
        'columns': size[1],
        'labels': request.labels.tolist(),
        'z': z.tolist(),
        'png': base64.b64encode(file.getvalue()).decode(),
    }
    return json.dumps(answer).encode()


class Server(http.server.ThreadingHTTPServer):
    """Serves the page, and what a Painter draws, to those who may ask.

    Anybody on this machine, by a local name; on others, who has the token.
    """

    daemon_threads, request_queue_size = True, MAX_CONNECTIONS

    def __init__(self, painter: Painter, host: str, port: int):
        self.painter, self.host, self.is_local = painter, host, _is_local(host)
        self.token = '' if self.is_local else secrets.token_urlsafe(16)
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if ':' in host:
            self.address_family = http.server.socket.AF_INET6
        super().__init__((host, port), Handler)

    @property
    def address(self) -> str:
        """The address of the page."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        token = f'?token={self.token}' if self.token else ''
        return f'http://{host}:{self.server_port}/{token}'

    def is_own_name(self, host: str) -> bool:
        """Whether a request may name this server so, in its header Host."""
        name = urllib.parse.urlsplit(f'//{host}').hostname or ''
        return not self.is_local or _is_local(name)

    def process_request(self, request, client_address):
        """Answer in a thread of its own, while there are not too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        """Answer, in the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request, client_address):
        """A client that has gone, which is no matter."""


def _is_local(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version, server_version, sys_version = 'HTTP/1.1', 'DCGAN', ''
    timeout = SECONDS_TO_SEND
    wbufsize = -1  # an answer in one piece: two would wait for each other, for 40 ms
    server: Server

    def do_GET(self):
        self._answer({'/': self._page, '/model': self._model, **self._files()})

    def do_POST(self):
        self._answer({'/samples': self._samples})

    def _files(self):
        answers: dict[str, Callable] = {'/directions': self._directions}
        for name in FILES:
            answers[f'/{name}'] = lambda query, name=name: self._file(name)
        return answers

    def _answer(self, answers):
        """Send what one of `answers`, {path: function of the query}, returns."""
        try:
            address = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(address.query, max_num_fields=8)
            self._check(query)
            if address.path not in answers:
                raise Refused(404, 'not found; see docs/page.md')
            status, (kind, content) = 200, answers[address.path](query)
        except Refused as error:
            status, kind, content = error.status, *_error(error)
        except (UserError, ValueError) as error:
            status, kind, content = 400, *_error(error)
        except OSError:
            self.close_connection = True  # the client has gone, or is too slow
            return
        except Exception as error:
            status, kind, content = 500, *_error(error)
        self._send(status, kind, content)

    def _check(self, query):
        """Raise Refused where the request is not from the page, or has no token."""
        server, hosts = self.server, self.headers.get_all('Host', [])
        if len(hosts) != 1 or not server.is_own_name(hosts[0]):
            raise Refused(403, f'open the page by its address, {server.host}')
        origin = self.headers.get('Origin')
        if origin is not None and origin != f'http://{hosts[0]}':
            raise Refused(403, 'another site cannot use this page')
        given = self.headers.get('X-Token') or query.get('token', [''])[0]
        is_right = hmac.compare_digest(given.encode(), server.token.encode())
        if server.token and not is_right:
            raise Refused(403, 'the token is missing, or wrong')

    def _send(self, status, kind, content):
        if status >= 400:  # what the client still sends is not read
            self.close_connection = True
        nonce = secrets.token_urlsafe(16)
        if kind.startswith('text/html'):
            content = content.replace(b'{{nonce}}', nonce.encode())
        self.send_response(status)
        headers = {
            'Content-Type': kind,
            'Content-Length': str(len(content)),
            'Content-Security-Policy': POLICY.format(nonce),
            'X-Content-Type-Options': 'nosniff',
            'Referrer-Policy': 'no-referrer',
            'Cross-Origin-Resource-Policy': 'same-origin',
            'Cache-Control': 'no-store',
        }
        if self.close_connection:
            headers['Connection'] = 'close'
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _page(self, query):
        return 'text/html; charset=utf-8', Path(__file__).with_suffix(
            '.html'
        ).read_bytes()

    def _model(self, query):
        return FORMATS['json'], json.dumps(self.server.painter.about()).encode()

    def _directions(self, query):
        step = query.get('step', [''])[0]
        if step and not (step.isdecimal() and len(step) < 19):
            raise Refused(400, 'step has to be a whole number')
        directions = self.server.painter.directions(int(step) if step else None)
        return FORMATS['json'], json.dumps(directions).encode()

    def _file(self, name):
        try:
            return FILES[name], Path(self.server.painter.path_of(name)).read_bytes()
        except FileNotFoundError as error:
            raise Refused(404, f'this run has no {name}') from error

    def _samples(self, query):
        length = self.headers.get('Content-Length', '')
        if not (length.isdecimal() and len(length) < 19):
            raise Refused(411, 'the header Content-Length is missing, or no number')
        if int(length) > MAX_BYTES:
            raise Refused(413, f'a request has at most {MAX_BYTES} bytes')
        if self.headers.get_content_type() != 'application/json':
            raise Refused(415, 'send Content-Type: application/json')
        painter = self.server.painter
        body = self.rfile.read(int(length))
        request = parse(body, painter.dcgan.z_dim, painter.dcgan.y_dim)
        return FORMATS[request.format], painter.draw(request)

    def log_message(self, format, *args):
        """Requests are not printed."""


def _error(error):
    line = ' '.join(str(error).split())[:300] or type(error).__name__
    return FORMATS['json'], json.dumps({'error': line}).encode()


def run_arguments(config, flags) -> list[str]:
    """Arguments with which main.py uses the run of config, as this process does."""
    given = [name for name in OF_RUN if flags[name].present]
    values = {name: getattr(config, name) for name in given}
    values['dataset'] = config.dataset
    if 'out_dir' in given:
        values['out_dir'] = flags['out_dir'].value
    if not {'out_name', 'checkpoint_dir'} & set(given):  # the newest run of today
        values['out_name'] = os.path.basename(os.path.normpath(config.out_dir))
    arguments = []
    for name, value in values.items():
        if isinstance(value, bool):
            arguments.append(f'--{name}' if value else f'--no{name}')
        else:
            arguments += [f'--{name}', str(value)]
    return arguments


def open_server(painter: Painter, host: str, port: int | None) -> Server:
    """A Server on a port, or on the first one that is free.

    Raises UserError where it cannot listen there.
    """
    ports = range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]
    for number in ports:
        try:
            return Server(painter, host, number)
        except OSError as error:
            reason = error.strerror or str(error)
    where = f'{ports[0]} to {ports[-1]}' if port is None else str(port)
    raise UserError(
        f'--page_host {host}, port {where}: {reason}; give another --page_port'
    )


def serve(dcgan, config, flags) -> None:
    """Serve the page until Ctrl-C. Raises UserError where it cannot be served."""
    painter = Painter(dcgan, config, run_arguments(config, flags))
    with open_server(painter, config.page_host, config.page_port) as server:
        start = time.perf_counter()
        painter.draw(parse(b'{}', dcgan.z_dim, dcgan.y_dim))  # compiles what draws
        painter.draw(parse(b'{}', dcgan.z_dim, dcgan.y_dim))
        if not server.is_local:
            print(
                f' [!] {config.page_host}: other machines can open the page, if they '
                'know the token in its address, which travels unencrypted',
                flush=True,
            )
        print(
            f' [*] {server.address} (ready in {time.perf_counter() - start:.1f} s; '
            'Ctrl-C ends it)',
            flush=True,
        )
        try:
            server.serve_forever()
        except Interrupted as interrupted:
            if interrupted.number != signal.SIGINT:
                raise
            print(' [*] The page has ended', flush=True)
        finally:
            painter.is_drawing.acquire()  # until the end: the session closes
