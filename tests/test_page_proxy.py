"""The page behind nginx, which ends TLS, and behind Jupyter, in a Chromium."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest
from conftest import HOST, clean_environment
from test_page import served
from test_page_browser import new_tab, picture, settle

pytestmark = pytest.mark.slow
NGINX = shutil.which('nginx', path=f'{os.environ["PATH"]}:/usr/sbin')
CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log error.log; events {}
http {
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;
  uwsgi_temp_path t4; scgi_temp_path t5;
  server {
    listen 127.0.0.1:NGINX ssl; ssl_certificate c.pem; ssl_certificate_key k.pem;
    location /no-slash { proxy_pass http://127.0.0.1:PAGE/; }
    location /bare/ { proxy_pass http://127.0.0.1:PAGE/; }
    location /1.1/ { proxy_pass http://127.0.0.1:PAGE/; proxy_http_version 1.1; }
    location /whole/path/ { proxy_pass http://127.0.0.1:PAGE; }
    location /named/ {
      proxy_pass http://127.0.0.1:PAGE/; proxy_set_header Host hub.example.org; }
    location /kept/ {
      proxy_pass http://127.0.0.1:PAGE/; proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto https; }
  }
}"""


def free_port():
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def started(port, *command, **options):
    """Start a server; leave it when it listens to its port, and end it at the end."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **options) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, process.args
                with contextlib.suppress(ConnectionError):
                    socket.create_connection(('127.0.0.1', port)).close()
                    break
                time.sleep(0.1)
            yield
        finally:
            process.kill()


@pytest.fixture(scope='module', params=['127.0.0.1', '0.0.0.0'])
def page(workspace, request):
    """The port and the token of a page: for this machine, or for others too."""
    with served(workspace, '--page_host', request.param) as (process, port, _):
        yield port, process.output().rsplit('?token=')[-1].split()[0]


@pytest.fixture(scope='module')
def nginx(page, tmp_path_factory):
    """The address of an nginx before the page. Its tests are skipped without one."""
    if not (NGINX and shutil.which('openssl')):
        pytest.skip('no nginx or openssl here')
    folder = tmp_path_factory.mktemp('nginx')
    key = 'openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 1'
    command = [*key.split(), '-subj', '/CN=localhost']
    subprocess.run(command, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    port = free_port()
    text = CONFIGURATION.replace('NGINX', str(port)).replace('PAGE', str(page[0]))
    (folder / 'nginx.conf').write_text(text)
    with started(port, NGINX, '-p', str(folder), '-c', 'nginx.conf', '-e', 'error.log'):
        yield f'https://{HOST}:{port}'


@pytest.fixture(scope='module')
def jupyter(tmp_path_factory):
    """The address and the token of a Jupyter server with jupyter-server-proxy."""
    pytest.importorskip('jupyter_server_proxy')
    folder, port = tmp_path_factory.mktemp('jupyter'), free_port()
    options = ['--allow-root', '--no-browser', f'--port={port}', '--port-retries=0']
    options += ['--IdentityProvider.token=secret', '--ServerApp.allow_remote_access=1']
    environment = {**clean_environment(), 'HOME': str(folder)}
    command = [sys.executable, '-m', 'jupyter_server', *options]
    with started(port, *command, cwd=folder, env=environment):
        yield f'http://{HOST}:{port}', 'secret'


@pytest.fixture
def tab(browser):
    with browser.new_context(ignore_https_errors=True) as context:
        yield new_tab(context)


def assert_token_opens(tab, address, token):
    """Pictures appear in a tab with the token, and do not without it."""
    tab.goto(f'{address}?token=of-the-proxy&token={token}')
    settle(tab)
    assert len({*picture(tab, 'grid').flat}) > 5
    assert tab.inner_text('#message') == '' and tab.locator('#files img').count()
    tab.click('#next-seed')
    settle(tab)
    script = """token => fetch('samples', {method: 'POST', body: '{}', headers:
        {'Content-Type': 'application/json', 'X-Token': token}}).then(r => r.status)"""
    if not address.endswith('/'):
        script = script.replace("'samples'", "location.pathname + '/samples'")
    statuses = [tab.evaluate(script, given) for given in (token, '', token[:-1])]
    assert statuses == [200, 403, 403]
    tab.goto(address)
    tab.wait_for_load_state('networkidle')
    assert tab.evaluate(script, '') == 403
    assert tab.locator('.cell').count() == 0


@pytest.mark.parametrize(
    'place', ['bare/', '1.1/', 'whole/path/', 'named/', 'kept/', 'no-slash']
)
def test_pictures_come_through_nginx_with_the_token_only(tab, nginx, page, place):
    assert_token_opens(tab, f'{nginx}/{place}', page[1])


@pytest.mark.parametrize('place', ['proxy', 'proxy/absolute'])
def test_pictures_come_through_jupyter_with_the_token_only(tab, jupyter, page, place):
    address, token = jupyter
    tab.goto(f'{address}/api?token={token}')
    assert_token_opens(tab, f'{address}/{place}/{page[0]}/', page[1])
