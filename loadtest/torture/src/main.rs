//! `rowcast-torture`: start, torment, judge. The exit status is the verdict: 0 kept every promise, 1 broke one, 2 wrong
//! arguments.

use std::process::ExitCode;

use clap::Parser as _;
use rowcast_torture::Plan;

#[tokio::main]
async fn main() -> ExitCode {
    let plan = Plan::parse();
    if plan.list {
        for fault in rowcast_torture::schedule(&plan) {
            println!("{fault}");
        }
        return ExitCode::SUCCESS;
    }
    let report = tokio::select! {
        report = rowcast_torture::run(&plan) => report,
        // All servers end with the run.
        _ = tokio::signal::ctrl_c() => return ExitCode::FAILURE,
    };
    match report {
        Ok(report) => {
            println!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("rowcast-torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}
