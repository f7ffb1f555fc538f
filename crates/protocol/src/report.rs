//! What a client reports of itself when it signs in: the time it spent in each state, how long reconnecting took, how
//! refreshes went, how old events were when they were shown. Clients lie, so every number is bounded; what has the wrong
//! shape is no report, and never a reason to turn anybody away.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The states of a client; others are passed over, so that nobody makes labels of a metric up.
pub const STATES: [&str; 4] = ["INITIALIZING", "CONNECTED", "RECONNECTING", "DEGRADED"];

/// The most reconnections that count in one report, and the most ages of events.
pub const MAX_RECONNECTS: usize = 32;
/// See [`MAX_RECONNECTS`].
pub const MAX_AGES: usize = 64;

/// The longest time of a reconnection and the highest age, and the longest time in a state, in seconds.
const LONGEST: f64 = 3_600.0;
const LONGEST_STATE: f64 = 30.0 * 86_400.0;

/// The most refreshes of one result.
const MOST_REFRESHES: f64 = 1_000.0;

/// A report, bounded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Seconds by state.
    pub states: Vec<(&'static str, f64)>,
    /// Seconds from the loss of a connection to the next welcome.
    pub reconnects: Vec<f64>,
    /// Refreshes of the token that were taken.
    pub refreshes_ok: u64,
    /// And those that were not.
    pub refreshes_failed: u64,
    /// Seconds from the commit to the screen.
    pub ages: Vec<f64>,
}

/// Not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a report")]
pub struct MalformedReport;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    states: BTreeMap<String, f64>,
    reconnects: Vec<f64>,
    refreshes: Refreshes,
    ages: Vec<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refreshes {
    ok: f64,
    failed: f64,
}

impl Report {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// It has another shape.
    pub fn judge(value: &Value) -> Result<Self, MalformedReport> {
        if !value.is_object() {
            return Err(MalformedReport);
        }
        let raw = Raw::deserialize(value).map_err(|_| MalformedReport)?;
        let times =
            |all: Vec<f64>, most: usize| all.into_iter().take(most).map(|s| s.clamp(0.0, LONGEST)).collect();
        // The cast of a number within bounds loses nothing but its fraction.
        let count = |number: f64| number.clamp(0.0, MOST_REFRESHES) as u64;
        let state = |name: &'static str| Some((name, raw.states.get(name)?.clamp(0.0, LONGEST_STATE)));
        Ok(Self {
            states: STATES.into_iter().filter_map(state).collect(),
            reconnects: times(raw.reconnects, MAX_RECONNECTS),
            refreshes_ok: count(raw.refreshes.ok),
            refreshes_failed: count(raw.refreshes.failed),
            ages: times(raw.ages, MAX_AGES),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn parts_are_optional_and_unknown_keys_and_states_are_passed_over() {
        assert_eq!(Report::judge(&json!({})), Ok(Report::default()));
        let report = json!({
            "states": { "CONNECTED": 12.5, "HACKED": 1, "DEGRADED": 3 }, "reconnects": [1.2],
            "refreshes": { "ok": 3, "failed": 1, "more": [] }, "ages": [0.012], "other": { "x": 1 },
        });
        let expected = Report {
            states: vec![("CONNECTED", 12.5), ("DEGRADED", 3.0)],
            reconnects: vec![1.2],
            refreshes_ok: 3,
            refreshes_failed: 1,
            ages: vec![0.012],
        };
        assert_eq!(Report::judge(&report), Ok(expected));
    }

    #[test]
    fn what_is_too_much_is_cut() {
        let report = json!({
            "states": { "CONNECTED": 1e300 }, "reconnects": vec![-1.0; 100], "refreshes": { "ok": 1e18, "failed": -3 },
            "ages": vec![1e9; 100],
        });
        let report = Report::judge(&report).expect("a report");
        assert_eq!(report.states, [("CONNECTED", 2_592_000.0)]);
        assert_eq!((report.reconnects.len(), report.ages.len()), (MAX_RECONNECTS, MAX_AGES));
        assert!(report.reconnects.iter().all(|s| *s == 0.0) && report.ages.iter().all(|s| *s == LONGEST));
        assert_eq!((report.refreshes_ok, report.refreshes_failed), (1_000, 0));
    }

    #[test]
    fn another_shape_is_no_report() {
        for value in [
            json!(null),
            json!([]),
            json!("x"),
            json!({ "states": [1] }),
            json!({ "reconnects": ["1"] }),
            json!({ "ages": [null] }),
            json!({ "refreshes": 3 }),
        ] {
            assert_eq!(Report::judge(&value), Err(MalformedReport), "{value}");
        }
    }

    fn anything() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 8, |inner| {
            let key = prop_oneof!["states|reconnects|refreshes|ages|ok|failed|CONNECTED", "[a-z]{1,3}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_within_bounds(value in anything()) {
            if let Ok(report) = Report::judge(&value) {
                let times = report.reconnects.iter().chain(&report.ages);
                prop_assert!(times.into_iter().all(|s| (0.0..=LONGEST).contains(s)));
                prop_assert!(report.states.iter().all(|(_, s)| (0.0..=LONGEST_STATE).contains(s)));
                prop_assert!(report.refreshes_ok <= 1_000 && report.refreshes_failed <= 1_000);
            }
        }
    }
}
