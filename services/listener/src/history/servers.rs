//! Whether history in Redis goes on where it stopped: what is recorded of its servers, and what a server says of itself. No IO.
//!
//! A server's history is gone when it is not the run that was recorded, when it was a replica meanwhile, or when the claim that
//! a leader left there is; and in a Cluster when it holds slots that it did not get from who had them. Slots that were moved
//! between masters that are there lost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rowcast_bus::{Server, ServerIdentity, Topology};
use rowcast_protocol::Epoch;

/// What is known of Redis's servers.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    /// What is recorded: by a server's name its run id, and beside that, for this version and later ones, what else tells one
    /// history from another.
    recorded: BTreeMap<String, String>,
    /// Whether there was history in Redis before this leader, on these servers or on others.
    has_begun: bool,
    /// Which servers this leader goes on with.
    topology: Option<Topology>,
    /// Of those, the ones that have slots which did not come from who had them.
    doubted: BTreeSet<Arc<str>>,
    /// Of those, the ones that this leader saw join, and get their slots from who had them.
    joined: BTreeSet<Arc<str>>,
    /// The last epoch that this leader tried to write there: whether it did is not always known.
    sent: BTreeMap<Arc<str>, Epoch>,
    /// The epoch that this leader wrote there, and under which tag.
    claimed: BTreeMap<Arc<str>, (Epoch, Option<u32>)>,
}

impl Servers {
    /// As it is recorded.
    pub fn new(recorded: BTreeMap<String, String>) -> Self {
        Self { has_begun: !recorded.is_empty(), recorded, ..Self::default() }
    }

    /// What is to be recorded.
    pub fn recorded(&self) -> &BTreeMap<String, String> {
        &self.recorded
    }

    /// The servers are these now. Says which of them hold slots that did not come from who had them.
    pub fn meet(&mut self, topology: &Topology) -> BTreeSet<Arc<str>> {
        let is_there = |name: &str| topology.server(name).is_some();
        let mut doubted = BTreeSet::new();
        // Where Sentinels name another server, its run id says so.
        if let Some(before) =
            self.topology.as_ref().filter(|before| before.is_cluster() && topology.is_cluster())
        {
            for name in topology.servers().iter().map(|server| &server.name) {
                if !topology.inherits(before, name) {
                    doubted.insert(name.clone());
                } else if before.server(name).is_none() {
                    self.joined.insert(name.clone());
                }
            }
        }
        // Whoever went comes back as a stranger: it may have been a replica meanwhile.
        self.recorded.retain(|key, _| is_there(key.split('/').next().unwrap_or(key)));
        self.claimed.retain(|name, _| is_there(name));
        self.joined.retain(|name| is_there(name) && !doubted.contains(name));
        self.doubted.retain(|name| is_there(name));
        self.doubted.extend(doubted.iter().cloned());
        self.topology = Some(topology.clone());
        doubted
    }

