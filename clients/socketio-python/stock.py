"""python-socketio as it is published, by its two kinds behind one face, and what a client of it hears. What the page says of
resuming is taken from the page."""

import asyncio
import re
import threading
from pathlib import Path

import socketio

from rowcast import until

NAMESPACE = "/notifications"
PAGE = Path(__file__).parents[2] / "docs/socketio.md"
# Its own are seconds.
QUICK = {"reconnection_delay": 0.1, "reconnection_delay_max": 0.5, "randomization_factor": 0, "handle_sigint": False}


def page():
    """The names in the page's program."""
    blocks = re.findall(r"^```python resuming\.py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 1, f"{len(blocks)} programs in {PAGE}"
    names = {}
    exec(compile(blocks[0], str(PAGE), "exec"), names)
    return names


class Threads:
    """The kind that stands on requests and websocket-client."""

    def __init__(self):
        self.client = socketio.Client(**QUICK)

    def connect(self, *args, **options):
        self.client.connect(*args, **options)

    def call(self, *args, **options):
        return self.client.call(*args, **options)

    def close(self):
        self.client.shutdown()


class Asyncio:
    """The kind that stands on aiohttp, with a thread for its loop."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.client = self._run(self._make())

    @staticmethod
    async def _make():
        return socketio.AsyncClient(**QUICK)

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def connect(self, *args, **options):
        self._run(self.client.connect(*args, **options))

    def call(self, *args, **options):
        return self._run(self.client.call(*args, **options))

    def close(self):
        self._run(self.client.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Listener:
    """A client that keeps what it hears, each as a name and its arguments, in the order in which its handlers ran."""

    def __init__(self, kind, namespace=NAMESPACE):
        self.stock = kind()
        self.namespace = namespace
        self.heard = []
        client = self.stock.client
        for event in ("connect_error", "disconnect"):
            client.on(event, lambda *args, event=event: self.keep(event, *args), namespace=namespace)
        client.on("*", self.keep, namespace=namespace)

    def keep(self, event, *args):
        self.heard.append((event, args))

    def named(self, event):
        """The arguments of each of these."""
        return [args for name, args in self.heard if name == event]

    def notes(self):
        return [args[0]["note"] for args in self.named("note.created")]

    def connect(self, url, auth, **options):
        self.stock.connect(url, auth=auth, **{"namespaces": [self.namespace], "transports": ["websocket"], "wait_timeout": 10, **options})
        return self

    def hears(self, event, times=1):
        """Waits for so many of these, and returns the arguments of the last."""
        until(f"{times} × {event} among {[name for name, _ in self.heard]}", lambda: len(self.named(event)) >= times)
        return self.named(event)[times - 1]
