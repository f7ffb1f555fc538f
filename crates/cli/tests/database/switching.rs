//! What `switch` promises.

use crate::support::{Place, json};

#[tokio::test]
async fn a_switch_is_listed_turned_and_turned_back_and_each_change_has_its_version() {
    let place = Place::new("cli_switch").await;
    place.ok(&["migrate"]).await;
    let listed = place.ok(&["switch"]).await;
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SWITCH", "STATE", "SINCE", "VERSION"]);
    assert_eq!((lines.len(), lines[1][0], lines[1][1], lines[1][3]), (2, "websocket", "on", "1"), "{listed}");

    let off = place.ok(&["switch", "websocket", "off"]).await;
    assert!(off.starts_with("websocket is off (version 2)\n"), "{off}");
    for said in ["edge.switch_window", "rowcast_edge_switches_version is 2", "rowcast switch websocket on"] {
        assert!(off.contains(said), "{said}: {off}");
    }
    let before = json(&place.ok(&["switch", "--json"]).await);
    let again = place.ok(&["switch", "websocket", "off"]).await;
    assert!(again.starts_with("websocket was off already, since 2"), "{again}");
    assert!(again.contains("(version 2); nothing has changed"), "{again}");
    let after = json(&place.ok(&["switch", "--json"]).await);
    assert_eq!(before, after);
    assert_eq!((after["version"].as_u64(), &after["switches"][0]["state"]), (Some(2), &"off".into()));

    let on = place.ok(&["switch", "websocket", "on"]).await;
    assert!(on.starts_with("websocket is on (version 3)\n") && on.contains("switch websocket off"), "{on}");
    let turned = json(&place.ok(&["switch", "websocket", "off", "--json"]).await);
    assert_eq!((&turned["changed"], turned["version"].as_u64()), (&true.into(), Some(4)));
    let turned = json(&place.ok(&["switch", "websocket", "off", "--json"]).await);
    assert_eq!((&turned["changed"], turned["version"].as_u64()), (&false.into(), Some(4)));
}

#[tokio::test]
async fn what_can_not_be_turned_says_why_and_what_to_do() {
    let place = Place::new("cli_switch_errors").await;
    for args in [&["switch"][..], &["switch", "websocket", "off"]] {
        let error = place.fails(args).await;
        assert!(error.contains("run `rowcast migrate`"), "{error}");
    }
    place.ok(&["migrate"]).await;
    let error = place.fails(&["switch", "websockets", "off"]).await;
    assert!(error.contains("there is no switch websockets; there are: websocket"), "{error}");

    let sql = place.sql().await;
    sql.batch_execute("CREATE ROLE cli_stranger LOGIN; CREATE ROLE cli_operator LOGIN; GRANT rowcast_operator TO cli_operator")
        .await
        .expect("roles");
    let as_role = |role: &str| {
        let (scheme, rest) = place.url.split_once("://").expect("a URL");
        let (_, host) = rest.split_once('@').expect("a user");
        format!("{scheme}://{role}@{host}")
    };
    let stranger = as_role("cli_stranger");
    for args in [&["switch"][..], &["switch", "websocket", "off"]] {
        let error = place.fails(&[args, &["--database-url", &stranger]].concat()).await;
        assert!(error.contains("permission denied") && error.contains("rowcast_operator"), "{error}");
    }
    let operator = as_role("cli_operator");
    let off = place.ok(&["switch", "websocket", "off", "--database-url", &operator]).await;
    assert!(off.contains("is off (version 2)"), "{off}");

    for (args, said) in [
        (&["switch", "websocket"][..], "<STATE>"),
        (&["switch", "websocket", "maybe"], "possible values: on, off"),
    ] {
        let output = place.run(args).await;
        let error = crate::support::text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(said), "{error}");
    }
}