    /// Why what was published through a server may be gone; `None` where it is there, or was never there.
    pub fn loss(&self, server: &Server, found: &ServerIdentity) -> Option<&'static str> {
        if self.doubted.contains(&server.name) {
            return Some("slots of Redis went to a server that did not get what was in them");
        }
        if self.joined.contains(&server.name) {
            return None;
        }
        let Some(run_id) = self.recorded.get(&*server.name) else {
            // The first leader of all finds nothing recorded.
            return self.has_begun.then_some("Redis has a server that is not known");
        };
        if *run_id != found.run_id {
            return Some("Redis was restarted or is another one");
        }
        // It gives itself another one too, without having been anybody's replica.
        if found.was_promoted && self.replication_id(server).is_some_and(|id| id != found.replication_id) {
            return Some("Redis was a replica meanwhile");
        }
        match (self.claimed.get(&server.name), found.claimed) {
            // The slot of the claim was given away.
            (Some((_, tag)), _) if *tag != server.tag => None,
            (None, _) if self.tag(server).is_some_and(|tag| tag != server.tag) => {
                Some("slots of Redis were moved while nobody led")
            }
            (_, None) => Some("Redis was flushed"),
            (Some((own, _)), Some(found)) => (found < *own).then_some("Redis was flushed"),
            (None, Some(_)) => None,
        }
    }

    /// This leader is about to write its epoch there.
    pub fn send(&mut self, server: &Server, epoch: Epoch) {
        self.sent.insert(server.name.clone(), epoch);
    }

    /// Whether it may be this leader's own claim that is found there.
    pub fn has_sent(&self, server: &Server, epoch: Epoch) -> bool {
        self.sent.get(&server.name) == Some(&epoch)
    }

    /// This leader goes on with what is there. True where there is news to record.
    pub fn claim(&mut self, server: &Server, found: &ServerIdentity, epoch: Epoch) -> bool {
        self.claimed.insert(server.name.clone(), (epoch, server.tag));
        self.doubted.remove(&server.name);
        self.joined.remove(&server.name);
        let name = &server.name;
        let mut entries = vec![
            (name.to_string(), found.run_id.clone()),
            (replid(server), format!("{} {}", found.run_id, found.replication_id)),
        ];
        entries.extend(server.tag.map(|number| (tag(server), number.to_string())));
        let mut news = false;
        for (key, value) in entries {
            news |= self.recorded.insert(key, value.clone()) != Some(value);
        }
        news
    }

    /// It counts for one run only: older versions record the run alone.
    fn replication_id(&self, server: &Server) -> Option<&str> {
        let (run_id, id) = self.recorded.get(&replid(server))?.split_once(' ')?;
        (Some(run_id) == self.recorded.get(&*server.name).map(String::as_str)).then_some(id)
    }

    fn tag(&self, server: &Server) -> Option<Option<u32>> {
        Some(self.recorded.get(&tag(server))?.parse().ok())
    }
}

fn replid(server: &Server) -> String {
    format!("{}/replid", server.name)
}

