"""Serve the page, page.html, and answer its requests, which docs/page.md describes."""

import http.server
import io
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import socketserver
import time
import urllib.parse
from functools import partial
from pathlib import Path

from dcgan.page.drawing import Drawer
from dcgan.page.requests import FILES, FORMATS, Refused, parse, parse_query
from dcgan.util.errors import Interrupted, UserError, short_reason
from dcgan.util.files import open_file
from dcgan.util.flags import Flag, Flags, Group
from dcgan.util.output import print_line

PORTS = range(8100, 8120)  # without --page_port, the first of these that is free
MAX_BYTES = 1 << 22  # in a request
POSTED = {  # {what is posted to: media types}
    'samples': ('application/json',),
    'invert': ('image/*', 'application/octet-stream'),
}
MAX_CONNECTIONS = 64  # at once; for one other machine, a quarter of them
PAUSE, LINGER, TOTAL = 9, 1, 30  # seconds for a client: a pause, the last one, all
PROXY_HEADERS = ('forwarded', 'via', 'x-forwarded-', 'x-real-ip', 'x-client-ip')
PROXY_HEADERS += ('cf-', 'true-client-ip', 'x-envoy-', 'x-original-')
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
PAGE = Path(__file__).with_name('page.html')


class Server(socketserver.ThreadingTCPServer):
    """Serves the page to clients with the token; a local one also to this machine."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, drawer: Drawer, host: str, port: int | None):
        """port None: the first of PORTS that is free. UserError if none is."""
        host = host.strip('[]')  # of an IPv6 address in a URL
        self.drawer, self.host = drawer, host
        self.token = secrets.token_urlsafe(16)
        self._held: dict[socket.socket, str] = {}  # {connection: address of its client}
        if ':' in host:
            self.address_family = socket.AF_INET6
        for number in PORTS if port is None else [port]:
            try:
                super().__init__((host, number), Handler)
                self.is_local = _is_local(self.server_address[0])
                return
            except OSError as error:
                reason = short_reason(error)
        where = f'{PORTS[0]} to {PORTS[-1]}' if port is None else port
        problem = f'--page_host {host}, port {where}: {reason}'
        raise UserError(f'{problem}; give another host or port')

    def address(self) -> str:
        """The address of the page."""
        is_any = self.server_address[0] in ('0.0.0.0', '::')  # all interfaces
        host = socket.gethostname() if is_any else self.host
        host = f'[{host}]' if ':' in host else host
        token = '' if self.is_local else f'?token={self.token}'
        return f'http://{host}:{self.server_address[1]}/{token}'

    def verify_request(self, request, client_address):
        """Whether to answer, in a new thread: not if there are too many connections."""
        self._held = {c: host for c, host in self._held.items() if c.fileno() >= 0}
        host, hosts = client_address[0], [*self._held.values()]
        # a proxy on this machine speaks for many clients
        most = MAX_CONNECTIONS if _is_local(host) else MAX_CONNECTIONS // 4
        self._held[request] = host  # one that is not answered is closed at once
        return len(hosts) < MAX_CONNECTIONS and hosts.count(host) < most

    def handle_error(self, request, client_address):
        """Ignore clients that have disconnected."""


def _is_local(host):
    try:
        return ipaddress.ip_address(host.removeprefix('::ffff:')).is_loopback
    except ValueError:
        return host == 'localhost'


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers the one request of a connection."""

    server_version, sys_version = 'DCGAN', ''
    default_request_version = 'HTTP/1.0'  # answers to bad requests have a head, too
    command = path = requestline = request_version = ''  # until they have come

    def setup(self):
        self._left, self.connection = TOTAL, self.request
        stream = self.connection.makefile('rb', buffering=0)
        stream.readinto = partial(self._wait_for, 'recv_into')
        # answers are sent in one piece; a second piece would wait 40 ms
        self.rfile, self.wfile = io.BufferedReader(stream), io.BytesIO()

    def _wait_for(self, method, argument, most=None):
        """Call a method of the connection. TimeoutError if it takes too long."""
        start = time.monotonic()
        self.connection.settimeout(max(min(most or PAUSE, self._left), 0.001))
        try:
            return getattr(self.connection, method)(argument)
        finally:
            self._left -= time.monotonic() - start

    def handle(self):
        """Answer, and drop what else comes: if it is left, the answer can be lost."""
        self.handle_one_request()
        if not self.wfile.tell():
            self.send_error(408, f'send a request in {TOTAL} s, without pauses')
        answer = memoryview(self.wfile.getvalue())
        while answer:
            answer = answer[self._wait_for('send', answer) :]
        self.connection.shutdown(socket.SHUT_WR)
        while self._wait_for('recv', 1 << 16, LINGER):
            pass

    def send_error(self, code, message=None, explain=None):
        """Answer with an error in one line of JSON."""
        line = ' '.join((message or 'this is no HTTP request').split())[:300]
        self._send(int(code), *_json({'error': line}))

    def do_GET(self):
        try:
            address = urllib.parse.urlsplit(self.path)
            query = urllib.parse.parse_qs(address.query)
            name = address.path.rpartition('/')[2]  # proxies may add a path before it
            self._check(name, query)
            answer = self._content(name, query)
        except (ConnectionError, TimeoutError):
            raise  # the client has gone, or is too slow
        except Exception as error:
            is_request = isinstance(error, ValueError)  # as a UserError is
            status = getattr(error, 'status', 400 if is_request else 500)
            self.send_error(status, str(error) or type(error).__name__)
        else:
            self._send(200, *answer)

    do_HEAD = do_POST = do_GET

    def do_OPTIONS(self):  # for anyone, but it lets no other site in
        self.send_response(204)
        self.send_header('Allow', 'GET, HEAD, POST, OPTIONS')
        self.end_headers()

    def _content(self, name, query):
        """The media type and the bytes of an answer."""
        drawer, is_get = self.server.drawer, self.command != 'POST'
        if is_get and name == '':
            return 'text/html; charset=utf-8', PAGE.read_bytes()
        if is_get and name == 'model':
            return _json(drawer.about())
        if is_get and name == 'directions':
            return _json(drawer.directions(parse_query(query).step))
        if is_get and name in FILES:
            try:
                with open_file(drawer.path_of(name)) as file:
                    return FILES[name], file.read()
            except OSError as error:
                raise Refused(f'this run has no {name}', 404) from error
        if is_get or name not in POSTED:
            raise Refused('not found; see docs/page.md', 404)
        length = self.headers.get('Content-Length', '')
        if not length.isdecimal():
            raise Refused('the header Content-Length is missing, or no number', 411)
        if len(length) > 9 or int(length) > MAX_BYTES:
            raise Refused(f'a request has at most {MAX_BYTES} bytes', 413)
        kind = self.headers.get_content_type()
        if re.sub('^image/.*', 'image/*', kind) not in POSTED[name]:
            kinds = ' or '.join(POSTED[name])
            raise Refused(f'send Content-Type: {kinds}', 415)
        body = self.rfile.read(int(length))
        if name == 'invert':
            return _json(drawer.invert(parse_query(query), body))
        request = parse(body, drawer.dcgan.z_dim, drawer.dcgan.y_dim)
        return FORMATS[request.format], drawer.draw(request)

    def _check(self, name, query):
        """Raise Refused without the token, unless this machine asks for itself."""
        token = self.server.token.encode()
        given = [*self.headers.get_all('X-Token', []), *query.get('token', [])]
        for one in ','.join(given).split(','):  # a proxy may have its own token
            if secrets.compare_digest(one.encode(), token):
                return  # whatever a proxy has made of the rest
        hosts = self.headers.get_all('Host', [''])
        is_local = self.server.is_local and len(hosts) == 1
        is_local &= _is_local(urllib.parse.urlsplit(f'//{hosts[0]}').hostname or '')
        is_proxy = any(name.lower().startswith(PROXY_HEADERS) for name in self.headers)
        is_proxy |= self.request_version == 'HTTP/1.0'  # nginx says nothing else
        is_proxy |= bool(self.headers.defects)  # which may hide a header
        is_foreign = self.headers.get('Origin', own := f'http://{hosts[0]}') != own
        if name:  # another site may link to the page
            is_foreign |= self.headers.get('Sec-Fetch-Site') == 'cross-site'
        if is_proxy or is_foreign or not is_local:
            raise Refused('open the address with ?token= that --page has printed', 403)

    def _send(self, status, kind, content):
        nonce = secrets.token_urlsafe(16)
        if kind.startswith('text/html'):
            content = content.replace(b'{{nonce}}', nonce.encode())
        self.send_response(status)
        self.send_header('Content-Type', kind)
        self.send_header('Content-Length', str(len(content)))
        policy = POLICY.format(nonce)
        if self.server.token not in self.path:  # who knows it may frame the page
            policy += "; frame-ancestors 'none'"
        self.send_header('Content-Security-Policy', policy)
        self.send_header('X-Content-Type-Options', 'nosniff')
        self.send_header('Referrer-Policy', 'no-referrer')
        self.send_header('Cross-Origin-Resource-Policy', 'same-origin')
        self.send_header('Cache-Control', 'no-store')
        self.end_headers()
        if self.command != 'HEAD':
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
            who = 'other machines that know the token, which travels unencrypted'
            print_line(f' [!] {config.page_host}: the page is open to {who}')
        ready = f'ready in {time.perf_counter() - start:.1f} s'
        hub = os.environ.get('JUPYTERHUB_SERVICE_PREFIX', '/')
        port, query = server.server_address[1], f'?token={server.token}'
        try:  # who reads the address may press Ctrl-C before all lines are printed
            print_line(f' [*] {server.address()} ({ready}; Ctrl-C ends it)')
            print_line(f' [*] through Jupyter: https://NAME{hub}proxy/{port}/{query}')
            print_line(f' [*] through another proxy: https://NAME/PATH/{query}')
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
