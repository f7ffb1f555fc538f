//! Who goes and who does not get in when tokens are revoked, at each point of a session's life.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::accept::Caller;
use crate::worker::bench::{Bench, said, sign, token};
use crate::worker::{ToWorker, Transport};

impl Bench {
    fn revoke(&mut self, sheet: Value) {
        let revocations = Revocations::parse(&sheet.to_string()).expect("a sheet");
        self.worker.receive(ToWorker::Revocations(Arc::new(revocations)));
    }

    fn socket(&mut self, claims: Value) -> Rc<Connection> {
        self.worker.connect(Some(&sign(&claims)), Caller::default())
    }
}

fn claims(more: Value) -> Value {
    let mut claims = json!({ "sub": "user", "merchantId": "m1", "exp": 4_000_000_000_i64, "iat": 1_000 });
    for (name, value) in more.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    // What is null here is left out.
    claims.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
    claims
}

fn revoked() -> [Value; 1] {
    [json!({ "close": 4401 })]
}

#[test]
fn each_kind_ends_the_sessions_that_it_names_at_once_and_no_others() {
    let second = 1_000_000_i64;
    for (sheet, hit, spared) in [
        (json!({ "subject": { "user": 1_001 * second } }), json!({}), json!({ "sub": "other" })),
        (json!({ "subject": { "user": 1_001 * second } }), json!({ "iat": null }), json!({ "iat": 1_001 })),
        (
            json!({ "token_id": { "t": null } }),
            json!({ "jti": "t", "iat": 1_700_000_000 }),
            json!({ "jti": "u" }),
        ),
        (json!({ "room": { "m2": 1_001 * second } }), json!({ "merchantId": ["m1", "m2"] }), json!({})),
    ] {
        let mut bench = Bench::new();
        let [gone, stays] = [&hit, &spared].map(|more| bench.socket(claims(more.clone())));
        bench.answer();
        for connection in [&gone, &stays] {
            assert_eq!(said(connection)[0]["op"], "welcome");
        }
        bench.revoke(sheet.clone());
        assert_eq!(said(&gone), revoked(), "{sheet}");
        assert!(said(&stays).is_empty() && stays.session.borrow().is_open(), "{sheet}");
        assert_eq!(said(&bench.socket(claims(hit))), revoked(), "{sheet}: a new one");
        let welcome = bench.socket(claims(spared));
        bench.answer();
        assert_eq!(said(&welcome)[0]["op"], "welcome", "{sheet}");
    }
}

#[test]
fn what_waits_for_a_client_does_not_reach_it_after_the_revocation() {
    let mut bench = Bench::new();
    let [open, closing] = [0, 1].map(|_| bench.socket(claims(json!({}))));
    bench.answer();
    for connection in [&open, &closing] {
        connection.session.borrow_mut().pong();
    }
    closing.session.borrow_mut().bye(rowcast_protocol::CloseCode::Restart, std::time::Duration::ZERO, now());
    bench.revoke(json!({ "subject": { "user": null } }));
    assert_eq!(said(&open), revoked(), "neither its welcome nor what came behind it");
    let ops: Vec<_> = said(&closing).iter().map(|one| one["op"].clone()).collect();
    assert_eq!(ops, [json!("bye"), Value::Null], "it goes, for the reason that it was told first");
}

#[test]
fn who_waits_for_its_welcome_when_its_token_is_revoked_never_gets_it() {
    let mut bench = Bench::new();
    let joining = bench.socket(claims(json!({})));
    bench.revoke(json!({ "room": { "m1": null } }));
    bench.answer();
    assert_eq!(said(&joining), revoked());
}

