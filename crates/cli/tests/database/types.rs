//! What `types` promises: the real compiler takes what it writes, and takes real events for what it says they are.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rowcast_sandbox::{Folder, find_typescript, typescript_unavailable};
use serde_json::{Value, json};

use crate::support::Place;

/// Every kind of type that `row_to_json` tells apart.
const SCHEMA: &str = r#"
CREATE TYPE mood AS ENUM ('sad', 'it''s "fine"');
CREATE TYPE place AS (street text, "no" int, moods mood[]);
CREATE TYPE level AS ENUM ('low', 'high');
CREATE FUNCTION level_as_json(level) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('level', $1::text) $$;
CREATE CAST (level AS json) WITH FUNCTION level_as_json(level);
CREATE DOMAIN amount AS numeric(10, 2) NOT NULL;
CREATE DOMAIN tags AS text[];
CREATE TABLE "Booking Item" (
    id bigint, "0 part" smallint, "merchantId" text, PRIMARY KEY (id, "0 part"),
    small smallint NOT NULL, big bigint, exact numeric, approximate double precision, price amount DEFAULT 1,
    yes boolean, day date, moment timestamptz NOT NULL, local timestamp, span interval, code uuid, bytes bytea,
    oid_ oid, money_ money, span_ int4range, spot point, address inet, letter "char", bits varbit, lexemes tsvector,
    doc json, docb jsonb NOT NULL, mood mood, moods mood[], place place, places place[], tags tags,
    numbers int[] NOT NULL, grid int[][], docs jsonb[], level level DEFAULT 'low', doubled bigint GENERATED ALWAYS AS (id * 2) STORED
);
CREATE TABLE plain (id int PRIMARY KEY, shop text, note text);
CREATE FUNCTION plain_payload(p plain) RETURNS json LANGUAGE sql SET search_path = public, pg_temp
    AS $$ SELECT json_build_object('anything', p.note) $$;
SELECT rowcast.watch('"Booking Item"', 'merchantId', type => 'booking-item');
SELECT rowcast.watch('plain', 'shop', payload => 'plain_payload', operations => '{insert,delete}');
"#;

const ROWS: &str = r#"
INSERT INTO "Booking Item" VALUES
    (1, 1, 'm1', 3, 9007199254740991, 1.50, 2.5e10, 7, true, '2026-01-02', '2026-01-02 03:04:05.678901+02', '2026-01-02 03:04:05',
     '1 day', gen_random_uuid(), '\x00ff', 7, 3, '[1,5)', '(1,2)', '10.0.0.1', 'x', '101', 'a b',
     '{"a": [1]}', '[null]', 'it''s "fine"', '{sad,NULL}', ROW('a "street"', 7, '{sad}'), ARRAY[ROW(NULL, NULL, NULL)::place, NULL],
     '{a,NULL}', '{1,NULL}', '{{1,2},{3,NULL}}', ARRAY['{"a": 1}'::jsonb, NULL]);
INSERT INTO "Booking Item" (id, "0 part", "merchantId", small, moment, docb, numbers)
    VALUES (2, 1, 'm1', 1, 'infinity', '1', '{}');
UPDATE "Booking Item" SET small = 4, mood = 'sad', doc = 'null';
UPDATE "Booking Item" SET "merchantId" = 'm2' WHERE id = 1;
UPDATE "Booking Item" SET id = 7 WHERE id = 2;
UPDATE "Booking Item" SET doc = to_json(repeat('x', 300000)) WHERE id = 7;
DELETE FROM "Booking Item";
INSERT INTO plain VALUES (1, 'm1', 'hello');
DELETE FROM plain;
"#;

/// Uses that must compile, and some that must not: an `@ts-expect-error` with nothing wrong below it is an error.
const USES: &str = r#"
export function use(event: RowcastEvent): void {
  if (event.type === "booking-item.updated") {
    const which: keyof BookingItemRow | undefined = event.changed[0];
    void which;
    if (event.truncated) {
      const key: { id: number; "0 part": number } = event.data;
      // @ts-expect-error: the key alone is there
      event.data.small;
      return void key;
    }
    const sure: number = event.data.small;
    const mood: "sad" | "it's \"fine\"" | null = event.data.mood;
    const grid: number | null | undefined = event.data.grid?.[0]?.[0];
    const street: string | null | undefined = event.data.place?.street;
    const room: string = event.data.merchantId;
    // @ts-expect-error: it may be null
    const big: number = event.data.big;
    // @ts-expect-error: there is no such column
    event.data.smal;
    return void [sure, mood, grid, street, room, big];
  }
  if (event.type === "booking-item.created") {
    // @ts-expect-error: nothing changed
    event.changed[0];
  }
  if (event.type === "plain.created" && !event.truncated) {
    // @ts-expect-error: a payload function's data is not known
    event.data.anything;
  }
  if (event.type === "plain.deleted" && !event.truncated) {
    const note: string | null = event.data.note;
    void note;
  }
}
// @ts-expect-error: inserts and deletes are watched, updates are not
export const updated: RowcastEvent["type"] = "plain.updated";
"#;

