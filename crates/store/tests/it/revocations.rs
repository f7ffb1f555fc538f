//! Revocations: what is kept, what edges are told of it, and who may say so.

use anyhow::{Context, Result};
use rowcast_protocol::{Micros, RevocationKind, Revocations, Sheet};
use rowcast_sandbox::Connection;
use rowcast_store::{Before, Cleaner, NewRevocation, SessionOptions, StoreError, Watches};

use crate::database::{Database, words};

fn new(kind: RevocationKind, value: &str) -> NewRevocation {
    NewRevocation { kind, value: value.to_owned(), issued_before: None, reason: None, keep_seconds: None }
}

fn at(kind: RevocationKind, value: &str, seconds: i64) -> NewRevocation {
    NewRevocation { issued_before: Some(Before::Time(Micros::from_seconds(seconds))), ..new(kind, value) }
}

struct Place {
    db: Database,
    watches: Watches,
    cleaner: Cleaner,
}

impl Place {
    async fn new(name: &str) -> Result<Self> {
        let db = Database::migrated(name).await?;
        let watches = Watches::connect(&db.url).await?;
        let cleaner = Cleaner::connect(&db.url, &SessionOptions::new("test")).await?;
        Ok(Self { db, watches, cleaner })
    }

    async fn sheet(&self) -> Result<(u64, Revocations)> {
        let mirror = self.cleaner.load_sheet(Sheet::Revocations, None).await?.context("not known yet")?;
        Ok((mirror.version, Revocations::parse(&mirror.content)?))
    }

    /// Whether a token of a subject is revoked that was issued so many seconds after now.
    async fn revokes(&self, subject: &str, seconds: i64) -> Result<bool> {
        let now = self.db.number("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint").await?;
        let issued = Micros::from_seconds(now + seconds);
        Ok(self.sheet().await?.1.revokes(Some(subject), None, Some(issued), []).is_some())
    }
}

#[tokio::test]
async fn what_is_revoked_is_on_the_sheet_and_each_change_raises_its_version_once() -> Result<()> {
    use RevocationKind::{Room, Subject, TokenId};
    let place = Place::new("revocations").await?;
    assert_eq!(place.sheet().await?, (1, Revocations::default()));
    let odd = "Ana \"x\" \\ ü \u{1f511}\n";
    let (made, version) = place.watches.revoke(&at(Subject, odd, 1_700_000_000)).await?;
    assert_eq!((made.kind.as_str(), made.value.as_str(), version), ("subject", odd, 2));
    place.watches.revoke(&new(TokenId, "t1")).await?;
    place.watches.revoke(&at(Room, "m1", 1_700_000_000)).await?;
    let (version, sheet) = place.sheet().await?;
    assert_eq!((version, sheet.len()), (4, 3));
    let seconds = |seconds| Some(Micros::from_seconds(seconds));
    assert_eq!(sheet.revokes(Some(odd), None, seconds(1_699_999_999), []), Some(Subject));
    assert_eq!(sheet.revokes(Some(odd), None, seconds(1_700_000_000), []), None);
    assert_eq!(sheet.revokes(None, Some("t1"), seconds(9_000_000_000), []), Some(TokenId), "for good");
    assert!(place.cleaner.load_sheet(Sheet::Revocations, Some(4)).await?.is_none(), "known");
    assert!(place.cleaner.load_sheet(Sheet::Revocations, Some(5)).await?.is_some(), "from a later time");

    assert!(place.watches.lift_revocation("subject", odd).await?);
    assert!(!place.watches.lift_revocation("subject", odd).await?);
    assert_eq!(place.sheet().await?.0, 5, "lifting nothing changes nothing");
    assert_eq!(place.watches.revocations().await?.len(), 2);
    // Many at once are one change, and so is whatever else changes rows.
    place.db.run("INSERT INTO rowcast.revocations (kind, value, issued_before) SELECT 'subject', n, now() FROM generate_series(1, 1000) n").await?;
    let (version, sheet) = place.sheet().await?;
    assert_eq!((version, sheet.len()), (6, 1002));
    place.db.run("TRUNCATE rowcast.revocations").await?;
    assert_eq!(place.sheet().await?, (7, Revocations::default()));
    Ok(())
}

