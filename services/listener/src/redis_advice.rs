//! What a Redis is set to that may hurt, read from what it tells of itself (`INFO`), and said where it begins: a line in the log
//! each, and a metric. Whether this is the Redis whose history goes on is `history`'s affair.
//!
//! `CONFIG` is not asked: managed services refuse it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rowcast_bus::info_field;
use rowcast_process::metrics::{Metrics, MetricsError};
use rowcast_process::prometheus::{IntGauge, IntGaugeVec};

/// The oldest Redis that the scripts work on, and the oldest whose Cluster has sharded pub/sub.
const OLDEST: (u32, u32) = (6, 2);
const OLDEST_CLUSTER: (u32, u32) = (7, 0);

/// Something that whoever runs the Redis should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    /// It is older than what Rowcast is made for.
    Old,
    /// It may throw away what clients have missed.
    Evicts,
    /// It does not say whether it may.
    PolicyUnknown,
    /// It could not write its snapshot or its log.
    SavingFails,
    /// It has replicas, and takes events while none of them hears it.
    Unguarded,
}

impl Concern {
    const ALL: [Self; 5] = [Self::Old, Self::Evicts, Self::PolicyUnknown, Self::SavingFails, Self::Unguarded];

    /// A metric label.
    fn label(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Evicts => "evicts",
            Self::PolicyUnknown => "policy_unknown",
            Self::SavingFails => "saving_fails",
            Self::Unguarded => "unguarded",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Old => "Redis is too old: Rowcast needs 6.2, and 7.0 in a Cluster, or any Valkey",
            Self::Evicts => {
                "Redis may throw away what clients have missed when its memory is full: set maxmemory-policy noeviction"
            }
            Self::PolicyUnknown => {
                "Redis does not tell its maxmemory-policy: make sure that it is noeviction, or it may throw away what clients have missed"
            }
            Self::SavingFails => {
                "Redis could not save itself to its disk, and refuses what is written until it can (unless stop-writes-on-bgsave-error is no): look at its disk and its memory; Rowcast itself needs nothing saved"
            }
            Self::Unguarded => {
                "Redis takes events while no replica hears it, and they are gone when a replica takes its place: set min-replicas-to-write 1, so that they wait in PostgreSQL instead (Redis 6.2 does not look at it in scripts)"
            }
        }
    }
}

/// What `INFO` says.
struct Told<'a>(&'a str);

impl<'a> Told<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        info_field(self.0, name)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    /// Major and minor version as Redis counts them; Valkey tells of 7.2 there, whatever its own is.
    fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.get("redis_version")?.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// What a restart leaves. Snapshots that are switched on and have not come to pass yet do not show.
    fn persistence(&self) -> &'static str {
        let saved = self.get("rdb_saves").is_some_and(|saves| saves != "0");
        match (self.get("aof_enabled"), saved) {
            (Some("1"), _) => "append-only file",
            (_, true) => "snapshots",
            (Some(_), false) => "none seen",
            (None, false) => "unknown",
        }
    }
}

/// What there is to say of a Redis, with the words of its own that say so.
type Concerns = BTreeMap<Concern, String>;

fn concerns(told: &Told<'_>) -> Concerns {
    let clustered = told.is("redis_mode", "cluster") || told.is("server_mode", "cluster");
    let oldest = if clustered { OLDEST_CLUSTER } else { OLDEST };
    let said = |name: &str, hurts: &dyn Fn(&str) -> bool| {
        told.get(name).filter(|value| hurts(value)).map(|value| format!("{name}:{value}"))
    };
    let fails = |status: &str| status != "ok";
    let found = |concern: Concern| match concern {
        Concern::Old => said("redis_version", &|_| told.version().is_some_and(|version| version < oldest)),
        Concern::Evicts => said("maxmemory_policy", &|policy| policy != "noeviction"),
        Concern::PolicyUnknown => told.get("maxmemory_policy").is_none().then(String::new),
        Concern::SavingFails => {
            said("rdb_last_bgsave_status", &fails).or_else(|| said("aof_last_write_status", &fails))
        }
        // The other line is there where the setting is.
        Concern::Unguarded => {
            let unguarded = told.get("min_slaves_good_slaves").is_none();
            said("connected_slaves", &|count| unguarded && count != "0")
        }
    };
    Concern::ALL.into_iter().filter_map(|concern| Some((concern, found(concern)?))).collect()
}

/// What is known of each server, counted.
pub(crate) struct RedisAdvice {
    concerns: IntGaugeVec,
    evicts: IntGauge,
    known: Mutex<BTreeMap<String, Concerns>>,
}

impl RedisAdvice {
    /// Makes and registers what is counted.
    pub fn new(on: &Metrics) -> Result<Self, MetricsError> {
        Ok(Self {
            concerns: on.gauge_vec(
                "rowcast_listener_redis_concerns",
                "Redis servers that are set to something that may hurt, as their last link found it.",
                &["concern"],
            )?,
            evicts: on.gauge(
                "rowcast_listener_redis_evicts",
                "1 while a Redis has an eviction policy (maxmemory-policy other than noeviction), as its last link found it.",
            )?,
            known: Mutex::default(),
        })
    }

