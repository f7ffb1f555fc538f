//! How many there are of each key, at most so many, exact across threads. Only keys that somebody holds are kept.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, PoisonError};

const SHARDS: usize = 16;

/// Counts by key.
pub struct Counts<K> {
    most: usize,
    hasher: RandomState,
    shards: [Mutex<HashMap<K, usize>>; SHARDS],
}

impl<K: Hash + Eq> Counts<K> {
    /// So many of each at most; 0 sets no limit, and nothing is counted.
    pub fn new(most: usize) -> Self {
        Self { most, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Whether anything is counted.
    pub fn is_on(&self) -> bool {
        self.most > 0
    }

    /// One more, unless there are as many as there may be.
    pub fn take(&self, key: K) -> bool {
        if !self.is_on() {
            return true;
        }
        self.with_entry(key, |entry| match entry {
            Entry::Occupied(entry) if *entry.get() >= self.most => false,
            Entry::Occupied(mut entry) => {
                *entry.get_mut() += 1;
                true
            }
            Entry::Vacant(entry) => {
                entry.insert(1);
                true
            }
        })
    }

    /// One less.
    pub fn give_back(&self, key: K) {
        if !self.is_on() {
            return;
        }
        self.with_entry(key, |entry| {
            if let Entry::Occupied(mut entry) = entry {
                *entry.get_mut() -= 1;
                if *entry.get() == 0 {
                    entry.remove();
                }
            }
        });
    }

    fn with_entry<R>(&self, key: K, act: impl FnOnce(Entry<'_, K, usize>) -> R) -> R {
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        // Nothing in here panics half-way.
        act(self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner).entry(key))
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().expect("not poisoned").len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn the_nth_is_taken_the_next_is_not_and_one_that_leaves_makes_room() {
        let counts = Counts::new(2);
        assert_eq!(
            [counts.take("a"), counts.take("a"), counts.take("a"), counts.take("b")],
            [true, true, false, true]
        );
        counts.give_back("a");
        assert_eq!([counts.take("a"), counts.take("a")], [true, false]);
        for key in ["a", "a", "b", "b", "c"] {
            counts.give_back(key);
        }
        assert_eq!(counts.keys(), 0, "nothing is kept of whom nobody holds");
    }

    #[test]
    fn threads_that_race_take_no_more_than_there_are() {
        let counts = Counts::new(100);
        let (taken, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        if counts.take(7) {
                            most.fetch_max(taken.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            if round % 2 == 0 {
                                taken.fetch_sub(1, Ordering::SeqCst);
                                counts.give_back(7);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!((taken.load(Ordering::SeqCst), most.load(Ordering::SeqCst)), (100, 100));
    }
}
