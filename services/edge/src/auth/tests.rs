//! Whose key counts for which token: secrets here, where a key is a line. What other keys do is shown on real edges.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use rowcast_process::config::Secret;
use rowcast_process::config::shared::{AuthConfig, IssuerConfig};
use serde_json::json;

use super::*;
use rowcast_protocol::Micros;

const NOW: Micros = Micros(1_700_000_000_000_000);
const OLD: &str = "the secret that was there first, without a name";
const NEW: &str = "the secret that takes its place, with a name";

fn config() -> AuthConfig {
    AuthConfig { hs256_secret: Secret::new(OLD), ..AuthConfig::default() }
}

fn token(key_id: Option<&str>, secret: &str) -> String {
    let header = Header { kid: key_id.map(str::to_owned), ..Header::default() };
    let claims = json!({ "exp": 1_700_000_060, "merchantId": "m" });
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signs")
}

fn refusal(config: &AuthConfig) -> String {
    format!("{:#}", Verifier::new(config).err().expect("refused"))
}

#[test]
fn secrets_take_each_others_place_by_name() {
    let both = AuthConfig { secrets: BTreeMap::from([("new".to_owned(), Secret::new(NEW))]), ..config() };
    let after = AuthConfig { hs256_secret: Secret::default(), ..both.clone() };
    let verdicts = |config: &AuthConfig| {
        let verifier = Verifier::new(config).expect("a good configuration");
        [
            token(None, OLD),
            token(Some("any"), OLD),
            token(Some("new"), NEW),
            token(Some("new"), OLD),
            token(None, NEW),
        ]
        .map(|token| verifier.verify(&token, NOW).err())
    };
    let (good, bad) = (None, Some(TokenFault::Invalid));
    assert_eq!(verdicts(&config()), [good, good, bad, good, bad], "any name is the only key's");
    assert_eq!(verdicts(&both), [good, good, good, bad, bad]);
    assert_eq!(
        verdicts(&after),
        [bad, Some(TokenFault::UnknownKey), good, bad, good],
        "no name is the only key's"
    );
}

#[test]
fn what_cannot_be_is_refused_at_the_start_and_says_what_to_do() {
    let issuer = || IssuerConfig {
        issuer: "https://id.example/".into(),
        jwks_url: "https://id.example/jwks".into(),
        ..IssuerConfig::default()
    };
    let with = |change: &dyn Fn(&mut AuthConfig)| {
        let mut config = config();
        change(&mut config);
        refusal(&config)
    };
    for (message, parts) in [
        (refusal(&AuthConfig::default()), ["auth.hs256_secret has 0 bytes", "ROWCAST_AUTH__HS256_SECRET"]),
        (with(&|c| c.hs256_secret = Secret::new("short")), ["auth.hs256_secret has 5 bytes", "at least 32"]),
        (
            with(&|c| _ = c.secrets.insert("k".into(), Secret::new("short"))),
            ["auth.secrets", "\"k\" has 5 bytes"],
        ),
        (with(&|c| c.algorithms = vec!["none".into()]), ["auth.algorithms", "\"none\" is none of"]),
        (with(&|c| c.algorithms.clear()), ["auth.algorithms is empty", "HS256"]),
        (with(&|c| c.algorithms.push("RS256".into())), ["RS256", "no key for it"]),
        (
            with(&|c| _ = c.public_keys.insert("k".into(), "/nowhere.pem".into())),
            ["cannot read the file", "\"k\""],
        ),
        (with(&|c| c.issuers.push(issuer())), ["https://id.example/", "add RS256"]),
        (
            with(&|c| c.issuers.push(IssuerConfig { algorithms: vec!["HS256".into()], ..issuer() })),
            ["HS256", "secrets"],
        ),
        (
            with(&|c| c.issuers.push(IssuerConfig { algorithms: vec!["RS256".into()], ..issuer() })),
            ["RS256", "not on auth.algorithms"],
        ),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?}: {message}");
    }
    for (url, part) in [
        ("http://id.example/jwks", "auth.jwks_plain_http"),
        ("ftp://id.example/jwks", "https://"),
        ("id.example", "https://"),
        ("/jwks", "a host"),
        ("", "not a URL"),
    ] {
        let message = with(&|c| {
            c.algorithms = vec!["RS256".into()];
            c.issuers.push(IssuerConfig { jwks_url: url.into(), ..issuer() });
        });
        assert!(message.contains("its jwks_url") && message.contains(part), "{url}: {message}");
    }
    let twice = with(&|c| {
        c.algorithms.push("RS256".into());
        c.issuers = vec![issuer(), issuer()];
    });
    assert!(twice.contains("stands there twice"), "{twice}");
}
