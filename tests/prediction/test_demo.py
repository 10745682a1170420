"""The web page: its address, messages, clean-up and use in a browser."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen
from zipfile import ZipFile

import pytest

from tests import tiny

pytest.importorskip("gradio", reason="needs the extra 'demo'")
from gradio_client import Client, handle_file
from gradio_client.exceptions import AuthenticationError

from sam2love.prediction.demo import (
    EXAMPLE,
    EXAMPLE_SENTENCES,
    _is_loopback,
    _number,
    _without_folders,
    serve,
)

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SENTENCE = "<img src=x onerror=document.title=1> the loudest object"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def demo(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Yield a demo's process, once its page is up, and the page's address."""
    port = free_port()
    command = [sys.executable, "-m", "sam2love", "demo", "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=tiny.REPOSITORY, env=os.environ | environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the demo stopped"
                time.sleep(0.5)
        yield process, address
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", "here"),
        ("127.0.0.2", "here"),
        ("localhost", "here"),
        ("0.0.0.0", "everywhere"),
        ("::1", "here"),
        ("::", "everywhere"),
    ],
)
def test_loopback_addresses_are_recognised(host, reached):
    if ":" in host and not socket.has_ipv6:
        pytest.skip("needs IPv6")
    assert _is_loopback(host, free_port()) == (reached == "here")


@pytest.mark.parametrize("port", [-1, 0, 65_536, 99_999])
def test_an_invalid_port_is_refused(port):
    line = f"--host 127.0.0.1 --port {port}: can't serve there .*a free port, 1 to 65535"
    with pytest.raises(ValueError, match=line):
        serve("gone", host="127.0.0.1", port=port)


@pytest.mark.parametrize(
    "host", ["nosuch.invalid", "300.1.1.1", "a b", "203.0.113.1", ".." + "x" * 70]
)
def test_an_invalid_address_is_refused(host):
    with pytest.raises(ValueError, match=r"can't serve there .*choose an address of this"):
        serve("gone", host=host, port=free_port())


def test_a_port_in_use_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"--port {port}: can't serve there \(Address already"
        ):
            serve("gone", host="127.0.0.1", port=port)


def test_an_empty_password_is_refused():
    with pytest.raises(ValueError, match="the password is empty"):
        serve("gone", host="127.0.0.1", port=free_port(), password="")


@pytest.mark.parametrize(("password", "warned"), [(None, True), ("sésame", False)])
def test_a_public_page_without_a_password_gives_a_warning(password, warned, capsys):
    with pytest.raises(FileNotFoundError, match="gone"):
        serve("gone", host="0.0.0.0", port=free_port(), password=password)
    assert ("warning: --host 0.0.0.0 lets everyone" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("/tmp/demo/0f3a/my clip.mp4: not a video", "my clip.mp4: not a video"),
        ("/tmp/demo/0f3a/a: b.mp4: no video track", "a: b.mp4: no video track"),
        (
            "[Errno 28] No space: '/tmp/demo/tmp1/.o.partial/unfinished/1.png'",
            "[Errno 28] No space: '1.png'",
        ),
        ("/tmp/demo/a/b.mp4 -> '/tmp/demo/c/d'", "b.mp4 -> 'd'"),
        ("nothing in /tmp", "nothing in /tmp"),
    ],
)
def test_messages_contain_no_temporary_folders(line, shown):
    assert _without_folders(line, Path("/tmp/demo")) == shown


@pytest.mark.parametrize(("typed", "frame"), [("", None), (" ", None), ("37", 37), ("-1", -1)])
def test_a_frame_may_be_chosen(typed, frame):
    assert _number(typed) == frame


def test_a_frame_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"frame 1\.5: expected a whole number from 0, or nothing"):
        _number("1.5")


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_no_files_are_left_behind(ended_by, busy, tmp_path):
    with demo(TMPDIR=str(tmp_path)) as (process, address):
        client = Client(address, verbose=False)
        video = handle_file(str(EXAMPLE))
        job = client.submit(video, "The blue square", False, False, "", api_name="/run")
        if busy:
            while not any(path.suffix == ".png" for path in tmp_path.rglob("*")):
                assert not job.done(), job.result()
                time.sleep(0.05)
        else:
            assert "is shown in" in job.result()[-1]
        assert any(path.suffix == ".mp4" for path in tmp_path.rglob("*"))
        process.send_signal(ended_by)
        assert process.wait(timeout=60) == 0
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        assert list(tmp_path.glob("sam2love-demo-*")) == []


@pytest.mark.slow
def test_a_password_is_required():
    with demo("--password", "sésame") as (_, address):
        for wrong in ({}, {"auth": ("anyone", "sesame")}):
            with pytest.raises((AuthenticationError, ValueError, OSError)):
                Client(address, verbose=False, **wrong)
        Client(address, verbose=False, auth=("anyone", "sésame"))


@pytest.fixture(scope="module")
def address():
    with demo() as (_, address):
        yield address


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome")
def test_an_example_with_and_without_its_sound(address):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1250})
        page.set_default_timeout(180_000)
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.locator("table tbody tr").first.click()
        lines = page.get_by_label("Sentences, one per line")
        sync_api.expect(lines).to_have_value(EXAMPLE_SENTENCES, timeout=60_000)
        page.locator("button[aria-label='Clear'], button[title='Clear']").first.wait_for()
        lines.fill(f"The blue square\n{SENTENCE}")
        page.get_by_label("Also with the sound muted").check()
        sync_api.expect(page.get_by_label("Frame to prompt")).to_have_value("")
        page.get_by_role("button", name="Segment").click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(t => t.value.includes('removed'))"
        )
        result = page.get_by_label("Result").input_value()
        assert re.search(r'"The blue square" is shown in 1\d\d of 250 frames', result)
        assert SENTENCE in result  # as it was typed
        assert page.title() == "SAM2-LOVE"
        page.wait_for_function("document.querySelectorAll('video').length >= 3")
        page.get_by_text("seconds", exact=True).first.wait_for()  # the axis of the beliefs
        page.get_by_label("Frame to prompt").fill("250")
        page.get_by_role("button", name="Segment").click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(t => t.value.includes('frame 250'))"
        )
        result = page.get_by_label("Result").input_value()
        assert result == "frame 250: not in example.mp4; expected 0 to 249"
        page.get_by_label("Frame to prompt").fill("60")
        page.get_by_role("button", name="Segment").click()
        page.wait_for_function(
            "[...document.querySelectorAll('textarea')].some(t => t.value.includes('removed'))"
        )
        with page.expect_download() as download:
            page.locator("a[href$='.zip']").first.click()
        names = ZipFile(download.value.path()).namelist()
        assert {"belief.json", "masks.json", "masks/0-the-blue-square/00000.png"} <= {*names}
        own = (address, "data:", "blob:")
        assert [url for url in requests if not url.startswith(own)] == []
        browser.close()
