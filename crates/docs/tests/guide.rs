//! The guide can be carried out as it stands: its blocks of SQL and shell are run in their order, on real servers, and what
//! it says comes of them comes of them.
//!
//! - `sql` runs as the application's role, `sql admin` as the administrator; `sh` is one shell's from beginning to end.
//! - `sh setup` names the variables that the reader sets; the test gives them values of its own.
//! - `text` is what the block before it printed; `…` stands for anything.
//!
//! It needs the workspace's binaries: `cargo build --workspace --bins`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use rowcast_sandbox::{
    Folder, Launch, Postgres, PostgresOptions, Redis, RedisOptions, Signal, bin, find_postgres, free_port,
};

const GUIDE: &str = include_str!("../../../docs/adding-to-your-application.md");
/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Debug)]
struct Block {
    info: String,
    text: String,
    line: usize,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in GUIDE.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, Some(info)) => {
                open = Some(Block { info: info.to_owned(), text: String::new(), line: index + 1 });
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

/// The names that a block of `export` sets.
fn exported(setup: &Block) -> Vec<&str> {
    let lines = setup.text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.flat_map(|line| line.strip_prefix("export ").expect("an export").split_whitespace());
    words.map(|word| word.split_once('=').expect("a value").0).collect()
}

/// One script of all blocks. What each prints goes to a file of its own.
fn script(blocks: &[Block]) -> String {
    let mut script =
        "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\ntrap 'exit 143' TERM\n".to_owned();
    for block in blocks {
        let sql = |url: &str| {
            format!("psql \"${url}\" -X -q -v ON_ERROR_STOP=1 <<'END_OF_SQL'\n{}END_OF_SQL\n", block.text)
        };
        let commands = match block.info.as_str() {
            "sh" => block.text.clone(),
            "sql" => sql("SHOP_URL"),
            "sql admin" => sql("ADMIN_URL"),
            _ => continue,
        };
        // Writing to a String cannot fail.
        _ = writeln!(script, "echo 'line {0}' >&2\n{{\n{commands}}} > out-{0} 2>&1", block.line);
    }
    script
}

/// Whether a line is as it was foretold; spaces count as one.
fn fits(expected: &str, line: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (plain(expected), plain(line));
    let parts: Vec<&str> = expected.split('…').map(str::trim).collect();
    let [first, middle @ .., last] = parts.as_slice() else { return line == expected };
    let Some(mut rest) = line.strip_prefix(first).and_then(|rest| rest.strip_suffix(last)) else {
        return false;
    };
    middle.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Compares line by line; a line of `…` alone stands for any number of lines.
fn compare(block: &Block, printed: &str) {
    let mut lines = printed.lines().filter(|line| !line.trim().is_empty()).peekable();
    let mut expected = block.text.lines().peekable();
    let fail = |said: &str| panic!("line {}: {said}\nit printed:\n{printed}", block.line);
    while let Some(wanted) = expected.next() {
        if wanted.trim() == "…" {
            let next = expected.peek().copied().unwrap_or_default();
            while lines.next_if(|line| !fits(next, line)).is_some() {}
            continue;
        }
        match lines.next() {
            Some(line) if fits(wanted, line) => {}
            other => fail(&format!("{wanted:?} was foretold, and {other:?} came")),
        }
    }
    if let Some(line) = lines.next() {
        fail(&format!("{line:?} was not foretold"));
    }
}

fn path_with(folder: &Path) -> String {
    let rowcast = bin("rowcast").expect("run `cargo build --workspace --bins` first");
    bin("rowcast-listener").and(bin("rowcast-edge")).expect("run `cargo build --workspace --bins` first");
    // As a reader has them on the path, and nothing else of that folder.
    for name in ["rowcast", "rowcast-listener", "rowcast-edge"] {
        std::os::unix::fs::symlink(rowcast.with_file_name(name), folder.join(name)).expect("a link");
    }
    let postgres = find_postgres(None).expect("PostgreSQL");
    format!("{}:{}:{}", folder.display(), postgres.display(), std::env::var("PATH").expect("a PATH"))
}

#[tokio::test]
async fn the_guide_to_adding_rowcast_can_be_carried_out_as_it_stands() {
    let blocks = blocks();
    let postgres = Postgres::start(PostgresOptions::default()).await.expect("PostgreSQL starts");
    let admin = postgres.connect("postgres").await.expect("it answers");
    admin.batch_execute("CREATE ROLE shop LOGIN").await.expect("a role");
    admin.batch_execute("CREATE DATABASE shop OWNER shop").await.expect("a database");
    let redis = Redis::start(RedisOptions::default()).await.expect("Redis starts");
    let local = || format!("127.0.0.1:{}", free_port().expect("a free port"));
    let values = [
        ("ADMIN_URL", postgres.url_of("shop")),
        ("SHOP_URL", postgres.url_for("shop", "shop")),
        ("LISTENER_URL", postgres.url_for("shop_listener", "shop")),
        ("ROWCAST_REDIS__URL", redis.url()),
        ("ROWCAST_AUTH__HS256_SECRET", "a-secret-of-32-bytes-or-more-of-the-test".to_owned()),
        ("EDGE", local()),
        ("EDGE_ADMIN", local()),
        ("LISTENER_ADMIN", local()),
    ];
    let setup = blocks.iter().find(|block| block.info == "sh setup").expect("a setup");
    assert_eq!(exported(setup), values.each_ref().map(|(name, _)| *name));

    let folder = Folder::new("guide").expect("a folder");
    let programs = Folder::new("programs").expect("a folder");
    std::fs::write(folder.path().join("guide.sh"), script(&blocks)).expect("a script");
    let log = folder.path().join("log");
    // Asked to end, it ends what it has started.
    let mut launch = Launch::new("the guide", "bash", &log)
        .arg("guide.sh")
        .folder(folder.path())
        .farewell(Signal::TERM)
        .env("PATH", path_with(programs.path()));
    for (name, value) in &values {
        launch = launch.env(name, value);
    }
    let shell = launch.spawn().expect("bash runs");
    let ended = shell.wait_exit(PATIENCE).await;
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    if !ended.as_ref().is_ok_and(|status| status.success()) {
        let begun = read("log");
        let last = begun
            .lines()
            .rev()
            .find(|line| line.starts_with("line "))
            .unwrap_or("line 0")
            .replace("line ", "");
        panic!(
            "the block at line {last} failed ({ended:?}):\n{}\nlog:\n{begun}\nlistener:\n{}\nedge:\n{}",
            read(&format!("out-{last}")),
            read("listener.log"),
            read("edge.log")
        );
    }
    let foretold = blocks.windows(2).filter(|pair| pair[1].info == "text");
    assert!(foretold.clone().count() >= 6);
    for pair in foretold {
        compare(&pair[1], &read(&format!("out-{}", pair[0].line)));
    }
}

#[test]
fn what_is_foretold_is_compared() {
    assert!(fits("… ms m1 booking.created {…}", "12:00 1.2 ms m1  booking.created {\"id\":1}"));
    assert!(fits("a…c", "abc") && fits("a b", " a   b"));
    assert!(!fits("a…c", "abd") && !fits("ab", "abc") && !fits("…x…y", "ay"));
}
