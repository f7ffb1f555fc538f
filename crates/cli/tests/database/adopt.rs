//! What `adopt` promises: it finds the triggers that notify, what it prints can be run, and it changes nothing itself.

use rowcast_sandbox::{Connection, Folder};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Place, json};

/// Triggers as applications grow them: one function for any table, one with a payload of its own that looks elsewhere,
/// one that is told its channel; and what must not be taken for one.
const SCHEMA: &str = r#"
CREATE TABLE "Merchant" (id text PRIMARY KEY, name text);
CREATE TABLE "Service" (id int PRIMARY KEY, name text);
CREATE TABLE "Booking" (id int PRIMARY KEY, "merchantId" text REFERENCES "Merchant", "bookingNumber" text, status text,
    "serviceId" int REFERENCES "Service");
CREATE TABLE invoice (id bigint PRIMARY KEY, seller text REFERENCES "Merchant", total numeric, secret text);
CREATE TABLE log (line text);
CREATE TABLE untouched (id int PRIMARY KEY);

CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_NAME || '_' || TG_OP, json_build_object(
        'operation', TG_OP, 'table', TG_TABLE_NAME,
        'id', CASE WHEN TG_OP = 'DELETE' THEN OLD.id ELSE NEW.id END,
        'data', CASE WHEN TG_OP = 'DELETE' THEN row_to_json(OLD) ELSE row_to_json(NEW) END,
        'timestamp', now())::text);
    RETURN NEW;
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'could not notify: %', SQLERRM;
    RETURN NEW;
END $$;
CREATE TRIGGER booking_announced AFTER INSERT OR UPDATE OR DELETE ON "Booking"
    FOR EACH ROW EXECUTE FUNCTION announce_change();

CREATE FUNCTION announce_invoice() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    payload json;
BEGIN
    -- The secret stays here.
    payload := json_build_object('type', 'INVOICE_CREATED', 'merchantId', NEW.seller, 'id', NEW.id, 'total', NEW.total);
    IF length(payload::text) < 8000 THEN
        PERFORM pg_notify(TG_ARGV[0], payload::text);
    ELSE
        PERFORM pg_notify(TG_ARGV[0], json_build_object('id', NEW.id, 'error', 'payload_too_large')::text);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER "Tell Sales" AFTER INSERT ON invoice FOR EACH ROW WHEN (NEW.total > 0) EXECUTE FUNCTION announce_invoice('sales');

