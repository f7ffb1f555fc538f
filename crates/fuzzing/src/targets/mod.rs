//! All targets. Each is a function of bytes that panics where something does not hold.

mod addresses;
mod configuration;
mod messages;
mod positions;
mod postgres;
mod redis;
mod requests;
mod sockets;
mod tokens;

use crate::Target;

/// Every target.
pub const ALL: [Target; 16] = [
    Target {
        name: "wire",
        check: sockets::wire,
        words: &[
            b"\x81",
            b"\x01\xfe",
            b"\x81\x85\0\0\0\0hello",
            b"\x88\x82\0\0\0\0\x03\xe8",
            b"\x89\x80\0\0\0\0",
            b"\xff\xff\xff",
        ],
    },
    Target {
        name: "client_message",
        check: messages::client_message,
        words: &[
            br#""op":"auth","#,
            br#""op":"refresh","#,
            br#""op":"ping""#,
            br#""token":"t","#,
            br#""resume":{"#,
            br#""types":["#,
            br#""report":{"#,
            b"[[[[[[[[",
            b"\\u0000",
            b"\\ud800",
            b"1e999",
            b"null",
        ],
    },
    Target {
        name: "report",
        check: messages::report,
        words: &[
            br#""states":{"#,
            br#""reconnects":["#,
            br#""ages":["#,
            br#""refreshes":{"#,
            b"-1e308",
            b"CONNECTED",
            b"99999999999999999999",
        ],
    },
    Target {
        name: "token",
        check: tokens::token,
        words: &[
            br#""alg":"HS256","#,
            br#""alg":"none","#,
            br#""typ":"JWT","#,
            br#""crit":[],"#,
            br#""exp":1800000000,"#,
            br#""nbf":1700000000,"#,
            br#""merchantId":["a"],"#,
            br#""types":["a.*"],"#,
            b"1e300",
            b"\\u0000",
            b"\n",
            b".",
            b"=",
        ],
    },
    Target {
        name: "type_filter",
        check: messages::type_filter,
        words: &[b"*", b".", b"\n", b"booking.", b"rowcast."],
    },
    Target {
        name: "cursor",
        check: positions::cursor,
        words: &[
            b"0",
            b"+1",
            b"-1",
            b".",
            b":",
            b"00000000000000ab",
            b"18446744073709551615",
            b"9223372036854775808",
        ],
    },
    Target {
        name: "cursors",
        check: positions::cursors,
        words: &[b"&", b"=", b"%", b"%00", b"+", b"m1=1.00000000000000ab:7", b"%F0%9F"],
    },
    Target {
        name: "time",
        check: positions::time,
        words: &[b"T", b"Z", b"+23:59", b"-00:00", b"9999-12-31", b".9999999999", b":60"],
    },
    Target {
        name: "ask",
        check: requests::ask,
        words: &[
            b"room=",
            b"&after=",
            b"&wait=",
            b"&types=",
            b"&access_token=",
            b"%3D",
            b"%2C",
            b"inf",
            b"NaN",
            b"\n",
            b"1e308",
        ],
    },
    Target {
        name: "origin",
        check: requests::origin,
        words: &[
            b"https://",
            b"http://",
            b"app.example.com",
            b".shop.test:8443",
            b"null",
            b"@",
            b"#",
            b"/",
            b"evil.test",
            b":443",
        ],
    },
    Target {
        name: "proxy_header",
        check: addresses::proxy_header,
        words: &[
            b"PROXY ",
            b"TCP4 ",
            b"TCP6 ",
            b"UNKNOWN",
            b"\r\n",
            b"\r\n\r\n\0\r\nQUIT\n",
            b"\x21\x11\0\x0c",
            b"::ffff:1.2.3.4 ",
        ],
    },
    Target {
        name: "forwarded",
        check: addresses::forwarded,
        words: &[
            b"10.0.0.2",
            b", ",
            b"\n",
            b"[2001:db8:1::2]:80",
            b"::ffff:10.0.0.3",
            b"unknown",
            b"203.0.113.9:7",
            b"%eth0",
            b"/0",
        ],
    },
    Target {
        name: "configuration",
        check: configuration::configuration,
        words: &[
            b"ROWCAST_",
            b"__",
            b"EDGE__LISTEN=",
            b"_FILE=",
            b"\n---\n",
            b"edge:",
            b"[edge]",
            b"{",
            b"}",
            b"[b",
            b"\"",
            b"10s",
            b"64KiB",
            b"*a",
            b"&a b",
            b"true",
        ],
    },
    Target {
        name: "notification",
        check: postgres::notification,
        words: &[
            br#""merchantId":"#,
            br#""type":"#,
            br#""data":{"#,
            b"payload_too_large",
            b"rowcast.",
            b"connect",
            b"null",
            b"18446744073709551616",
            b"\\u0000",
        ],
    },
    Target {
        name: "record",
        check: redis::record,
        words: &[
            b"\x01\0",
            b"\0\0\0\0\0\0\0\x01",
            b"\0\x0fbooking.created",
            br#""id":"1-2","#,
            br#""subject":{"ana":1},"#,
            br#""room":{"m1":null}"#,
        ],
    },
    Target {
        name: "redis_answer",
        check: redis::answer,
        words: &[
            b"*2\r\n",
            b"$-1\r\n",
            b"$1\r\nr\r\n",
            b"*-1\r\n",
            b":1\r\n",
            b"+OK\r\n",
            b"-ERR\r\n",
            b"%1\r\n",
            b"$16\r\n00000000000000ab\r\n",
        ],
    },
];
