"""The guards of SECURITY.md's section Revocation."""

from . import Mutant

EDGE = ["-p", "rowcast-edge", "--test", "revocations"]
UNITS = ["-p", "rowcast-edge", "--lib", "--"]
STORE = ["-p", "rowcast-store", "--test", "it", "--", "revocations"]
REVOKING = "services/edge/src/worker/revoking.rs"
WORKER = "services/edge/src/worker.rs"
JUDGING = "services/edge/src/worker/judging.rs"
SHEETS = "services/edge/src/hub/sheets.rs"
MIGRATION = "migrations/V6__revocations.sql"

MUTANTS = [
    Mutant(
        "whoever is in goes when its token is revoked",
        REVOKING,
        "self.connections.values().filter(is_hit)",
        "self.connections.values().filter(|one| is_hit(one) && self.key > 1_000_000)",
        EDGE,
    ),
    Mutant(
        "a revoked token is refused at every way in",
        JUDGING,
        "judged.and_then(|identity| self.unless_revoked(identity))",
        "judged",
        EDGE,
    ),
    Mutant(
        "a token is judged by the revocations at the moment at which it lets in",
        WORKER,
        "let Ok(identity) = self.unless_revoked(identity) else {",
        "let Ok(identity) = Ok::<_, ()>(identity) else {",
        [*UNITS, "worker::revoking"],
    ),
    Mutant(
        "a refresh with a revoked token is refused",
        JUDGING,
        "let identity = match self.admit(judged) {",
        "let identity = match judged {",
        [*UNITS, "worker::revoking"],
    ),
    Mutant(
        "what waits for a client does not reach it once its token is revoked",
        "services/edge/src/session.rs",
        "            self.drop_queue();\n            self.end(CloseCode::Token, TokenFault::Revoked.message(), now);",
        "            self.end(CloseCode::Token, TokenFault::Revoked.message(), now);",
        [*UNITS, "worker::revoking"],
    ),
    Mutant(
        "a token is revoked with any room that it names",
        REVOKING,
        "rooms.iter().chain(elsewhere)",
        "rooms.iter().chain(elsewhere.iter().take(0))",
        [*UNITS, "worker::revoking"],
    ),
    Mutant(
        "a token that does not say when it was issued counts as older than any time",
        "crates/protocol/src/revocations.rs",
        "issued_at.is_none_or(|at| at.0 < before)",
        "issued_at.is_some_and(|at| at.0 < before)",
        ["-p", "rowcast-protocol", "--lib", "--", "revocations"],
    ),
    Mutant(
        "a token of the very second, or of a clock that is ahead, counts as issued before",
        MIGRATION,
        "ELSE moment + interval '1 second' END",
        "ELSE moment END",
        STORE,
    ),
    Mutant(
        "said again, a revocation never moves back",
        MIGRATION,
        "greatest(r.issued_before, cut)",
        "cut",
        STORE,
    ),
    Mutant(
        "there is a bound to how many there are",
        MIGRATION,
        "(SELECT count(*) FROM rowcast.revocations) >= most",
        "(SELECT count(*) FROM rowcast.revocations) < 0",
        STORE,
    ),
    Mutant(
        "a listener notes what it has told, and changes nothing about what is revoked",
        MIGRATION,
        "GRANT UPDATE (told) ON rowcast.mirror TO rowcast_listener;",
        "GRANT UPDATE ON rowcast.mirror TO rowcast_listener;",
        STORE,
    ),
    Mutant(
        "nobody is let in before the revocations are known",
        SHEETS,
        "(_, None) => Some(Sheet::Revocations),",
        "(_, None) if self.switches.is_none() => Some(Sheet::Revocations),",
        EDGE,
    ),
    Mutant(
        "on a new link to Redis revocations count before anything is delivered",
        SHEETS,
        "if reflection.catch_up(generation, version, stands) {",
        "if !reflection.is_held() && reflection.catch_up(generation, version, stands) {",
        EDGE,
    ),
    Mutant(
        "an older version of the revocations is not gone back to",
        "services/edge/src/reflection.rs",
        " || (version > 0 && newest > told)",
        "",
        [*UNITS, "reflection"],
    ),
    Mutant(
        "revocations that cannot be read leave the last ones in force",
        SHEETS,
        "return self.sheets.of(sheet).unreadable();",
        "self.sheets.revocations = Some(Arc::default());",
        EDGE,
    ),
]
