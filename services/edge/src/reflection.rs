//! Which version of a mirrored sheet (`rowcast_protocol::mirror`) this edge goes by, and when it loads it. Without IO.
//!
//! Only what the leader has told of is taken over: a Redis that came back with old data has an old sheet, which nobody
//! tells of. Nor is an old leader listened to once a newer generation was heard, or a newer version in the same one.

use rowcast_protocol::Generation;

/// A version within a history: a database that was restored gives numbers out again, in another generation.
type Version = (Generation, u64);

/// What came of loading.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What was loaded is in force from now on.
    pub taken: bool,
    /// To be loaded once more: meanwhile another version was told of.
    pub again: bool,
}

/// One sheet of an edge.
#[derive(Debug, Default)]
pub struct Reflection {
    held: Option<Version>,
    told: Option<Version>,
    /// What had been told when the load that is under way was asked for.
    loading: Option<Version>,
    /// It was loaded since the link was made.
    checked: bool,
}

impl Reflection {
    /// Whether there is something to go by.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The version that is in force; 0 without a sheet.
    pub fn version(&self) -> u64 {
        self.held.map_or(0, |(_, version)| version)
    }

    /// A link was made: what was under way on the old one is lost.
    pub fn relinked(&mut self) {
        self.loading = None;
        self.checked = false;
    }

    /// A link broke: whatever was under way on it may be asked for by another.
    pub fn interrupted(&mut self) {
        self.loading = None;
    }

    /// A link was made, and what stands in Redis at that moment was loaded: what a leader told of last, and the version of
    /// the sheet. True where it is in force from now on: not where Redis went back in time, or the sheet is another one.
    pub fn catch_up(&mut self, generation: Generation, version: u64, found: Option<u64>) -> bool {
        let told = (generation, version);
        if version == 0 || found != Some(version) || self.told.is_some_and(|newest| newest > told) {
            return false;
        }
        (self.told, self.held, self.checked) = (Some(told), Some(told), true);
        true
    }

    /// A leader tells of a version; 0 from one that knows of no sheet. True where it is to be loaded.
    pub fn hear(&mut self, generation: Generation, version: u64) -> bool {
        let told = (generation, version);
        let is_older = |newest: Version| newest.0 > generation || (version > 0 && newest > told);
        if self.told.is_some_and(is_older) {
            return false;
        }
        self.told = Some(told);
        let good = if version == 0 { self.is_held() } else { self.checked && self.held == self.told };
        let load = !good && self.loading.is_none();
        if load {
            self.loading = self.told;
        }
        load
    }

    /// The sheet was loaded: its version, if there is one.
    pub fn loaded(&mut self, found: Option<u64>) -> Loaded {
        let asked = self.loading.take();
        let Some((generation, version)) = self.told else { return Loaded { taken: false, again: false } };
        let fits = match version {
            0 => !self.is_held(),
            version => found == Some(version),
        };
        if fits {
            self.held = Some((generation, found.unwrap_or(0)));
            self.checked = version > 0;
            return Loaded { taken: true, again: false };
        }
        let again = version > 0 && asked != self.told;
        if again {
            self.loading = self.told;
        }
        Loaded { taken: false, again }
    }

