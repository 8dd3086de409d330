"""The page as a person uses it, in a Chromium without a window."""

import base64
import contextlib
import io
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_page import run_main, served

pytestmark = pytest.mark.slow
Z = '#palette > div'  # the cells of the current z
# what the page has begun: its timers, but for one of 10 s, and its requests
PENDING = """
const pending = window.pending = new Set(), {setTimeout, clearTimeout, fetch} = window;
window.setTimeout = (act, ms, ...rest) => {
  const timer = setTimeout(() => { pending.delete(timer); act(...rest); }, ms);
  if (!(ms > 1000)) pending.add(timer);
  return timer;
};
window.clearTimeout = timer => { pending.delete(timer); clearTimeout(timer); };
window.fetch = (...request) => {
  const answer = fetch(...request);
  const end = () => setTimeout(() => pending.delete(answer), 50);
  pending.add(answer);
  answer.then(end, end);
  return answer;
};"""


def new_tab(context):
    """A tab for a page that `settle` can wait for."""
    tab = context.new_page()
    tab.add_init_script(PENDING)
    return tab


@contextlib.contextmanager
def opened(browser, address):
    """The page at an address, when its panels are drawn.

    Fails if anything is printed in the browser, or asked of another server.
    """
    with browser.new_context(viewport={'width': 1200, 'height': 900}) as context:
        page, printed, hosts = new_tab(context), [], set()
        page.on('pageerror', lambda error: printed.append(str(error)))
        page.on('console', lambda message: printed.append(message.text))
        page.on('request', lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(address)
        settle(page)
        yield page
    assert printed == [] and hosts <= {urlsplit(address).netloc, ''}  # its own blobs


@pytest.fixture(scope='module')
def address(workspace):
    """The address of the page, whose run has an animation of its grids."""
    run_main(workspace, '--out_name', 'set', '--gif')
    with served(workspace) as (_, port, _):
        yield f'http://127.0.0.1:{port}/'


@pytest.fixture
def page(browser, address):
    with opened(browser, address) as page:
        yield page


def settle(page):
    """Wait until all panels are drawn, and the address is saved."""
    page.wait_for_selector('#grid .cell')
    page.wait_for_function(
        "() => !pending.size && !document.querySelector('[aria-busy=true]')"
    )


def click(page, *selectors):
    for selector in selectors:
        page.click(selector)
    settle(page)


def press(page, selector, key):
    page.locator(selector).press(key)
    settle(page)


def picture(page, panel):
    """The pixels of the grid that a panel shows, [h, w], or [h, w, 3] if colored."""
    script = """async id => {
        const image = new Image(), canvas = document.createElement('canvas');
        image.src = document.getElementById(id).dataset.url;
        await image.decode();
        [canvas.width, canvas.height] = [image.width, image.height];
        canvas.getContext('2d').drawImage(image, 0, 0);
        return canvas.toDataURL().split(',')[1]; }"""
    png = base64.b64decode(page.evaluate(script, panel))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert('RGB'))
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else pixels


def z_of(page, number):
    """A number of the current z, as its cell tells it."""
    return float(page.locator(Z).nth(number).get_attribute('aria-valuenow'))


def download(page, panel, text):
    with page.expect_download() as waiting:
        page.click(f'#{panel}-export button:text-is("{text}")')
    return waiting.value.path().read_bytes()


def assert_command_draws(page, panel, workspace, *parts):
    """The command of a panel, which has these parts, draws its PNG, byte for byte."""
    page.click(f'#{panel}-export button:text-is("Command")')
    text = page.inner_text(f'#{panel}-export code')
    assert text.startswith('python main.py ') and all(part in text for part in parts)
    png = download(page, panel, 'PNG')
    assert run_main(workspace, *text.split()[2:]) == [png]
    assert (picture(page, panel) == np.asarray(Image.open(io.BytesIO(png)))).all()


