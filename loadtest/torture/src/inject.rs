//! Carries out the schedule, and writes down what happened when.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rowcast_cli::dev::say::Say;
use rowcast_sandbox::{Link, Postgres, Proxy, Signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::plan::Class;
use crate::schedule::{Action, Fault, Victim, Wire};
use crate::standby;
use crate::stores;
use crate::system::{Node, System};

/// Between two questions who leads.
const LOOK: Duration = Duration::from_millis(20);
/// A leader that nobody has followed for so long is not waited for.
const NO_SUCCESSOR: Duration = Duration::from_secs(15);
/// Rooms whose slots are moved at once.
const MOVED: u16 = 5;
/// For PostgreSQL to come back: what a killed one left behind goes within seconds.
const ATTEMPTS: u32 = 60;

/// A fault as it was.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) name: &'static str,
    pub(crate) class: Class,
    pub(crate) text: String,
    /// Whether it can keep a listener from leading.
    pub(crate) hinders_leading: bool,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

/// How long there was no leader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeOver {
    pub(crate) cause: &'static str,
    /// When the leader was gone.
    pub(crate) from: Duration,
    pub(crate) after: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) happened: Vec<Happened>,
    pub(crate) take_overs: Vec<TakeOver>,
    /// What must not happen at all.
    pub(crate) failures: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Injector {
    system: Arc<System>,
    clock: Clock,
    notes: Arc<Mutex<Notes>>,
    say: Say,
}

impl Injector {
    pub(crate) fn new(system: Arc<System>, clock: Clock, say: Say) -> Self {
        Self { system, clock, notes: Arc::default(), say }
    }