    /// A link to this server was made, and it told this of itself. What was said of it before is not said again.
    pub fn on_link(&self, server: &str, info: &str) {
        let told = Told(info);
        let found = concerns(&told);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(server.to_owned(), found.clone());
        if before.is_none() {
            let version = told.get("valkey_version").or(told.get("redis_version")).unwrap_or("unknown");
            let (replicas, persistence) =
                (told.get("connected_slaves").unwrap_or("unknown"), told.persistence());
            tracing::info!(server, version, replicas, persistence, "Redis tells of itself");
        }
        let before = before.unwrap_or_default();
        for (concern, said) in found.iter().filter(|(concern, said)| before.get(concern) != Some(said)) {
            tracing::warn!(server, concern = concern.label(), said, "{}", concern.advice());
        }
        self.count(&known);
    }

    /// Only these servers are still in use.
    pub fn keep(&self, servers: &[String]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|server, _| servers.contains(server));
        self.count(&known);
    }

    fn count(&self, known: &BTreeMap<String, Concerns>) {
        for concern in Concern::ALL {
            let count = known.values().filter(|found| found.contains_key(&concern)).count();
            self.concerns.with_label_values(&[concern.label()]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let evicts = known.values().any(|found| found.contains_key(&Concern::Evicts));
        self.evicts.set(i64::from(evicts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory:0\r\n\
        maxmemory_policy:noeviction\r\n# Persistence\r\nrdb_last_bgsave_status:ok\r\nrdb_saves:0\r\naof_enabled:0\r\n\
        aof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n";

    fn of(info: &str) -> Vec<Concern> {
        concerns(&Told(info)).into_keys().collect()
    }

    #[test]
    fn nothing_is_said_of_a_redis_that_is_set_as_it_should_be() {
        assert_eq!(of(GOOD), []);
        let guarded = GOOD.replace("connected_slaves:0", "connected_slaves:2\r\nmin_slaves_good_slaves:2");
        assert_eq!(of(&guarded), []);
    }

    #[test]
    fn each_setting_that_may_hurt_is_seen() {
        for (good, bad, concern) in [
            ("redis_version:7.0.15", "redis_version:6.0.16", Concern::Old),
            ("noeviction", "volatile-lru", Concern::Evicts),
            ("maxmemory_policy:noeviction", "", Concern::PolicyUnknown),
            ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err", Concern::SavingFails),
            ("aof_last_write_status:ok", "aof_last_write_status:err", Concern::SavingFails),
            ("connected_slaves:0", "connected_slaves:1", Concern::Unguarded),
        ] {
            assert_eq!(of(&GOOD.replace(good, bad)), [concern], "{bad}");
        }
    }

    #[test]
    fn a_cluster_needs_sharded_channels_and_valkey_has_them_in_every_version() {
        let six = GOOD.replace("7.0.15", "6.2.14");
        assert_eq!(of(&six), []);
        assert_eq!(of(&six.replace("standalone", "cluster")), [Concern::Old]);
        let valkey = GOOD.replace("redis_version:7.0.15", "redis_version:7.2.4\r\nvalkey_version:9.1.2");
        assert_eq!(of(&valkey.replace("redis_mode:standalone", "server_mode:cluster")), []);
    }

    #[test]
    fn of_a_service_that_tells_little_only_the_policy_is_asked_for() {
        assert_eq!(of("run_id:7\r\nrole:master\r\n"), [Concern::PolicyUnknown]);
    }

    #[test]
    fn what_a_restart_leaves_is_told() {
        let persistence = |info: &str| Told(info).persistence();
        assert_eq!(persistence(GOOD), "none seen");
        assert_eq!(persistence(&GOOD.replace("rdb_saves:0", "rdb_saves:3")), "snapshots");
        assert_eq!(persistence(&GOOD.replace("aof_enabled:0", "aof_enabled:1")), "append-only file");
        assert_eq!(persistence(""), "unknown");
    }

    #[test]
    fn servers_are_counted_by_concern_until_they_are_gone_or_set_right() {
        let registry = Metrics::new("listener", "0").unwrap();
        let advice = RedisAdvice::new(&registry).unwrap();
        let count = |concern: Concern| advice.concerns.with_label_values(&[concern.label()]).get();
        let evicting = GOOD.replace("noeviction", "allkeys-lru");
        advice.on_link("one", &evicting);
        advice.on_link("two", &evicting);
        advice.on_link("three", GOOD);
        assert_eq!((count(Concern::Evicts), count(Concern::Old), advice.evicts.get()), (2, 0, 1));
        advice.on_link("one", GOOD);
        assert_eq!((count(Concern::Evicts), advice.evicts.get()), (1, 1));
        advice.keep(&["one".to_owned(), "three".to_owned()]);
        assert_eq!((count(Concern::Evicts), advice.evicts.get()), (0, 0));
    }
}
