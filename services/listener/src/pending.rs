//! Rows that are not published yet, in the order of their coming (which is not quite that of their
//! visibility): how many, and how long the oldest has waited.

use std::collections::VecDeque;

use crate::past::Past;

/// The rows, by the number that each is given when it comes.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Since when each row is visible; `None` once it has gone. The first one never has.
    rows: VecDeque<Option<Past>>,
    first: u64,
    len: usize,
    /// By number the rows that became visible before all that came after them: the first is the oldest.
    oldest: VecDeque<(u64, Past)>,
}

impl Pending {
    /// A row came.
    pub fn add(&mut self, visible: Past) -> u64 {
        self.rows.push_back(Some(visible));
        self.len += 1;
        let sequence = self.first + self.rows.len() as u64 - 1;
        while self.oldest.back().is_some_and(|(_, later)| later.or_later(visible) == *later) {
            self.oldest.pop_back();
        }
        self.oldest.push_back((sequence, visible));
        sequence
    }

    /// A row went.
    pub fn remove(&mut self, sequence: u64) {
        let index = usize::try_from(sequence - self.first).expect("a row's number is not below the first's");
        if self.rows[index].take().is_some() {
            self.len -= 1;
        }
        while let Some(None) = self.rows.front() {
            self.rows.pop_front();
            self.first += 1;
        }
        while self.oldest.front().is_some_and(|(sequence, _)| *sequence < self.first) {
            self.oldest.pop_front();
        }
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Since when the oldest of them has been visible. While the first to come waits, one that came after it and has
    /// gone may count.
    pub fn oldest(&self) -> Option<Past> {
        self.oldest.front().map(|(_, visible)| *visible)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_oldest_counts_though_it_came_later() {
        let start = Instant::now();
        let at = |seconds| Past::at(start + Duration::from_secs(seconds));
        let mut pending = Pending::default();
        let numbers = [5, 3, 4, 9].map(|seconds| pending.add(at(seconds)));
        assert_eq!(pending.oldest(), Some(at(3)));
        pending.remove(numbers[0]);
        assert_eq!(pending.oldest(), Some(at(3)));
        pending.remove(numbers[1]);
        assert_eq!(pending.oldest(), Some(at(4)));
        pending.remove(numbers[3]);
        pending.remove(numbers[2]);
        assert_eq!((pending.oldest(), pending.len()), (None, 0));
    }
}
