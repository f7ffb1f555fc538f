//! Writers: events into PostgreSQL, each numbered in its room, at a rate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{Client, NoTls, Statement};

use crate::latency::{histogram, record};
use crate::plan::{Plan, Via};
use crate::shared::Shared;

/// How long a writer tries to get its connection back.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the writers did.
pub(crate) struct Written {
    /// From sending to answer.
    pub(crate) answered: Histogram<u64>,
    /// Statements that were sent again.
    pub(crate) repeated: u64,
}

/// A connection whose background task ends with it.
struct Connection {
    client: Client,
    driver: JoinSet<Result<(), tokio_postgres::Error>>,
}

impl Connection {
    async fn open(url: &str) -> Result<Self> {
        let (client, connection) =
            tokio_postgres::connect(url, NoTls).await.context("connecting to PostgreSQL")?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self { client, driver })
    }

    /// Closes it in order, so that the server has nothing to complain about.
    async fn close(mut self) {
        drop(self.client);
        // Its work is done; how the connection itself ended changes nothing.
        let _ = self.driver.join_next().await;
    }
}

impl std::ops::Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Makes the run's table and watches it, as far as the way of writing needs it.
///
/// # Errors
/// When PostgreSQL refuses; the role must be allowed to create tables in `public`.
pub(crate) async fn prepare(plan: &Plan) -> Result<()> {
    if plan.via == Via::Publish {
        return Ok(());
    }
    let table = plan.table();
    let connection = Connection::open(&plan.database_url).await?;
    let create = format!(
        "CREATE TABLE public.{table} (\"merchantId\" text, n bigint, i bigint, pad text, PRIMARY KEY (\"merchantId\", n))"
    );
    connection.batch_execute(&create).await.with_context(|| format!("creating {table}"))?;
    if plan.via == Via::Table {
        let watch = format!("SELECT rowcast.watch('public.{table}', 'merchantId', type => 'load')");
        connection.batch_execute(&watch).await.with_context(|| format!("watching {table}"))?;
    }
    connection.close().await;
    Ok(())
}

/// Drops what [`prepare`] made, if it is there.
///
/// # Errors
/// When PostgreSQL refuses.
pub(crate) async fn clean_up(plan: &Plan) -> Result<()> {
    if plan.via == Via::Publish {
        return Ok(());
    }
    let table = plan.table();
    let connection = Connection::open(&plan.database_url).await?;
    if plan.via == Via::Table {
        let unwatch = format!(
            "SELECT rowcast.unwatch(to_regclass('public.{table}')) WHERE to_regclass('public.{table}') IS NOT NULL"
        );
        connection.batch_execute(&unwatch).await.with_context(|| format!("unwatching {table}"))?;
    }
    let drop = format!("DROP TABLE IF EXISTS public.{table}");
    connection.batch_execute(&drop).await.with_context(|| format!("dropping {table}"))?;
    connection.close().await;
    Ok(())
}

/// Writes all events, each room's in order.
pub(crate) async fn write(plan: &Plan, shared: &Arc<Shared>) -> Result<Written> {
    let mut writers = JoinSet::new();
    for number in 0..plan.writers {
        let writer = Writer::open(plan.clone(), shared.clone()).await?;
        writers.spawn(writer.write(number));
    }
    let mut sum = Written { answered: histogram(), repeated: 0 };
    while let Some(written) = writers.join_next().await {
        let written = written.context("a writer panicked")??;
        sum.answered.add(&written.answered)?;
        sum.repeated += written.repeated;
    }
    Ok(sum)
}

struct Writer {
    plan: Plan,
    shared: Arc<Shared>,
    connection: Connection,
    statement: Statement,
    padding: String,
    written: Written,
}

impl Writer {
    async fn open(plan: Plan, shared: Arc<Shared>) -> Result<Self> {
        let connection = Connection::open(&plan.database_url).await?;
        let statement = connection.prepare(&sql(&plan)).await.context("preparing the statement")?;
        let padding = "x".repeat(plan.padding);
        let written = Written { answered: histogram(), repeated: 0 };
        Ok(Self { plan, shared, connection, statement, padding, written })
    }

    /// The events of the rooms `room % writers == number`.
    async fn write(mut self, number: usize) -> Result<Written> {
        let (start, rooms) = (Instant::now(), self.plan.rooms as u64);
        for event in 0..self.plan.events {
            let room = usize::try_from(event % rooms).expect("rooms are counted by usize");
            if room % self.plan.writers != number {
                continue;
            }
            if self.plan.rate > 0.0 {
                tokio::time::sleep_until(start + Duration::from_secs_f64(event as f64 / self.plan.rate))
                    .await;
            }
            self.write_one(event, room).await?;
        }
        self.connection.close().await;
        Ok(self.written)
    }

    async fn write_one(&mut self, event: u64, room: usize) -> Result<()> {
        let (n, i) = ((event / self.plan.rooms as u64 + 1).cast_signed(), event.cast_signed());
        let room = self.plan.room(room);
        loop {
            let sent = Instant::now();
            self.shared.sending(event);
            let answer = self.connection.execute(&self.statement, &[&room, &n, &i, &self.padding]).await;
            match answer {
                Ok(_) => {
                    let taken = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
                    record(&mut self.written.answered, taken);
                    return Ok(());
                }
                // The primary key makes a repetition harmless, whether or not the first one was committed.
                Err(error) if self.plan.via == Via::Table && (error.is_closed() || lost(&error)) => {
                    self.shared.note_trouble(format!("writing event {event}: {error:?}"));
                    self.reconnect().await?;
                    self.written.repeated += 1;
                }
                Err(error) => return Err(error).with_context(|| format!("writing event {event}")),
            }
        }
    }

    async fn reconnect(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::open(self.plan.clone(), self.shared.clone()).await {
                Ok(other) => {
                    (self.connection, self.statement) = (other.connection, other.statement);
                    return Ok(());
                }
                Err(error) if Instant::now() >= end => {
                    bail!("PostgreSQL did not come back within {PATIENCE:?}: {error:#}")
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Whether the connection is gone, rather than the statement wrong: no answer at all, or classes 57 (shutdown) and 08.
fn lost(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| code.code().starts_with("57") || code.code().starts_with("08"))
}

fn sql(plan: &Plan) -> String {
    let (table, channel) = (plan.table(), plan.channel());
    let insert = format!(
        "INSERT INTO public.{table} (\"merchantId\", n, i, pad) VALUES ($1::text, $2::int8, $3::int8, $4::text) ON CONFLICT DO NOTHING"
    );
    match plan.via {
        Via::Table => insert,
        Via::Publish => "SELECT rowcast.publish($1::text, 'load.published', \
            json_build_object('merchantId', $1::text, 'n', $2::int8, 'i', $3::int8, 'pad', $4::text))"
            .to_owned(),
        Via::Notify => format!(
            "WITH row AS ({insert} RETURNING \"merchantId\", n, i, pad) \
             SELECT pg_notify('{channel}', json_build_object('at', clock_timestamp(), 'data', row_to_json(row))::text) FROM row"
        ),
    }
}
