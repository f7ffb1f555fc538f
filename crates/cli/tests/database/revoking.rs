//! What `revoke` promises of the database. That edges act on it is in `tests/revoked.rs`.

use serde_json::{Value, json as value};

use crate::support::{Place, json, text};

#[tokio::test]
async fn what_is_revoked_is_listed_and_lifted_and_without_a_leader_that_is_said() {
    let place = Place::new("cli_revoke").await;
    place.ok(&["migrate"]).await;
    assert_eq!(place.ok(&["revoke", "list"]).await, "no tokens are revoked\n");
    let args = ["revoke", "--subject", "ana", "--reason", "laptop stolen", "--for", "30d", "--wait", "100ms"];
    let output = place.run(&args).await;
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "nobody has told the edges: {said}");
    assert!(said.starts_with("revoked: tokens of subject \"ana\" issued before 2"), "{said}");
    assert!(error.contains("it is kept (version 2)") && error.contains("no listener"), "{error}");

    let listed = place.ok(&["revoke", "list"]).await;
    for said in ["NUMBER", "subject", "ana", "laptop stolen"] {
        assert!(listed.contains(said), "{said}: {listed}");
    }
    let at_once = ["--wait", "0s"];
    let said = place.ok(&[&["revoke", "--token-id", "t1"], &at_once[..]].concat()).await;
    assert!(said.contains("all tokens with id \"t1\", whenever issued"), "{said}");
    let said = place.ok(&[&["revoke", "--room", "m1", "--before", "forever"], &at_once[..]].concat()).await;
    assert!(said.contains("whenever issued") && said.contains("until it is lifted"), "{said}");
    let said = json(
        &place
            .ok(&[
                &["revoke", "--subject", "ben", "--before", "2026-01-31T12:00:00Z", "--json"],
                &at_once[..],
            ]
            .concat())
            .await,
    );
    assert_eq!(
        (&said["issued_before"], &said["told"]),
        (&value!("2026-01-31T12:00:00.000000Z"), &value!(false))
    );
    let all = json(&place.ok(&["revoke", "list", "--json"]).await);
    let all = all["revocations"].as_array().cloned().expect("a list");
    let kinds: Vec<_> = all.iter().map(|one| one["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["subject", "token_id", "room", "subject"]);
    assert_eq!((&all[1]["issued_before"], &all[2]["forgotten_after"]), (&Value::Null, &Value::Null));

    let lifted = place.ok(&[&["revoke", "lift", &all[0]["id"].to_string()], &at_once[..]].concat()).await;
    assert!(lifted.starts_with("lifted: subject \"ana\""), "{lifted}");
    place.ok(&[&["revoke", "lift", "--token-id", "t1"], &at_once[..]].concat()).await;
    let error = place.fails(&["revoke", "lift", "--subject", "ana"]).await;
    assert!(error.contains("no such revocation") && error.contains("revoke list"), "{error}");
    let left = json(&place.ok(&["revoke", "list", "--json"]).await);
    assert_eq!(left["revocations"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn what_can_not_be_revoked_says_why_and_what_to_do() {
    let place = Place::new("cli_revoke_errors").await;
    let error = place.fails(&["revoke", "list"]).await;
    assert!(error.contains("run `rowcast migrate`"), "{error}");
    let error = place.fails(&["revoke"]).await;
    assert!(error.contains("--subject, --token-id or --room"), "{error}");
    let error = place.fails(&["revoke", "lift"]).await;
    assert!(error.contains("rowcast revoke list"), "{error}");
    for (args, said) in [
        (&["revoke", "--subject", ""][..], "it is empty, and names no token"),
        (&["revoke", "--room", ""], "invalid value"),
        (&["revoke", "--subject", "a", "--room", "b"], "cannot be used with"),
        (&["revoke", "--subject", "a", "--before", "yesterday"], "now-1h"),
        (&["revoke", "--subject", "a", "--for", "30"], "is not a duration"),
        (&["revoke", "lift", "7", "--subject", "a"], "cannot be used with"),
    ] {
        let output = place.run(args).await;
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(said), "{args:?}: {error}");
    }
    place.ok(&["migrate"]).await;
    let sql = place.sql().await;
    sql.batch_execute("CREATE ROLE cli_revoke_stranger LOGIN").await.expect("a role");
    let (_, host) = place.url.split_once('@').expect("a user");
    let stranger = format!("postgres://cli_revoke_stranger@{host}");
    let error = place.fails(&["revoke", "--subject", "a", "--database-url", &stranger]).await;
    assert!(error.contains("permission denied") && error.contains("rowcast_operator"), "{error}");
}
