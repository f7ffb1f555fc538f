use super::*;
use proptest::prelude::*;
use serde_json::json;

fn parse(text: &str) -> Result<Packet<'_>, MalformedPacket> {
    Packet::parse(text)
}

#[test]
fn packets_of_clients_are_read_as_the_protocol_writes_them() {
    let auth = Auth { token: Some("t".to_owned()), ..Auth::default() };
    let event = |namespace, id, name: &'static str, argument| {
        Ok(Packet::Event { namespace, id, name: name.into(), argument })
    };
    assert_eq!(parse("1"), Ok(Packet::Close));
    for text in ["3", "3probe", "5", "6"] {
        assert_eq!(parse(text), Ok(Packet::Alive), "{text}");
    }
    assert_eq!(parse("40"), Ok(Packet::Connect { namespace: "/", auth: Auth::default() }));
    assert_eq!(parse("40/a"), Ok(Packet::Connect { namespace: "/a", auth: Auth::default() }));
    assert_eq!(parse(r#"40/a,{"token":"t"}"#), Ok(Packet::Connect { namespace: "/a", auth: auth.clone() }));
    assert_eq!(parse(r#"40{"token":"t"}"#), Ok(Packet::Connect { namespace: "/", auth }));
    assert_eq!(parse("41/a,"), Ok(Packet::Disconnect { namespace: "/a" }));
    assert_eq!(parse("41"), Ok(Packet::Disconnect { namespace: "/" }));
    assert_eq!(parse(r#"42/a,["x",{"y":1}, 2]"#), event("/a", None, "x", Some(r#"{"y":1}"#)));
    assert_eq!(parse(r#"4217["x"]"#), event("/", Some(17), "x", None));
    assert_eq!(parse(r#"42["a\"b"]"#), event("/", None, "a\"b", None));
    assert_eq!(parse("42[7]"), event("/", None, "7", None));
    assert_eq!(parse("43/a,1[]"), Ok(Packet::Ack { namespace: "/a" }));
    assert_eq!(
        parse(r#"451-/a,["x",{"_placeholder":true,"num":0}]"#),
        Ok(Packet::Binary { namespace: "/a" })
    );
    assert_eq!(parse("460-1[]"), Ok(Packet::Binary { namespace: "/" }));
}

#[test]
fn what_is_no_packet_of_a_client_is_told_apart() {
    let long = format!("40/{}", "a".repeat(LONGEST_NAMESPACE));
    for (text, fault) in [
        ("", MalformedPacket::Engine),
        ("abc", MalformedPacket::Engine),
        ("0{}", MalformedPacket::Engine),
        ("2", MalformedPacket::Engine),
        ("11", MalformedPacket::Engine),
        ("ü", MalformedPacket::Engine),
        ("4", MalformedPacket::Socket),
        ("4abc", MalformedPacket::Socket),
        ("4ü", MalformedPacket::Socket),
        ("47", MalformedPacket::Socket),
        (r#"44{"message":"x"}"#, MalformedPacket::Socket),
        ("41[]", MalformedPacket::Socket),
        ("45[]", MalformedPacket::Socket),
        ("45-[]", MalformedPacket::Socket),
        ("4599999-[]", MalformedPacket::Socket),
        ("4299999999999999999999[\"x\"]", MalformedPacket::Socket),
        (&long, MalformedPacket::Socket),
        ("40[]", MalformedPacket::Payload),
        ("40/a,nonsense", MalformedPacket::Payload),
        ("42", MalformedPacket::Payload),
        ("42{}", MalformedPacket::Payload),
        ("42[]", MalformedPacket::Payload),
        ("42[null]", MalformedPacket::Payload),
        ("42[{}]", MalformedPacket::Payload),
        ("42abc[\"x\"]", MalformedPacket::Payload),
        ("42[\"x\"", MalformedPacket::Payload),
        ("43[]", MalformedPacket::Payload),
        ("431{}", MalformedPacket::Payload),
    ] {
        assert_eq!(parse(text), Err(fault), "{text}");
    }
    assert!(parse(&long[..long.len() - 1]).is_ok(), "one that is as long as may be");
}

#[test]
fn what_a_client_says_of_itself_counts_where_it_is_of_the_right_kind() {
    let whole = r#"{"token":"t","pid":"p","offset":"o","types":["a","b.*"],"other":{"x":1}}"#;
    let text = |text: &str| Some(text.to_owned());
    let types = Some(vec!["a".to_owned(), "b.*".to_owned()]);
    assert_eq!(auth(whole), Ok(Auth { token: text("t"), pid: text("p"), offset: text("o"), types }));
    assert_eq!(auth(r#"{"token":7,"pid":null,"offset":{},"types":[1]}"#), Ok(Auth::default()));
    assert_eq!(auth(r#"{"types":"a"}"#), Ok(Auth::default()));
    assert_eq!(refresh_token(r#"{"token":"t"}"#), text("t"));
    assert_eq!((refresh_token("7"), refresh_token("{}")), (None, None));
}

#[test]
fn packets_of_the_server_are_the_documented_ones() {
    assert_eq!(
        open("s", Duration::from_secs(25), Duration::from_secs(20), 65_536),
        r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":65536}"#
    );
    assert_eq!(connected("/a", "s", "p"), r#"40/a,{"sid":"s","pid":"p"}"#);
    assert_eq!(connected("/", "s", "p"), r#"40{"sid":"s","pid":"p"}"#);
    assert_eq!(connect_error("/a", "no", None), r#"44/a,{"message":"no"}"#);
    assert_eq!(
        connect_error("/", "no", Some(&json!({ "code": 1 }))),
        r#"44{"message":"no","data":{"code":1}}"#
    );
    assert_eq!((disconnect("/a"), disconnect("/")), ("41/a,".to_owned(), "41".to_owned()));
    assert_eq!((ack("/a", 7, Some("{}")), ack("/", 0, None)), ("43/a,7[{}]".to_owned(), "430[]".to_owned()));
    assert_eq!((event_head("/a"), event_head("/")), ("42/a,".to_owned(), "42".to_owned()));
    assert_eq!((tail(Some("a\"b")), tail(None)), (r#","a\"b"]"#.to_owned(), "]".to_owned()));
}

#[test]
fn a_namespace_is_a_path_that_packets_can_name() {
    for name in ["/", "/notifications", "/a/b-c_d.e"] {
        assert!(is_namespace(name), "{name}");
    }
    let long = format!("/{}", "a".repeat(LONGEST_NAMESPACE));
    for name in ["", "a", "/a,b", "/a b", "/a?b", "/a\"", "/a\\b", "/ü", &long] {
        assert!(!is_namespace(name), "{name}");
    }
}

fn event_frame(event_type: &str, data: &str, more: &str) -> String {
    format!(
        r#"{{"op":"event","room":"m1","cursor":"1.00000000000000ab:7","id":"1-0","type":{},"at":"t","data":{data}{more}}}"#,
        super::json(event_type)
    )
}

#[test]
fn a_flat_payload_is_the_data_with_type_and_merchant_where_it_has_neither() {
    for (data, more, expected) in [
        (r#"{"id":1}"#, "", r#"{"type":"a.b","merchantId":"m1","id":1}"#),
        (
            r#"{ "id" : 1,
 "x":[] }"#,
            "",
            "{\"type\":\"a.b\",\"merchantId\":\"m1\", \"id\" : 1,\n \"x\":[] }",
        ),
        ("{}", "", r#"{"type":"a.b","merchantId":"m1"}"#),
        ("{ }", "", r#"{"type":"a.b","merchantId":"m1" }"#),
        (r#"{"type":7}"#, "", r#"{"merchantId":"m1","type":7}"#),
        (r#"{"merchantId":null}"#, "", r#"{"type":"a.b","merchantId":null}"#),
        (r#"{"merchant\u0049d":1,"type":2}"#, "", r#"{"merchant\u0049d":1,"type":2}"#),
        (r#"{"x":{"type":1}}"#, "", r#"{"type":"a.b","merchantId":"m1","x":{"type":1}}"#),
        (
            r#"{"id":1}"#,
            r#","truncated":true"#,
            r#"{"type":"a.b","merchantId":"m1","truncated":true,"id":1}"#,
        ),
        (r#"["type"]"#, "", r#"["type"]"#),
        ("\"text\"", r#","changed":["a"]"#, "\"text\""),
        ("null", "", "null"),
        ("-1.50", "", "-1.50"),
    ] {
        let frame = event_frame("a.b", data, more);
        let emit = Emit::event(&frame, Shape::Flat).expect("an event");
        assert_eq!((&*emit.name, &*emit.payload), ("a.b", expected));
    }
}

#[test]
fn an_envelope_is_the_native_event_without_its_op() {
    let frame = event_frame("a", "{}", r#","changed":["b"]"#);
    let emit = Emit::event(&frame, Shape::Envelope).expect("an event");
    let expected = r#"{"room":"m1","cursor":"1.00000000000000ab:7","id":"1-0","type":"a","at":"t","data":{},"changed":["b"]}"#;
    assert_eq!((&*emit.name, &*emit.payload), ("a", expected));
    assert_eq!(emit.body(), format!("[\"a\",{expected}"));
}

#[test]
fn names_that_clients_keep_for_themselves_are_emitted_with_a_prefix() {
    for name in KEPT {
        let frame = event_frame(name, "{}", "");
        let emit = Emit::event(&frame, Shape::Flat).expect("an event");
        assert_eq!(&*emit.name, format!("rowcast.{name}"));
        assert_eq!(&*emit.payload, format!(r#"{{"type":"{name}","merchantId":"m1"}}"#), "the type stays");
    }
}

const KEPT: [&str; 8] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "connected",
    "resync",
];

#[test]
fn other_frames_are_emitted_under_their_op() {
    for (frame, name, payload) in [
        (r#"{"op":"status","live":true}"#, "rowcast.status", r#"{"live":true}"#),
        (r#"{"op":"resync","room":"m1"}"#, "resync", r#"{"room":"m1"}"#),
        (r#"{"op":"pong"}"#, "rowcast.pong", "{}"),
    ] {
        let emit = Emit::frame(frame).expect("a frame");
        assert_eq!((&*emit.name, &*emit.payload), (name, payload));
    }
    let connected = Emit::connected(r#"{"op":"welcome","session":"s"}"#, "m\"1").expect("a frame");
    assert_eq!((&*connected.name, &*connected.payload), ("connected", r#"{"room":"m\"1","session":"s"}"#));
    for nonsense in ["", "{}", r#"{"op":7}"#, r#"{"op":"x"#] {
        assert_eq!(Emit::frame(nonsense), None, "{nonsense}");
    }
    for broken in ["", "{}", r#"{"op":"event","room":"m1","type":"t","data":}"#, &event_frame("t", "{]", "")]
    {
        assert_eq!(Emit::event(broken, Shape::Flat), None, "{broken}");
    }
}

proptest! {
    #[test]
    fn reading_anything_never_panics(text in "\\PC*|4?[0-9]{0,3}-?(/[a-z?]{0,5},?)?[0-9]{0,4}[\\[\\]{}\":,a-z0-9]{0,20}") {
        let _ = parse(&text);
    }

    #[test]
    fn an_event_of_a_client_round_trips(name in "\\PC{0,20}", id: Option<u64>, text in "\\PC{0,20}", namespace in "/[a-z]{0,5}") {
        let argument = json!({ "text": text }).to_string();
        let id_text = id.map(|id| id.to_string()).unwrap_or_default();
        let packet = format!("{}{id_text}[{},{argument}]", event_head(&namespace), super::json(&name));
        let expected = Packet::Event { namespace: &namespace, id, name: name.into(), argument: Some(&argument) };
        prop_assert_eq!(parse(&packet), Ok(expected));
    }

    #[test]
    fn a_flat_payload_keeps_every_field(fields in prop::collection::btree_map("\\PC{0,8}|type|merchantId|truncated", "\\PC{0,8}", 0..5), truncated: bool) {
        let data = json!(fields);
        let frame = event_frame("a.b", &data.to_string(), if truncated { r#","truncated":true"# } else { "" });
        let emit = Emit::event(&frame, Shape::Flat).expect("an event");
        let mut expected = json!({ "type": "a.b", "merchantId": "m1" });
        if truncated {
            expected["truncated"] = true.into();
        }
        for (name, value) in &fields {
            expected[name] = value.as_str().into();
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&emit.payload).expect("JSON"), expected);
    }
}