    /// What was taken could not be read after all.
    pub fn unreadable(&mut self) {
        self.held = None;
        self.checked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: Loaded = Loaded { taken: true, again: false };
    const NOTHING: Loaded = Loaded { taken: false, again: false };

    #[test]
    fn a_sheet_is_loaded_once_for_each_version_and_once_for_each_link() {
        let mut reflection = Reflection::default();
        assert!(!reflection.is_held());
        assert!(reflection.hear(Generation(1), 3));
        assert!(!reflection.hear(Generation(1), 3), "one load at a time");
        assert_eq!(reflection.loaded(Some(3)), TAKEN);
        assert!(reflection.is_held() && !reflection.hear(Generation(1), 3));
        assert!(reflection.hear(Generation(1), 4));
        assert_eq!(reflection.loaded(Some(4)), TAKEN);
        assert_eq!(reflection.version(), 4);
        reflection.relinked();
        assert!(reflection.is_held() && reflection.hear(Generation(1), 4));
        reflection.relinked();
        assert!(reflection.hear(Generation(1), 4), "the answer went with the old link");
        assert_eq!(reflection.loaded(Some(4)), TAKEN);
        assert!(reflection.hear(Generation(1), 5) && !reflection.hear(Generation(1), 5));
        reflection.interrupted();
        assert!(reflection.hear(Generation(1), 5), "by another link");
        assert_eq!(reflection.loaded(Some(5)), TAKEN);
        assert!(reflection.hear(Generation(2), 4), "another history");
        assert_eq!(reflection.loaded(Some(4)), TAKEN);
    }

    #[test]
    fn only_what_the_newest_leader_tells_of_is_taken() {
        let mut reflection = Reflection::default();
        reflection.hear(Generation(2), 5);
        reflection.loaded(Some(5));
        reflection.relinked();
        assert!(!reflection.hear(Generation(1), 6), "an old leader");
        assert!(!reflection.hear(Generation(2), 4), "one that has lost its lead and does not know");
        assert!(reflection.hear(Generation(2), 5));
        assert_eq!(reflection.loaded(Some(3)), NOTHING, "an old sheet of a Redis that went back in time");
        assert_eq!(reflection.version(), 5);
        assert!(reflection.hear(Generation(2), 5), "it is asked for again");
        assert_eq!(reflection.loaded(None), NOTHING);
        assert!(reflection.hear(Generation(3), 5));
        assert_eq!(reflection.loaded(Some(5)), TAKEN);
    }

    #[test]
    fn a_version_that_is_told_of_during_a_load_is_loaded_at_once() {
        let mut reflection = Reflection::default();
        assert!(reflection.hear(Generation(1), 3));
        assert!(!reflection.hear(Generation(1), 4));
        assert_eq!(reflection.loaded(Some(3)), Loaded { taken: false, again: true });
        assert_eq!(reflection.loaded(Some(4)), TAKEN);
        assert!(reflection.hear(Generation(1), 5));
        assert_eq!(reflection.loaded(Some(6)), NOTHING, "its heartbeat is on its way");
        assert!(reflection.hear(Generation(1), 6));
        assert_eq!(reflection.loaded(Some(6)), TAKEN);
    }

    #[test]
    fn a_leader_of_an_earlier_version_changes_nothing_and_keeps_nobody_waiting() {
        let mut reflection = Reflection::default();
        assert!(reflection.hear(Generation(1), 0));
        assert_eq!(reflection.loaded(None), TAKEN);
        assert!(reflection.is_held() && !reflection.hear(Generation(1), 0));
        assert!(reflection.hear(Generation(1), 2));
        assert_eq!(reflection.loaded(Some(2)), TAKEN);
        assert!(!reflection.hear(Generation(1), 0), "what a newer one has mirrored stays in force");
        reflection.relinked();
        assert!(!reflection.hear(Generation(1), 0));
        // Who starts now finds what the newer one has left.
        let mut other = Reflection::default();
        assert!(other.hear(Generation(1), 0));
        assert_eq!(other.loaded(Some(2)), TAKEN);
        assert_eq!(other.version(), 2);
    }

    #[test]
    fn on_a_new_link_what_stands_there_counts_at_once_unless_redis_went_back_in_time() {
        let mut reflection = Reflection::default();
        assert!(!reflection.catch_up(Generation(2), 5, None), "nothing stands there");
        assert!(!reflection.catch_up(Generation(2), 0, Some(5)), "nobody told of it");
        assert!(!reflection.is_held());
        assert!(reflection.catch_up(Generation(2), 5, Some(5)));
        assert!(reflection.is_held() && !reflection.hear(Generation(2), 5));
        reflection.relinked();
        for (generation, version) in [(2, 4), (1, 9)] {
            assert!(!reflection.catch_up(Generation(generation), version, Some(version)), "an old Redis");
        }
        assert!(!reflection.catch_up(Generation(2), 6, Some(7)), "its heartbeat is on its way");
        assert_eq!(reflection.version(), 5);
        assert!(reflection.catch_up(Generation(2), 7, Some(7)));
        assert!(reflection.catch_up(Generation(3), 1, Some(1)), "a database that was restored");
        assert_eq!(reflection.version(), 1);
    }
}