#[test]
fn a_token_that_was_judged_before_does_not_let_in_after() {
    let mut bench = Bench::new();
    let identity = bench.verify(&sign(&claims(json!({})))).expect("a good token");
    bench.revoke(json!({ "subject": { "user": null } }));
    for transport in [Transport::EventStream, Transport::Page] {
        let late = bench.worker.enter(transport, Caller::default(), identity.clone(), &BTreeMap::new(), None);
        let late = late.expect("no limit is set");
        assert_eq!(said(&late), revoked());
        assert!(late.session.borrow().is_revoked());
    }
    assert_eq!(bench.answer(), 0, "it joins nothing");
}

#[test]
fn a_refresh_with_a_revoked_token_closes_and_a_good_one_saves_nobody_whose_own_is_revoked() {
    let mut bench = Bench::new();
    let own = bench.socket(claims(json!({ "iat": 2_000 })));
    bench.answer();
    said(&own);
    bench.revoke(json!({ "subject": { "user": 1_500_000_000_i64 } }));
    assert!(said(&own).is_empty(), "it was issued later");
    let refresh = |token: String| json!({ "op": "refresh", "token": token }).to_string();
    bench.worker.message(&own, &refresh(sign(&claims(json!({ "iat": 1_000 })))));
    assert_eq!(said(&own), revoked());

    let old = bench.socket(claims(json!({ "iat": 2_000 })));
    bench.answer();
    said(&old);
    bench.revoke(json!({ "subject": { "user": 2_500_000_000_i64 } }));
    bench.worker.message(&old, &refresh(sign(&claims(json!({ "iat": 3_000 })))));
    assert_eq!(said(&old), revoked());
}

#[test]
fn a_room_that_was_not_asked_for_revokes_its_token_too() {
    let mut bench = Bench::new();
    let mut identity = bench.verify(&sign(&claims(json!({ "merchantId": ["m1", "m2"] })))).expect("good");
    assert!(identity.ask_for("m1") && !identity.clone().ask_for("m2"));
    let stream =
        bench.worker.enter(Transport::EventStream, Caller::default(), identity, &BTreeMap::new(), None);
    let stream = stream.expect("no limit is set");
    bench.answer();
    said(&stream);
    bench.revoke(json!({ "room": { "m2": null } }));
    assert_eq!(said(&stream), revoked());
}

#[test]
fn lifted_it_lets_in_again_and_whoever_has_yet_to_sign_in_is_judged_when_it_does() {
    let mut bench = Bench::new();
    let waiting = bench.worker.connect(None, Caller::default());
    bench.revoke(json!({ "subject": { "user": null } }));
    assert!(said(&waiting).is_empty());
    bench.worker.message(&waiting, &json!({ "op": "auth", "token": token() }).to_string());
    assert_eq!(said(&waiting), revoked());
    bench.revoke(json!({}));
    assert_eq!(bench.open(1).len(), 1);
}

/// What docs/revocation.md says of a worker: `cargo test --release -p rowcast-edge --lib -- --ignored --nocapture revoking`.
#[test]
#[ignore = "measures"]
fn how_long_a_worker_with_20_000_sessions_looks_for_whom_it_hits() {
    let mut bench = Bench::new();
    let all: Vec<_> = (0..20_000)
        .map(|n| {
            let open = bench.socket(claims(json!({ "sub": format!("user {n}"), "jti": format!("id {n}") })));
            bench.answer();
            said(&open);
            open
        })
        .collect();
    let entries = |hits: &str| {
        let ids = (0..100_000).map(|n| (format!("{hits} {n}"), Value::Null));
        json!({ "token_id": ids.collect::<serde_json::Map<_, _>>() }).to_string()
    };
    for (hits, expected) in [("other", 0), ("id", 20_000)] {
        let revocations = Arc::new(Revocations::parse(&entries(hits)).expect("a sheet"));
        let begin = std::time::Instant::now();
        bench.worker.receive(ToWorker::Revocations(revocations));
        println!("100000 entries, {expected} of 20000 sessions hit: {:?}", begin.elapsed());
        assert_eq!(all.iter().filter(|one| one.session.borrow().is_revoked()).count(), expected);
    }
}
