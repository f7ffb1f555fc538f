//! Which fault happens when: drawn from the seed alone.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::plan::{Class, Plan};
use crate::stores::Topology;

/// A process of Rowcast. Numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The listener that leads at that moment.
    Leader,
    /// A listener.
    Listener(u8),
    /// An edge.
    Edge(u8),
}

/// A link of a process. Numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Between a listener and PostgreSQL.
    ListenerPostgres(u8),
    /// Between a listener and Redis.
    ListenerRedis(u8),
    /// Between an edge and Redis.
    EdgeRedis(u8),
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL; started again a second later.
    Kill(Victim),
    /// SIGSTOP for so long.
    Stop(Victim, Duration),
    /// SIGSTOP of Redis for so long.
    StopRedis(Duration),
    /// Nothing passes, and nobody is told.
    Hold(Wire, Duration),
    /// Nobody can connect.
    Refuse(Wire, Duration),
    /// Connections are closed once.
    Cut(Wire),
    /// Everything comes later by the first time, for the second.
    Slow(Wire, Duration, Duration),
    /// PostgreSQL is stopped in order and started.
    RestartPostgres,
    /// PostgreSQL is stopped without a word to anyone, and recovers.
    CrashPostgres,
    /// The postmaster gets SIGKILL.
    KillPostgres,
    /// PostgreSQL's primary dies at once, and its standby takes its place.
    FailOver,
    /// Redis is stopped in order, which keeps its data, and started.
    RestartRedis,
    /// A master of Redis, drawn by a number, forgets everything.
    FlushRedis(u16),
    /// One is killed, a replica takes its place, and it comes back.
    KillMaster(u16),
    /// SIGSTOP of one for so long; a replica takes its place, if that is long enough.
    StopMaster(u16, Duration),
    /// A replica takes its place in order.
    HandOver(u16),
    /// The master is cut off from Sentinels and replicas for so long, and from nobody else.
    Isolate(Duration),
    /// Slots of rooms go to other masters.
    MoveSlots(u16),
    /// Redis is killed and comes back with data of so long ago.
    AgeRedis(Duration),
    /// Every process in turn.
    Roll,
}

impl Action {
    /// Its kind.
    pub fn class(&self) -> Class {
        match self {
            Self::Kill(_) => Class::Kill,
            Self::Stop(..) | Self::StopRedis(_) => Class::Stop,
            Self::Hold(..) | Self::Refuse(..) | Self::Cut(_) => Class::Partition,
            Self::Slow(..) => Class::Delay,
            Self::RestartPostgres | Self::CrashPostgres | Self::KillPostgres => Class::Restart,
            Self::RestartRedis | Self::FlushRedis(_) | Self::AgeRedis(_) => Class::Redis,
            Self::KillMaster(_) | Self::StopMaster(..) | Self::HandOver(_) | Self::Isolate(_) => Class::Redis,
            Self::MoveSlots(_) => Class::Slots,
            Self::FailOver => Class::Failover,
            Self::Roll => Class::Rolling,
        }
    }

