//! Hostile clients: each attack is a value in a list, with a name, what it does, and how many connections it takes. They know
//! an address, a token and its room, and nothing of what is behind; what a server should answer is judged by whoever runs
//! them.
//!
//! An attack is made of rounds. A round is one connection: it opens, sends what it has to say, and ends when the server
//! ends it, or when the time is over. [`Attack::run`] has many going at a time, within a [`Pace`].

mod floods;
mod frames;
mod held;
mod messages;
pub mod pace;
pub mod requests;
mod round;
mod socketio;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use pace::Pace;

/// Whom to attack.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// A good token, for attacks from inside.
    pub token: String,
    /// The room that it names.
    pub room: String,
}

/// How a round comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What is sent comes first on the connection.
    Http,
    /// Behind a WebSocket's handshake.
    Socket,
    /// Behind a handshake with the token, and the server's first frame.
    SignedIn,
    /// Behind a handshake of Socket.IO.
    Engine,
    /// Behind the same, and in the default namespace, with the token.
    Namespace,
}

/// What follows the opening.
#[derive(Debug, Clone, Copy)]
pub enum Then {
    /// Hear what the server says, until it ends the connection.
    Listen,
    /// Hear it, until a frame with this `op` comes.
    Until(&'static str),
    /// Send this over and over, and hear what the server says.
    Send(fn(&Target) -> Vec<u8>),
    /// Send this over and over, and read nothing.
    SendDeaf(fn(&Target) -> Vec<u8>),
    /// Send one byte at a time, with a pause between.
    Trickle(u8, Duration),
    /// Stay, and read nothing.
    Deaf,
    /// Break off at once.
    Leave,
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Names it.
    pub name: &'static str,
    /// What it does, for people.
    pub does: &'static str,
    /// Connections that it keeps open, unless told otherwise.
    pub connections: usize,
    /// How it comes in.
    pub way: Way,
    /// What it says first. The number counts rounds: some say another thing each time.
    pub opening: fn(&Target, usize) -> Vec<u8>,
    /// What it does then.
    pub then: Then,
}

/// What came of an attack.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Rounds that were begun.
    pub rounds: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// How rounds ended: statuses of HTTP answers, `close` and its code, the `op` that was waited for; `ended` without a word,
    /// `open` when the time was over, `left` by this side, `unreachable`.
    pub outcomes: BTreeMap<String, u64>,
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.rounds += other.rounds;
        self.bytes += other.bytes;
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
    }

    /// Whether something came of it, and each round ended in one of these ways.
    pub fn all(&self, expected: &[&str]) -> bool {
        !self.outcomes.is_empty() && self.outcomes.keys().all(|outcome| expected.contains(&outcome.as_str()))
    }
}

/// All attacks.
pub fn all() -> impl Iterator<Item = &'static Attack> {
    [frames::ATTACKS, messages::ATTACKS, requests::ATTACKS, held::ATTACKS, floods::ATTACKS, socketio::ATTACKS]
        .into_iter()
        .flatten()
}

/// The attack of a name.
pub fn named(name: &str) -> Option<&'static Attack> {
    all().find(|attack| attack.name == name)
}

impl Attack {
    /// Attacks for so long with so many connections at a time.
    pub async fn run(
        &'static self,
        target: &Target,
        connections: usize,
        pace: &Arc<Pace>,
        time: Duration,
    ) -> Counts {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        for first in 0..connections {
            let (target, pace) = (target.clone(), Arc::clone(pace));
            tasks.spawn(self.rounds(target, pace, first, connections, end));
        }
        let mut sum = Counts::default();
        while let Some(counts) = tasks.join_next().await {
            sum.add(counts.unwrap_or_default());
        }
        sum
    }

    /// One round of this number, without a pace, to its end or for so long; how it ended.
    pub async fn once(&self, target: &Target, number: usize, time: Duration) -> String {
        let pace = Pace::new(0.0, 0.0);
        let round = tokio::time::timeout(time, round::run(self, target, &pace, number, &mut 0)).await;
        round.unwrap_or_else(|_| "open".to_owned())
    }

    /// One round after the other. Rounds of all connections are numbered without a gap, as long as all are as quick.
    async fn rounds(
        &'static self,
        target: Target,
        pace: Arc<Pace>,
        first: usize,
        step: usize,
        end: Instant,
    ) -> Counts {
        let mut counts = Counts::default();
        let mut number = first;
        loop {
            if tokio::time::timeout_at(end, pace.connection()).await.is_err() {
                return counts;
            }
            counts.rounds += 1;
            let round = round::run(self, &target, &pace, number, &mut counts.bytes);
            let outcome = tokio::time::timeout_at(end, round).await;
            let outcome = outcome.unwrap_or_else(|_| "open".to_owned());
            *counts.outcomes.entry(outcome).or_default() += 1;
            number += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_different_and_attacks_say_what_they_do() {
        let names: BTreeSet<_> = all().map(|attack| attack.name).collect();
        assert_eq!(names.len(), all().count());
        for attack in all() {
            assert!(attack.connections > 0 && attack.does.len() > 10, "{}", attack.name);
            assert_eq!(named(attack.name).map(|found| found.does), Some(attack.does));
        }
    }
}
