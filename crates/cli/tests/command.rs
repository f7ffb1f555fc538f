//! The command itself, against a real PostgreSQL. What `tail` does on a good connection is tested with its client and
//! with the services.

mod support;

use std::process::Stdio;

use rowcast_sandbox::Connection;
use serde_json::{Value, json};
use support::{Place, json, rowcast, text};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// Room and type of what lies in the outbox.
async fn outbox(sql: &Connection) -> Vec<(String, String)> {
    let rows = sql.query("SELECT room, type FROM rowcast.outbox ORDER BY id", &[]).await.expect("a query");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_table_is_watched_listed_and_unwatched_and_events_are_published() {
    let place = Place::new("cli_round").await;
    assert!(place.ok(&["migrate"]).await.contains("applied V1"));
    assert!(place.ok(&["migrate"]).await.contains("nothing to do"));
    let sql = place.sql().await;
    let table = "CREATE TABLE \"Booking\" (id int PRIMARY KEY, \"merchantId\" text, status text, note text)";
    sql.batch_execute(table).await.expect("a table");
    assert!(place.ok(&["watches"]).await.contains("no table is watched"));

    let watch =
        "watch public.\"Booking\" merchantId --type booking --columns status --operations insert,delete";
    place.ok(&watch.split(' ').collect::<Vec<_>>()).await;
    let watched = json(&place.ok(&["watches", "--json"]).await);
    let watched = &watched["watches"];
    assert_eq!(watched.as_array().map(Vec::len), Some(1), "{watched}");
    assert_eq!(watched[0]["table"], "\"Booking\"");
    assert_eq!(watched[0]["merchant_column"], "merchantId");
    assert_eq!(watched[0]["type"], "booking");
    assert_eq!(watched[0]["operations"], json!(["insert", "delete"]));
    let shown = place.ok(&["watches"]).await;
    assert!(shown.starts_with("TABLE") && shown.contains("insert,delete"), "{shown}");

    sql.batch_execute("INSERT INTO \"Booking\" VALUES (1, 'm1', 'new', 'x')").await.expect("an insert");
    place.ok(&["publish", "m2", "report.ready", r#"{"id": 7}"#]).await;
    place.ok(&["unwatch", "\"Booking\""]).await;
    sql.batch_execute("INSERT INTO \"Booking\" VALUES (2, 'm1', 'new', 'x')").await.expect("an insert");
    let expected = [("m1", "booking.created"), ("m2", "report.ready")];
    assert_eq!(outbox(&sql).await, expected.map(|(room, type_)| (room.to_owned(), type_.to_owned())));
    assert!(place.ok(&["unwatch", "\"Booking\""]).await.contains("was not watched"));
}

#[tokio::test]
async fn several_migrations_at_once_are_safe() {
    let place = Place::new("cli_migrate").await;
    let runs = futures_util::future::join_all((0..4).map(|_| place.ok(&["migrate", "--json"]))).await;
    let reports: Vec<Value> = runs.iter().map(|run| json(run)).collect();
    assert!(reports.iter().all(|report| report["version"] == reports[0]["version"]), "{reports:?}");
    let worked = reports.iter().filter(|report| report["applied"] != json!([])).count();
    assert_eq!(worked, 1, "{reports:?}");
}

#[tokio::test]
async fn data_is_published_from_standard_input_as_it_came() {
    let place = Place::new("cli_stdin").await;
    place.ok(&["migrate"]).await;
    let mut command = rowcast(&["publish", "m1", "report.ready", "-", "--database-url", &place.url]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the command runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"{\"z\": 1.10,\n \"a\": 2}\n").await.expect("it reads");
    drop(stdin);
    assert!(child.wait().await.expect("it ends").success());
    let row =
        place.sql().await.query_one("SELECT data::text FROM rowcast.outbox", &[]).await.expect("one row");
    assert_eq!(row.get::<_, String>(0).trim_end(), "{\"z\": 1.10,\n \"a\": 2}");
}

#[tokio::test]
async fn errors_say_what_went_wrong_and_what_to_do() {
    let place = Place::new("cli_errors").await;
    for command in [&["watches"][..], &["watch", "t", "m"], &["publish", "m1", "a.b", "1"]] {
        let error = place.fails(command).await;
        assert!(error.contains("rowcast migrate"), "{command:?}: {error}");
    }
    place.ok(&["migrate"]).await;
    let table = "CREATE TABLE \"Booking\" (id int PRIMARY KEY, \"merchantId\" text)";
    place.sql().await.batch_execute(table).await.expect("a table");

    let error = place.fails(&["watch", "public.Booking", "merchantId"]).await;
    assert!(error.contains("did you mean '\"public\".\"Booking\"'"), "{error}");
    let error = place.fails(&["watch", "\"Booking\"", "merchant"]).await;
    assert!(error.contains("merchantId") && error.contains("cli_errors"), "{error}");
    let error = place.fails(&["publish", "m1", "a.b", "{id: 7}"]).await;
    assert!(
        error.contains("not JSON") && error.contains("line 1 column 2") && error.contains('^'),
        "{error}"
    );
    let error = place.fails(&["publish", "m1", "connect", "{}"]).await;
    assert!(error.contains("connect"), "{error}");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let free = rowcast_sandbox::free_port().expect("a free port");
    let place = Place { url: format!("postgres://app:hush@127.0.0.1:{free}/shop") };
    let error = place.fails(&["watches"]).await;
    assert!(error.contains(&format!("127.0.0.1:{free}")) && error.contains("\"shop\""), "{error}");
    assert!(error.contains("is PostgreSQL running there") && !error.contains("hush"), "{error}");

    let output = rowcast(&["watches"]).output().await.expect("the command runs");
    assert!(text(&output.stderr).contains("--database-url"));
    let place = Place { url: "mysql://app:hush@host/shop".to_owned() };
    let error = place.fails(&["migrate"]).await;
    assert!(error.contains("postgres://user:password@host") && !error.contains("hush"), "{error}");

    let elsewhere = Place::new("cli_known").await;
    let place = Place { url: elsewhere.url.replace("cli_known", "cli_unknown") };
    let error = place.fails(&["watches"]).await;
    assert!(error.contains("cli_unknown") && error.contains("create the database"), "{error}");
}

#[tokio::test]
async fn token_prints_the_token_alone() {
    let output = rowcast(&["token", "--merchant", "m1"])
        .env("ROWCAST_AUTH__HS256_SECRET", "a secret of at least 32 bytes, hush")
        .output()
        .await
        .expect("the command runs");
    let token = text(&output.stdout);
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    assert!(output.stderr.is_empty() && token.lines().count() == 1);
    let output = rowcast(&["token", "--merchant", "m1"]).output().await.expect("the command runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--secret"));
}

#[tokio::test]
async fn tail_goes_on_without_a_server_and_ends_well_on_interruption() {
    let free = rowcast_sandbox::free_port().expect("a free port");
    let url = format!("http://127.0.0.1:{free}");
    let mut command = rowcast(&["tail", "--url", &url, "--token", "a.b.c", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let line = json(&lines.next_line().await.expect("a read").expect("a line"));
        assert_eq!(line["op"], "disconnected");
        assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("cannot connect")), "{line}");
    }
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[tokio::test]
async fn tail_that_was_promised_events_fails_when_they_did_not_come() {
    let free = rowcast_sandbox::free_port().expect("a free port");
    let url = format!("http://127.0.0.1:{free}");
    let args = ["tail", "--url", &url, "--token", "a.b.c", "--count", "1", "--for", "50ms"];
    let output = rowcast(&args).output().await.expect("the command runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("0 events"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn wrong_arguments_end_with_status_two() {
    for args in [&["dance"][..], &["watch", "t"], &["tail", "--token", "t", "--merchant", "m1"]] {
        let output = rowcast(args).output().await.expect("the command runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
