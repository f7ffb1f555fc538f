"""The guards of SECURITY.md's section Socket.IO."""

from . import Mutant

HEARD = "services/edge/src/socketio/talk/heard.rs"
TALK = "services/edge/src/socketio/talk.rs"
SEAT = "services/edge/src/socketio/seat.rs"
MODEL = ["-p", "rowcast-edge", "--lib", "--", "socketio::tests"]


def hostile(name: str) -> list[str]:
    return ["-p", "rowcast-edge", "--test", "hostile", "--", f"socketio::{name}"]


def edge(name: str) -> list[str]:
    return ["-p", "rowcast-edge", "--test", "socketio", "--", name]


MUTANTS = [
    Mutant(
        "socketio: what is no packet is refused",
        HEARD,
        '                self.malformed("not a packet of Engine.IO 4 and Socket.IO 5");\n',
        "",
        hostile("packets_that_are_none"),
    ),
    Mutant(
        "socketio: binary ends its namespace",
        HEARD,
        'session.close(CloseCode::Malformed, "binary is not taken here", now());',
        "session.received(now());",
        edge("protocol::binary_ends"),
    ),
    Mutant(
        "socketio: refused sign-ins are counted",
        HEARD,
        "if self.refused >= MOST_REFUSALS {",
        "if self.refused >= 1_000 * MOST_REFUSALS {",
        hostile("who_asks"),
    ),
    Mutant(
        "socketio: sign-ins are counted",
        HEARD,
        "if self.connects > MOST_CONNECTS {",
        "if self.connects > 1_000_000 * MOST_CONNECTS {",
        hostile("who_asks"),
    ),
    Mutant(
        "socketio: a connection's name is one that an edge gives out",
        HEARD,
        "auth.pid.filter(|pid| is_pid(pid))",
        "auth.pid.inspect(|pid| drop(is_pid(pid)))",
        edge("recovery::nonsense"),
    ),
    Mutant(
        "socketio: so many answers wait before nothing more is read",
        TALK,
        "self.own.len() > MOST_WAITING",
        "self.own.len() > 1_000_000 * MOST_WAITING",
        MODEL,
    ),
    Mutant(
        "socketio: who is in no namespace has its time to sign in",
        TALK,
        "SessionLimits { sign_in, ..self.settings.session }",
        "SessionLimits { sign_in: 1_000 * sign_in, ..self.settings.session }",
        edge("protocol::a_handshake_that_is_none"),
    ),
    Mutant(
        "socketio: who meets a limit is kept for a while",
        SEAT,
        "None if matches!(code, CloseCode::Limit | CloseCode::Token) => After::Keep(code, reason),",
        "None if code == CloseCode::Normal => After::Keep(code, reason),",
        edge("ends::limits_are"),
    ),
    Mutant(
        "socketio: only who goes on in every room is called recovered",
        SEAT,
        "self.pid.take().filter(|_| recovered)",
        "self.pid.take().filter(|_| recovered || !greeting.rooms.is_empty())",
        MODEL,
    ),
    Mutant(
        "socketio: who is owed a resync stands nowhere before it is said",
        SEAT,
        "            if *resumed {\n                self.reach.place(room, *start, false);\n            }\n",
        "            self.reach.place(room, *start, !resumed);\n",
        MODEL,
    ),
    Mutant(
        "socketio: a room that was left and come back to is fetched anew",
        SEAT,
        "            if !resumed {\n",
        "            if !resumed && !self.reach.stands_in(room) {\n",
        MODEL,
    ),
    Mutant(
        "socketio: no name ends a client",
        "crates/protocol/src/socketio/payload.rs",
        "RESERVED_TYPES.contains(&&*event_type)",
        "RESERVED_TYPES[..1].contains(&&*event_type)",
        edge("payloads::names"),
    ),
    Mutant(
        "socketio: an event that cannot be read is not left out in silence",
        "services/edge/src/socketio/frames.rs",
        "map_or_else(|| unreadable(event), Emit::body)",
        'map_or_else(|| format!("[\\"t\\",{}", unreadable(event).len()), Emit::body)',
        edge("payloads::an_event_that"),
    ),
]
