//! The short run of every `make test`: Redis keeps its history, so there is no excuse for anything.

use anyhow::Result;
use clap::Parser as _;
use rowcast_torture::Plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_faults_that_leave_redis_alone_everyone_sees_every_event_once_in_order_without_a_resync()
-> Result<()> {
    let arguments = "torture --seconds 8 --seed 3 --clients 30 --rooms 8 --writers 3 --edges 2 --rate 60 \
                     --faults kill,stop,partition,delay,restart";
    let report = rowcast_torture::run(&Plan::try_parse_from(arguments.split_whitespace())?).await?;
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    assert!(report.faults() >= 3 && report.delivered() > 100, "{report}");
    assert!(report.recovered() > 0, "{report}");
    Ok(())
}