#[tokio::test]
async fn said_again_a_revocation_moves_forward_and_never_back() -> Result<()> {
    let place = Place::new("revocations_again").await?;
    let time = |made: &rowcast_store::Revocation| match made.issued_before {
        Before::Time(time) => time.0 / 1_000_000,
        Before::Always => i64::MAX,
    };
    let say = async |seconds: Option<i64>, keep: Option<i64>| {
        let before = seconds.map(|seconds| match seconds {
            i64::MAX => Before::Always,
            seconds => Before::Time(Micros::from_seconds(seconds)),
        });
        let one = new(RevocationKind::Subject, "ana");
        let said = NewRevocation { issued_before: before, keep_seconds: keep, ..one };
        anyhow::Ok(place.watches.revoke(&said).await?.0)
    };
    let first = say(Some(2_000), None).await?;
    assert_eq!(time(&first), 2_000);
    assert_eq!(time(&say(Some(1_000), Some(60)).await?), 2_000);
    let later = say(Some(3_000), Some(60)).await?;
    assert_eq!((later.id, time(&later)), (first.id, 3_000));
    assert!(later.expires_at >= first.expires_at, "a shorter time to keep shortens none");
    assert_eq!(time(&say(Some(i64::MAX), None).await?), i64::MAX);
    let forever = say(Some(5_000), Some(60)).await?;
    assert_eq!((time(&forever), forever.expires_at), (i64::MAX, None), "kept for good");
    Ok(())
}

#[tokio::test]
async fn a_token_of_the_very_second_or_of_a_clock_a_second_ahead_counts_as_issued_before() -> Result<()> {
    let place = Place::new("revocations_second").await?;
    place.watches.revoke(&new(RevocationKind::Subject, "ana")).await?;
    assert!(place.revokes("ana", 0).await?, "iat has whole seconds");
    assert!(place.revokes("ana", 1).await?, "an issuer's clock that is ahead");
    assert!(!place.revokes("ana", 3).await?, "a new token is good");
    Ok(())
}

#[tokio::test]
async fn what_has_expired_is_forgotten_with_the_next_revocation_and_is_kept_a_year_by_default() -> Result<()>
{
    let place = Place::new("revocations_expiry").await?;
    let keep =
        |seconds, value| NewRevocation { keep_seconds: Some(seconds), ..new(RevocationKind::TokenId, value) };
    let (made, _) = place.watches.revoke(&new(RevocationKind::TokenId, "usual")).await?;
    let days = (made.expires_at.context("it expires")?.0 - made.created_at.0) / 86_400_000_000;
    assert_eq!(days, 366);
    place.watches.revoke(&keep(0, "over")).await?;
    let (future, _) = place
        .watches
        .revoke(&NewRevocation {
            keep_seconds: Some(60),
            ..at(RevocationKind::Subject, "later", 4_000_000_000)
        })
        .await?;
    assert_eq!(future.expires_at, Some(Micros::from_seconds(4_000_000_060)), "counted from its time on");
    let (good, _) = place.watches.revoke(&keep(60 * 60 * 24 * 366 * 2_000, "for good")).await?;
    assert_eq!(good.expires_at, None);
    let left: Vec<_> = place.watches.revocations().await?.into_iter().map(|one| one.value).collect();
    assert_eq!(left, ["usual", "later", "for good"]);
    let version = place.sheet().await?.0;
    assert_eq!(place.db.number("SELECT rowcast.forget_revocations()").await?, 0);
    assert_eq!(place.sheet().await?.0, version, "nothing forgotten is no change");
    Ok(())
}

#[tokio::test]
async fn what_can_not_be_revoked_says_why_and_there_is_a_bound() -> Result<()> {
    let place = Place::new("revocations_faults").await?;
    let long = "x".repeat(1_025);
    for (sql, says) in [
        ("SELECT rowcast.revoke('sub', 'a')", "a subject, a token_id or a room, not 'sub'"),
        ("SELECT rowcast.revoke(NULL, 'a')", "not NULL"),
        ("SELECT rowcast.revoke('subject', '')", "1 to 1024 bytes"),
        ("SELECT rowcast.revoke('subject', NULL)", "1 to 1024 bytes"),
        (&format!("SELECT rowcast.revoke('subject', '{long}')"), "1 to 1024 bytes"),
        ("SELECT rowcast.revoke('subject', 'a', '-infinity')", "from 1970 to 9999"),
        ("SELECT rowcast.revoke('subject', 'a', '20000-01-01')", "from 1970 to 9999"),
        ("SELECT rowcast.revoke('subject', 'a', keep => '-1 s')", "not negative"),
    ] {
        let error = place.db.run(sql).await.expect_err(sql);
        assert!(format!("{error:#}").contains(says), "{sql}: {error:#}");
    }
    place.db.run("INSERT INTO rowcast.revocations (kind, value, issued_before) SELECT 'token_id', n, 'infinity' FROM generate_series(1, 250000) n").await?;
    let error = place.db.run("SELECT rowcast.revoke('subject', 'a')").await.expect_err("full");
    assert!(format!("{error:#}").contains("no more are taken"), "{error:#}");
    place.db.run("SELECT rowcast.revoke('token_id', '1')").await?;
    Ok(())
}

