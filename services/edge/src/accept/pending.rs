//! Connections that carry nobody: half-open handshakes, slow headers, sockets before sign-in, and kept-alive ones
//! between requests. Anybody can make those, so they are bounded for the whole edge, and at the bound the one that
//! has waited longest is cut: refusing the newest would let whoever waits forever keep everybody else out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use rowcast_process::prometheus::IntGauge;

/// What all threads of the edge share.
pub struct PendingCount {
    most: usize,
    now: IntGauge,
    /// Called for each connection that is cut.
    on_cut: Box<dyn Fn() + Send + Sync>,
}

impl PendingCount {
    /// So many at most; 0 sets no limit. How many there are is kept in `now`.
    pub fn new(most: usize, now: IntGauge, on_cut: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { most, now, on_cut: Box::new(on_cut) })
    }

    fn is_exceeded(&self) -> bool {
        self.most > 0 && usize::try_from(self.now.get()).is_ok_and(|now| now > self.most)
    }
}

/// One thread's pending connections, the longest waiting first.
pub struct Pending {
    all: Arc<PendingCount>,
    next: Cell<u64>,
    queue: RefCell<BTreeMap<u64, Rc<Place>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the queue, under this number.
    Waiting(u64),
    /// Somebody is on the connection.
    Carrying,
    /// It was cut, or has ended.
    Over,
}

/// One connection's place: in the queue, or out of it as long as somebody is on the connection.
pub struct Place {
    home: Rc<Pending>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

/// Held by the connection itself: its place ends with it.
pub struct Occupant(Rc<Place>);

impl Pending {
    /// A thread's part of the count.
    pub fn new(all: Arc<PendingCount>) -> Rc<Self> {
        Rc::new(Self { all, next: Cell::new(0), queue: RefCell::new(BTreeMap::new()) })
    }

    /// A new connection.
    pub fn admit(self: &Rc<Self>) -> Occupant {
        let (home, state) = (Rc::clone(self), Cell::new(State::Carrying));
        let place = Rc::new(Place { home, state, waker: RefCell::new(None) });
        place.waits();
        Occupant(place)
    }

    /// Cuts this thread's longest waiting ones while there are too many. The newest stays: with the others' on other
    /// threads there is one too many a thread at most.
    fn make_room(&self) {
        while self.all.is_exceeded() {
            let oldest = {
                let mut queue = self.queue.borrow_mut();
                if queue.len() < 2 {
                    return;
                }
                queue.pop_first()
            };
            let Some((_, place)) = oldest else { return };
            place.set(State::Over);
            (self.all.on_cut)();
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Place {
    /// Somebody is on the connection now.
    pub fn carries(&self) {
        if matches!(self.state.get(), State::Waiting(_)) {
            self.set(State::Carrying);
        }
    }

    /// Nobody is any more, or yet.
    pub fn waits(self: &Rc<Self>) {
        if self.state.get() == State::Carrying {
            let home = &self.home;
            let number = home.next.replace(home.next.get() + 1);
            self.state.set(State::Waiting(number));
            home.queue.borrow_mut().insert(number, Rc::clone(self));
            home.all.now.inc();
            home.make_room();
        }
    }

    /// Whether the connection is to end.
    pub fn is_over(&self) -> bool {
        self.state.get() == State::Over
    }

    /// Notes whom to wake if the connection is cut.
    pub fn watch(&self, context: &Context<'_>) {
        if let State::Waiting(_) = self.state.get() {
            let mut waker = self.waker.borrow_mut();
            match &*waker {
                Some(known) if known.will_wake(context.waker()) => {}
                _ => *waker = Some(context.waker().clone()),
            }
        }
    }

    /// Leaves the queue for another state.
    fn set(&self, state: State) {
        if let State::Waiting(number) = self.state.replace(state) {
            self.home.all.now.dec();
            self.home.queue.borrow_mut().remove(&number);
            if state == State::Carrying {
                self.waker.take();
            }
        }
    }
}

impl Occupant {
    /// The place.
    pub fn place(&self) -> &Rc<Place> {
        &self.0
    }
}

impl Drop for Occupant {
    fn drop(&mut self) {
        self.0.set(State::Over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn gauge() -> IntGauge {
        IntGauge::new("pending", "In tests.").expect("a gauge")
    }

    #[test]
    fn at_the_bound_the_one_that_has_waited_longest_is_cut() {
        let cut = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cut);
        let all = PendingCount::new(3, gauge(), move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let pending = Pending::new(Arc::clone(&all));
        let places: Vec<_> = (0..3).map(|_| pending.admit()).collect();
        places[0].place().carries();
        let another = pending.admit();
        assert!(places.iter().all(|one| !one.place().is_over()), "three wait, one carries");
        // The first is now the newest of those that wait.
        places[0].place().waits();
        let over: Vec<_> = places.iter().map(|one| one.place().is_over()).collect();
        assert_eq!((over, all.now.get()), (vec![false, true, false], 3));
        drop(another);
        assert_eq!((all.now.get(), cut.load(Ordering::Relaxed)), (2, 1));
        drop(places);
        assert_eq!((all.now.get(), pending.queue.borrow().len()), (0, 0));
    }

    #[test]
    fn a_place_of_a_connection_that_has_ended_comes_back_to_no_queue() {
        let all = PendingCount::new(0, gauge(), || {});
        let pending = Pending::new(Arc::clone(&all));
        let occupant = pending.admit();
        let place = Rc::clone(occupant.place());
        place.carries();
        drop(occupant);
        place.waits();
        assert_eq!((all.now.get(), place.is_over()), (0, true));
    }
}
