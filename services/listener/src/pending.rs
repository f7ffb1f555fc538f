//! Rows that are not published yet: how many, and how long the oldest has waited.

use crate::past::Past;

/// The rows, each in a place that is its own until it goes. As many places as there ever were rows at once.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Since when the row in each place is visible.
    rows: Vec<Option<Past>>,
    vacant: Vec<usize>,
}

impl Pending {
    /// A row came; says in which place it is.
    pub fn add(&mut self, visible: Past) -> usize {
        match self.vacant.pop() {
            Some(place) => {
                self.rows[place] = Some(visible);
                place
            }
            None => {
                self.rows.push(Some(visible));
                self.rows.len() - 1
            }
        }
    }

    /// A row went.
    pub fn remove(&mut self, place: usize) {
        self.rows[place].take().expect("a row goes once");
        self.vacant.push(place);
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.rows.len() - self.vacant.len()
    }

    /// Since when the oldest of them has been visible. Looks at all, so it is for once a second.
    pub fn oldest(&self) -> Option<Past> {
        self.rows.iter().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_oldest_counts_whenever_it_came() {
        let start = Instant::now();
        let at = |seconds| Past::at(start + Duration::from_secs(seconds));
        let mut pending = Pending::default();
        let [five, three, four, nine] = [5, 3, 4, 9].map(|seconds| pending.add(at(seconds)));
        assert_eq!(pending.oldest(), Some(at(3)));
        pending.remove(five);
        assert_eq!(pending.oldest(), Some(at(3)));
        pending.remove(three);
        assert_eq!(pending.oldest(), Some(at(4)));
        let before_all = pending.add(Past::ago(start, Duration::MAX));
        assert_eq!(pending.oldest(), Some(Past::ago(start, Duration::MAX)));
        [before_all, nine, four].into_iter().for_each(|place| pending.remove(place));
        assert_eq!((pending.oldest(), pending.len()), (None, 0));
    }

    #[test]
    fn a_row_that_is_stuck_costs_nothing_however_many_go_by() {
        let mut pending = Pending::default();
        pending.add(Past::at(Instant::now()));
        for _ in 0..10_000 {
            let place = pending.add(Past::at(Instant::now()));
            pending.remove(place);
        }
        assert_eq!((pending.len(), pending.rows.len()), (1, 2));
    }
}