    /// Whether it can keep a listener from leading.
    pub(crate) fn hinders_leading(&self) -> bool {
        match self {
            Self::Kill(victim) | Self::Stop(victim, _) => !matches!(victim, Victim::Edge(_)),
            Self::Hold(wire, _) | Self::Refuse(wire, _) | Self::Cut(wire) | Self::Slow(wire, ..) => {
                !matches!(wire, Wire::EdgeRedis(_))
            }
            _ => true,
        }
    }

    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kill(Victim::Edge(_)) => "edge killed",
            Self::Kill(_) => "listener killed",
            Self::Stop(Victim::Edge(_), _) => "edge stopped",
            Self::Stop(..) => "listener stopped",
            Self::StopRedis(_) => "Redis stopped",
            Self::Hold(..) => "link held",
            Self::Refuse(..) => "link refused",
            Self::Cut(_) => "link cut",
            Self::Slow(..) => "link slow",
            Self::RestartPostgres => "PostgreSQL restarted",
            Self::CrashPostgres => "PostgreSQL crashed",
            Self::KillPostgres => "PostgreSQL killed",
            Self::FailOver => "PostgreSQL failed over",
            Self::RestartRedis => "Redis restarted",
            Self::FlushRedis(_) => "Redis flushed",
            Self::KillMaster(_) => "Redis master killed",
            Self::StopMaster(..) => "Redis master stopped",
            Self::HandOver(_) => "Redis master handed over",
            Self::Isolate(_) => "Redis master cut off",
            Self::MoveSlots(_) => "Redis slots moved",
            Self::AgeRedis(_) => "Redis restored from old data",
            Self::Roll => "rolling restart",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// After the start.
    pub at: Duration,
    /// What is done.
    pub action: Action,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("the leader"),
            Self::Listener(number) => write!(f, "listener {number}"),
            Self::Edge(number) => write!(f, "edge {number}"),
        }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListenerPostgres(number) => write!(f, "listener {number} to PostgreSQL"),
            Self::ListenerRedis(number) => write!(f, "listener {number} to Redis"),
            Self::EdgeRedis(number) => write!(f, "edge {number} to Redis"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Kill(victim) => write!(f, "{name}: {victim}"),
            Self::Stop(victim, time) => write!(f, "{name}: {victim}, {time:?}"),
            Self::StopRedis(time) => write!(f, "{name}: {time:?}"),
            Self::Hold(wire, time) | Self::Refuse(wire, time) => write!(f, "{name}: {wire}, {time:?}"),
            Self::Cut(wire) => write!(f, "{name}: {wire}"),
            Self::Slow(wire, by, time) => write!(f, "{name}: {wire}, by {by:?}, {time:?}"),
            Self::AgeRedis(time) | Self::Isolate(time) | Self::StopMaster(_, time) => {
                write!(f, "{name}: {time:?}")
            }
            _ => f.write_str(name),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.2} s  {}", self.at.as_secs_f64(), self.action)
    }
}

/// Before the first fault, so that there is something to lose.
const QUIET: Duration = Duration::from_secs(2);
/// From the start of one rolling restart to the next.
const ROLL_EVERY: Duration = Duration::from_secs(150);
/// From one fail-over of PostgreSQL to the next, at least: a new standby has to be made.
const FAIL_OVER_EVERY: Duration = Duration::from_secs(15);

