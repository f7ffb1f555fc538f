//! A whole Rowcast whose links are all protected, with the rights in Redis that docs/transport-security.md lists, read from
//! there. It needs the workspace's binaries: `cargo build --workspace --bins`.

mod support;

use std::{path::Path, process::Output, time::Duration};

use rowcast_sandbox::{
    Authority, Folder, Leaf, Postgres, PostgresOptions, Redis, RedisOptions, http_get, wait_for,
};
use support::{rowcast, service::start, text};

const SECRET: &str = "a secret of at least 32 bytes, hush";
const PATIENCE: Duration = Duration::from_secs(30);
const LISTENER: &str = "rowcast-listener:listeners-hush";
const EDGE: &str = "rowcast-edge:edges-hush";

/// The page that lists rights, in the repository.
const PAGE: &str = "docs/transport-security.md";

/// Makes the users of this repository's page.
async fn make_documented_users(redis: &Redis) {
    make_users(redis, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).await;
}

/// Makes the users of a repository's page.
async fn make_users(redis: &Redis, repository: &Path) {
    let page = std::fs::read_to_string(repository.join(PAGE)).expect("the page");
    let page = page.replace("LISTENER-PASSWORD", "listeners-hush").replace("EDGE-PASSWORD", "edges-hush");
    let rules: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("ACL SETUSER rowcast-") && line.contains(" reset "))
        .collect();
    assert_eq!(rules.len(), 2, "{rules:?}");
    let mut admin = redis.connection().await.expect("Redis");
    for rule in rules {
        let mut words = rule.split_whitespace();
        let mut command = redis::cmd(words.next().expect("ACL"));
        command.arg(words.collect::<Vec<_>>());
        command.query_async::<()>(&mut admin).await.expect(rule);
    }
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

