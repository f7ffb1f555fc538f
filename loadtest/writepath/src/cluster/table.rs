//! What was measured of publishing, as a table; and the bounds that follow from it.

use super::account::{Spent, processors};
use super::stores::Stores;
use crate::median;

/// One measurement of publishing.
pub(crate) struct Run {
    pub(crate) events: f64,
    /// Microseconds of the one thread that publishes.
    pub(crate) publisher_us: f64,
    /// Of PostgreSQL with all its processes, and of its busiest one; where there is one.
    pub(crate) postgres_us: Option<[f64; 2]>,
    /// Of each Redis, masters first.
    pub(crate) redis_us: Vec<f64>,
    /// The same and all else.
    pub(crate) spent: Spent,
}

impl Run {
    fn redis(&self, masters: usize) -> [&[f64]; 2] {
        let (masters, replicas) = self.redis_us.split_at(masters);
        [masters, replicas]
    }

    /// What all together have used.
    fn all_us(&self) -> f64 {
        self.spent.us.iter().sum::<f64>() + self.spent.own_us
    }
}

/// Prints medians, events a second with the least and the most.
pub(crate) fn print(all: &[Stores<'_>], runs: &[Vec<Run>]) {
    let count = processors();
    println!(
        "| Redis | events a second | publisher | PostgreSQL | its busiest process | masters | the busiest | replicas | all, by processors | others | at most on {count} processors | computed: one for each process |"
    );
    println!("|{}", " --- |".repeat(12));
    for (stores, runs) in all.iter().zip(runs) {
        let masters = stores.masters();
        let an_event =
            |value: &dyn Fn(&Run) -> f64| Range::of(runs.iter().map(|run| value(run) / run.events)).middle;
        let postgres = |place: usize| an_event(&|run| run.postgres_us.map_or(0.0, |us| us[place]));
        let publisher = an_event(&|run| run.publisher_us);
        let redis = an_event(&|run| run.redis(masters)[0].iter().sum());
        let busiest = an_event(&|run| run.redis(masters)[0].iter().copied().fold(0.0, f64::max));
        let replicas = an_event(&|run| run.redis(masters)[1].iter().sum());
        let all_us = an_event(&Run::all_us);
        let rate = Range::of(runs.iter().map(|run| run.events / run.spent.seconds));
        let in_use = Range::of(runs.iter().map(|run| run.all_us() / run.spent.seconds / 1e6)).middle;
        let others = Range::of(runs.iter().map(|run| run.spent.others * 100.0)).most;
        let [apart, together] =
            bounds(masters, publisher, redis, busiest).map(|rate| rate.min(1e6 / postgres(1)));
        println!(
            "| {} | {rate:.0} | {} | {} | {} | {} | {} | {} | {in_use:.2} | {others:.0} % | {:.0} | {apart:.0}–{together:.0} |",
            stores.name(),
            cell(publisher),
            cell(postgres(0)),
            cell(postgres(1)),
            cell(redis),
            cell(busiest),
            cell(replicas),
            count * 1e6 / all_us,
        );
    }
}

/// Where there was nobody to work, nothing.
fn cell(us: f64) -> String {
    if us == 0.0 { "–".to_owned() } else { format!("{us:.1}") }
}

/// Events a second if each process had a processor of its own, from what each works for an event; the network's time is not
/// in it. The publisher is one thread, and each master has one pipeline under way. First where nothing of a pipeline's
/// work overlaps: its events take the publisher's time and the master's one behind the other, while other masters' are under
/// way too. Then where all of it does: whoever works most is the end.
fn bounds(masters: usize, publisher_us: f64, redis_us: f64, busiest_us: f64) -> [f64; 2] {
    let publisher = 1e6 / publisher_us;
    let apart = masters as f64 * 1e6 / (publisher_us + redis_us);
    let together = publisher.min(1e6 / busiest_us);
    [apart.min(together), together]
}

/// Measurements, shown as the middle one with the least and the most.
pub(crate) struct Range {
    least: f64,
    pub(crate) middle: f64,
    pub(crate) most: f64,
}

impl Range {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        // A sum of nothing is -0.
        let mut values: Vec<f64> = values.map(|value| value + 0.0).collect();
        let middle = median(&mut values);
        Self { least: values[0], middle, most: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(1);
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.middle, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_masters_help_until_the_publisher_or_the_busiest_master_is_the_end() {
        assert_eq!(bounds(1, 5.0, 5.0, 5.0), [100_000.0, 200_000.0]);
        assert_eq!(bounds(3, 5.0, 6.0, 2.0), [200_000.0, 200_000.0]);
        assert_eq!(bounds(3, 1.0, 9.0, 4.0), [250_000.0, 250_000.0]);
        assert_eq!(bounds(2, 1.0, 9.0, 4.5), [200_000.0, 1e6 / 4.5]);
    }
}