/// The compiler, or nothing where `make setup` could not bring it.
fn compiler() -> Option<PathBuf> {
    match (find_typescript(), typescript_unavailable()) {
        (Some(path), _) => Some(path),
        (None, Some(reason)) => {
            eprintln!("SKIPPED: there is no TypeScript here ({reason})");
            None
        }
        (None, None) => panic!("there is no TypeScript in target/tools: run `make setup`"),
    }
}

/// Says what the compiler says about the files of a folder.
fn compile(compiler: &Path, folder: &Path) -> Result<(), String> {
    let options = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];
    let output = Command::new("node")
        .arg(compiler)
        .args(options)
        .args(["--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "use.ts"])
        .current_dir(folder)
        .output()
        .expect("node runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned()) }
}

/// The events in the outbox, as an edge would put them into frames.
async fn frames(place: &Place) -> Vec<Value> {
    let query = "SELECT room, type, data::text, changed, truncated, id::text FROM rowcast.outbox ORDER BY id";
    let rows = place.sql().await.query(query, &[]).await.expect("a query");
    let frame = |row: &tokio_postgres::Row| {
        let mut frame = json!({
            "op": "event", "room": row.get::<_, String>(0), "cursor": "1.a:1", "id": row.get::<_, String>(5),
            "type": row.get::<_, String>(1), "at": "2026-01-02T03:04:05.678901Z",
            "data": serde_json::from_str::<Value>(row.get(2)).expect("JSON"),
        });
        if let Some(changed) = row.get::<_, Option<Vec<String>>>(3) {
            frame["changed"] = json!(changed);
        }
        if row.get(4) {
            frame["truncated"] = json!(true);
        }
        frame
    };
    rows.iter().map(frame).collect()
}

#[tokio::test]
async fn the_compiler_takes_real_events_for_what_the_types_say() {
    let Some(compiler) = compiler() else { return };
    let place = Place::new("types").await;
    place.ok(&["migrate"]).await;
    place.sql().await.batch_execute(SCHEMA).await.expect("tables");
    place.sql().await.batch_execute(ROWS).await.expect("rows");
    let folder = Folder::new("types").expect("a folder");
    let out = folder.path().join("events.ts");
    let args = ["types", "--out", out.to_str().expect("UTF-8")];
    place.ok(&args).await;
    let written = std::fs::metadata(&out).expect("it was written").modified().expect("a time");
    assert!(String::from_utf8_lossy(&place.run(&args).await.stderr).contains("is up to date"));
    assert_eq!(std::fs::metadata(&out).expect("it is there").modified().expect("a time"), written);
    assert_eq!(place.ok(&["types"]).await, std::fs::read_to_string(&out).expect("it can be read"));

    let frames = frames(&place).await;
    let count = |suffix: &str| {
        frames.iter().filter(|f| f["type"].as_str().expect("a type").ends_with(suffix)).count()
    };
    assert_eq!((count(".created"), count(".updated"), count(".deleted")), (5, 3, 5), "{frames:#?}");
    assert!(frames.iter().any(|frame| frame["truncated"] == true), "{frames:#?}");
    let import = "import type { RowcastEvent, BookingItemRow } from \"./events\";\n";
    let real: String = frames.iter().map(|f| format!("use({f});\n")).collect();
    std::fs::write(folder.path().join("use.ts"), format!("{import}{USES}{real}")).expect("a file");
    compile(&compiler, folder.path()).unwrap_or_else(|said| {
        panic!("{said}\n{}\n{real}", std::fs::read_to_string(&out).unwrap_or_default())
    });

    // The compiler would have seen an event that is not as the types say.
    let wrong = real.replacen("\"small\":3", "\"small\":\"3\"", 1);
    assert_ne!(wrong, real);
    std::fs::write(folder.path().join("use.ts"), format!("{import}{USES}{wrong}")).expect("a file");
    assert!(compile(&compiler, folder.path()).is_err());
}

#[tokio::test]
async fn types_of_no_table_and_of_a_table_that_has_lost_a_column_are_written_too() {
    let place = Place::new("types_few").await;
    assert!(place.fails(&["types"]).await.contains("rowcast migrate"));
    place.ok(&["migrate"]).await;
    let none = place.ok(&["types"]).await;
    assert!(none.contains("export interface Events {\n}"), "{none}");
    let table = "CREATE TABLE t (id int PRIMARY KEY, m text, gone int); SELECT rowcast.watch('t', 'm');
        ALTER TABLE t DROP gone";
    place.sql().await.batch_execute(table).await.expect("a table");
    let output = place.run(&["types"]).await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("t: there is no column gone any more"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("export interface TRow") && !text.contains("gone"), "{text}");
}
