//! Bad values are named, with what to do.

use super::*;

/// What validation says of a section `edge` that differs from the default.
fn said(change: impl FnOnce(&mut EdgeConfig)) -> String {
    let mut edge = EdgeConfig::default();
    change(&mut edge);
    edge.validate().err().map_or_else(String::new, |fault| fault.to_string())
}

#[test]
fn a_bad_limit_or_proxy_is_named_with_what_to_do() {
    assert_eq!(said(|_| {}), "");
    let proxies = |proxies: &[&str]| proxies.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    for (fault, key, advice) in [
        (said(|edge| edge.trusted_proxies = proxies(&["nginx"])), "edge.trusted_proxies", "10.0.0.0/8"),
        (
            said(|edge| edge.trusted_proxies = proxies(&["0.0.0.0/0"])),
            "edge.trusted_proxies",
            "name your proxies",
        ),
        (said(|edge| edge.proxy_protocol = true), "edge.proxy_protocol", "edge.trusted_proxies"),
        (said(|edge| edge.ipv6_prefix = 129), "edge.ipv6_prefix", "1 to 128"),
        (said(|edge| edge.ipv6_prefix = 0), "edge.ipv6_prefix", "1 to 128"),
        (said(|edge| edge.inbound_burst = edge.max_message - 1), "edge.inbound_burst", "raise the burst"),
        (said(|edge| edge.message_burst = 0), "edge.message_burst", "at least 1"),
    ] {
        assert!(fault.contains(key) && fault.contains(advice), "{fault:?}");
    }
    assert_eq!(said(|edge| (edge.message_rate, edge.message_burst) = (0, 0)), "");
    assert_eq!(said(|edge| (edge.inbound_rate, edge.inbound_burst) = (0, 0)), "");
}
