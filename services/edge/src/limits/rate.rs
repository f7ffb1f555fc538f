//! Rates: so many a second, and a burst. A meter keeps one moment, at which its burst will be whole again (the generic
//! cell rate algorithm of ATM, ITU-T I.371).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    per_second: u64,
    burst: Duration,
}

/// What was used of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter(Option<Instant>);

impl Rate {
    /// So many a second, and `burst` at once; none where 0 a second stands for no limit.
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        (per_second > 0).then(|| Self { per_second, burst: span(burst.max(1), per_second).min(LONGEST) })
    }

    /// Uses so many, unless that is more than is left.
    pub fn take(&self, meter: &mut Meter, count: u64, now: Instant) -> bool {
        let begin = meter.0.map_or(now, |whole_at| whole_at.max(now));
        let whole_at = begin + span(count, self.per_second);
        let fits = whole_at.saturating_duration_since(now) <= self.burst;
        if fits {
            meter.0 = Some(whole_at);
        }
        fits
    }
}

/// What would take longer than this to come back is not given at once.
const LONGEST: Duration = Duration::from_secs(86_400);

fn span(count: u64, per_second: u64) -> Duration {
    let nanos = u128::from(count) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(2 * LONGEST)
}

const SHARDS: usize = 16;

/// Keys of a shard's generation. Two generations are kept.
const GENERATION: usize = 4_096;

/// A meter for each key, in bounded space. When too many are known, those that were not used for longest are forgotten:
/// they begin anew with a whole burst, so that nobody is refused because others are many.
pub struct Meters<K> {
    rate: Rate,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
}

struct Shard<K> {
    young: HashMap<K, Meter>,
    old: HashMap<K, Meter>,
}

impl<K> Default for Shard<K> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Hash + Eq> Meters<K> {
    /// The same rate for every key.
    pub fn new(rate: Rate) -> Self {
        Self { rate, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Uses one of the key's.
    pub fn take(&self, key: K, now: Instant) -> bool {
        let shard = &self.shards[self.hasher.hash_one(&key) as usize % SHARDS];
        // Nothing in here panics half-way.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meter = match shard.young.get(&key) {
            Some(meter) => *meter,
            None => shard.old.remove(&key).unwrap_or_default(),
        };
        let fits = self.rate.take(&mut meter, 1, now);
        if shard.young.len() >= GENERATION {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(key, meter);
        fits
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        let locked = self.shards.iter().map(|shard| shard.lock().expect("not poisoned"));
        locked.map(|shard| shard.young.len() + shard.old.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_taken_at_once_and_comes_back_with_time() {
        let (rate, start) = (Rate::new(50, 100).expect("on"), Instant::now());
        let mut meter = Meter::default();
        let taken = (0..200).filter(|_| rate.take(&mut meter, 1, start)).count();
        assert_eq!(taken, 100);
        let later = start + Duration::from_millis(100);
        assert_eq!((0..200).filter(|_| rate.take(&mut meter, 1, later)).count(), 5);
        assert!(
            !rate.take(&mut meter, 101, start + Duration::from_secs(3_600)),
            "more than a burst never fits"
        );
        assert!(Rate::new(0, 1).is_none());
        assert!(Rate::new(u64::MAX, u64::MAX).expect("on").take(&mut Meter::default(), u64::MAX, start));
        assert!(!Rate::new(1, u64::MAX).expect("on").take(&mut Meter::default(), u64::MAX, start));
        assert!(!Rate::new(1, 1).expect("on").take(&mut Meter::default(), u64::MAX, start));
    }

    #[test]
    fn any_number_of_keys_takes_bounded_space_and_no_stranger_pays_for_it() {
        let meters = Meters::new(Rate::new(1, 1).expect("on"));
        let now = Instant::now();
        for key in 0..500_000_u32 {
            assert!(meters.take(key, now), "each is new");
        }
        assert!(meters.keys() <= 2 * SHARDS * GENERATION, "{} are kept", meters.keys());
        assert!(!meters.take(499_999, now), "the newest are known");
    }

    proptest! {
        /// Against a bucket of tokens that is filled drop by drop.
        #[test]
        fn no_more_passes_than_a_bucket_of_tokens_gives(
            per_second in 1u64..200, burst in 1u64..50, gaps in prop::collection::vec(0u64..200, 1..100),
        ) {
            let rate = Rate::new(per_second, burst).expect("on");
            let start = Instant::now();
            let (mut meter, mut now, mut taken) = (Meter::default(), start, 0u64);
            for gap in gaps {
                now += Duration::from_millis(gap);
                taken += u64::from(rate.take(&mut meter, 1, now));
                let filled = now.duration_since(start).as_secs_f64() * per_second as f64;
                prop_assert!(taken as f64 <= burst as f64 + filled + 1e-3);
            }
        }
    }
}
