//! Which version of a mirrored sheet (`rowcast_protocol::mirror`) this edge goes by, and when it loads it. Without IO.
//!
//! Only what the leader has told of is taken over: a Redis that came back with old data has an old sheet, which nobody
//! tells of. Nor is an old leader listened to once a newer generation was heard.

use rowcast_protocol::{Generation, Mirror};

/// A version within a history: a database that was restored gives numbers out again, in another generation.
type Version = (Generation, u64);

/// What came of loading.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// In force from now on; none within it stands for what is without a sheet.
    pub taken: Option<Option<Mirror>>,
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

    /// A leader tells of a version; 0 from one that knows of no sheet. True where it is to be loaded.
    pub fn hear(&mut self, generation: Generation, version: u64) -> bool {
        if self.told.is_some_and(|(newest, _)| newest > generation) {
            return false;
        }
        self.told = Some((generation, version));
        let good = if version == 0 { self.is_held() } else { self.checked && self.held == self.told };
        let load = !good && self.loading.is_none();
        if load {
            self.loading = self.told;
        }
        load
    }

    /// The sheet was loaded, if there is one.
    pub fn loaded(&mut self, found: Option<Mirror>) -> Loaded {
        let asked = self.loading.take();
        let Some((generation, version)) = self.told else { return Loaded { taken: None, again: false } };
        let fits = match version {
            0 => !self.is_held(),
            version => found.as_ref().is_some_and(|mirror| mirror.version == version),
        };
        if fits {
            self.held = Some((generation, found.as_ref().map_or(0, |mirror| mirror.version)));
            self.checked = version > 0;
            return Loaded { taken: Some(found), again: false };
        }
        let again = version > 0 && asked != self.told;
        if again {
            self.loading = self.told;
        }
        Loaded { taken: None, again }
    }

    /// What was taken could not be read after all.
    pub fn unreadable(&mut self) {
        self.held = None;
        self.checked = false;
    }
}

#[cfg(test)]
mod tests {
    use rowcast_protocol::Sheet;

    use super::*;

    fn sheet(version: u64) -> Option<Mirror> {
        Some(Mirror { sheet: Sheet::Switches, version, content: String::new() })
    }

    fn taken(version: u64) -> Loaded {
        Loaded { taken: Some(sheet(version)), again: false }
    }

    const NOTHING: Loaded = Loaded { taken: None, again: false };

    #[test]
    fn a_sheet_is_loaded_once_for_each_version_and_once_for_each_link() {
        let mut reflection = Reflection::default();
        assert!(!reflection.is_held());
        assert!(reflection.hear(Generation(1), 3));
        assert!(!reflection.hear(Generation(1), 3), "one load at a time");
        assert_eq!(reflection.loaded(sheet(3)), taken(3));
        assert!(reflection.is_held() && !reflection.hear(Generation(1), 3));
        assert!(reflection.hear(Generation(1), 4));
        assert_eq!(reflection.loaded(sheet(4)), taken(4));
        assert_eq!(reflection.version(), 4);
        reflection.relinked();
        assert!(reflection.is_held() && reflection.hear(Generation(1), 4));
        reflection.relinked();
        assert!(reflection.hear(Generation(1), 4), "the answer went with the old link");
        assert_eq!(reflection.loaded(sheet(4)), taken(4));
        assert!(reflection.hear(Generation(2), 4), "another history");
        assert_eq!(reflection.loaded(sheet(4)), taken(4));
    }

    #[test]
    fn only_what_the_newest_leader_tells_of_is_taken() {
        let mut reflection = Reflection::default();
        reflection.hear(Generation(2), 5);
        reflection.loaded(sheet(5));
        reflection.relinked();
        assert!(!reflection.hear(Generation(1), 3), "an old leader");
        assert!(reflection.hear(Generation(2), 5));
        assert_eq!(reflection.loaded(sheet(3)), NOTHING, "an old sheet of a Redis that went back in time");
        assert_eq!(reflection.version(), 5);
        assert!(reflection.hear(Generation(2), 5), "it is asked for again");
        assert_eq!(reflection.loaded(None), NOTHING);
        assert!(reflection.hear(Generation(3), 5));
        assert_eq!(reflection.loaded(sheet(5)), taken(5));
    }

    #[test]
    fn a_version_that_is_told_of_during_a_load_is_loaded_at_once() {
        let mut reflection = Reflection::default();
        assert!(reflection.hear(Generation(1), 3));
        assert!(!reflection.hear(Generation(1), 4));
        assert_eq!(reflection.loaded(sheet(3)), Loaded { taken: None, again: true });
        assert_eq!(reflection.loaded(sheet(4)), taken(4));
        assert!(reflection.hear(Generation(1), 5));
        assert_eq!(reflection.loaded(sheet(6)), NOTHING, "its heartbeat is on its way");
        assert!(reflection.hear(Generation(1), 6));
        assert_eq!(reflection.loaded(sheet(6)), taken(6));
    }

    #[test]
    fn a_leader_of_an_earlier_version_changes_nothing_and_keeps_nobody_waiting() {
        let mut reflection = Reflection::default();
        assert!(reflection.hear(Generation(1), 0));
        assert_eq!(reflection.loaded(None), Loaded { taken: Some(None), again: false });
        assert!(reflection.is_held() && !reflection.hear(Generation(1), 0));
        assert!(reflection.hear(Generation(1), 2));
        assert_eq!(reflection.loaded(sheet(2)), taken(2));
        assert!(!reflection.hear(Generation(1), 0), "what a newer one has mirrored stays in force");
        reflection.relinked();
        assert!(!reflection.hear(Generation(1), 0));
        // Who starts now finds what the newer one has left.
        let mut other = Reflection::default();
        assert!(other.hear(Generation(1), 0));
        assert_eq!(other.loaded(sheet(2)), taken(2));
        assert_eq!(other.version(), 2);
    }
}
