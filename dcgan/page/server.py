"""Serve the page, page.html, and answer its requests, which docs/page.md describes."""

import http.server
import ipaddress
import json
import os
import secrets
import signal
import socket
import socketserver
import threading
import time
import urllib.parse
from pathlib import Path

from dcgan.page.drawing import Drawer
from dcgan.page.requests import FILES, FORMATS, Refused, parse
from dcgan.util.errors import Interrupted, UserError, short_reason
from dcgan.util.flags import Flag, Flags, Group
from dcgan.util.output import print_line

PORTS = range(8100, 8120)  # without --page_port, the first of these that is free
MAX_BYTES = 1 << 22  # in a request
MAX_CONNECTIONS = 64  # at once
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Server(socketserver.ThreadingTCPServer):
    """Serves the page. If other machines can open it, every client needs the token."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, drawer: Drawer, host: str, port: int | None):
        """port None: the first of PORTS that is free. UserError if none is."""
        self.drawer, self.host, self.is_local = drawer, host, _is_local(host)
        self.token = '' if self.is_local else secrets.token_urlsafe(16)
        if ':' in host:
            self.address_family = socket.AF_INET6
        for number in PORTS if port is None else [port]:
            try:
                return super().__init__((host, number), Handler)
            except OSError as error:
                reason = short_reason(error)
        where = f'{PORTS[0]} to {PORTS[-1]}' if port is None else port
        raise UserError(
            f'--page_host {host}, port {where}: {reason}; give another --page_port'
        )

    def address(self) -> str:
        """The address of the page."""
        is_any = self.host in ('', '0.0.0.0', '::')  # all interfaces
        host = socket.gethostname() if is_any else self.host
        host = f'[{host}]' if ':' in host else host
        token = f'?token={self.token}' if self.token else ''
        return f'http://{host}:{self.server_address[1]}/{token}'

    def verify_request(self, request, client_address):
        """Whether to answer, in a new thread: not if there are MAX_CONNECTIONS."""
        return threading.active_count() <= MAX_CONNECTIONS

    def handle_error(self, request, client_address):
        """Ignore clients that have disconnected."""


def _is_local(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the one request of a connection."""

    server_version, sys_version = 'DCGAN', ''
    timeout = 30  # seconds in which a client has to send more of its request
    wbufsize = -1  # send answers in one piece; a second piece would wait 40 ms

    def send_error(self, code, message=None, explain=None):
        """Answer with an error in one line of JSON."""
        line = ' '.join((message or 'this is no HTTP request').split())[:300]
        self._send(int(code), *_json({'error': line}))

    def do_GET(self):
        try:
            address = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(address.query, max_num_fields=8))
            self._check(address.path, query)
            answer = self._content(address.path, query)
        except (ConnectionError, TimeoutError):
            pass  # the client has gone, or is too slow
        except Exception as error:
            is_request = isinstance(error, ValueError)  # as a UserError is
            status = getattr(error, 'status', 400 if is_request else 500)
            self.send_error(status, str(error) or type(error).__name__)
        else:
            self._send(200, *answer)

    do_POST = do_GET

    def _content(self, path, query):
        """The media type and the bytes of an answer."""
        drawer, is_get = self.server.drawer, self.command == 'GET'
        if is_get and path == '/':
            page = Path(__file__).with_name('page.html')
            return 'text/html; charset=utf-8', page.read_bytes()
        if is_get and path == '/model':
            return _json(drawer.about())
        if is_get and path == '/directions':
            step = query.get('step')
            if step and not step.isdecimal():
                raise Refused(400, 'step has to be a whole number')
            return _json(drawer.directions(step and int(step)))
        if is_get and path[1:] in FILES:
            try:
                return FILES[path[1:]], Path(drawer.path_of(path[1:])).read_bytes()
            except FileNotFoundError as error:
                raise Refused(404, f'this run has no {path[1:]}') from error
        if is_get or path != '/samples':
            raise Refused(404, 'not found; see docs/page.md')
        length = self.headers.get('Content-Length', '')
        if not length.isdecimal():
            raise Refused(411, 'the header Content-Length is missing, or no number')
        if int(length) > MAX_BYTES:
            raise Refused(413, f'a request has at most {MAX_BYTES} bytes')
        if self.headers.get_content_type() != 'application/json':
            raise Refused(415, 'send Content-Type: application/json')
        body = self.rfile.read(int(length))
        request = parse(body, drawer.dcgan.z_dim, drawer.dcgan.y_dim)
        return FORMATS[request.format], drawer.draw(request)

    def _check(self, path, query):
        """Raise Refused if another site sends the request, or the token is missing."""
        server, hosts = self.server, self.headers.get_all('Host', [''])
        name = urllib.parse.urlsplit(f'//{hosts[0]}').hostname or ''
        if len(hosts) != 1 or (server.is_local and not _is_local(name)):
            raise Refused(403, f'open the page by its address, {server.host}')
        own = f'http://{hosts[0]}'
        is_foreign = self.headers.get('Sec-Fetch-Site') == 'cross-site'
        is_link = path == '/'  # another site may link to the page
        if self.headers.get('Origin', own) != own or (is_foreign and not is_link):
            raise Refused(403, 'another site cannot use this page')
        given = self.headers.get('X-Token') or query.get('token', '')
        is_right = secrets.compare_digest(given.encode(), server.token.encode())
        if server.token and not is_right:
            raise Refused(403, 'the token is missing, or wrong')

    def _send(self, status, kind, content):
        nonce = secrets.token_urlsafe(16)
        if kind.startswith('text/html'):
            content = content.replace(b'{{nonce}}', nonce.encode())
        self.send_response(status)
        for name, value in {
            'Content-Type': kind,
            'Content-Length': str(len(content)),
            'Content-Security-Policy': POLICY.format(nonce),
            'X-Content-Type-Options': 'nosniff',
            'Referrer-Policy': 'no-referrer',
            'Cross-Origin-Resource-Policy': 'same-origin',
            'Cache-Control': 'no-store',
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        """Print nothing."""


def _json(content):
    return FORMATS['json'], json.dumps(content).encode()


def run_arguments(config, flags: Flags) -> list[str]:
    """Arguments with which main.py uses the run of config, as this process does."""
    given = flags.given(*flags.names('model', 'run'))
    values = {name: flags[name].value for name in given} | {'dataset': config.dataset}
    if not {'out_name', 'checkpoint_dir'} & set(given):  # the newest run of today
        values['out_name'] = os.path.basename(os.path.normpath(config.out_dir))
    return [arg for name, value in values.items() for arg in (f'--{name}', str(value))]


def serve(dcgan, config, flags) -> None:
    """Serve the page until Ctrl-C. Raises UserError if it cannot be served."""
    drawer = Drawer(dcgan, config, run_arguments(config, flags))
    with Server(drawer, config.page_host, config.page_port) as server:
        start = time.perf_counter()
        drawer.draw(parse(b'{}', dcgan.z_dim, dcgan.y_dim))  # compiles the drawing
        if not server.is_local:
            print_line(
                f' [!] {config.page_host}: other machines can open the page, if they '
                'know the token in its address, which travels unencrypted'
            )
        ready = f'ready in {time.perf_counter() - start:.1f} s'
        print_line(f' [*] {server.address()} ({ready}; Ctrl-C ends it)')
        try:
            server.serve_forever()
        except Interrupted as interrupted:
            if interrupted.number != signal.SIGINT:
                raise
            print_line(' [*] The page has ended')
        finally:
            drawer.is_drawing.acquire()  # until the end: the session closes


# fmt: off
FLAGS = Group(
    'Page',
    'where --page is served, docs/page.md',
    Flag('page_host', '127.0.0.1', 'Address of --page; others than this let other '
         'machines in'),
    Flag('page_port', None, 'Port of --page; default: the first free one from '
         f'{PORTS[0]}', type=int, least=0, most=65535),
)
