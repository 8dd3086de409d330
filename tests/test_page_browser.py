"""The page as a person uses it, in a Chromium without a window."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_page import run_main, served, train_run

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
sync_api = pytest.importorskip('playwright.sync_api', reason='Playwright is missing')
pytestmark = pytest.mark.skipif(not CHROMIUM, reason='no Chromium on this machine')


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with a run of 4 classes, the iterations 1 to 3, curves and a GIF."""
    workspace = train_run(tmp_path_factory.mktemp('workspace'))
    run_main(workspace, '--dataset', 'set', '--gif')
    return workspace


@pytest.fixture(scope='module')
def address(workspace):
    with served(workspace, '--page_port', 0) as (_, _, found):
        yield f'http://127.0.0.1:{found[2]}/'


@pytest.fixture(scope='module')
def browser():
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox', '--disable-dev-shm-usage']
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, when its panels are drawn; fails on any error in the browser."""
    context = browser.new_context(viewport={'width': 1200, 'height': 900})
    page, errors = context.new_page(), []
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda m: m.type == 'error' and errors.append(m.text))
    page.goto(address)
    settle(page)
    yield page
    context.close()
    assert errors == []


def settle(page):
    """Wait until nothing is asked of the server any more, and the address is saved."""
    page.wait_for_selector('#grid .cell')
    page.wait_for_timeout(500)
    page.wait_for_load_state('networkidle')


def picture(page, panel):
    """The pixels of the grid that a panel shows, its first channel."""
    script = """id => {
        const url = document.getElementById(id).dataset.url, image = new Image();
        return new Promise(done => { image.onload = () => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.width, image.height];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, image.width, image.height).data;
            done([image.width, image.height, ...data]); }; image.src = url; }); }"""
    width, height, *values = page.evaluate(script, panel)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., 0]


def download(page, panel, text):
    with page.expect_download() as waiting:
        page.click(f'#{panel}-export button:text-is("{text}")')
    with open(waiting.value.path(), 'rb') as file:
        return file.read()


def drawn_by(workspace, arguments):
    """The image grid that a command of the page draws, as bytes."""
    (grid,) = run_main(workspace, *arguments)
    return grid


def command_of(page, panel):
    page.click(f'#{panel}-export button:text-is("Command")')
    text = page.inner_text(f'#{panel}-export code')
    assert text.startswith('python main.py ')
    return text.split()[2:]


def test_the_grid_shows_what_the_command_line_draws(page, workspace):
    page.fill('#seed', '5')
    page.fill('#count', '12')
    page.fill('#classes', '2,1')
    page.keyboard.press('Tab')
    settle(page)
    assert page.locator('#grid .cell').count() == 12
    png = drawn_by(workspace, command_of(page, 'grid'))
    assert download(page, 'grid', 'PNG') == png
    assert (picture(page, 'grid') == np.asarray(Image.open(io.BytesIO(png)))).all()
    assert 'class 1' in page.get_attribute('#grid .cell:nth-child(2)', 'aria-label')


def test_a_chosen_picture_can_be_changed_by_hand_and_reset(page):
    page.click('#grid .cell:nth-child(3)')
    settle(page)
    assert page.input_value('#class') == '2'
    chosen = picture(page, 'current')
    cell = page.locator('#palette > div').nth(1)
    before = float(cell.get_attribute('aria-valuenow'))
    box = cell.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y - 120, steps=6)
    page.mouse.up()
    settle(page)
    assert abs(float(cell.get_attribute('aria-valuenow')) - before - 2) < 0.05
    assert (picture(page, 'current') != chosen).any()
    cell.press('ArrowDown')
    settle(page)
    assert abs(float(cell.get_attribute('aria-valuenow')) - before - 1.9) < 0.05
    page.click('#reset')
    settle(page)
    assert (picture(page, 'current') == chosen).all()
    page.click('#sliders-box summary')
    page.locator('#sliders input').first.fill('1.5')
    settle(page)
    first = page.locator('#palette > div').first
    assert float(first.get_attribute('aria-valuenow')) == 1.5
    page.click('#nudge')
    settle(page)
    assert float(first.get_attribute('aria-valuenow')) != 1.5
    page.click('#zero')
    settle(page)
    assert float(first.get_attribute('aria-valuenow')) == 0


def test_directions_and_classes_lead_on(page):
    assert page.locator('#directions .cell').count() == 6 * 7
    assert page.locator('#all-classes .cell').count() == 4
    page.click('#all-classes .cell:nth-child(4)')
    settle(page)
    assert page.input_value('#class') == '3'
    z = page.get_attribute('#palette > div', 'aria-valuenow')
    page.click('#directions .cell:nth-child(1)')
    settle(page)
    assert page.get_attribute('#palette > div', 'aria-valuenow') != z


def test_a_walk_goes_from_picture_to_picture(page, workspace):
    for number in (1, 6, 11):
        page.click(f'#grid .cell:nth-child({number})')
        page.click('[data-add=walk]')
        settle(page)
    page.fill('#frames', '4')
    page.keyboard.press('Tab')
    settle(page)
    assert page.locator('#walk .cell').count() == 9
    linear = picture(page, 'walk')
    page.select_option('#path', 'spherical')
    settle(page)
    assert (picture(page, 'walk') != linear).any()
    with Image.open(io.BytesIO(download(page, 'walk', 'GIF'))) as gif:
        # equal images that follow each other are one, shown for longer
        durations = [frame.info['duration'] for frame in ImageSequence.Iterator(gif)]
        assert sum(durations) == 9 * 100
    (workspace / 'walk.npz').write_bytes(download(page, 'walk', '.npz'))
    assert download(page, 'walk', 'PNG') == drawn_by(
        workspace, command_of(page, 'walk')
    )
    page.click('#play')
    first = page.get_attribute('#animation .cell', 'style')
    page.wait_for_timeout(250)
    assert page.get_attribute('#animation .cell', 'style') != first
    page.click('#walk-stops .cell:nth-child(2)')
    settle(page)
    assert page.locator('#walk .cell').count() == 5


def test_arithmetic_adds_and_subtracts(page, workspace):
    for number, name in ((1, 'a'), (5, 'a'), (6, 'b'), (6, 'c')):
        page.click(f'#grid .cell:nth-child({number})')
        page.click(f'[data-add={name}]')
        settle(page)
    assert page.locator('#arithmetic .cell').count() == 12
    image = picture(page, 'arithmetic')
    # B is C: A - B + C is the mean of A
    assert (image[:16, :16] == image[:16, 48:64]).all()
    (workspace / 'arithmetic.npz').write_bytes(download(page, 'arithmetic', '.npz'))
    png = drawn_by(workspace, command_of(page, 'arithmetic'))
    assert download(page, 'arithmetic', 'PNG') == png


def test_older_checkpoints_draw_the_same_z(page, workspace):
    assert (picture(page, 'then') == picture(page, 'now')).all()
    page.locator('#step').focus()
    page.keyboard.press('Home')
    settle(page)
    assert page.inner_text('#step-text') == '1'
    assert (picture(page, 'then') != picture(page, 'now')).any()
    command = command_of(page, 'grid')
    assert command[command.index('--resume_step') + 1] == '1'
    assert download(page, 'grid', 'PNG') == drawn_by(workspace, command)
    names = page.locator('#files img').evaluate_all('all => all.map(i => i.alt)')
    assert 'Image grids of the training, animated' in names


def test_a_link_shows_the_same(page, browser):
    for number, name in ((2, 'walk'), (7, 'walk'), (3, 'a'), (4, 'b'), (5, 'c')):
        page.click(f'#grid .cell:nth-child({number})')
        page.click(f'[data-add={name}]')
    page.locator('#palette > div').nth(2).press('PageUp')
    page.fill('#seed', '9')
    page.select_option('#path', 'spherical')
    page.locator('#step').focus()
    page.keyboard.press('Home')
    settle(page)
    other = browser.new_context().new_page()
    other.goto(page.url)
    settle(other)
    for panel in ('grid', 'current', 'walk', 'arithmetic', 'then', 'all-classes'):
        assert (picture(page, panel) == picture(other, panel)).all(), panel
    other.context.close()


def test_a_link_of_another_model_is_reported(browser, address):
    page = browser.new_context().new_page()
    page.goto(f'{address}#seed=1&z=0.AAAA')
    settle(page)
    assert 'does not fit this model' in page.inner_text('#message')
    page.context.close()


def test_numbers_out_of_range_are_explained(page):
    page.fill('#count', '999')
    page.keyboard.press('Tab')
    assert 'from 1 to 256' in page.inner_text('#message')
    page.fill('#classes', '8')
    page.keyboard.press('Tab')
    assert 'There is no class 8' in page.inner_text('#message')


def test_everything_has_a_name_and_a_narrow_window_suffices(page):
    page.click('[data-add=walk]')
    page.set_viewport_size({'width': 360, 'height': 700})
    settle(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    nameless = page.evaluate("""() => [...document.querySelectorAll(
        'img, [role=img], [role=slider], button, input, select')].filter(e =>
        !(e.alt || e.getAttribute('aria-label') || e.textContent.trim()
          || (e.labels && e.labels.length))).length""")
    assert nameless == 0


def test_colors_follow_the_system(page):
    colors = []
    for scheme in ('light', 'dark'):
        page.emulate_media(color_scheme=scheme)
        colors.append(page.evaluate('getComputedStyle(document.body).backgroundColor'))
    assert colors == ['rgb(255, 255, 255)', 'rgb(23, 23, 26)']


def test_the_keyboard_reaches_pictures_and_z(page):
    page.locator('#grid .cell').nth(4).focus()
    page.keyboard.press('Enter')
    settle(page)
    z = json.loads(page.get_attribute('#palette > div', 'aria-valuenow'))
    page.locator('#palette > div').first.focus()
    page.keyboard.press('ArrowUp')
    settle(page)
    now = float(page.get_attribute('#palette > div', 'aria-valuenow'))
    assert abs(now - z - 0.1) < 0.002