struct Secured {
    folder: Folder,
    /// Ends with the test.
    _postgres: Postgres,
    redis: Redis,
    /// What commands and listeners need for the database.
    database: Vec<(&'static str, String)>,
    /// What listeners and edges need for Redis, but its address.
    files: Vec<(&'static str, String)>,
}

impl Secured {
    async fn start() -> Self {
        let folder = Folder::new("secured").expect("a folder");
        let at = folder.path();
        let authority = Authority::new("an authority of our own").expect("an authority");
        let (ca, tls) = authority.write_server(at, &["localhost"]).expect("certificates");
        let tls = Some(tls);
        let client = authority.write(at, "client", &Leaf::client("operator")).expect("a certificate");
        let access = ["hostssl all operator 127.0.0.1/32 cert", "host all operator 127.0.0.1/32 reject"];
        let options = PostgresOptions {
            tls: tls.clone(),
            access: access.map(str::to_owned).to_vec(),
            ..PostgresOptions::default()
        };
        let postgres = Postgres::start(options).await.expect("PostgreSQL starts");
        let admin = postgres.connect("postgres").await.expect("PostgreSQL answers");
        admin.batch_execute("CREATE ROLE operator LOGIN SUPERUSER").await.expect("a role");
        let redis =
            Redis::start(RedisOptions { tls, ..RedisOptions::default() }).await.expect("Redis starts");
        make_documented_users(&redis).await;
        let [ca, cert, key] = [&ca, &client.cert, &client.key].map(|path| path.display().to_string());
        let database = vec![
            ("ROWCAST_DATABASE__URL", format!("postgres://operator@localhost:{}/postgres", postgres.port())),
            ("ROWCAST_DATABASE__TLS__MODE", "verify-full".to_owned()),
            ("ROWCAST_DATABASE__TLS__CA", ca.clone()),
            ("ROWCAST_DATABASE__TLS__CERT", cert.clone()),
            ("ROWCAST_DATABASE__TLS__KEY", key.clone()),
        ];
        let files = vec![
            ("ROWCAST_REDIS__TLS__CA", ca),
            ("ROWCAST_REDIS__TLS__CERT", cert),
            ("ROWCAST_REDIS__TLS__KEY", key),
        ];
        Self { folder, _postgres: postgres, redis, database, files }
    }

    async fn run(&self, args: &[&str]) -> Output {
        let mut command = rowcast(args);
        command.envs(self.database.iter().map(|(name, value)| (*name, value)));
        command.output().await.expect("the command runs")
    }

    async fn service(
        &self,
        name: &str,
        user: &str,
        key: &str,
        more: &[(&'static str, String)],
    ) -> (rowcast_sandbox::Process, String) {
        let mut environment = self.files.clone();
        environment.push(("ROWCAST_REDIS__URL", self.redis.tls_url(user, "localhost")));
        environment.extend_from_slice(more);
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        start(name, self.folder.path(), key, &environment).await
    }

    async fn listener(&self) -> rowcast_sandbox::Process {
        let (process, admin) = self.service("rowcast-listener", LISTENER, "admin", &self.database).await;
        wait_for("a ready listener", PATIENCE, || async {
            let (status, body) = http_get(&admin, "/ready").await?;
            anyhow::ensure!(status == 200, "{body}");
            anyhow::Ok(())
        })
        .await
        .expect("it becomes ready");
        process
    }

    /// Publishes an event and has a client wait for it.
    async fn carries(&self, edge: &str, number: &str) {
        let url = format!("http://{edge}");
        let args = ["tail", "--url", &url, "--secret", SECRET, "--merchant", "m1", "--json"];
        let mut tail = rowcast(&args);
        let tail = tail.args(["--count", "1", "--for", "30s"]).output();
        let publish = async {
            let subscribed = || async {
                let channels = self.ask("PUBSUB", &["CHANNELS", "*m1*"]).await;
                anyhow::ensure!(!channels.is_empty(), "nobody is subscribed");
                anyhow::Ok(())
            };
            wait_for("a subscription", PATIENCE, subscribed).await.expect("it comes");
            self.run(&["publish", "m1", "report.ready", number]).await
        };
        let (tail, published) = tokio::join!(tail, publish);
        ok(&published);
        let tail = tail.expect("tail runs");
        ok(&tail);
        let data = format!("\"data\":{number}");
        assert!(text(&tail.stdout).contains(&data), "{}", text(&tail.stdout));
    }

    async fn ask(&self, command: &str, args: &[&str]) -> Vec<redis::Value> {
        let mut admin = self.redis.connection().await.expect("Redis");
        let answer: redis::Value =
            redis::cmd(command).arg(args).query_async(&mut admin).await.expect("an answer");
        match answer {
            redis::Value::Array(entries) => entries,
            other => vec![other],
        }
    }
}

#[tokio::test]
async fn a_whole_system_runs_over_tls_with_the_documented_rights_and_needs_no_more() {
    let system = Secured::start().await;
    ok(&system.run(&["migrate"]).await);
    let listener = system.listener().await;
    let auth = [
        ("ROWCAST_AUTH__HS256_SECRET", SECRET.to_owned()),
        ("ROWCAST_EDGE__LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let (_edge, listen) = system.service("rowcast-edge", EDGE, "listen", &auth).await;
    system.carries(&listen, "1").await;
    // The next leader finds a history and what the edges go by.
    drop(listener);
    let _listener = system.listener().await;
    ok(&system.run(&["switch", "websocket", "off"]).await);
    ok(&system.run(&["switch", "websocket", "on"]).await);
    system.carries(&listen, "2").await;
    let refused = system.ask("ACL", &["LOG"]).await;
    assert!(refused.is_empty(), "{refused:?}");
}

/// Whoever upgrades has made the users that the release before asked for.
#[tokio::test]
#[ignore = "needs what the previous release was made of: make test-compat"]
async fn this_release_runs_with_the_rights_in_redis_that_the_previous_release_asked_for() {
    let programs = std::env::var("PREVIOUS_BIN_DIR").expect("run `make test-compat`");
    let system = Secured::start().await;
    make_users(&system.redis, &Path::new(&programs).join("../source")).await;
    ok(&system.run(&["migrate"]).await);
    let _listener = system.listener().await;
    let auth = [
        ("ROWCAST_AUTH__HS256_SECRET", SECRET.to_owned()),
        ("ROWCAST_EDGE__LISTEN", "127.0.0.1:0".to_owned()),
    ];
    let (_edge, listen) = system.service("rowcast-edge", EDGE, "listen", &auth).await;
    system.carries(&listen, "1").await;
}

#[tokio::test]
async fn who_has_an_edges_password_can_read_and_neither_publish_nor_write() {
    let redis = Redis::start(RedisOptions::default()).await.expect("Redis starts");
    make_documented_users(&redis).await;
    let user = |user: &str| {
        let client = redis::Client::open(redis.url().replace("redis://", &format!("redis://{user}@")));
        async move { client.expect("a URL").get_multiplexed_async_connection().await.expect("a connection") }
    };
    let (mut edge, listener) = (user(EDGE).await, user(LISTENER).await);
    let key = "rowcast:default:{m1}:log";
    let forging: &[&[&str]] = &[
        &["PUBLISH", "rowcast:default:{m1}:events", "x"],
        &["PUBLISH", "rowcast:default:heartbeat", "{}"],
        &["XADD", key, "1-0", "r", "x"],
        &["HSET", "rowcast:default:state", "m:revocations", "[]"],
        &["DEL", key],
        &["PEXPIRE", key, "1"],
        &["SCRIPT", "LOAD", "return 1"],
        &["EVAL", "return redis.call('DEL', KEYS[1])", "1", key],
        &["EVALSHA", "0000000000000000000000000000000000000000", "0"],
        &["SET", key, "x"],
    ];
    let beyond: &[&[&str]] = &[
        &["HGET", "another:application", "x"],
        &["FLUSHALL"],
        &["CONFIG", "GET", "*"],
        &["KEYS", "*"],
        &["ACL", "LIST"],
        &["REPLICAOF", "NO", "ONE"],
        &["MONITOR"],
    ];
    for (connection, commands) in [(&edge, forging), (&edge, beyond), (&listener, beyond)] {
        for words in commands {
            let mut connection = connection.clone();
            let asked =
                redis::cmd(words[0]).arg(&words[1..]).query_async::<redis::Value>(&mut connection).await;
            let error = asked.expect_err(words[0]);
            assert_eq!(error.code(), Some("NOPERM"), "{words:?}: {error}");
        }
    }
    redis::cmd("HGET")
        .arg("rowcast:default:state")
        .arg("h")
        .query_async::<redis::Value>(&mut edge)
        .await
        .expect("reads");
}

#[tokio::test]
async fn a_listener_that_lacks_a_right_says_which() {
    let system = Secured::start().await;
    ok(&system.run(&["migrate"]).await);
    let (_listener, admin) = system.service("rowcast-listener", EDGE, "admin", &system.database).await;
    let log = system.folder.path().join("rowcast-listener.log");
    wait_for("the refusal", PATIENCE, || async {
        let said = std::fs::read_to_string(&log)?;
        anyhow::ensure!(said.contains("NOPERM") && said.contains("'script|load' command"), "{said}");
        anyhow::ensure!(said.contains("docs/transport-security.md"), "{said}");
        anyhow::ensure!(!said.contains("hush"), "a secret is in the log");
        let (_, metrics) = http_get(&admin, "/metrics").await?;
        let counted = metrics.lines().any(|line| {
            line.starts_with("rowcast_listener_redis_refusals_total")
                && line.contains("NOPERM")
                && !line.ends_with(" 0")
        });
        anyhow::ensure!(counted, "it is not counted");
        anyhow::Ok(())
    })
    .await
    .expect("it says so");
}