#[tokio::test]
async fn several_at_once_in_any_order_wait_for_each_other_and_none_is_lost() -> Result<()> {
    let place = Place::new("revocations_at_once").await?;
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..8 {
        let url = place.db.url.clone();
        tasks.spawn(async move {
            let client = Connection::open(&url).await?;
            let mut names = ["a", "b", "c"];
            names.rotate_left(turn % 3);
            let all: String =
                names.iter().map(|name| format!("SELECT rowcast.revoke('subject', '{name}');")).collect();
            client.batch_execute(&format!("BEGIN; {all} COMMIT")).await?;
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let (version, sheet) = place.sheet().await?;
    assert_eq!((version, sheet.len()), (1 + 8 * 3, 3));
    Ok(())
}

#[tokio::test]
async fn operators_may_revoke_listeners_may_read_and_others_neither() -> Result<()> {
    let place = Place::new("revocation_rights").await?;
    place
        .db
        .run(
            "CREATE ROLE revoking_operator LOGIN; GRANT rowcast_operator TO revoking_operator;
             CREATE ROLE revoking_listener LOGIN; GRANT rowcast_listener TO revoking_listener;
             CREATE ROLE revoking_owner LOGIN; GRANT rowcast_watcher, rowcast_publisher TO revoking_owner",
        )
        .await?;
    let url = |role: &str| place.db.server.url_for(role, &place.db.name);
    let operator = Watches::connect(&url("revoking_operator")).await?;
    let (made, _) = operator.revoke(&new(RevocationKind::Room, "m1")).await?;
    assert_eq!(made.created_by, "revoking_operator");
    assert_eq!(operator.revocation(made.id).await?, Some(made));
    assert!(operator.lift_revocation("room", "m1").await?);
    let listener = Cleaner::connect(&url("revoking_listener"), &SessionOptions::new("test")).await?;
    assert!(listener.load_sheet(Sheet::Revocations, None).await?.is_some());
    listener.note_told(Sheet::Revocations, 3).await?;
    assert_eq!(operator.sheet_versions(Sheet::Revocations).await?, (3, 3));

    for (role, sql) in [
        ("revoking_operator", "UPDATE rowcast.mirror SET told = 9"),
        ("revoking_listener", "SELECT rowcast.revoke('subject', 'a')"),
        ("revoking_listener", "SELECT rowcast.lift_revocation('subject', 'a')"),
        ("revoking_listener", "SELECT rowcast.forget_revocations()"),
        ("revoking_listener", "DELETE FROM rowcast.revocations"),
        ("revoking_listener", "UPDATE rowcast.mirror SET version = 9"),
        ("revoking_owner", "SELECT rowcast.revoke('subject', 'a')"),
        ("revoking_owner", "TABLE rowcast.revocations"),
    ] {
        let client = Connection::open(&url(role)).await?;
        let error = client.batch_execute(sql).await.expect_err(sql);
        assert!(words(&error).contains("permission denied"), "{role}: {sql}: {}", words(&error));
    }
    Ok(())
}

#[tokio::test]
async fn without_the_schema_the_error_says_what_to_do() -> Result<()> {
    let empty = Database::empty("revocations_empty").await?;
    let watches = Watches::connect(&empty.url).await?;
    assert!(matches!(watches.revocations().await, Err(StoreError::NotMigrated)));
    let revoked = watches.revoke(&new(RevocationKind::Subject, "a")).await;
    assert!(matches!(revoked, Err(StoreError::NotMigrated)));
    Ok(())
}
