//! `rowcast tail` on the whole way: PostgreSQL, a listener, Redis and an edge, each the real one.
//! It needs the workspace's binaries: `cargo build --workspace --bins`.

mod support;

use std::{process::Stdio, time::Duration};

use rowcast_sandbox::{Connection, Folder, Postgres, Redis, RedisOptions, Signal};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use support::service::start;

const SECRET: &str = "a secret of at least 32 bytes, hush";
const PATIENCE: Duration = Duration::from_secs(20);

struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(edge: &str, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowcast"));
        let url = format!("http://{edge}");
        command.args(["tail", "--url", &url, "--secret", SECRET, "--merchant", "m1", "--json"]).args(args);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("tail starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The next line with this `op`.
    async fn next(&mut self, op: &str) -> Value {
        let find = async {
            loop {
                let line = self.lines.next_line().await.expect("a read").expect("tail goes on");
                let value: Value = serde_json::from_str(&line).expect("JSON");
                if value["op"] == op {
                    return value;
                }
            }
        };
        tokio::time::timeout(PATIENCE, find).await.unwrap_or_else(|_| panic!("no {op} came"))
    }
}

async fn book(sql: &Connection, id: i32) {
    let insert = "INSERT INTO booking VALUES ($1, 'm1', 'new'), ($1 + 1000, 'm2', 'new')";
    sql.execute(insert, &[&id]).await.expect("an insert");
}

#[tokio::test]
async fn tail_shows_its_merchants_events_and_resumes_after_the_edge_was_killed() {
    let folder = Folder::new("tail").expect("a folder");
    let postgres = Postgres::shared().await.expect("PostgreSQL starts");
    let database = postgres.create_database("cli_tail").await.expect("a database");
    let redis = Redis::start(RedisOptions::default()).await.expect("Redis starts");
    rowcast_store::migrate(&database).await.expect("migrations");
    let sql = Connection::open(&database).await.expect("PostgreSQL answers");
    let table = "CREATE TABLE booking (id int PRIMARY KEY, merchant_id text, status text);
        SELECT rowcast.watch('booking', 'merchant_id')";
    sql.batch_execute(table).await.expect("a watched table");

    let redis_url = redis.url();
    let shared = [("ROWCAST_REDIS__URL", redis_url.as_str()), ("ROWCAST_DATABASE__URL", &database)];
    let (_listener, _) = start("rowcast-listener", folder.path(), "admin", &shared).await;
    let edge = |listen: String| {
        let folder = folder.path().to_owned();
        let redis_url = redis_url.clone();
        async move {
            let env = [
                ("ROWCAST_REDIS__URL", redis_url.as_str()),
                ("ROWCAST_EDGE__LISTEN", &listen),
                ("ROWCAST_AUTH__HS256_SECRET", SECRET),
            ];
            start("rowcast-edge", &folder, "listen", &env).await
        }
    };
    let (first, address) = edge("127.0.0.1:0".to_owned()).await;

    let mut tail = Tail::start(&address, &["--count", "4"]);
    let welcome = tail.next("welcome").await;
    assert_eq!(welcome["rooms"].as_object().map(serde_json::Map::len), Some(1), "{welcome}");
    for id in 1..=2 {
        book(&sql, id).await;
        let event = tail.next("event").await;
        assert_eq!(
            (&event["room"], &event["type"], &event["data"]["id"]),
            (&"m1".into(), &"booking.created".into(), &id.into())
        );
        assert!(event["latency_ms"].as_f64().is_some_and(|ms| ms < 5_000.0), "{event}");
    }

    first.stop(Signal::KILL, PATIENCE).await.expect("it is killed");
    tail.next("disconnected").await;
    book(&sql, 3).await;
    let (_second, _) = edge(address).await;
    assert_eq!(tail.next("welcome").await["rooms"]["m1"]["resumed"], true);
    assert_eq!(tail.next("event").await["data"]["id"], 3);
    book(&sql, 4).await;
    let event = tail.next("event").await;
    assert_eq!((&event["data"]["id"], event.get("gap")), (&4.into(), None));
    let status =
        tokio::time::timeout(PATIENCE, tail.child.wait()).await.expect("--count ends it").expect("it ends");
    assert!(status.success());
}

#[tokio::test]
async fn tail_with_a_wrong_secret_is_refused_for_good() {
    let folder = Folder::new("tail-refused").expect("a folder");
    let redis = Redis::start(RedisOptions::default()).await.expect("Redis starts");
    let other = "another secret of at least 32 bytes";
    let redis_url = redis.url();
    let env = [
        ("ROWCAST_REDIS__URL", redis_url.as_str()),
        ("ROWCAST_EDGE__LISTEN", "127.0.0.1:0"),
        ("ROWCAST_AUTH__HS256_SECRET", other),
    ];
    let (_edge, address) = start("rowcast-edge", folder.path(), "listen", &env).await;
    let tail = Tail::start(&address, &[]);
    let output = tokio::time::timeout(PATIENCE, tail.child.wait_with_output());
    assert_eq!(output.await.expect("it ends").expect("it ends").status.code(), Some(1));
}