def test_the_grid_shows_what_the_command_line_draws(page, workspace):
    for field, value in (('#seed', '5'), ('#count', '12'), ('#classes', '2,1')):
        page.fill(field, value)
    press(page, '#classes', 'Tab')
    assert page.locator('#grid .cell').count() == 12
    assert_command_draws(page, 'grid', workspace)
    assert 'class 1' in page.get_attribute('#grid .cell:nth-child(2)', 'aria-label')


def test_a_chosen_picture_can_be_changed_by_hand_and_reset(page):
    press(page, '#grid .cell:nth-child(3)', 'Enter')
    assert page.input_value('#class') == '2'
    chosen, before = picture(page, 'current'), z_of(page, 1)
    box = page.locator(Z).nth(1).bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - 120, steps=6)
    page.mouse.up()
    settle(page)
    assert abs(z_of(page, 1) - before - 2) < 0.05
    assert (picture(page, 'current') != chosen).any()
    press(page, f'{Z}:nth-child(2)', 'ArrowDown')
    assert abs(z_of(page, 1) - before - 1.9) < 0.05
    click(page, '#reset')
    assert (picture(page, 'current') == chosen).all()
    page.click('#sliders-box summary')
    page.locator('#sliders input').first.fill('1.5')
    settle(page)
    assert z_of(page, 0) == 1.5
    click(page, '#nudge')
    assert z_of(page, 0) != 1.5
    click(page, '#zero')
    assert z_of(page, 0) == 0
    # directions and classes lead on from it
    assert page.locator('#directions .cell').count() == 6 * 7
    assert page.locator('#all-classes .cell').count() == 4
    click(page, '#all-classes .cell:nth-child(4)')
    assert page.input_value('#class') == '3'
    click(page, '#directions .cell:nth-child(1)')
    assert z_of(page, 0) != 0


def test_a_walk_goes_from_picture_to_picture(page, workspace):
    for number in (1, 6, 11):
        click(page, f'#grid .cell:nth-child({number})', '[data-add=walk]')
    page.fill('#frames', '4')
    press(page, '#frames', 'Tab')
    assert page.locator('#walk .cell').count() == 9
    linear = picture(page, 'walk')
    page.select_option('#path', 'spherical')
    settle(page)
    assert (picture(page, 'walk') != linear).any()
    with Image.open(io.BytesIO(download(page, 'walk', 'GIF'))) as gif:
        durations = [frame.info['duration'] for frame in ImageSequence.Iterator(gif)]
        assert sum(durations) == 9 * 100
    (workspace / 'walk.npz').write_bytes(download(page, 'walk', '.npz'))
    assert_command_draws(page, 'walk', workspace, '--z_file walk.npz')
    page.click('#play')
    first = page.get_attribute('#animation .cell', 'style')
    moves = "s => document.querySelector('#animation .cell').getAttribute('style') != s"
    page.wait_for_function(moves, arg=first)
    click(page, '#walk-stops .cell:nth-child(2)')
    assert page.locator('#walk .cell').count() == 5


def test_arithmetic_adds_and_subtracts(page, workspace):
    for number, name in ((1, 'a'), (5, 'a'), (6, 'b'), (6, 'c')):
        click(page, f'#grid .cell:nth-child({number})', f'[data-add={name}]')
    assert page.locator('#arithmetic .cell').count() == 12
    image = picture(page, 'arithmetic')
    # B is C: A - B + C is the mean of A
    assert (image[:16, :16] == image[:16, 48:64]).all()
    (workspace / 'arithmetic.npz').write_bytes(download(page, 'arithmetic', '.npz'))
    assert_command_draws(page, 'arithmetic', workspace, '--z_file arithmetic.npz')


def test_older_checkpoints_draw_the_same_z(page, workspace):
    assert (picture(page, 'then') == picture(page, 'now')).all()
    press(page, '#step', 'Home')
    assert page.inner_text('#step-text') == '1'
    assert (picture(page, 'then') != picture(page, 'now')).any()
    assert_command_draws(page, 'grid', workspace, '--resume_step 1')
    names = page.locator('#files img').evaluate_all('all => all.map(i => i.alt)')
    assert 'Image grids of the training, animated' in names


