//! Programs of the release before this one beside this one's, under load and faults, on one database and one Redis. Nothing
//! that these tests do takes history away, save where a test says so: then a resync is a fault.
//!
//! `make test-compat` builds the other programs and says where they are; each test here has the previous release in its
//! name, by which other runs leave them out.

use std::env;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use rowcast_torture::{Plan, Report};

/// Runs with these arguments, and expects that every promise was kept while there was something to lose.
async fn run(arguments: &str) -> Result<Report> {
    let previous =
        env::var("PREVIOUS_BIN_DIR").context("PREVIOUS_BIN_DIR names no folder: run `make test-compat`")?;
    let size = "torture --clients 60 --rooms 12 --writers 4 --rate 100 --previous";
    let all = size.split_whitespace().chain([previous.as_str()]).chain(arguments.split_whitespace());
    let report = rowcast_torture::run(&Plan::try_parse_from(all)?).await?;
    println!("{report}");
    assert!(report.is_clean() && report.faults() > 0 && report.delivered() > 1_000, "{report}");
    Ok(report)
}

/// Kinds of faults that leave history alone, and have the lead go to and fro.
const TO_AND_FRO: &str = "--faults kill,stop,partition";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn listeners_of_the_previous_release_feed_edges_of_this_one() -> Result<()> {
    run(&format!("--seconds 15 --seed 1 --listeners-of previous --schema-of both {TO_AND_FRO}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn listeners_of_this_release_feed_edges_of_the_previous_release() -> Result<()> {
    run(&format!("--seconds 15 --seed 2 --edges-of previous {TO_AND_FRO}")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn the_lead_goes_to_and_fro_between_this_and_the_previous_release() -> Result<()> {
    let plan = "--seconds 30 --seed 3 --listeners-of both --edges-of both --schema-of both --listeners 2";
    let report = run(&format!("{plan} {TO_AND_FRO},restart")).await?;
    assert!(report.take_overs() >= 2, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn this_release_runs_on_the_schema_of_the_previous_release() -> Result<()> {
    run(&format!("--seconds 15 --seed 4 --schema-of previous {TO_AND_FRO},restart")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn the_previous_release_runs_on_the_schema_of_this_one() -> Result<()> {
    let of = "--listeners-of previous --edges-of previous --schema-of both";
    run(&format!("--seconds 15 --seed 5 {of} {TO_AND_FRO},restart")).await?;
    Ok(())
}

/// Here history is taken away: what a release concludes from that, the other has to understand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn a_redis_that_forgets_is_the_same_to_this_and_the_previous_release() -> Result<()> {
    let of = "--listeners-of both --edges-of both --schema-of both";
    let report = run(&format!("--seconds 30 --seed 6 {of} --faults kill,stop,redis")).await?;
    assert!(report.resyncs() > 0, "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn an_upgrade_from_the_previous_release_under_load_loses_and_doubles_nothing() -> Result<()> {
    let of = "--listeners-of previous --edges-of previous --schema-of previous";
    run(&format!("--seconds 15 --seed 7 {of} --faults rolling")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the previous release's programs: make test-compat"]
async fn going_back_to_the_previous_release_under_load_loses_and_doubles_nothing() -> Result<()> {
    run("--seconds 15 --seed 8 --faults rolling").await?;
    Ok(())
}
