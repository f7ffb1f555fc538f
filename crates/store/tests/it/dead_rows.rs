//! Reading beside rows that are deleted and can not be cleaned away: an old transaction is open. What a statement costs
//! is counted in the blocks of the outbox and its indexes that it touches, not in time.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Result;
use rowcast_sandbox::Connection;
use rowcast_store::{Cleaner, LeadSession, Ring, SessionOptions};

use crate::database::{Database, read_all, read_on_to_mark};

const LIMIT: usize = 100;
/// Blocks that a statement may touch: one for every row that it may return. They lie close together.
const BOUND: i64 = 100;

struct Bench {
    db: Database,
    lead: LeadSession,
    cleaner: Cleaner,
    /// Holds a number and a snapshot, and has written the first row of all.
    old: Connection,
}

impl Bench {
    /// So many rows were read and deleted since the old transaction began.
    async fn start(name: &str, dead: i64) -> Result<Self> {
        let db = Database::migrated(name).await?;
        // What it reads would be counted too; it could not take anything away.
        db.run("ALTER TABLE rowcast.outbox SET (autovacuum_enabled = off)").await?;
        let old = db.another().await?;
        old.batch_execute(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT rowcast.publish('old', 'a.b', '\"late\"')",
        )
        .await?;
        let mut lead = db.lead().await?;
        assert!(read_all(&mut lead, LIMIT).await?.is_empty());
        let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
        let write = format!(
            "INSERT INTO rowcast.outbox (room, type, data) SELECT 'm', 'a.b', '1' FROM generate_series(1, {dead});
             DELETE FROM rowcast.outbox"
        );
        {
            let mut written = std::pin::pin!(db.run(&write));
            // A session that is silent for too long is ended.
            while tokio::time::timeout(Duration::from_millis(500), &mut written).await.is_err() {
                lead.prove(Ring::Leave).await?;
            }
        }
        // They came and went between two reads.
        read_on_to_mark(&mut lead, dead).await?;
        cleaner.set_floor(lead.complete()).await?;
        Ok(Self { db, lead, cleaner, old })
    }

    async fn publish(&self, rows: i64) -> Result<()> {
        let one = "SELECT rowcast.publish('m', 'a.b', to_json(n)) FROM generate_series(1, $1::bigint) AS n";
        self.db.client.execute(one, &[&rows]).await?;
        Ok(())
    }

    async fn blocks(&mut self) -> Result<i64> {
        // A session reports what it did once a second at the most, at the end of a transaction.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        self.lead.prove(Ring::Leave).await?;
        self.db
            .number(
                "SELECT (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                   FROM pg_statio_all_tables WHERE relid = 'rowcast.outbox'::regclass",
            )
            .await
    }

    /// Reads all there is; says how many rows and statements that were, and how many blocks were touched.
    async fn read(&mut self) -> Result<(usize, i64, i64)> {
        let before = self.blocks().await?;
        let (mut rows, mut statements) = (0, 0);
        loop {
            let page = self.lead.read(NonZeroUsize::new(LIMIT).unwrap(), true, Ring::Leave).await?;
            rows += page.rows.len();
            statements += 1;
            if !page.more {
                break;
            }
        }
        Ok((rows, statements, self.blocks().await? - before))
    }

    async fn expect(&mut self, what: &str, wanted: usize) -> Result<()> {
        let (rows, statements, blocks) = self.read().await?;
        assert_eq!(rows, wanted, "{what}");
        let bound = BOUND * statements;
        assert!(blocks <= bound, "{what}: {blocks} blocks in {statements} statements");
        // One statement more than pages says that a page is full, and gaps are passed at once.
        assert!(statements <= wanted.div_ceil(LIMIT) as i64 + 3, "{what}: {statements} statements");
        eprintln!("{what}: {rows} rows, {statements} statements, {blocks} blocks");
        Ok(())
    }
}

async fn check(name: &str, dead: i64) -> Result<()> {
    let mut bench = Bench::start(name, dead).await?;
    bench.expect("nothing", 0).await?;
    bench.publish(10).await?;
    bench.expect("one page", 10).await?;
    bench.publish(950).await?;
    bench.expect("ten pages", 950).await?;

    // The next leader: neither had these been deleted, nor is the old transaction's row found before it commits.
    bench.lead.unlock_and_announce().await?;
    bench.lead = bench.db.lead().await?;
    bench.expect("a new leader", 960).await?;
    bench.old.batch_execute("COMMIT").await?;
    bench.publish(250).await?;
    bench.expect("a late commit before three pages", 251).await?;
    bench.cleaner.close().await;
    Ok(())
}

#[tokio::test]
async fn a_read_beside_many_dead_rows_costs_what_it_returns() -> Result<()> {
    check("some_dead", 100_000).await
}

#[tokio::test]
#[ignore = "writes a million rows: make test-long"]
async fn a_read_beside_a_million_dead_rows_costs_what_it_returns() -> Result<()> {
    check("many_dead", 1_000_000).await
}