def found(page, name, content):
    """What the page says when the search for a picture ends."""
    file = {'name': name, 'mimeType': '', 'buffer': content}
    page.set_input_files('#upload', file)
    page.locator('#find').press('Enter')
    page.wait_for_selector('#find:not([aria-disabled=true])')
    settle(page)
    return page.inner_text('#found-text')


def test_the_z_of_an_uploaded_picture_becomes_the_current_one(page, workspace):
    page.click('#find')
    assert page.inner_text('#found-text') == 'Choose a picture first.'
    click(page, '#grid .cell:nth-child(6)')
    text = found(page, 'sample.png', png := download(page, 'current', 'PNG'))
    assert 'differ from the picture by 0.' in text and 'It is of class ' in text
    assert (picture(page, 'uploaded') == np.asarray(Image.open(io.BytesIO(png)))).all()
    assert page.locator('#found-path .cell').count() == 24
    assert page.inner_text('#found-step-text') == '24 of 24'
    last = picture(page, 'found')
    click(page, '#use-found')
    assert (picture(page, 'current') == last).all()
    press(page, '#found-step', 'Home')
    assert page.inner_text('#found-step-text') == '1 of 24'
    assert (picture(page, 'found') != last).any()
    (workspace / 'found-path.npz').write_bytes(download(page, 'found-path', '.npz'))
    assert_command_draws(page, 'found-path', workspace, '--z_file found-path.npz')


def test_what_is_no_picture_or_no_answer_of_the_page_is_explained(browser, address):
    with browser.new_context() as context:
        page = new_tab(context)
        page.goto(address)
        settle(page)
        assert 'not a readable image' in found(page, 'x.png', b'some text')
        assert 'at most 4194304 bytes' in found(page, 'x.png', bytes(5 << 20))
        assert page.is_hidden('#found-box') and page.inner_text('#message') == ''
        html = {'status': 502, 'body': '<html>'}
        page.route('**/samples', lambda route: route.fulfill(**html))  # as a proxy does
        click(page, '#next-seed')
        assert 'samples: 502 Bad Gateway' in page.inner_text('#message')


def test_a_link_shows_the_same(page, browser):
    for number, name in ((2, 'walk'), (7, 'walk'), (3, 'a'), (4, 'b'), (5, 'c')):
        page.click(f'#grid .cell:nth-child({number})')
        page.click(f'[data-add={name}]')
    page.locator(Z).nth(2).press('PageUp')
    page.fill('#seed', '9')
    page.select_option('#path', 'spherical')
    press(page, '#step', 'Home')
    with opened(browser, page.url) as other:
        for panel in ('grid', 'current', 'walk', 'arithmetic', 'then', 'all-classes'):
            assert (picture(page, panel) == picture(other, panel)).all(), panel


def test_what_does_not_fit_is_explained(page, address):
    page.fill('#count', '999')
    page.keyboard.press('Tab')
    assert 'from 1 to 256' in page.inner_text('#message')
    page.fill('#classes', '8')
    page.keyboard.press('Tab')
    assert 'There is no class 8' in page.inner_text('#message')
    page.goto('about:blank')
    page.goto(f'{address}#seed=1&z=0.AAAA')  # a link of another model
    settle(page)
    assert 'does not fit this model' in page.inner_text('#message')


def test_everything_has_a_name_and_a_narrow_window_and_the_dark_suffice(page):
    page.click('[data-add=walk]')
    page.set_viewport_size({'width': 360, 'height': 700})
    settle(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    nameless = page.evaluate("""() => [...document.querySelectorAll(
        'img, [role=img], [role=slider], button, input, select')].filter(e =>
        !(e.alt || e.getAttribute('aria-label') || e.textContent.trim()
          || (e.labels && e.labels.length))).length""")
    assert nameless == 0
    colors = []
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        colors.append(page.evaluate('getComputedStyle(document.body).backgroundColor'))
    assert colors == ['rgb(255, 255, 255)', 'rgb(23, 23, 26)']
