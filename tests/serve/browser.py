"""Chromium without a screen, told what to do over its DevTools protocol."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PATIENCE = 30  # seconds
OPTIONS = [
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0", "--autoplay-policy=no-user-gesture-required", "--no-first-run",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """A tab."""

    def __init__(self, socket: ClientConnection, session: str = "") -> None:
        self._socket, self._session, self._numbers = socket, session, itertools.count(1)
        self._events: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while (said := json.loads(self._socket.recv(PATIENCE))).get("id") != number:
            self._events.append(said["method"])
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result

    def visit(self, address: str) -> None:
        """Another page, once it is loaded."""
        self.call("Page.enable")
        self._events.clear()
        self.call("Page.navigate", url=address)
        while "Page.loadEventFired" not in self._events:
            self._events.append(json.loads(self._socket.recv(PATIENCE)).get("method"))

    def run(self, script: str) -> Any:
        """The value of an expression; what it promises is awaited."""
        said = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def await_data(self, condition: str) -> dict[str, str]:
        """The page's data once they are as `condition(data)` says."""
        data: dict[str, str] = self.run(
            f"""new Promise(resolve => {{
              const look = () => {{
                const data = document.body ? {{ ...document.body.dataset }} : {{}};
                if (({condition})(data)) {{ watching.disconnect(); resolve(data); }}
              }};
              const watching = new MutationObserver(look);
              watching.observe(document, {{ attributes: true, subtree: true, childList: true }});
              look();
            }})"""
        )
        return data


@contextmanager
def page(browser: str, folder: Path) -> Iterator[Page]:
    """A browser whose files are in a folder."""
    command = [browser, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("DevTools listening on "))
        with connect(said.split()[-1], max_size=None) as socket:
            whole = Page(socket)
            target = whole.call("Target.createTarget", url="about:blank")["targetId"]
            session = whole.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            yield Page(socket, session)
    finally:
        process.kill()
        process.communicate()
