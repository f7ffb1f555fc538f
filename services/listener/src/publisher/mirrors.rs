//! Which sheets stand in Redis as they are in PostgreSQL, and which are to be written. Without IO.
//!
//! While one is on its way there the leader says nothing of itself: an edge that hears a new generation, a new version, or
//! a leader for the first time finds what it is to go by.

use rowcast_protocol::{Mirror, Sheet};

/// One sheet.
#[derive(Debug)]
struct Reflected {
    /// As PostgreSQL has it.
    wanted: Mirror,
    /// The version that this leader has written, and nothing has put in doubt since.
    standing: Option<u64>,
}

/// The sheets of a leader.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Vec<Reflected>);

impl Mirrors {
    /// PostgreSQL has this now. True where that is news.
    pub fn set(&mut self, mirror: Mirror) -> bool {
        match self.0.iter_mut().find(|one| one.wanted.sheet == mirror.sheet) {
            Some(known) if known.wanted == mirror => false,
            Some(known) => {
                known.wanted = mirror;
                true
            }
            None => {
                self.0.push(Reflected { wanted: mirror, standing: None });
                true
            }
        }
    }

    /// Redis may have lost them, or history begins anew: all are written again.
    pub fn forget(&mut self) {
        self.0.iter_mut().for_each(|one| one.standing = None);
    }

    /// What is to be written.
    pub fn due(&self) -> impl Iterator<Item = &Mirror> {
        self.0.iter().filter(|one| one.standing != Some(one.wanted.version)).map(|one| &one.wanted)
    }

    /// It was written.
    pub fn written(&mut self, sheet: Sheet, version: u64) {
        if let Some(one) = self.0.iter_mut().find(|one| one.wanted.sheet == sheet) {
            one.standing = Some(version);
        }
    }

    /// Whether all of them stand in Redis as they are in PostgreSQL.
    pub fn stand(&self) -> bool {
        self.due().next().is_none()
    }

    /// The version that edges find; 0 where there is none.
    pub fn version(&self, sheet: Sheet) -> u64 {
        self.find(sheet).and_then(|one| one.standing).unwrap_or(0)
    }

    fn find(&self, sheet: Sheet) -> Option<&Reflected> {
        self.0.iter().find(|one| one.wanted.sheet == sheet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(version: u64) -> Mirror {
        Mirror { sheet: Sheet::Switches, version, content: format!("content {version}") }
    }

    fn due(mirrors: &Mirrors) -> Vec<u64> {
        mirrors.due().map(|mirror| mirror.version).collect()
    }

    #[test]
    fn a_sheet_is_written_until_it_stands_and_again_when_it_changed_or_may_be_gone() {
        let mut mirrors = Mirrors::default();
        assert!(mirrors.stand() && due(&mirrors).is_empty(), "a leader without sheets owes none");
        assert!(mirrors.set(switches(3)));
        assert!(!mirrors.stand());
        assert_eq!((due(&mirrors), mirrors.version(Sheet::Switches)), (vec![3], 0));
        mirrors.written(Sheet::Switches, 3);
        assert!(mirrors.stand() && due(&mirrors).is_empty() && mirrors.version(Sheet::Switches) == 3);
        assert!(!mirrors.set(switches(3)), "the same again");
        assert!(mirrors.set(switches(4)));
        assert!(!mirrors.stand() && due(&mirrors) == [4]);
        // An answer to what was under way when it changed again does not hide the change.
        assert!(mirrors.set(switches(5)));
        mirrors.written(Sheet::Switches, 4);
        assert_eq!(due(&mirrors), [5]);
        mirrors.forget();
        assert!(!mirrors.stand() && due(&mirrors) == [5]);
        // A restored database has an earlier version.
        mirrors.written(Sheet::Switches, 5);
        assert!(mirrors.set(switches(2)));
        assert_eq!(due(&mirrors), [2]);
    }
}
