//! The servers, the four tables that are compared, and who watches each.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_sandbox::{
    Connection, Folder, Launch, Postgres, PostgresOptions, Process, Redis, RedisOptions, Signal, metric,
    wait_for,
};

const DATABASE: &str = "app";
const PATIENCE: Duration = Duration::from_secs(60);

/// Four tables alike. The second has the trigger that applications have without Rowcast: one pg_notify a row. The third
/// has the least that can fill an outbox: no right is checked, nothing is caught, no update is told from another.
const SCHEMA: &str = r#"
CREATE TABLE unwatched (id bigserial PRIMARY KEY, "merchantId" text, status text, note text);
CREATE TABLE notified (LIKE unwatched INCLUDING ALL);
CREATE TABLE least (LIKE unwatched INCLUDING ALL);
CREATE TABLE watched (LIKE unwatched INCLUDING ALL);
CREATE FUNCTION notify_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('changes', json_build_object('type', TG_TABLE_NAME || '.' || lower(TG_OP),
        'merchantId', NEW."merchantId", 'data', row_to_json(NEW))::text);
    RETURN NEW;
END $$;
CREATE TRIGGER notify AFTER INSERT OR UPDATE ON notified FOR EACH ROW EXECUTE FUNCTION notify_change();
CREATE FUNCTION least_append() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rowcast.outbox (room, type, data) SELECT "merchantId", 'least.created', row_to_json(t) FROM new_rows AS t;
    RETURN NULL;
END $$;
CREATE TRIGGER append AFTER INSERT ON least REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION least_append();
SELECT rowcast.watch('watched', 'merchantId');
"#;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Unwatched,
    Notify,
    /// The least trigger into the outbox, drained by the same listener.
    Least,
    Rowcast,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Unwatched, Self::Notify, Self::Least, Self::Rowcast];

    /// Its table.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Self::Unwatched => "unwatched",
            Self::Notify => "notified",
            Self::Least => "least",
            Self::Rowcast => "watched",
        }
    }
}

/// The binary of that name beside this program.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    Ok(own.with_file_name(name))
}

/// PostgreSQL that survives a crash, Redis, and a place for listeners.
pub(crate) struct Bench {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    folder: Folder,
    listener: PathBuf,
}

impl Bench {
    pub(crate) async fn start(listener: Option<PathBuf>) -> Result<Self> {
        let listener = listener.map_or_else(|| beside("rowcast-listener"), Ok)?;
        let options = PostgresOptions { durable: true, ..PostgresOptions::default() }
            .with("shared_buffers", "256MB")
            .with("max_wal_size", "4GB");
        let postgres = Postgres::start(options).await?;
        let redis = Redis::start(RedisOptions::default()).await?;
        let url = postgres.create_database(DATABASE).await?;
        rowcast_store::migrate(&url).await?;
        postgres.connect(DATABASE).await?.batch_execute(SCHEMA).await?;
        Ok(Self { postgres, redis, folder: Folder::new("writepath")?, listener })
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        self.postgres.connect(DATABASE).await
    }

    pub(crate) fn url(&self) -> String {
        self.postgres.url_of(DATABASE)
    }

    /// A real listener that leads; it ends with the value.
    pub(crate) async fn listener(&self) -> Result<Process> {
        self.listener_before(&self.redis.url()).await
    }

    /// The same, before another Redis.
    pub(crate) async fn listener_before(&self, redis_url: &str) -> Result<Process> {
        let ports = self.folder.path().join("ports.json");
        let process =
            Launch::new("rowcast-listener", &self.listener, self.folder.path().join("listener.log"))
                .arg("--ports-file")
                .arg(&ports)
                .env("ROWCAST_DATABASE__URL", self.url())
                .env("ROWCAST_REDIS__URL", redis_url)
                .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0")
                .spawn()?;
        process
            .wait_ready(PATIENCE, || async {
                let text = std::fs::read_to_string(&ports)?;
                let admin = text.split('"').find(|part| part.starts_with("127.")).context("an admin port")?;
                let leads = metric(admin, "rowcast_listener_leader", "").await? == 1.0;
                anyhow::ensure!(leads, "it does not lead");
                anyhow::Ok(())
            })
            .await?;
        Ok(process)
    }

    /// Ends a listener, once it has carried everything.
    pub(crate) async fn drained(&self, listener: Process) -> Result<()> {
        let database = self.connect().await?;
        wait_for("an empty outbox", PATIENCE, || async {
            let left: i64 = database
                .query_one("SELECT count(*) FROM (SELECT FROM rowcast.outbox LIMIT 1) AS rows", &[])
                .await?
                .get(0);
            anyhow::ensure!(left == 0, "rows are left");
            anyhow::Ok(())
        })
        .await?;
        listener.stop(Signal::TERM, PATIENCE).await?;
        Ok(())
    }
}
