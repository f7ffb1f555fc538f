"""The guards of SECURITY.md's section Redis: what does not follow from what somebody else has put there."""

from . import Mutant

HOSTILE = ["-p", "rowcast-edge", "--test", "hostile_redis"]

MUTANTS = [
    Mutant(
        "Redis: a record that is not the next one of its room is not believed",
        "services/edge/src/room.rs",
        "&& record.offset == self.offset.next() {\n            return vec![self.apply(record)];",
        "&& record.offset > self.offset {\n            return vec![self.apply(record)];",
        HOSTILE,
    ),
    Mutant(
        "Redis: a record of another stream is not believed",
        "services/edge/src/room.rs",
        "if (record.stream == self.stream || first_of_all) && record.offset == self.offset.next() {",
        "if record.offset == self.offset.next() {",
        ["-p", "rowcast-edge", "--test", "room_model", "--test", "session_model"],
    ),
    Mutant(
        "Redis: a record that cannot be read ends nothing",
        "services/edge/src/hub/link.rs",
        'tracing::error!(%error, "a record from Redis cannot be read");',
        'panic!("a record from Redis cannot be read: {error}");',
        HOSTILE,
    ),
]
