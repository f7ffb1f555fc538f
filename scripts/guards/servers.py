"""Redis of several servers: who is served from, which way a room goes, whose history a server holds."""

from . import Mutant

HISTORY = ["-p", "rowcast-listener", "--lib", "--", "history"]
PUBLISHER = ["-p", "rowcast-listener", "--lib", "--", "publisher"]
TOPOLOGIES = ["-p", "rowcast-bus", "--test", "topologies"]
TOPOLOGY = ["-p", "rowcast-bus", "--lib", "--", "topology"]

MUTANTS = [
    Mutant(
        "servers: nobody serves from a replica",
        "crates/bus/src/read.rs",
        "_ => Err(BusError::Replica(self.server.to_string())),",
        "_ => Ok(()),",
        [*TOPOLOGIES, "--", "sentinels_tell"],
    ),
    Mutant(
        "servers: a room that was moved waits for what is under way",
        "services/listener/src/publisher.rs",
        "if room.flying.is_some_and(|flying| flying != lane) {",
        "if false {",
        PUBLISHER,
    ),
    Mutant(
        "servers: where history went back, what was published is deleted before anything follows",
        "services/listener/src/room.rs",
        "self.must_delete = self.undeleted > 0;",
        "self.must_delete = false;",
        PUBLISHER,
    ),
    Mutant(
        "servers: slots that did not come from who had them are a loss",
        "crates/bus/src/topology.rs",
        "!is_its || giver.is_some_and(|giver| self.is_master(&giver.name))",
        "!is_its || giver.is_some()",
        TOPOLOGY,
    ),
    Mutant(
        "servers: a master that was a replica meanwhile is another history",
        "services/listener/src/history/servers.rs",
        "if found.was_promoted && self",
        "if false && self",
        HISTORY,
    ),
    Mutant(
        "servers: one that is well does not vouch for another",
        "services/edge/src/light.rs",
        "let oldest = self.heard.values().try_fold(now, |oldest, heard| heard.map(|heard| oldest.min(heard)));",
        "let oldest = self.heard.values().flatten().copied().max();",
        ["-p", "rowcast-edge", "--lib", "--", "light"],
    ),
]
