//! The status light: whether the whole way from PostgreSQL to this edge works. Without IO.

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
    heard: Option<Instant>,
    lag_ms: u64,
    impaired: bool,
    /// Whether every room was checked since the link was made.
    linked: bool,
}

impl Lamp {
    /// Dark until a leader is heard.
    pub fn new(wall: Micros) -> Self {
        let light = Light { live: false, since: wall, reason: "starting" };
        Self { light, heard: None, lag_ms: 0, impaired: false, linked: false }
    }

    /// The light as it was last judged.
    pub fn light(&self) -> Light {
        self.light
    }

    /// How long ago a heartbeat was heard.
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_duration_since(heard))
    }

    /// A leader was heard.
    pub fn heard(&mut self, heartbeat: &Heartbeat, now: Instant) {
        self.heard = Some(now);
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
        assert_eq!(lamp.judge(at(0), Micros(1)).map(|light| light.reason), Some("redis"));
        lamp.set_linked(true);
        assert_eq!(lamp.judge(at(0), Micros(2)).map(|light| light.reason), Some("listener"));
        lamp.heard(&heartbeat(0), at(0));
        let live = lamp.judge(at(1), Micros(3)).expect("changed");
        assert!(live.live && live.since == Micros(3));
        assert_eq!(lamp.judge(at(3_000), Micros(4)), None);
        let silent = lamp.judge(at(3_001), Micros(5)).expect("changed");
        assert_eq!((silent.live, silent.reason, silent.since), (false, "listener", Micros(5)));
        lamp.heard(&heartbeat(5_001), at(3_002));
        let lagging = lamp.judge(at(3_002), Micros(6)).expect("changed");
        assert_eq!((lagging.reason, lagging.since), ("lag", Micros(5)));
        lamp.heard(&Heartbeat { impaired: Some("a trigger failed".to_owned()), ..heartbeat(0) }, at(3_003));
        assert_eq!(lamp.judge(at(3_003), Micros(7)).map(|light| light.reason), Some("impaired"));
        lamp.heard(&heartbeat(0), at(3_004));
        lamp.set_linked(false);
        assert_eq!(lamp.judge(at(3_004), Micros(8)).map(|light| light.reason), Some("redis"));
        lamp.set_linked(true);
        assert_eq!(lamp.judge(at(3_005), Micros(9)).map(|light| light.live), Some(true));
    }
}
