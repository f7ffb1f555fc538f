//! JSON pages of a real edge before a real Redis: polling and long-polling lose nothing and repeat nothing.

mod support;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use support::{Stage, token};

/// The cursor to send back.
fn cursor(page: &Value) -> &str {
    page["cursor"].as_str().expect("a cursor")
}

fn data(page: &Value) -> Vec<Value> {
    page["events"].as_array().expect("events").iter().map(|event| event["data"].clone()).collect()
}

#[tokio::test]
async fn a_page_has_the_documented_fields_and_the_next_one_goes_on_where_it_ends() -> Result<()> {
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let edge = stage.edge(&[]).await?;
    let token = token(json!(["m1", "m 2"]));
    let first = edge.page(&token, &[]).await?;
    for room in ["m1", "m 2"] {
        assert_eq!(first["rooms"][room]["resumed"], false);
        assert!(
            first["rooms"][room]["cursor"].as_str().is_some_and(|cursor| cursor.ends_with(":0")),
            "{first}"
        );
    }
    assert_eq!((&first["events"], &first["resync"]), (&json!([]), &json!([])));
    assert_eq!((&first["more"], &first["transport"]), (&json!(false), &json!("websocket")));
    assert!(
        first["now"].is_string() && first["expires_at"].is_string() && first["live"].is_boolean(),
        "{first}"
    );
    assert!(cursor(&first).starts_with("m%202=") && cursor(&first).contains("&m1="), "{first}");

    leader.append_all("m1", "t", vec![json!(1), json!(2)]).await?;
    leader.append("m 2", "t", json!(3)).await?;
    let mut seen = Vec::new();
    let mut after = cursor(&first).to_owned();
    while seen.len() < 3 {
        let page = edge.page(&token, &[("after", &after), ("wait", "10")]).await?;
        ensure!(page["rooms"]["m1"]["resumed"] == true && page["resync"] == json!([]), "{page}");
        after = cursor(&page).to_owned();
        seen.extend(data(&page));
    }
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, [json!(1), json!(2), json!(3)]);
    let one = edge.page(&token, &[("room", "m1")]).await?;
    assert_eq!(cursor(&one), one["rooms"]["m1"]["cursor"], "with a room it is that room's cursor");
    assert_eq!(one["rooms"].as_object().map(serde_json::Map::len), Some(1));
    leader.append("m1", "t", json!(4)).await?;
    let next = edge.page(&token, &[("room", "m1"), ("after", cursor(&one)), ("wait", "10")]).await?;
    assert_eq!(data(&next), [json!(4)]);
    Ok(())
}
