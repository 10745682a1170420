"""The page in a browser, from the example to the overlays."""

import shutil
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

from tests import tiny

pytest.importorskip("gradio", reason="needs the extra 'demo'")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from sam2love.demo import EXAMPLE_SENTENCES  # noqa: E402

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SENTENCE = "<img src=x onerror=document.title=1> the loudest object"


@pytest.fixture(scope="module")
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = "from sam2love.cli import app; app()"
    command = [sys.executable, "-c", code, "demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=tiny.REPOSITORY)
    try:
        for _ in range(240):
            try:
                urlopen(f"http://127.0.0.1:{port}", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the demo stopped"
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")
def test_an_example_with_and_without_its_sound(address):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1250})
        page.set_default_timeout(180_000)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.locator("table tbody tr").first.click()
        lines = page.get_by_label("Sentences, one a line")
        sync_api.expect(lines).to_have_value(EXAMPLE_SENTENCES, timeout=60_000)
        page.locator("button[aria-label='Clear'], button[title='Clear']").first.wait_for()
        lines.fill(f"The blue square\n{SENTENCE}")
        page.get_by_label("Also with the sound muted").check()
        page.get_by_role("button", name="Segment").click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(t => t.value.includes('Without'))"
        )
        told = page.get_by_label("What came of it").input_value()
        assert '"The blue square" is shown from second 0' in told
        assert SENTENCE in told  # as it was typed
        assert page.title() == "SAM2-LOVE"
        page.wait_for_function("document.querySelectorAll('video').length >= 3")
        own = (address, "data:", "blob:")
        assert [url for url in requests if not url.startswith(own)] == []
        browser.close()
