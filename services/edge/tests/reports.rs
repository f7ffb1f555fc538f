//! What clients report of themselves becomes metrics of the edge, within bounds; what is no report harms nobody.

mod support;

use anyhow::Result;
use serde_json::{Value, json};
use support::{Edge, Stage, token};

async fn report(edge: &Edge, report: Value) -> Result<()> {
    let auth = json!({ "op": "auth", "token": token(json!("m1")), "report": report });
    edge.sign_in(auth).await?.next_of("welcome").await.map(drop)
}

#[tokio::test]
async fn reports_are_counted_and_what_is_none_is_counted_as_that_and_signs_in_all_the_same() -> Result<()> {
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let good = json!({
        "states": { "CONNECTED": 12.5, "RECONNECTING": 2, "HACKED": 9 }, "reconnects": [1.2, 1e9],
        "refreshes": { "ok": 3, "failed": 1 }, "ages": [0.012, 0.5], "more": true,
    });
    report(&edge, good).await?;
    report(&edge, json!({})).await?;
    for odd in
        [json!([1]), json!("x"), json!({ "ages": "old" }), json!({ "states": { "CONNECTED": "long" } })]
    {
        report(&edge, odd).await?;
    }
    let many: Vec<_> = (0..100).map(|n| (n.to_string(), json!(n))).collect();
    report(&edge, Value::Object(many.into_iter().collect())).await?;
    // A stranger's report is not even looked at.
    let stranger = json!({ "op": "auth", "token": "x", "report": { "states": { "DEGRADED": 1 } } });
    assert_eq!(edge.sign_in(stranger).await?.closed().await?.0, 4401);

    for (metric, label, expected) in [
        ("rowcast_client_reports_total", "taken", 3.0),
        ("rowcast_client_reports_total", "malformed", 4.0),
        ("rowcast_client_state_seconds_total", "CONNECTED", 12.5),
        ("rowcast_client_state_seconds_total", "", 14.5),
        ("rowcast_client_reconnect_seconds_count", "", 2.0),
        ("rowcast_client_reconnect_seconds_sum", "", 3_601.2),
        ("rowcast_client_token_refreshes_total", "\"ok\"", 3.0),
        ("rowcast_client_token_refreshes_total", "failed", 1.0),
        ("rowcast_client_event_age_seconds_count", "", 2.0),
    ] {
        let counted = edge.metric(metric, label).await?;
        assert!((counted - expected).abs() < 1e-6, "{metric}{{{label}}} is {counted}, not {expected}");
    }
    Ok(())
}