fn tag(server: &Server) -> String {
    format!("{}/tag", server.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(run_id: &str, claimed: Option<u64>) -> ServerIdentity {
        ServerIdentity {
            run_id: run_id.to_owned(),
            replication_id: "r".to_owned(),
            was_promoted: false,
            version: String::new(),
            role: "master".to_owned(),
            info: String::new(),
            claimed: claimed.map(Epoch),
            origin: None,
            generation: None,
        }
    }

    fn main() -> Server {
        Topology::single().servers()[0].clone()
    }

    #[test]
    fn history_in_redis_is_gone_when_what_a_leader_wrote_there_is() {
        let new = Servers::default();
        assert_eq!(new.loss(&main(), &found("a", None)), None, "the first leader of all");
        let recorded = BTreeMap::from([("main".to_owned(), "a".to_owned())]);
        let next = Servers::new(recorded.clone());
        assert_eq!(next.loss(&main(), &found("a", Some(3))), None, "the leader before's");
        assert!(next.loss(&main(), &found("b", Some(3))).is_some(), "restarted, from whatever it had saved");
        assert!(next.loss(&main(), &found("a", None)).is_some(), "flushed while nobody led");
        let mut claimed = Servers::new(recorded);
        assert!(
            claimed.claim(&main(), &found("a", Some(3)), Epoch(4)),
            "an older version recorded the run alone"
        );
        assert!(!claimed.claim(&main(), &found("a", Some(3)), Epoch(4)));
        assert_eq!(claimed.loss(&main(), &found("a", Some(4))), None);
        assert_eq!(claimed.loss(&main(), &found("a", Some(5))), None, "a newer leader's");
        let older = claimed.loss(&main(), &found("a", Some(3)));
        assert!(older.is_some(), "flushed, and an old leader wrote again");
    }

    #[test]
    fn a_server_that_was_a_replica_meanwhile_is_another_history_though_its_run_goes_on() {
        let mut servers = Servers::default();
        servers.claim(&main(), &found("a", None), Epoch(4));
        let other = |was_promoted| ServerIdentity {
            replication_id: "s".to_owned(),
            was_promoted,
            ..found("a", Some(4))
        };
        assert!(servers.loss(&main(), &other(true)).is_some());
        assert_eq!(
            servers.loss(&main(), &other(false)),
            None,
            "it named itself anew, as one without replicas does"
        );
    }

    fn cluster(slots: &[(&str, &str)], others: &str) -> Topology {
        let lines =
            slots.iter().map(|(name, slots)| format!("{name} h:1@2 master - 0 0 1 connected {slots}\n"));
        Topology::parse_cluster(&(lines.collect::<String>() + others)).expect("a topology")
    }

    /// All of them are claimed by a leader.
    fn leading(topology: &Topology) -> Servers {
        let mut servers = Servers::default();
        servers.meet(topology);
        for server in topology.servers() {
            assert_eq!(servers.loss(server, &found(&server.name, None)), None, "the first leader of all");
            servers.claim(server, &found(&server.name, None), Epoch(1));
        }
        servers
    }

    /// The master `a` keeps its claim in slot 3840.
    #[test]
    fn slots_that_move_between_masters_lose_nothing_and_those_of_a_failed_one_do() {
        let three = cluster(&[("a", "0-5000"), ("b", "5001-10000"), ("c", "10001-16383")], "");
        let mut servers = leading(&three);
        let moved = cluster(
            &[("a", "0-3839 3841-5000"), ("b", "5001-10000"), ("c", "10001-16383"), ("d", "3840")],
            "",
        );
        assert_eq!(servers.meet(&moved), BTreeSet::new());
        let of = |topology: &Topology, name: &str| topology.server(name).expect("it is there").clone();
        assert_eq!(servers.loss(&of(&moved, "d"), &found("d", None)), None, "it joined");
        assert_eq!(servers.loss(&of(&moved, "a"), &found("a", None)), None, "its claim went with slot 3840");
        for server in moved.servers() {
            servers.claim(server, &found(&server.name, None), Epoch(1));
        }
        let failed = cluster(
            &[("a", "0-3839 3841-5000"), ("e", "5001-10000"), ("c", "10001-16383"), ("d", "3840")],
            "b h:1@2 master,fail - 0 0 1 connected\n",
        );
        assert_eq!(servers.meet(&failed), BTreeSet::from(["e".into()]));
        assert!(servers.loss(&of(&failed, "e"), &found("e", Some(1))).is_some());
        servers.claim(&of(&failed, "e"), &found("e", Some(1)), Epoch(1));
        let back = servers.meet(&moved);
        assert!(back.contains("b") && servers.loss(&of(&moved, "b"), &found("b", Some(1))).is_some());
    }

    #[test]
    fn the_next_leader_knows_what_is_recorded_and_doubts_the_rest() {
        let two = cluster(&[("a", "0-5000"), ("b", "5001-16383")], "");
        let mut next = Servers::new(leading(&two).recorded().clone());
        next.meet(&two);
        for server in two.servers() {
            assert_eq!(next.loss(server, &found(&server.name, Some(1))), None);
        }
        let changed = cluster(&[("a", "0-3839 3841-5000"), ("c", "3840"), ("b", "5001-16383")], "");
        let mut next = Servers::new(next.recorded().clone());
        next.meet(&changed);
        let lossy = |name: &str| next.loss(changed.server(name).unwrap(), &found(name, Some(1))).is_some();
        assert!(lossy("a") && lossy("c") && !lossy("b"));
        let mut moved_in = Servers::new(BTreeMap::from([("main".to_owned(), "x".to_owned())]));
        moved_in.meet(&two);
        assert!(two.servers().iter().all(|server| moved_in.loss(server, &found("y", None)).is_some()));
    }
}