CREATE FUNCTION send(text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('lines', $1); END $$;
CREATE FUNCTION announce_line() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM send(NEW.line); RETURN NEW; END $$;
CREATE TRIGGER line_told AFTER INSERT ON log FOR EACH ROW EXECUTE FUNCTION announce_line();

-- The application calls these itself.
CREATE FUNCTION ring_bell() RETURNS void LANGUAGE sql AS $$ SELECT pg_notify('bell', 'x') $$;
CREATE FUNCTION tell_one(who text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_notify('for_' || who, 'x'); END $$;

CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- pg_notify('untouched', '') was here once.
    RETURN NEW;
END $$;
CREATE TRIGGER stamped BEFORE INSERT ON untouched FOR EACH ROW EXECUTE FUNCTION stamp();
INSERT INTO "Merchant" VALUES ('m1', 'One');
"#;

async fn place(name: &str) -> (Place, Connection) {
    let place = Place::new(name).await;
    let sql = place.sql().await;
    sql.batch_execute(SCHEMA).await.expect("an application");
    (place, sql)
}

/// What stands between BEGIN and COMMIT in a report.
fn transactions(report: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in report.lines().map(str::trim) {
        if line == "BEGIN;" {
            open = Some(String::new());
        }
        if let Some(block) = &mut open {
            block.push_str(line);
            block.push('\n');
        }
        if line == "COMMIT;" {
            blocks.extend(open.take());
        }
    }
    blocks
}

async fn outbox(sql: &Connection) -> Vec<(String, String, Value)> {
    let rows = sql
        .query("SELECT room, type, data::text FROM rowcast.outbox ORDER BY id", &[])
        .await
        .expect("a query");
    let row =
        |row: &tokio_postgres::Row| (row.get(0), row.get(1), serde_json::from_str(row.get(2)).expect("JSON"));
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn triggers_are_found_with_channels_tables_and_what_would_replace_them() {
    let (place, sql) = place("adopt").await;
    // Rowcast's schema is not there yet.
    let all = json(&place.ok(&["adopt", "--json"]).await);
    let functions = json!([
        {"function": "ring_bell()", "channels": ["bell"], "unknown": []},
        {"function": "tell_one(text)", "channels": [], "unknown": ["channel 'for_' || who"]},
    ]);
    assert_eq!(all["functions"], functions);
    let found = &all["tables"];
    let tables: Vec<&str> =
        found.as_array().expect("a list").iter().filter_map(|one| one["table"].as_str()).collect();
    assert_eq!(tables, ["public.\"Booking\"", "public.invoice", "public.log"]);
    let channels = |table: usize| found[table]["triggers"][0]["notices"][0]["channels"].clone();
    assert_eq!(
        (channels(0), channels(1), channels(2)),
        (json!(["Booking_INSERT"]), json!(["sales"]), json!(["lines"]))
    );
    assert_eq!(found[0]["merchant"]["column"], "merchantId");
    assert_eq!(found[1]["merchant"]["column"], "seller");
    assert_eq!(found[2]["obstacle"], "it has no primary key");

    let text = place.ok(&["adopt"]).await;
    for expected in [
        "Booking_INSERT becomes Booking.created",
        "Booking_DELETE becomes Booking.deleted",
        "rowcast watch 'public.\"Booking\"' merchantId --dry-run",
        "INVOICE_CREATED becomes INVOICE.created",
        "rowcast watch public.invoice seller --type INVOICE --columns id,total --operations insert",
        "it fires under a condition, which watching does not have",
        "WHEN ((new.total > (0)::numeric))",
        "It can not be watched: it has no primary key",
        "channels = [\"Booking_DELETE\", \"Booking_INSERT\", \"Booking_UPDATE\", \"bell\", \"lines\", \"sales\"]",
        "rowcast.publish takes their place:\n\n  ring_bell(): bell",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("untouched"), "{text}");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal";
    assert_eq!(
        sql.query_one(triggers, &[]).await.expect("a query").get::<_, i64>(0),
        4,
        "nothing was changed"
    );
}

#[tokio::test]
async fn what_is_printed_replaces_the_triggers() {
    let (place, sql) = place("adopt_run").await;
    place.ok(&["migrate"]).await;
    let report = place.ok(&["adopt"]).await;
    let blocks = transactions(&report);
    assert_eq!(blocks.len(), 2, "{report}");
    for block in &blocks {
        sql.batch_execute(block).await.unwrap_or_else(|error| panic!("{error:?}\n{block}"));
    }
    sql.batch_execute(
        "INSERT INTO \"Booking\" VALUES (1, 'm1', 'B-1', 'new', NULL);
         INSERT INTO invoice VALUES (7, 'm1', 12.5, 'hush');
         UPDATE invoice SET total = 1",
    )
    .await
    .expect("the application works");
    let booking =
        json!({"id": 1, "merchantId": "m1", "bookingNumber": "B-1", "status": "new", "serviceId": null});
    let expected = [
        ("m1".to_owned(), "Booking.created".to_owned(), booking),
        ("m1".to_owned(), "INVOICE.created".to_owned(), json!({"id": 7, "seller": "m1", "total": 12.5})),
    ];
    assert_eq!(outbox(&sql).await, expected);
    let left = place.ok(&["adopt"]).await;
    assert!(!left.contains("Booking") && left.contains("public.log"), "{left}");
}

#[tokio::test]
async fn the_printed_commands_are_a_shells_and_a_watched_table_says_so() {
    let (place, _sql) = place("adopt_shell").await;
    place.ok(&["migrate"]).await;
    let report = place.ok(&["adopt"]).await;
    let commands: Vec<&str> = report
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("rowcast watch") && !line.ends_with("--dry-run"))
        .collect();
    assert_eq!(commands.len(), 2, "{report}");
    // By its name alone, as a person runs it.
    let bin = Folder::new("bin").expect("a folder");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rowcast"), bin.path().join("rowcast")).expect("a link");
    for command in commands {
        let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").expect("a PATH"));
        let output = Command::new("sh")
            .args(["-c", command])
            .env("PATH", path)
            .env("ROWCAST_DATABASE__URL", &place.url)
            .output()
            .await
            .expect("a shell");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let again = place.ok(&["adopt"]).await;
    assert!(
        again.contains("It is watched already") && again.contains("DROP TRIGGER \"Tell Sales\""),
        "{again}"
    );
    assert!(!again.contains("rowcast.watch("), "{again}");
}

#[tokio::test]
async fn a_database_without_such_triggers_is_told_so() {
    let place = Place::new("adopt_none").await;
    assert!(place.ok(&["adopt"]).await.contains("no trigger of a table here calls pg_notify"));
    assert_eq!(json(&place.ok(&["adopt", "--json"]).await), json!({"tables": [], "functions": []}));
}
