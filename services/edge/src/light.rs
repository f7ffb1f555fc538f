//! The status light: whether the whole way from PostgreSQL to this edge works. Without IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rowcast_protocol::{Heartbeat, Micros};

/// Heartbeats that stay away so long turn the light to Delayed.
const SILENCE: Duration = Duration::from_secs(3);

/// So does a lag above this, in milliseconds.
const MAX_LAG_MS: u64 = 5_000;

/// What clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Light {
    /// Whether events arrive as they are committed.
    pub live: bool,
    /// Since when.
    pub since: Micros,
    /// Why not; empty when live.
    pub reason: &'static str,
}

/// Judges what is heard from the leader and of the link to Redis.
#[derive(Debug)]
pub struct Lamp {
    light: Light,
    /// When a leader was last heard, by the server through which it was: one that is well does not vouch for another.
    heard: BTreeMap<Arc<str>, Option<Instant>>,
    lag_ms: u64,
    impaired: bool,
    /// Whether every room was checked since the link was made.
    linked: bool,
}

impl Lamp {
    /// Dark until a leader is heard.
    pub fn new(wall: Micros) -> Self {
        let light = Light { live: false, since: wall, reason: "starting" };
        Self { light, heard: BTreeMap::new(), lag_ms: 0, impaired: false, linked: false }
    }

    /// The light as it was last judged.
    pub fn light(&self) -> Light {
        self.light
    }

    /// These are the servers through which a leader has to be heard. One that joins others has time to be heard.
    pub fn set_servers(&mut self, servers: impl Iterator<Item = Arc<str>>, now: Instant) {
        let since = (!self.heard.is_empty()).then_some(now);
        let before = std::mem::take(&mut self.heard);
        self.heard =
            servers.map(|name| (name.clone(), before.get(&name).copied().unwrap_or(since))).collect();
    }

    /// How long ago a heartbeat was heard, through the server that is the longest silent.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        let oldest = self.heard.values().try_fold(now, |oldest, heard| heard.map(|heard| oldest.min(heard)));
        oldest.filter(|_| !self.heard.is_empty()).map(|oldest| now.saturating_duration_since(oldest))
    }

    /// A leader was heard through a server.
    pub fn heard(&mut self, server: &str, heartbeat: &Heartbeat, now: Instant) {
        if let Some(heard) = self.heard.get_mut(server) {
            *heard = Some(now);
        }
        self.lag_ms = heartbeat.lag_ms;
        self.impaired = heartbeat.impaired.is_some();
    }

    /// The link to Redis broke, or is whole again with every room checked.
    pub fn set_linked(&mut self, linked: bool) {
        self.linked = linked;
    }

    /// Judges anew; the light, if it changed.
    pub fn judge(&mut self, now: Instant, wall: Micros) -> Option<Light> {
        let reason = if !self.linked {
            Some("redis")
        } else if self.silence(now).is_none_or(|silence| silence > SILENCE) {
            Some("listener")
        } else if self.lag_ms > MAX_LAG_MS {
            Some("lag")
        } else if self.impaired {
            Some("impaired")
        } else {
            None
        };
        let live = reason.is_none();
        let reason = reason.unwrap_or_default();
        if live == self.light.live && (live || reason == self.light.reason) {
            return None;
        }
        let since = if live == self.light.live { self.light.since } else { wall };
        self.light = Light { live, since, reason };
        Some(self.light)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat(lag_ms: u64) -> Heartbeat {
        Heartbeat { epoch: 1, generation: 1, lag_ms, at: 0, impaired: None, switches: 0, revocations: 0 }
    }

    #[test]
    fn every_broken_link_turns_the_light_off_within_its_time() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut lamp = Lamp::new(Micros(0));
        lamp.set_servers(["main".into()].into_iter(), at(0));
        assert_eq!(lamp.judge(at(0), Micros(1)).map(|light| light.reason), Some("redis"));
        lamp.set_linked(true);
        assert_eq!(lamp.judge(at(0), Micros(2)).map(|light| light.reason), Some("listener"));
        lamp.heard("main", &heartbeat(0), at(0));
        let live = lamp.judge(at(1), Micros(3)).expect("changed");
        assert!(live.live && live.since == Micros(3));
        assert_eq!(lamp.judge(at(3_000), Micros(4)), None);
        let silent = lamp.judge(at(3_001), Micros(5)).expect("changed");
        assert_eq!((silent.live, silent.reason, silent.since), (false, "listener", Micros(5)));
        lamp.heard("main", &heartbeat(5_001), at(3_002));
        let lagging = lamp.judge(at(3_002), Micros(6)).expect("changed");
        assert_eq!((lagging.reason, lagging.since), ("lag", Micros(5)));
        lamp.heard(
            "main",
            &Heartbeat { impaired: Some("a trigger failed".to_owned()), ..heartbeat(0) },
            at(3_003),
        );
        assert_eq!(lamp.judge(at(3_003), Micros(7)).map(|light| light.reason), Some("impaired"));
        lamp.heard("main", &heartbeat(0), at(3_004));
        lamp.set_linked(false);
        assert_eq!(lamp.judge(at(3_004), Micros(8)).map(|light| light.reason), Some("redis"));
        lamp.set_linked(true);
        assert_eq!(lamp.judge(at(3_005), Micros(9)).map(|light| light.live), Some(true));
    }

    #[test]
    fn a_server_that_is_well_does_not_vouch_for_one_that_is_silent() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let names =
            |names: &[&'static str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
        let mut lamp = Lamp::new(Micros(0));
        lamp.set_linked(true);
        lamp.set_servers(names(&["a", "b"]).into_iter(), at(0));
        lamp.heard("a", &heartbeat(0), at(1));
        assert_eq!(lamp.judge(at(1), Micros(1)).map(|light| light.reason), Some("listener"));
        lamp.heard("b", &heartbeat(0), at(2));
        assert!(lamp.judge(at(2), Micros(2)).is_some_and(|light| light.live));
        lamp.set_servers(names(&["a", "b", "c"]).into_iter(), at(3));
        assert_eq!(lamp.judge(at(3), Micros(3)), None, "one that joins has time to be heard");
        for ms in [1_000, 2_000, 3_000] {
            lamp.heard("a", &heartbeat(0), at(ms));
            lamp.heard("c", &heartbeat(0), at(ms));
        }
        assert_eq!(lamp.judge(at(3_003), Micros(4)).map(|light| light.reason), Some("listener"));
        lamp.set_servers(names(&["a", "c"]).into_iter(), at(3_004));
        assert!(
            lamp.judge(at(3_004), Micros(5)).is_some_and(|light| light.live),
            "it holds nothing any more"
        );
    }
}
