//! What each carrier costs: the runs, alternated, and the table of medians.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::LocalSet;

use crate::Carrier;
use crate::clients::{Clients, HANDSHAKE};
use crate::server::Server;

/// How much is measured.
#[derive(Clone, Copy, clap::Args)]
pub struct Settings {
    /// Runs of each carrier.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Sockets held in each run.
    #[arg(long, default_value_t = 4_000)]
    sockets: usize,
}

const ROWS: [&str; 10] = [
    "CPU µs a delivery, 1 frame a wake",
    "· of that in the program",
    "CPU µs a delivery, 4 frames a wake",
    "· of that in the program",
    "CPU µs to accept and upgrade",
    "resident KiB a connection, idle",
    "resident KiB a connection, after bursts of 32 frames",
    "attack: MiB taken of 100, of a frame announced as 1 GiB",
    "attack: growth of the process in MiB, peak",
    "attack: growth of the process in MiB, client gone",
];

/// Runs everything and prints the table.
pub fn measure(settings: Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results: [Vec<[f64; ROWS.len()]>; 4] = Default::default();
    for run in 1..=settings.runs {
        for (carrier, all) in Carrier::ALL.into_iter().zip(&mut results) {
            eprintln!("run {run} of {}: {carrier}", settings.runs);
            let local = LocalSet::new();
            all.push(local.block_on(&runtime, one_run(carrier, settings.sockets))?);
        }
    }
    print(&results);
    Ok(())
}

async fn one_run(carrier: Carrier, sockets: usize) -> Result<[f64; ROWS.len()]> {
    let server = Server::start(carrier, &[])?;
    // The first connections pay for what the process needs once.
    Clients::connect(server.address, 50).await?.close().await;
    server.wait_for_open(0, Duration::from_secs(5))?;

    let (cpu, empty) = (server.cpu()?, server.memory()?);
    let mut clients = Clients::connect(server.address, sockets).await?;
    server.wait_for_open(sockets as u64, Duration::from_secs(5))?;
    let accept = (server.cpu()?.total - cpu.total) / sockets as f64;
    let idle = (server.memory()?.resident - empty.resident) / sockets as f64;

    ticks(&server, &mut clients, "count=3&interval_ms=100&frames=1").await?;
    let single = ticks(&server, &mut clients, "count=30&interval_ms=100&frames=1").await?;
    let fourfold = ticks(&server, &mut clients, "count=12&interval_ms=250&frames=4").await?;
    ticks(&server, &mut clients, "count=3&interval_ms=700&frames=32").await?;
    let after = (server.memory()?.resident - empty.resident) / sockets as f64;
    clients.close().await;
    server.wait_for_open(0, Duration::from_secs(10))?;
    drop(server);

    let attack = attack(carrier)?;
    Ok([single.0, single.1, fourfold.0, fourfold.1, accept, idle, after, attack[0], attack[1], attack[2]])
}

/// CPU µs a delivery, and the part of it that is spent in the program.
async fn ticks(server: &Server, clients: &mut Clients, how: &str) -> Result<(f64, f64)> {
    let before = server.cpu()?;
    let (address, path) = (server.address, format!("/tick?{how}"));
    let asked = tokio::task::spawn_blocking(move || Server::ask(address, &path));
    // Frames arrive while the question is open; the number that is right is known at its end.
    let deliveries = asked.await??;
    clients.wait_for(deliveries).await?;
    let after = server.cpu()?;
    let (user, system) = (after.user - before.user, after.system - before.system);
    let each = (after.total - before.total) / deliveries as f64;
    Ok((each, each * user / (user + system)))
}

/// One client announces a frame of 1 GiB and sends 100 MiB of it.
fn attack(carrier: Carrier) -> Result<[f64; 3]> {
    const MIB: f64 = 1024.0;
    let server = Server::start(carrier, &[])?;
    server.get("/open")?;
    let before = server.memory()?.resident;
    server.forget_peak()?;
    let mut client = TcpStream::connect(server.address)?;
    client.write_all(HANDSHAKE)?;
    server.wait_for_open(1, Duration::from_secs(5))?;
    client.set_write_timeout(Some(Duration::from_secs(1)))?;
    client.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4])?;
    let piece = vec![0x55; 64 * 1024];
    let mut taken = 0;
    while taken < 100 * 1024 * 1024 {
        match client.write(&piece) {
            Ok(written) => taken += written,
            // Closed by the server, or no longer read by it: what was wanted.
            Err(_) => break,
        }
    }
    let peak = server.memory()?.peak;
    drop(client);
    server.wait_for_open(0, Duration::from_secs(5))?;
    let after = server.memory()?.resident;
    ensure!(peak >= before, "the peak was not reset");
    Ok([taken as f64 / MIB / MIB, (peak - before) / MIB, (after - before) / MIB])
}

fn print(results: &[Vec<[f64; ROWS.len()]>; 4]) {
    let names = Carrier::ALL.map(|carrier| carrier.to_string()).join(" | ");
    println!("| median of {} runs (least–most) | {names} |", results[0].len());
    println!("| --- | --- | --- | --- | --- |");
    for (row, name) in ROWS.iter().enumerate() {
        let cells = results.each_ref().map(|runs| {
            let mut values: Vec<f64> = runs.iter().map(|run| run[row]).collect();
            values.sort_by(f64::total_cmp);
            let (least, median, most) = (values[0], values[values.len() / 2], values[values.len() - 1]);
            format!("{median:.1} ({least:.1}–{most:.1})")
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}
