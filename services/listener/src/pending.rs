//! Rows that are not published yet, in the order of their coming: how many, and how long the oldest has waited.

use std::collections::VecDeque;

use crate::past::Past;

/// The rows, by the number that each is given when it comes.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Since when each row is visible; `None` once it has gone. The first one never has.
    rows: VecDeque<Option<Past>>,
    first: u64,
    len: usize,
}

impl Pending {
    /// A row came.
    pub fn add(&mut self, visible: Past) -> u64 {
        self.rows.push_back(Some(visible));
        self.len += 1;
        self.first + self.rows.len() as u64 - 1
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
    }

    /// How many are here.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Since when the first of them has been visible.
    pub fn oldest(&self) -> Option<Past> {
        self.rows.front().copied().flatten()
    }
}
