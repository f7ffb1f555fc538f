//! What the command line takes and refuses.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn watch_takes_lists_and_refuses_unknown_operations() {
    let line =
        "rowcast watch booking merchant_id --operations insert,delete --columns id,status --on-error fail";
    let Command::Watch(args) = parse(line).unwrap() else { panic!("not watch") };
    assert_eq!(args.operations.unwrap(), [Operation::Insert, Operation::Delete]);
    assert_eq!(args.columns.unwrap(), ["id", "status"]);
    assert_eq!(args.on_error, OnError::Fail);

    let error = parse("rowcast watch booking merchant_id --operations truncate").unwrap_err().to_string();
    assert!(error.contains("insert, update, delete"), "{error}");
}

#[test]
fn a_database_is_named_once() {
    for line in [
        "rowcast watches --dev d --database-url postgres://x",
        "rowcast migrate status --dev d --database-url postgres://x",
        "rowcast token --merchant m1 --dev d --secret s",
        "rowcast tail --merchant m1 --dev d --secret s",
    ] {
        let error = parse(line).unwrap_err().to_string();
        assert!(error.contains("cannot be used with"), "{line}: {error}");
    }
    assert!(
        matches!(parse("rowcast migrate status --json").unwrap(), Command::Migrate(args) if args.command.is_some())
    );
}

#[test]
fn durations_need_a_unit() {
    let error = parse("rowcast token --merchant m1 --expires-in 60").unwrap_err().to_string();
    assert!(error.contains("is not a duration"), "{error}");
    let Command::Token(args) = parse("rowcast token --merchant m1 --expires-in 15m").unwrap() else {
        panic!("not token")
    };
    assert_eq!(args.claims.expires_in, Duration::from_secs(900));
}

#[test]
fn tail_takes_one_kind_of_token() {
    assert!(parse("rowcast tail --url http://x --merchant m1 --token t").is_err());
    let Command::Tail(args) = parse("rowcast tail --url http://x --token t --types a.*,b").unwrap() else {
        panic!("not tail")
    };
    assert_eq!(args.types.unwrap(), ["a.*", "b"]);
}

#[test]
fn data_to_publish_may_begin_with_a_dash() {
    for data in ["-", "-1"] {
        let Command::Publish(args) = parse(&format!("rowcast publish m1 a.b {data}")).unwrap() else {
            panic!("not publish")
        };
        assert_eq!(args.data, data);
    }
}
