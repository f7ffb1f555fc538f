//! A rolling restart of every process under load.

use anyhow::Result;
use clap::Parser as _;
use rowcast_torture::Plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "every process drains and starts again: make test-long"]
async fn a_rolling_restart_loses_and_doubles_nothing_and_opens_no_clients_breaker() -> Result<()> {
    let arguments = "torture --seconds 15 --seed 1 --clients 100 --rooms 20 --faults rolling";
    let report = rowcast_torture::run(&Plan::try_parse_from(arguments.split_whitespace())?).await?;
    println!("{report}");
    assert!(report.is_clean() && report.faults() == 1 && report.delivered() > 1_000, "{report}");
    // A client's breaker opens after five.
    assert!(report.failed_in_a_row() < 5, "{report}");
    Ok(())
}
