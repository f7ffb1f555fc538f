//! Nothing that reads bytes from outside breaks its promises: over the corpora, and over inputs made of them.
//!
//! `FUZZ_INPUTS` says how many are made for each target; 1,000 unless given. `make fuzz` runs longer.

use std::collections::HashSet;

use rowcast_fuzzing::engine::{Budget, run};
use rowcast_fuzzing::{Target, targets};

fn promises_hold(name: &str) {
    let target = Target::find(name).expect("a target");
    let inputs = std::env::var("FUZZ_INPUTS").map_or(1_000, |text| text.parse().expect("a number"));
    run(&target, Budget::Inputs(inputs)).unwrap_or_else(|error| panic!("{error:#}"));
}

macro_rules! promises_hold {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { promises_hold(stringify!($name)); })*

        #[test]
        fn every_target_is_run() {
            let here: HashSet<_> = [$(stringify!($name)),*].into();
            assert_eq!(here, targets::ALL.map(|target| target.name).into());
        }
    };
}

promises_hold! {
    ask, client_message, configuration, cursor, cursors, forwarded, key_set, notification, origin, proxy_header, record, redis_answer, report, socketio_event, socketio_packet, time, token,
    type_filter, wire,
}

#[test]
fn a_broken_promise_is_found_and_its_input_told() {
    fn breaks(data: &[u8]) {
        assert!(!data.contains(&b'?'), "a question");
    }
    let target = Target { check: breaks, words: &[b"?"], ..Target::find("cursor").expect("a target") };
    let error = run(&target, Budget::Inputs(2_000)).expect_err("it must be found").to_string();
    assert!(error.contains("cursor: ") && error.contains('?'), "{error}");
}
