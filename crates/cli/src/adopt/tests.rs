//! What is read from sources, and what is not.

use std::collections::BTreeSet;

use rowcast_store::NotifyingTrigger;

use super::{
    guess::{Data, adoptions, split},
    report::report,
};

fn trigger(source: &str) -> NotifyingTrigger {
    let columns = ["id", "merchantId", "status", "startTime"];
    NotifyingTrigger {
        table: "public.\"Booking\"".to_owned(),
        schema: "public".to_owned(),
        quoted_schema: "public".to_owned(),
        table_name: "Booking".to_owned(),
        obstacle: None,
        watched: false,
        columns: columns.map(|name| (name.to_owned(), None)).into(),
        name: "t".to_owned(),
        quoted_name: "t".to_owned(),
        definition: "CREATE TRIGGER t …".to_owned(),
        function: "f()".to_owned(),
        source: source.to_owned(),
        operations: ["insert", "update"].map(str::to_owned).into(),
        arguments: vec!["bookings".to_owned()],
        conditional: false,
        enabled: true,
    }
}

/// The channels of an INSERT, and what is not known.
fn channels(declared: &str, argument: &str) -> (BTreeSet<String>, Vec<String>) {
    let source = format!("DECLARE {declared} BEGIN PERFORM pg_notify({argument}, '{{}}'); RETURN NEW; END");
    let adoption = adoptions(vec![trigger(&source)]).pop().unwrap();
    let trigger = adoption.triggers.into_iter().next().unwrap();
    (trigger.notices.into_iter().next().unwrap().channels, trigger.unknown)
}

#[test]
fn channels_are_read_from_what_makes_them() {
    for (declared, argument, expected) in [
        ("", "'bookings'", vec!["bookings"]),
        ("", "TG_TABLE_NAME || '_' || TG_OP", vec!["Booking_INSERT"]),
        ("", "lower(tg_table_name || ':' || tg_op)::text", vec!["booking:insert"]),
        ("", "TG_ARGV[0]", vec!["bookings"]),
        ("", "format('%s.%s%%', TG_TABLE_SCHEMA, TG_ARGV[0])", vec!["public.bookings%"]),
        ("", "concat_ws('-', 'a', TG_OP)", vec!["a-INSERT"]),
        ("c text := 'x_' || TG_OP;", "c", vec!["x_INSERT"]),
        ("", "CASE WHEN NEW.status = 'x' THEN 'a' ELSE 'b' END", vec!["a", "b"]),
    ] {
        let (found, unknown) = channels(declared, argument);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{argument}: {unknown:?}");
        assert!(unknown.is_empty(), "{argument}: {unknown:?}");
    }
}

#[test]
fn channels_that_rows_decide_are_said_to_be_unknown() {
    for (declared, argument) in [
        ("", "'merchant_' || NEW.\"merchantId\""),
        ("c text := c || 'x';", "c"),
        ("c text;", "c"),
        ("", "TG_ARGV[7]"),
        ("", "some_function(TG_OP)"),
    ] {
        let (found, unknown) = channels(declared, argument);
        assert!(found.is_empty() && unknown.len() == 1, "{argument}: {found:?} {unknown:?}");
    }
}

#[test]
fn words_in_comments_and_texts_are_no_notifications() {
    let source = "BEGIN -- pg_notify('a', 'b')\n RAISE WARNING 'pg_notify(''a'')'; RETURN NEW; END";
    assert!(adoptions(vec![trigger(source)]).is_empty());
    let notify = "BEGIN NOTIFY \"Changes\", 'x'; EXECUTE 'NOTIFY ' || TG_OP; RETURN NEW; END";
    let adoption = adoptions(vec![trigger(notify)]).pop().unwrap();
    assert!(adoption.triggers[0].notices[0].channels.contains("Changes"));
    assert_eq!(adoption.triggers[0].unknown, ["EXECUTE 'NOTIFY '"]);
}

