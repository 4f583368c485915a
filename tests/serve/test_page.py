"""The pages, seen by a browser without a screen."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from avatorch.serve import Limits
from serve import browser
from serve.running import Running, running, wav


@pytest.fixture(scope="module")
def site(talking: Path) -> Iterator[Running]:
    with running(talking, Limits(tracks=4, clip_seconds=5)) as service:
        yield service


@pytest.fixture(scope="module")
def tab(site: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    program = browser.find_browser()
    if program is None:
        pytest.skip("the page was not looked at: no chromium is installed")
    with browser.page(program, tmp_path_factory.mktemp("chromium")) as page:
        page.visit(site.server.address)
        page.await_data("data => data.painted")
        yield page


def choose(tab: browser.Page, file: bytes) -> None:
    """As a user who takes a file."""
    tab.run(
        f"""(() => {{
          const content = Uint8Array.from(atob("{base64.b64encode(file).decode()}"), c => c.charCodeAt(0));
          const chosen = new DataTransfer();
          chosen.items.add(new File([content], "speech.wav", {{ type: "audio/wav" }}));
          document.getElementById("file").files = chosen.files;
          document.getElementById("file").dispatchEvent(new Event("change"));
        }})()"""
    )


def test_the_head_is_there(tab: browser.Page) -> None:
    data = tab.await_data("data => data.said === 'ready'")
    assert int(data["painted"]) > 30_000 and data["error"] == "0" and data["shown"] == "1"
    assert tab.run("[...document.getElementById('identity').options].map(one => one.text)") == ["Ada"]
    assert tab.run("performance.getEntriesByType('resource').every(one => one.name.startsWith(location.origin))")


def test_a_file_moves_the_jaw(tab: browser.Page) -> None:
    time = torch.arange(16000) / 16000
    choose(tab, wav(0.5 * torch.sin(2 * torch.pi * 200 * time), 16000))
    tab.await_data("data => data.frames === '60' && +data.shown > 5")
    assert tab.run("document.getElementById('said').textContent") == "1.00 s, 60 frames of Ada"
    # The chin goes down with the jaw, and what the canvas shows is another picture.
    still, spoken = (
        tab.run(f"(show(['jawOpen'], [{weight}]), document.getElementById('face').toDataURL())") for weight in (0, 0.8)
    )
    assert still != spoken and tab.run("view.gl.getError()") == 0


def test_a_bad_file_is_told(tab: browser.Page) -> None:
    choose(tab, b"no sound at all")
    tab.await_data("data => data.said.startsWith('the file: not a WAV file')")
    assert tab.run("document.getElementById('said').className") == "wrong"
    choose(tab, wav(torch.zeros(16000 * 6), 16000))
    tab.await_data("data => data.said === 'the file holds 6.0 seconds of sound, expected at most 5'")


def test_a_microphone_moves_the_face(tab: browser.Page) -> None:
    """Chromium's microphone of tests beeps once a second."""
    tab.run("delete document.body.dataset.frames, document.getElementById('record').click()")
    tab.await_data("data => data.said === 'listening' && +data.frames > 20")
    assert tab.run("document.getElementById('record').textContent") == "Stop"
    tab.run("document.getElementById('record').click()")
    said = tab.await_data(r"data => / s, \d+ frames$/.test(data.said)")["said"]
    assert int(said.split()[2]) >= 20
    tab.await_data("() => document.getElementById('record').textContent === 'Record'")


def test_the_description_is_shown(tab: browser.Page, site: Running) -> None:
    tab.visit(f"{site.server.address}/docs")
    assert tab.await_data("data => data.paths")["paths"] == "3"
    text = tab.run("document.body.innerText")
    assert "POST /process-audio" in text and "emotion: string" in text and "503" in text
