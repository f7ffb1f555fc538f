//! Who is sent to polling, when and how. Windows of no length are over at the next tick, those of an hour are not.

use std::collections::BTreeMap;

use rowcast_protocol::CloseCode;
use serde_json::json;

use super::*;
use crate::accept::Caller;
use crate::worker::ToWorker;
use crate::worker::Transport;
use crate::worker::bench::{Bench, HOUR, said, token};

const OFF: Switches = Switches { websocket: false };
const ON: Switches = Switches { websocket: true };

impl Bench {
    fn switch(&mut self, switches: Switches, window: Duration) {
        self.worker.receive(ToWorker::Switches(switches, window));
    }
}

/// Whether it was sent to polling, with all that belongs to it and nothing else.
fn was_sent_away(connection: &Rc<Connection>) -> bool {
    let said = said(connection);
    if said.is_empty() {
        return false;
    }
    let delay = said[1]["reconnect_in_ms"].as_u64().expect("a delay");
    assert!(delay <= 1_000, "{said:?}");
    assert_eq!(
        said,
        [
            json!({ "op": "mode", "transport": "polling" }),
            json!({ "op": "bye", "code": CloseCode::SwitchedToPolling.code(), "reconnect_in_ms": delay }),
            json!({ "close": 4410 }),
        ]
    );
    true
}

#[test]
fn switched_off_everybody_goes_within_the_window_each_at_a_moment_of_its_own() {
    let mut bench = Bench::new();
    let open = bench.open(100);
    assert_eq!(bench.worker.transport(), "websocket");
    let begin = Instant::now();
    bench.switch(OFF, HOUR);
    assert_eq!(bench.worker.transport(), "polling");
    let mut moments: Vec<_> = open.iter().map(|one| one.polls_at.get().expect("a moment")).collect();
    moments.sort();
    assert!(moments[0] >= begin && moments[99] <= Instant::now() + HOUR);
    assert!(
        moments[75] - moments[25] > HOUR / 8,
        "the middle half goes within {:?}",
        moments[75] - moments[25]
    );
    bench.worker.tick();
    assert!(open.iter().filter(|one| was_sent_away(one)).count() < 10, "not all at once");

    let mut bench = Bench::new();
    let open = bench.open(100);
    bench.switch(OFF, Duration::ZERO);
    bench.worker.tick();
    assert!(open.iter().all(was_sent_away), "the window is over");
    assert_eq!(bench.worker.metrics.sent_to_polling.with_label_values(&["open"]).get(), 100);
}

#[test]
fn who_signs_in_while_it_is_off_is_sent_away_in_place_of_a_welcome() {
    let mut bench = Bench::new();
    bench.switch(OFF, HOUR);
    assert!(was_sent_away(&bench.joining()));
    assert_eq!(bench.answer(), 0, "it joins nothing");
    let waiting = bench.worker.connect(None, Caller::default());
    bench.worker.tick();
    assert!(!was_sent_away(&waiting), "whose token is not known is told nothing");
    bench.worker.message(&waiting, &json!({ "op": "auth", "token": "no token" }).to_string());
    assert_eq!(said(&waiting), [json!({ "close": 4401 })]);
    let waiting = bench.worker.connect(None, Caller::default());
    bench.worker.message(&waiting, &json!({ "op": "auth", "token": token() }).to_string());
    assert!(was_sent_away(&waiting));
}

#[test]
fn who_waits_for_its_welcome_when_it_is_switched_off_is_sent_away_in_place_of_it() {
    let mut bench = Bench::new();
    let joining = bench.joining();
    bench.switch(OFF, HOUR);
    bench.answer();
    assert!(was_sent_away(&joining));
}

#[test]
fn switched_on_again_whoever_was_not_sent_away_stays_and_others_are_welcome() {
    let mut bench = Bench::new();
    let open = bench.open(10);
    bench.switch(OFF, HOUR);
    bench.switch(ON, HOUR);
    bench.worker.tick();
    assert!(open.iter().all(|one| one.polls_at.get().is_none() && one.session.borrow().is_open()));
    assert_eq!(bench.open(1).len(), 1);
    bench.switch(ON, Duration::ZERO);
    bench.worker.tick();
    assert!(open.iter().all(|one| one.session.borrow().is_open()), "said again, it changes nothing");
}

#[test]
fn said_again_off_moves_nobodys_moment() {
    let mut bench = Bench::new();
    let open = bench.open(10);
    bench.switch(OFF, HOUR);
    let moments = |open: &[Rc<Connection>]| open.iter().map(|one| one.polls_at.get()).collect::<Vec<_>>();
    let before = moments(&open);
    bench.switch(OFF, HOUR);
    assert_eq!(moments(&open), before);
}

#[test]
fn what_an_http_request_carries_stays() {
    let mut bench = Bench::new();
    let identity = bench.verify(&token()).expect("a good token");
    let enter = |worker: &mut Worker, transport| {
        let entered = worker.enter(transport, Caller::default(), identity.clone(), &BTreeMap::new(), None);
        entered.expect("no limit is set")
    };
    let open = enter(&mut bench.worker, Transport::EventStream);
    bench.switch(OFF, Duration::ZERO);
    let later = enter(&mut bench.worker, Transport::Page);
    assert_eq!(bench.answer(), 2);
    bench.worker.tick();
    for connection in [open, later] {
        let said = said(&connection);
        assert!(said.len() == 1 && said[0]["op"] == "welcome", "{said:?}");
    }
}
