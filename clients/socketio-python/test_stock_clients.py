"""python-socketio against the running system: both of its kinds keep these promises."""

import time
import unittest
import uuid

import socketio

from rowcast import Rowcast, until
from stock import NAMESPACE, Asyncio, Listener, Threads, page


def setUpModule():
    global system
    system = Rowcast()
    unittest.addModuleCleanup(system.stop)


class Promises:
    """What every kind of it is tested for."""

    kind = None

    def setUp(self):
        self.url = system.now()["url"]
        self.room = f"room-{uuid.uuid4()}"

    def listener(self, *args):
        listener = Listener(self.kind, *args)
        self.addCleanup(listener.stock.close)
        return listener

    def listens(self, **options):
        return self.listener().connect(self.url, {"token": system.token(self.room)}, **options)

    def write(self):
        writer = system.write(self.room)
        self.addCleanup(writer.stop)
        return writer

    def test_it_hears_the_rows_of_its_token_alone(self):
        listener = self.listens()
        (connected,) = listener.hears("connected")
        self.assertEqual(connected["room"], self.room)
        self.assertFalse(connected["rooms"][self.room]["resumed"])
        resync, offset = listener.hears("resync")
        self.assertEqual((resync["room"], resync["reason"]), (self.room, "start"))
        self.assertIn(self.room, offset)

        system.insert(f"{self.room}-of-others", "foreign")
        system.insert(self.room, "mine")
        payload, offset = listener.hears("note.created")
        expected = {"type": "note.created", "merchantId": self.room, "id": payload["id"], "room": self.room, "note": "mine"}
        self.assertEqual(payload, expected)
        self.assertIn(self.room, offset)
        self.assertEqual(listener.notes(), ["mine"])

    def test_it_comes_back_by_itself_when_its_edge_was_killed_and_is_told_to_fetch_anew(self):
        listener = self.listens()
        writer = self.write()
        listener.hears("note.created", 10)
        system.kill_edges()
        listener.hears("connected", 2)
        resync, _ = listener.hears("resync", 2)
        self.assertEqual((resync["room"], resync["reason"]), (self.room, "start"))
        self.assertEqual(listener.named("disconnect"), [("transport error",)])
        writer.stop()
        system.insert(self.room, "afterwards")
        until("what is written afterwards is heard", lambda: "afterwards" in listener.notes())

    def test_the_pages_program_goes_on_where_it_was_when_its_edge_was_killed(self):
        names = page()
        listener = self.listener()
        if self.kind is Threads:
            names["in_order"](listener.stock.client)
        resuming = names["Resuming"](listener.stock.client, NAMESPACE, lambda: system.token(self.room), listener.keep)
        listener.connect(self.url, resuming.auth)
        writer = self.write()
        listener.hears("note.created", 20)
        system.kill_edges()
        (connected,) = listener.hears("connected", 2)
        self.assertTrue(connected["rooms"][self.room]["resumed"])
        sent = writer.stop()
        until("the last row is heard", lambda: sent[-1] in listener.notes())
        self.assertEqual(listener.notes(), sent, "each row once, in order")
        self.assertEqual(len(listener.named("resync")), 1, "the first alone")

    def test_a_token_that_has_ended_is_refused_and_the_answer_says_what_to_do(self):
        listener = self.listener()
        with self.assertRaises(socketio.exceptions.ConnectionError):
            listener.connect(self.url, {"token": system.token(self.room, -1)})
        data = {"code": 4401, "reason": "expired", "message": "the token has expired", "reconnect": "new_token"}
        self.assertEqual(listener.named("connect_error"), [({"message": "jwt expired", "data": data},)])
        listener.connect(self.url, {"token": system.token(self.room)})
        listener.hears("connected")

    def test_when_its_token_ends_it_comes_back_with_the_next_one_and_misses_nothing(self):
        tokens = [system.token(self.room, 2)]
        listener = self.listener()
        names = page()
        if self.kind is Threads:
            names["in_order"](listener.stock.client)
        resuming = names["Resuming"](listener.stock.client, NAMESPACE, lambda: tokens[-1], listener.keep)

        def renew(error):
            listener.keep("connect_error", error)
            tokens.append(system.token(self.room))

        listener.stock.client.on("connect_error", renew, namespace=NAMESPACE)
        listener.connect(self.url, resuming.auth)
        writer = self.write()
        (bye,) = listener.hears("rowcast.bye")
        self.assertEqual(bye["code"], 4401)
        (connected,) = listener.hears("connected", 2)
        self.assertTrue(connected["rooms"][self.room]["resumed"])
        self.assertEqual([error["message"] for (error,) in listener.named("connect_error")], ["jwt expired"])
        sent = writer.stop()
        until("the last row is heard", lambda: sent[-1] in listener.notes())
        self.assertEqual(listener.notes(), sent)

    def test_a_refresh_is_acknowledged_and_the_socket_outlives_its_first_token(self):
        listener = self.listener()
        ends = time.time() + 3
        listener.connect(self.url, {"token": system.token(self.room, 2)})
        self.assertEqual(listener.hears("rowcast.token_expiring")[0].keys(), {"in"})
        answer = listener.stock.call("refresh", {"token": system.token(self.room)}, namespace=NAMESPACE, timeout=10)
        self.assertEqual(answer.keys(), {"expires_at", "rooms", "now"})
        self.assertEqual(listener.hears("rowcast.refreshed"), (answer,))
        until("the first token has ended", lambda: time.time() > ends)
        system.insert(self.room, "later")
        listener.hears("note.created")
        self.assertEqual(len(listener.named("connected")), 1)

    def test_another_namespace_is_refused_as_the_protocol_says(self):
        listener = self.listener("/elsewhere")
        with self.assertRaises(socketio.exceptions.ConnectionError):
            listener.connect(self.url, {"token": system.token(self.room)})
        self.assertEqual(listener.named("connect_error"), [({"message": "Invalid namespace"},)])

    def test_polling_is_refused_with_what_to_set(self):
        listener = self.listener()
        with self.assertRaisesRegex(socketio.exceptions.ConnectionError, "400"):
            listener.connect(self.url, {"token": system.token(self.room)}, transports=None)
        ((error,),) = listener.named("connect_error")
        self.assertEqual((error["code"], error["message"]), (0, "Transport unknown"))
        self.assertIn("transports", error["hint"])


class WithThreads(Promises, unittest.TestCase):
    """socketio.Client."""

    kind = Threads


class WithAsyncio(Promises, unittest.TestCase):
    """socketio.AsyncClient."""

    kind = Asyncio


if __name__ == "__main__":
    unittest.main()