#[test]
fn a_payload_of_columns_is_told_from_one_that_is_made() {
    let with = |object: &str| {
        let source = format!("BEGIN PERFORM pg_notify('c', ({object})::text); RETURN NEW; END");
        adoptions(vec![trigger(&source)]).pop().unwrap()
    };
    let columns = with("json_build_object('type', 'booking.created', 'at', now(), 'merchantId', NEW.\"merchantId\",
        'id', COALESCE(NEW.id, OLD.id), 'status', CASE WHEN TG_OP = 'DELETE' THEN OLD.status ELSE NEW.status END)");
    assert_eq!(columns.data, Data::Columns(["id", "merchantId", "status"].map(str::to_owned).into()));
    assert_eq!(columns.type_.as_deref(), Some("booking"));
    assert_eq!(columns.merchant.unwrap().because, "the payload's merchantId is taken from it");

    let row = with(
        "jsonb_build_object('data', CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(OLD) ELSE to_jsonb(NEW) END,
        'id', NEW.id, 'merchantId', NEW.\"merchantId\"::text)",
    );
    assert_eq!(row.data, Data::Row);
    assert_eq!(row.merchant.unwrap().column, "merchantId");

    let made = with("json_build_object('id', NEW.id, 'start', NEW.\"startTime\", 'service', svc.name)");
    let Data::Made(fields) = &made.data else { panic!("{:?}", made.data) };
    assert_eq!(fields.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["id", "start", "service"]);
    let text = report(&[made], &[]);
    assert!(
        text.contains("'start', r.\"startTime\"") && text.contains("--payload public.booking_payload"),
        "{text}"
    );

    assert_eq!(with("'{}'").data, Data::Unknown);
    assert_eq!(
        adoptions(vec![trigger("return plv8.execute(`pg_notify(")]).pop().unwrap().data,
        Data::Unknown
    );
}

#[test]
fn types_are_taken_apart_where_they_end_as_changes_do() {
    assert_eq!(split("booking.created"), Some(("booking", "created")));
    assert_eq!(split("SHOP_BOOKING_REMOVED"), Some(("SHOP_BOOKING", "deleted")));
    assert_eq!(split("booking"), None);
    assert_eq!(split(".created"), None);
}

#[test]
fn a_merchant_that_can_not_be_known_is_asked_for() {
    let mut unknown = trigger("BEGIN PERFORM pg_notify('c', row_to_json(NEW)::text); RETURN NEW; END");
    unknown.columns = ["id", "owner"].map(|name| (name.to_owned(), None)).into();
    let adoption = adoptions(vec![unknown.clone()]).pop().unwrap();
    assert_eq!(adoption.merchant, None);
    let text = report(&[adoption], &[]);
    assert!(text.contains("which of its columns names the room? id, owner"), "{text}");
    assert!(text.contains("rowcast watch 'public.\"Booking\"' MERCHANT_COLUMN"), "{text}");

    unknown.columns[1].1 = Some("Merchant".to_owned());
    let adoption = adoptions(vec![unknown]).pop().unwrap();
    assert_eq!(adoption.merchant.unwrap().column, "owner");
}

#[test]
fn half_a_source_is_read_as_far_as_it_goes() {
    let whole = "DECLARE c text := format('%s_%I', TG_TABLE_NAME, \"Odd\"); BEGIN PERFORM pg_notify(c || TG_ARGV[0],
        json_build_object('type', CASE WHEN TG_OP = 'INSERT' THEN 'a.new' ELSE $x$a.b$x$ END, 'é', COALESCE(NEW.id, OLD.id),
        'data', row_to_json(NEW))::text); NOTIFY x; RETURN NEW; EXCEPTION WHEN OTHERS THEN RETURN NULL; END";
    for (end, _) in whole.char_indices() {
        let adoptions = adoptions(vec![trigger(&whole[..end])]);
        assert!(!report(&adoptions, &[]).is_empty());
        report(&super::guess::adoptions(vec![trigger(&whole[end..])]), &[]);
    }
}