/// The list of faults of a plan, by time.
pub fn schedule(plan: &Plan) -> Vec<Fault> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let mut faults = Vec::new();
    if plan.wants(Class::Rolling) {
        let mut at = plan.duration() / 5;
        while at < plan.duration() {
            faults.push(Fault { at, action: Action::Roll });
            at += ROLL_EVERY;
        }
    }
    let weights = [
        (Class::Kill, 3),
        (Class::Stop, 3),
        (Class::Partition, 4),
        (Class::Delay, 2),
        (Class::Restart, 1),
        (Class::Redis, 1),
        (Class::Failover, 1),
        (Class::Slots, u32::from(plan.redis == Topology::Cluster)),
    ];
    let classes: Vec<Class> = weights
        .into_iter()
        .filter(|(class, _)| plan.wants(*class))
        .flat_map(|(class, weight)| std::iter::repeat_n(class, weight as usize))
        .collect();
    let (mut at, mut failed_over) = (QUIET, None);
    while !classes.is_empty() && at < plan.duration() {
        let class = classes[random.random_range(0..classes.len())];
        let too_soon = failed_over.is_some_and(|before| at < before + FAIL_OVER_EVERY);
        if class != Class::Failover || !too_soon {
            faults.push(Fault { at, action: draw(class, plan, &mut random) });
        }
        if class == Class::Failover && !too_soon {
            failed_over = Some(at);
        }
        at += millis(&mut random, 500..3_500);
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn draw(class: Class, plan: &Plan, random: &mut StdRng) -> Action {
    match class {
        Class::Kill => Action::Kill(victim(plan, random)),
        Class::Stop if plan.has_one_redis() && random.random_bool(0.15) => {
            Action::StopRedis(millis(random, 300..4_000))
        }
        Class::Stop => Action::Stop(victim(plan, random), millis(random, 300..8_000)),
        Class::Partition => {
            let (wire, time) = (wire(plan, random), millis(random, 500..8_000));
            match random.random_range(0..4) {
                0 => Action::Cut(wire),
                1 => Action::Refuse(wire, time),
                _ => Action::Hold(wire, time),
            }
        }
        Class::Delay => {
            Action::Slow(wire(plan, random), millis(random, 5..700), millis(random, 1_000..8_000))
        }
        Class::Restart => match random.random_range(0..3) {
            0 => Action::RestartPostgres,
            1 => Action::CrashPostgres,
            _ => Action::KillPostgres,
        },
        Class::Redis if !plan.has_one_redis() => take_over(plan, random),
        Class::Redis => match random.random_range(0..3) {
            0 => Action::RestartRedis,
            1 => Action::FlushRedis(0),
            _ => Action::AgeRedis(millis(random, 500..4_000)),
        },
        Class::Slots => Action::MoveSlots(random.random()),
        Class::Failover => Action::FailOver,
        Class::Rolling => Action::Roll,
    }
}

/// What makes a replica a master, and what looks like it.
fn take_over(plan: &Plan, random: &mut StdRng) -> Action {
    let drawn = random.random();
    match random.random_range(0..6) {
        0 | 1 => Action::KillMaster(drawn),
        2 => Action::HandOver(drawn),
        3 => Action::FlushRedis(drawn),
        4 if plan.redis == Topology::Sentinel => Action::Isolate(millis(random, 2_000..8_000)),
        _ => Action::StopMaster(drawn, millis(random, 300..6_000)),
    }
}

fn victim(plan: &Plan, random: &mut StdRng) -> Victim {
    match random.random_range(0..6) {
        0 | 1 => Victim::Leader,
        2 => Victim::Listener(random.random_range(1..=plan.listeners)),
        _ => Victim::Edge(random.random_range(1..=plan.edges)),
    }
}

fn wire(plan: &Plan, random: &mut StdRng) -> Wire {
    // Where there is more than one server, nothing stands between.
    let ways = if plan.has_one_redis() { 3 } else { 1 };
    match random.random_range(0..ways) {
        0 => Wire::ListenerPostgres(random.random_range(1..=plan.listeners)),
        1 => Wire::ListenerRedis(random.random_range(1..=plan.listeners)),
        _ => Wire::EdgeRedis(random.random_range(1..=plan.edges)),
    }
}

fn millis(random: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.random_range(range))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn plan(arguments: &str) -> Plan {
        Plan::try_parse_from(std::iter::once("rowcast-torture").chain(arguments.split_whitespace())).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_one_others() {
        let list = |seed| schedule(&plan(&format!("--seconds 300 --seed {seed}")));
        assert_eq!(list(5), list(5));
        assert_ne!(list(5), list(6));
        assert!(list(5).is_sorted_by_key(|fault| fault.at));
    }

    #[test]
    fn between_two_fail_overs_there_is_time_for_a_new_standby() {
        let faults = schedule(&plan("--seconds 120 --faults failover"));
        let gaps = faults.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(faults.len() > 5 && gaps.min() >= Some(FAIL_OVER_EVERY));
    }

    #[test]
    fn a_long_list_has_every_kind_and_only_those_that_are_wanted() {
        let classes = |arguments: &str| {
            let faults = schedule(&plan(arguments));
            Class::ALL.map(|class| faults.iter().any(|fault| fault.action.class() == class))
        };
        assert_eq!(classes("--seconds 600 --redis cluster"), [true; 9]);
        assert_eq!(
            classes("--seconds 600 --faults kill,rolling"),
            [true, false, false, false, false, false, false, false, true]
        );
        assert_eq!(classes("--seconds 600 --no-faults"), [false; 9]);
    }
}