    /// All faults, each at its time; returns when the last is over.
    pub(crate) async fn run(&self, faults: Vec<Fault>) {
        let mut tasks = JoinSet::new();
        for fault in faults {
            self.clock.reach(fault.at).await;
            let this = self.clone();
            tasks.spawn(async move { this.happen(fault.action).await });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                self.fail(format!("a fault's task: {error}"));
            }
        }
        self.system.heal();
    }

    /// Until it is dropped, starts again what has ended by itself, and notes that as a failure.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            for node in self.system.nodes() {
                match node.mend().await {
                    Ok(None) => {}
                    Ok(Some(ended)) => self.fail(ended),
                    Err(error) => self.fail(format!("{error:#}")),
                }
            }
        }
    }

    pub(crate) fn fail(&self, what: String) {
        self.say.line(&what);
        self.notes().failures.push(what);
    }

    pub(crate) fn take_notes(&self) -> Notes {
        std::mem::take(&mut self.notes())
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn happen(&self, action: Action) {
        let from = self.clock.now();
        self.say.line(&action.to_string());
        if let Err(error) = self.apply(action).await {
            self.fail(format!("{action}: {error:#}"));
        }
        let (name, class, to) = (action.name(), action.class(), self.clock.now());
        if to - from > Duration::from_secs(10) {
            self.say.line(&format!("{action}: over after {:.1?}", to - from));
        }
        let (text, hinders_leading) = (action.to_string(), action.hinders_leading());
        self.notes().happened.push(Happened { name, class, text, hinders_leading, from, to });
    }

    async fn apply(&self, action: Action) -> Result<()> {
        match action {
            Action::Kill(victim) => {
                let (node, leads) = self.victim(victim).await;
                let killed = AtomicBool::new(false);
                let kill = node.kill(|| killed.store(true, Ordering::Release));
                let follow = self.follow(action.name(), None, leads, &killed);
                tokio::join!(kill, follow).0
            }
            Action::Stop(victim, time) => {
                let (node, leads) = self.victim(victim).await;
                let stopped = AtomicBool::new(false);
                let stop = node.stop(time, || stopped.store(true, Ordering::Release));
                // One that goes on before its lock is taken from it leads on.
                let led = leads && time > Duration::from_secs(5);
                let follow = self.follow(action.name(), Some(&node.name), led, &stopped);
                tokio::join!(stop, follow).0
            }
            Action::StopRedis(time) => self.system.redis.lock().await.stop(0, time).await,
            Action::Hold(wire, time) => self.disturb(wire, Link::Held, time).await,
            Action::Refuse(wire, time) => self.disturb(wire, Link::Refused, time).await,
            Action::Slow(wire, by, time) => self.disturb(wire, Link::Slow(by), time).await,
            Action::Cut(wire) => {
                self.wire(wire).for_each(Proxy::cut);
                Ok(())
            }
            Action::RestartPostgres => start(&mut *self.system.postgres.lock().await).await,
            Action::CrashPostgres => self.end_postgres(Signal::QUIT).await,
            Action::KillPostgres => self.end_postgres(Signal::KILL).await,
            Action::FailOver => self.fail_over(action.name()).await,
            Action::RestartRedis => self.system.redis.lock().await.only()?.restart().await,
            Action::FlushRedis(drawn) => self.system.redis.lock().await.flush(drawn).await,
            Action::AgeRedis(age) => {
                let mut stores = self.system.redis.lock().await;
                let redis = stores.only()?;
                stores::tell(redis, &mut redis::cmd("SAVE")).await?;
                tokio::time::sleep(age).await;
                redis.kill(Signal::KILL).await?;
                redis.restart().await
            }
            Action::KillMaster(drawn) => self.system.redis.lock().await.kill(drawn).await,
            Action::StopMaster(drawn, time) => self.system.redis.lock().await.stop(drawn, time).await,
            Action::HandOver(drawn) => self.system.redis.lock().await.hand_over(drawn).await,
            Action::Isolate(time) => self.system.redis.lock().await.isolate(time).await,
            Action::MoveSlots(drawn) => {
                let rooms: Vec<String> = (0..MOVED).map(|number| self.system.room(drawn + number)).collect();
                self.system.redis.lock().await.move_slots(&rooms, drawn).await
            }
            Action::Roll => self.system.roll(self.say).await,
        }
    }

    /// The victim, and whether it leads.
    async fn victim(&self, victim: Victim) -> (&Node, bool) {
        let listeners = &self.system.listeners;
        match victim {
            Victim::Edge(number) => (&self.system.edges[usize::from(number) - 1], false),
            Victim::Listener(number) => {
                let node = &listeners[usize::from(number) - 1];
                (node, node.leads().await)
            }
            Victim::Leader => match self.system.leader().await {
                Some(leader) => (&listeners[leader], true),
                None => (&listeners[0], false),
            },
        }
    }

    /// Measures the time from when a leader is gone until one leads. `without` names one that does not count: it may say
    /// that it leads when it goes on, for a moment.
    async fn follow(&self, cause: &'static str, without: Option<&str>, led: bool, is_gone: &AtomicBool) {
        if !led {
            return;
        }
        while !is_gone.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (begun, from) = (Instant::now(), self.clock.now());
        while begun.elapsed() < NO_SUCCESSOR {
            if self.system.leader_but(without).await.is_some() {
                self.notes().take_overs.push(TakeOver { cause, from, after: begun.elapsed() });
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn disturb(&self, wire: Wire, link: Link, time: Duration) -> Result<()> {
        self.wire(wire).for_each(|proxy| proxy.set(link));
        tokio::time::sleep(time).await;
        self.wire(wire).for_each(|proxy| proxy.set(Link::Through));
        Ok(())
    }

    fn wire(&self, wire: Wire) -> impl Iterator<Item = &Proxy> {
        let System { listeners, edges, .. } = &*self.system;
        let (node, to_redis) = match wire {
            Wire::EdgeRedis(number) => (&edges[usize::from(number) - 1], true),
            Wire::ListenerRedis(number) => (&listeners[usize::from(number) - 1], true),
            Wire::ListenerPostgres(number) => (&listeners[usize::from(number) - 1], false),
        };
        let redis = node.to_redis.as_ref().filter(|_| to_redis);
        let postgres = node.to_postgres.iter().chain(&node.to_standby).filter(move |_| !to_redis);
        redis.into_iter().chain(postgres)
    }

    async fn end_postgres(&self, signal: Signal) -> Result<()> {
        let mut postgres = self.system.postgres.lock().await;
        postgres.kill(signal).await?;
        start(&mut postgres).await
    }

    /// Measures until a leader has drawn its epoch from the promoted one.
    async fn fail_over(&self, cause: &'static str) -> Result<()> {
        let mut postgres = self.system.postgres.lock().await;
        let mut standby = self.system.standby.lock().await;
        let before = self.system.epoch().await;
        if let Some(standby) = &*standby {
            standby.lag().await?;
        }
        postgres.kill(Signal::QUIT).await?;
        let (begun, from) = (Instant::now(), self.clock.now());
        let follow = async {
            while begun.elapsed() < NO_SUCCESSOR {
                if self.system.epoch().await > before {
                    self.notes().take_overs.push(TakeOver { cause, from, after: begun.elapsed() });
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::join!(standby::take_place(&mut postgres, &mut standby), follow).0
    }
}

/// Starts PostgreSQL again. What a killed one left behind may keep it from that for a while.
async fn start(postgres: &mut Postgres) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..ATTEMPTS {
        last = postgres.restart().await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    last
}
