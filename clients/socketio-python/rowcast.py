"""A running `rowcast dev` for the tests beside this file: started, read, its edges killed, rows written, and stopped."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from pg8000.native import Connection

BINARIES = Path(os.environ.get("ROWCAST_BIN_DIR") or Path(__file__).parents[2] / "target/debug")
# For a whole start, or a whole restart, on a busy machine.
SOON = 60
PACE = 0.005


def until(what, holds, seconds=SOON):
    """Waits for a condition, and returns what it came to."""
    deadline = time.monotonic() + seconds
    while not (held := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return held


class Rowcast:
    """All of it, with a table of notes that is watched: `note` in `room`."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="rowcast-python-")
        self.database = None
        command = [BINARIES / "rowcast", "dev", "--dir", self.folder, "--no-demo", "--edges", "2", "--restart-after", "0.5"]
        with open(f"{self.folder}/dev.log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until("rowcast dev is ready", self._is_ready)
            self.database = self._connect()
            self.database.run("CREATE TABLE public.notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, room text, note text)")
            self.database.run("SELECT rowcast.watch('public.notes', 'room', type => 'note')")
        except BaseException:
            self.stop()
            raise

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"rowcast dev ended by itself:\n{Path(self.folder, 'dev.log').read_text()[-4000:]}")
        return Path(self.folder, "dev.json").exists()

    def stop(self):
        """Interrupts it, and takes its folder away."""
        if self.database:
            self.database.close()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(SOON)
        finally:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def now(self):
        """dev.json: what runs at this moment."""
        return json.loads(Path(self.folder, "dev.json").read_text(encoding="utf-8"))

    def _connect(self):
        url = urlsplit(self.now()["database_url"])
        return Connection(url.username, host=url.hostname, port=url.port, database=url.path[1:], password=url.password)

    def token(self, room, seconds=3600):
        """A token for a room, that ends in so many seconds."""
        now = int(time.time())
        claims = {"sub": "ana", "merchantId": room, "iat": now, "exp": now + seconds, "jti": str(uuid.uuid4())}
        text = ".".join(_part(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        key = self.now()["jwt_secret"].encode()
        return f"{text}.{_part(hmac.digest(key, text.encode(), hashlib.sha256))}"

    def insert(self, room, note):
        """A committed row."""
        self.database.run("INSERT INTO public.notes (room, note) VALUES (:room, :note)", room=room, note=note)

    def write(self, room):
        """Rows of a room, one after the other, until it is stopped."""
        return Writer(self._connect(), room)

    def kill_edges(self):
        """Kills every edge, so that no client is spared, and waits for what is started in their places."""
        before = {edge["pid"] for edge in self.now()["edges"]}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        until("the killed edges have successors", lambda: not before & {edge["pid"] for edge in self.now()["edges"]})
        for edge in self.now()["edges"]:
            until("an edge is ready", lambda admin=edge["admin"]: _answers(f"{admin}/ready"))


class Writer:
    """Writes rows whose notes are numbers."""

    def __init__(self, database, room):
        self.sent = []
        self._database, self._room = database, room
        self._ended = threading.Event()
        self._fault = None
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self):
        try:
            while not self._ended.wait(PACE):
                note = str(len(self.sent))
                self._database.run("INSERT INTO public.notes (room, note) VALUES (:room, :note)", room=self._room, note=note)
                self.sent.append(note)
        except Exception as fault:
            self._fault = fault
        finally:
            self._database.close()

    def stop(self):
        """Ends it, and says what was committed."""
        self._ended.set()
        self._thread.join()
        if self._fault:
            raise self._fault
        return self.sent


def _part(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
