"""What keeps the promises of delivery: fences, compare-and-append, reading, generations, gaps, pages."""

from . import Mutant

LISTENER = ["-p", "rowcast-listener", "--lib"]
SCRIPTS = ["-p", "rowcast-bus", "--test", "scripts"]
ROOMS = ["-p", "rowcast-edge", "--test", "room_model", "--test", "session_model"]
PAGES = ["-p", "rowcast-edge", "--lib", "--", "http::page"]
READING = ["-p", "rowcast-store", "--test", "it", "--", "model", "reading"]

MUTANTS = [
    Mutant(
        "the fence: a leader publishes only while its proof of the lock is fresh",
        "services/listener/src/election.rs",
        "now.saturating_duration_since(proved_at) < PROOF_LIFETIME => true",
        "proved_at <= now => true",
        LISTENER,
    ),
    Mutant(
        "the fence in Redis: an older epoch is refused",
        "crates/bus/src/append.lua",
        "if at[3] and tonumber(at[3]) > tonumber(epoch) then",
        "if false then",
        SCRIPTS,
    ),
    Mutant(
        "compare-and-append: another offset than the expected one changes nothing",
        "crates/bus/src/append.lua",
        "if at[1] ~= stream or at[2] ~= ARGV[4] then",
        "if at[1] ~= stream then",
        SCRIPTS,
    ),
    Mutant(
        "compare-and-append: another stream than the expected one changes nothing",
        "crates/bus/src/append.lua",
        "if at[1] ~= stream or at[2] ~= ARGV[4] then",
        "if at[2] ~= ARGV[4] then",
        SCRIPTS,
    ),
    Mutant(
        "the fence of what edges go by: only the leader whose claim stands writes it",
        "crates/bus/src/mirror.lua",
        "if known ~= ARGV[1] then return {1} end",
        "",
        SCRIPTS,
    ),
    Mutant(
        "what edges go by stands in Redis before a heartbeat tells of it",
        "services/listener/src/core.rs",
        " || !lane.mirrors.stand()",
        "",
        LISTENER,
    ),
    Mutant(
        "the grace of the doorbell: whoever may have found it silent is waited for",
        "services/listener/src/doorbell.rs",
        "self.state = State::Awaiting { writers, since: now };",
        "drop(writers);\n            self.state = State::Awaiting { writers: Vec::new(), since: now };",
        LISTENER,
    ),
    Mutant(
        "snapshot reading: transactions that the last snapshot found running are read when they have ended",
        "crates/store/src/reading.rs",
        "tx < self.xmin || (tx < self.xmax && self.running.binary_search(&tx).is_err())",
        "tx < self.xmax",
        READING,
    ),
    Mutant(
        "snapshot reading: a window leaves out what its snapshot does not see",
        "crates/store/src/outbox.rs",
        "AND pg_visible_in_snapshot(tx, $5::text::pg_snapshot)",
        "AND $5::text IS NOT NULL",
        READING,
    ),
    Mutant(
        "snapshot reading: windows begin below the ids of whoever may be running",
        "crates/store/src/reading.rs",
        "if next_tx <= snapshot.xmax {",
        "if next_tx > 0 {",
        READING,
    ),
    Mutant(
        "the floor: it passes nothing that is not deleted",
        "services/listener/src/floor.rs",
        "candidate.round < *oldest",
        "candidate.round <= *oldest",
        LISTENER,
    ),
    Mutant(
        "the generation: a Redis whose history is gone raises it before anything is published",
        "services/listener/src/history.rs",
        "if !answered_for {",
        "if false {",
        ["-p", "rowcast-listener", "--test", "redis_faults", "--test", "takeover", "--", "flush", "snapshot", "a_restarted_redis"],
        binaries=True,
    ),
    Mutant(
        "the generation: nothing of a history goes out before edges can have heard of it",
        "services/listener/src/core.rs",
        "self.publisher.lane(lane).held = self.is_untold(lane);",
        "self.publisher.lane(lane).held = false;",
        ["-p", "rowcast-listener", "--lib", "--", "core::tests::nothing_of_a_history"],
    ),
    Mutant(
        "the generation: a cursor of an older one is not resumed",
        "services/edge/src/room.rs",
        "        if cursor.generation != self.generation {\n            return vec![Action::Answer(",
        "        if cursor.generation > self.generation {\n            return vec![Action::Answer(",
        ROOMS,
    ),
    Mutant(
        "gaps: an event that does not follow the last one makes the room read the log",
        "services/edge/src/room.rs",
        "&& record.offset == self.offset.next() {\n            return vec![self.apply(record)];",
        "&& record.offset > self.offset {\n            return vec![self.apply(record)];",
        ROOMS,
    ),
    Mutant(
        "repeats: an event that a room has had is left out",
        "services/edge/src/room.rs",
        "if record.stream == self.stream && record.offset <= self.offset {\n            return Vec::new();",
        "if record.stream == self.stream && record.offset <= self.offset {\n            return vec![self.apply(record)];",
        ROOMS,
    ),
    Mutant(
        "lost messages: a sweep of the heads finds a room that is behind",
        "services/edge/src/room.rs",
        "head.offset <= self.offset && head.offset >= then",
        "head.offset >= then",
        ROOMS,
    ),
    Mutant(
        "pages: the session's own place counts only where all that was queued is in the page",
        "services/edge/src/session.rs",
        "let all_taken = self.phase == Phase::Open && self.queue.is_empty();",
        "let all_taken = self.phase == Phase::Open;",
        PAGES,
    ),
    Mutant(
        "pages: who is owed a resync keeps its cursor until it has it",
        "services/edge/src/reach.rs",
        "if *resumed || place.cursor.is_none() {",
        "if true {",
        PAGES,
    ),
    Mutant(
        "pages: what came before a resync is not in the page",
        "services/edge/src/http/page.rs",
        "        self.events.retain(|event| event.room != room);\n",
        "",
        PAGES,
    ),
    Mutant(
        "PostgreSQL: a standby is never taken for the primary",
        "crates/store/src/hosts.rs",
        "            Self { recovers: true, .. } => Some(StoreError::NotPrimary),\n",
        "",
        ["-p", "rowcast-store", "--lib", "--", "hosts"],
    ),
    Mutant(
        "PostgreSQL: an old primary that goes on beside the promoted one has no say",
        "crates/bus/src/claim.lua",
        "tonumber(timeline) > tonumber(ARGV[5])",
        "false",
        SCRIPTS,
    ),
    Mutant(
        "PostgreSQL: where history went back the generation is above all that were told",
        "crates/store/src/state.rs",
        "greatest(generation + 1, extract(epoch FROM clock_timestamp())::bigint)",
        "generation + 1",
        ["-p", "rowcast-store", "--test", "it", "--", "state::"],
    ),
    Mutant(
        "PostgreSQL: what a crash would take back is told to nobody",
        "crates/store/src/outbox.rs",
        "if answer.asynchronous {",
        "if false {",
        ["-p", "rowcast-listener", "--test", "restore", "--", "asynchronous"],
    ),
]
