//! Issuers whose keys an edge fetches: they rotate, stall, lie and die, before a real edge.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rowcast_protocol::Micros;
use rowcast_sandbox::{Authority, Identity, Leaf, wait_until};
use rowcast_tls::tokio_rustls::TlsAcceptor;
use rowcast_tls::{ServerCertificate, ServerFiles};
use serde_json::{Value, json};
use support::issuer::{Behaviour, Issuer};
use support::mint::{Mint, base64};
use support::{Edge, LIMIT, Stage, token};
use tokio::net::{TcpListener, TcpStream};

const NAME: &str = "https://id.example";
const AWAY: &str = "the keys of the token's issuer cannot be loaded at present";
const UNKNOWN: &str = "the token is signed with a key that is not known here";

/// Settings for one issuer; with more of them, or others.
fn settings<'a>(issuers: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = [("AUTH__ALGORITHMS", "HS256,ES256"), ("AUTH__ISSUERS", issuers)];
    [&own, more].concat()
}

fn one(url: &str) -> String {
    json!([{ "issuer": NAME, "jwks_url": url, "algorithms": ["ES256"] }]).to_string()
}

fn signed(key: &Mint, id: &str) -> String {
    let now = Micros::from_system_time(std::time::SystemTime::now()).0 / 1_000_000;
    let claims = json!({ "iss": NAME, "sub": "user", "merchantId": "m1", "exp": now + 3_600 });
    key.token(&json!({ "alg": "ES256", "kid": id }), &claims)
}

/// What becomes of a token: nothing where it lets in.
async fn refusal(edge: &Edge, token: &str) -> Result<Option<(u16, String)>> {
    edge.sign_in(json!({ "op": "auth", "token": token })).await?.first().await
}

fn refused(reason: &str) -> Option<(u16, String)> {
    Some((4401, reason.to_owned()))
}

async fn fetched(edge: &Edge, result: &str, times: f64) -> Result<()> {
    let label = format!("result=\"{result}\"");
    wait_until(&format!("fetches that end in {result}"), LIMIT, || async {
        edge.metric("rowcast_edge_jwks_fetches_total", &label).await.is_ok_and(|count| count >= times)
    })
    .await
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_an_old_one_goes() -> Result<()> {
    let (old, new) = (Mint::p256(), Mint::p256());
    let issuer = Issuer::start(Behaviour::keys(&[old.jwk("old")])).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let edge = stage.edge(&settings(&issuers, &[("AUTH__JWKS_MIN_INTERVAL", "100ms")])).await?;
    assert_eq!(refusal(&edge, &signed(&old, "old")).await?, None);
    issuer.behave(Behaviour::keys(&[old.jwk("old"), new.jwk("new")]));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(refusal(&edge, &signed(&new, "new")).await?, None, "its client waits for the fetch");
    issuer.behave(Behaviour::keys(&[new.jwk("new")]));
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        refusal(&edge, &signed(&new, "newer")).await?,
        refused(UNKNOWN),
        "that made it fetch once more"
    );
    assert_eq!(refusal(&edge, &signed(&old, "old")).await?, refused(UNKNOWN));
    assert!(edge.metric("rowcast_edge_jwks_fetched_timestamp_seconds", NAME).await? > 1_700_000_000.0);
    assert_eq!(edge.metric("rowcast_edge_jwks_keys", NAME).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_the_issuer_one_fetch() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::keys(&[key.jwk("known")])).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let edge = stage.edge(&settings(&issuers, &[("AUTH__JWKS_MIN_INTERVAL", "1h")])).await?;
    fetched(&edge, "ok", 1.0).await?;
    for n in 0..200 {
        assert_eq!(refusal(&edge, &signed(&key, &format!("unknown-{n}"))).await?, refused(UNKNOWN));
    }
    assert_eq!(refusal(&edge, &signed(&key, "known")).await?, None);
    assert_eq!(issuer.requests(), 1, "the one at the start");
    Ok(())
}

#[tokio::test]
async fn keys_are_fetched_anew_as_often_as_the_issuer_says() -> Result<()> {
    let key = Mint::p256();
    let body = json!({ "keys": [key.jwk("k")] }).to_string();
    let issuer =
        Issuer::start(Behaviour::Answer(200, "cache-control: public, max-age=0\r\n".into(), body)).await?;
    let mut stage = Stage::new().await?;
    let issuers = one(&issuer.url());
    let more = [("AUTH__JWKS_MIN_INTERVAL", "50ms"), ("AUTH__JWKS_REFRESH", "1h")];
    let _edge = stage.edge(&settings(&issuers, &more)).await?;
    wait_until("several fetches", LIMIT, || async { issuer.requests() >= 4 }).await
}

#[tokio::test]
async fn who_waits_for_a_stalled_issuer_holds_up_nobody_and_is_closed_in_time() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::Stall).await?;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let more = [
        ("EDGE__WORKERS", "1"),
        ("EDGE__SIGN_IN_TIMEOUT", "2s"),
        ("AUTH__JWKS_TIMEOUT", "1h"),
        ("AUTH__MAX_WAITING", "3"),
    ];
    let edge = stage.edge(&settings(&issuers, &more)).await?;
    let waiting = json!({ "op": "auth", "token": signed(&key, "k") });
    let mut first = edge.sign_in(waiting.clone()).await?;
    let mut twice = edge.sign_in(waiting.clone()).await?;
    let page = edge.ask(&signed(&key, "k"), &[], &[]).await?;

    // They wait on the one thread that there is, and others come in beside them.
    let (mut other, _) = edge.join(json!("m1"), json!({})).await?;
    leader.append("m1", "t", json!(1)).await?;
    assert_eq!(other.next_of("event").await?["data"], 1);
    first.send(json!({ "op": "ping" })).await?;
    assert_eq!(first.next().await?["op"], "pong");
    twice.send(waiting).await?;
    assert_eq!(twice.closed().await?.0, 4400, "one auth is enough");
    assert_eq!(first.closed().await?.0, 4408, "it was signing in all the time");
    drop(page);
    Ok(())
}

#[tokio::test]
async fn only_so_many_clients_wait_for_an_issuer() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::Stall).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let more = [("EDGE__SIGN_IN_TIMEOUT", "1m"), ("AUTH__JWKS_TIMEOUT", "1h"), ("AUTH__MAX_WAITING", "2")];
    let edge = stage.edge(&settings(&issuers, &more)).await?;
    let waiting = json!({ "op": "auth", "token": signed(&key, "k") });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = edge.sign_in(waiting.clone()).await?;
        client.so_far().await?;
        clients.push(client);
    }
    assert_eq!(refusal(&edge, &signed(&key, "k")).await?, refused(AWAY));
    // Whoever goes gives up its place.
    drop(clients.pop());
    wait_until("a place", LIMIT, || async {
        let Ok(mut client) = edge.sign_in(waiting.clone()).await else { return false };
        client.so_far().await.is_ok()
    })
    .await
}

#[tokio::test]
async fn a_page_waits_for_the_keys_and_says_when_there_are_none() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::Stall).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let edge = stage.edge(&settings(&issuers, &[("AUTH__JWKS_TIMEOUT", "500ms")])).await?;
    let answer = edge.ask(&signed(&key, "k"), &[], &[]).await?.answer().await?;
    assert_eq!(answer.refusal()?, (401, "token".to_owned()));
    assert_eq!(answer.json()?["message"], AWAY);
    fetched(&edge, "timeout", 1.0).await
}

#[tokio::test]
async fn keys_outlive_their_issuer_for_so_long_and_come_back_with_it() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::keys(&[key.jwk("k")])).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let more =
        [("AUTH__JWKS_MIN_INTERVAL", "100ms"), ("AUTH__JWKS_REFRESH", "200ms"), ("AUTH__JWKS_KEEP", "5s")];
    let edge = stage.edge(&settings(&issuers, &more)).await?;
    let (mut client, began) =
        (edge.sign_in(json!({ "op": "auth", "token": signed(&key, "k") })).await?, Instant::now());
    client.next_of("welcome").await?;
    let address = issuer.die().await;
    fetched(&edge, "unreachable", 1.0).await?;
    let known = refusal(&edge, &signed(&key, "k")).await?;
    ensure!(known.is_none() || began.elapsed() > Duration::from_secs(4), "they count without it: {known:?}");
    let gone = || async { refusal(&edge, &signed(&key, "k")).await.is_ok_and(|end| end == refused(AWAY)) };
    wait_until("the end of their time", LIMIT, gone).await?;
    client.send(json!({ "op": "ping" })).await?;
    client.next_of("pong").await?;
    let _back = Issuer::start_at(address, Behaviour::keys(&[key.jwk("k")])).await?;
    let back = || async { refusal(&edge, &signed(&key, "k")).await.is_ok_and(|end| end.is_none()) };
    wait_until("the issuer's keys", LIMIT, back).await
}

#[tokio::test]
async fn no_lie_takes_good_keys_away() -> Result<()> {
    let (key, other) = (Mint::p256(), Mint::p256());
    let issuer = Issuer::start(Behaviour::keys(&[key.jwk("k")])).await?;
    let elsewhere = Issuer::start(Behaviour::keys(&[other.jwk("other")])).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let more = [("AUTH__JWKS_MIN_INTERVAL", "50ms"), ("AUTH__JWKS_REFRESH", "50ms")];
    let edge = stage.edge(&settings(&issuers, &more)).await?;
    fetched(&edge, "ok", 1.0).await?;
    let secret = Mint::secret("a secret that everybody can read, in a key set");
    let mut encrypts = other.jwk("other");
    encrypts["use"] = json!("enc");
    let keys = |keys: Vec<Value>| Behaviour::keys(&keys);
    let lies = [
        ("HTML", "not_a_key_set", Behaviour::answer(200, "<!doctype html><title>Sign in</title>")),
        ("500", "status", Behaviour::answer(500, json!({ "keys": [other.jwk("other")] }).to_string())),
        ("404", "status", Behaviour::answer(404, "")),
        ("no keys", "not_a_key_set", keys(vec![])),
        ("no list", "not_a_key_set", Behaviour::answer(200, r#"{"keys":{}}"#)),
        ("two lists", "not_a_key_set", Behaviour::answer(200, r#"{"keys":[],"keys":[]}"#)),
        ("nothing", "not_a_key_set", Behaviour::answer(200, "")),
        ("huge", "body", Behaviour::answer(200, format!("{{\"keys\":[]{}}}", " ".repeat(1 << 20)))),
        ("endless", "body", Behaviour::Endless),
        ("too many keys", "not_a_key_set", keys((0..65).map(|n| other.jwk(&format!("{n}"))).collect())),
        ("a secret", "not_a_key_set", keys(vec![secret.jwk("other")])),
        ("for encryption", "not_a_key_set", keys(vec![encrypts])),
        ("one name twice", "not_a_key_set", keys(vec![other.jwk("other"), Mint::p256().jwk("other")])),
        (
            "a weak key",
            "not_a_key_set",
            keys(vec![json!({ "kty": "RSA", "kid": "other", "n": base64([0xff; 128]), "e": "AQAB" })]),
        ),
        (
            "another curve",
            "not_a_key_set",
            keys(vec![json!({ "kty": "EC", "crv": "P-521", "kid": "other", "x": "AA", "y": "AA" })]),
        ),
        ("hung up", "unreachable", Behaviour::HangUp),
        (
            "a redirect",
            "status",
            Behaviour::Answer(302, format!("location: {}\r\n", elsewhere.url()), String::new()),
        ),
    ];
    for (name, result, lie) in lies {
        issuer.behave(lie);
        let label = format!("result=\"{result}\"");
        let before = edge.metric("rowcast_edge_jwks_fetches_total", &label).await.unwrap_or(0.0);
        fetched(&edge, result, before + 1.0).await?;
        assert_eq!(refusal(&edge, &signed(&key, "k")).await?, None, "{name}: the known key counts");
        let end = refusal(&edge, &signed(&other, "other")).await?;
        assert_eq!(end, refused(UNKNOWN), "{name}: the other does not");
    }
    assert_eq!(elsewhere.requests(), 0, "redirects are not followed");
    issuer.behave(Behaviour::keys(&[other.jwk("other"), secret.jwk("s")]));
    let believed = || async { refusal(&edge, &signed(&other, "other")).await.is_ok_and(|end| end.is_none()) };
    wait_until("the truth", LIMIT, believed).await?;
    assert_eq!(edge.metric("rowcast_edge_jwks_passed_over", NAME).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_refresh_waits_for_the_keys_of_its_token_while_events_go_on() -> Result<()> {
    let (old, new) = (Mint::p256(), Mint::p256());
    let issuer = Issuer::start(Behaviour::keys(&[old.jwk("old")])).await?;
    let mut stage = Stage::new().await?;
    let mut leader = stage.leader().await?;
    let issuers = one(&issuer.url());
    let more = [("AUTH__JWKS_MIN_INTERVAL", "50ms"), ("AUTH__JWKS_TIMEOUT", "5s")];
    let edge = stage.edge(&settings(&issuers, &more)).await?;
    let mut client = edge.sign_in(json!({ "op": "auth", "token": signed(&old, "old") })).await?;
    client.next_of("welcome").await?;
    issuer.behave(Behaviour::Stall);
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.send(json!({ "op": "refresh", "token": signed(&new, "new") })).await?;
    client.so_far().await?;
    leader.append("m1", "t", json!(1)).await?;
    assert_eq!(client.next_of("event").await?["data"], 1, "the old token counts until then");
    issuer.behave(Behaviour::keys(&[new.jwk("new")]));
    assert_eq!(client.closed().await?, refused(UNKNOWN).expect("a close"), "the fetch brought nothing");

    // The next fetch does.
    let welcomed = || async { refusal(&edge, &signed(&new, "new")).await.is_ok_and(|end| end.is_none()) };
    wait_until("the new key", LIMIT, welcomed).await?;
    let mut client = edge.sign_in(json!({ "op": "auth", "token": signed(&new, "new") })).await?;
    client.next_of("welcome").await?;
    client.send(json!({ "op": "refresh", "token": signed(&new, "new") })).await?;
    client.next_of("refreshed").await?;

    // The subject of another issuer is another client, whatever it is called.
    client.send(json!({ "op": "refresh", "token": token(json!("m1")) })).await?;
    let (code, reason) = client.closed().await?;
    assert_eq!((code, reason.as_str()), (4403, "a refresh must be for the same subject"));
    assert_eq!(edge.metric("rowcast_edge_refreshes_total", "result=\"ok\"").await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_the_authority_vouches_for() -> Result<()> {
    let key = Mint::p256();
    let issuer = Issuer::start(Behaviour::keys(&[key.jwk("k")])).await?;
    let mut stage = Stage::new().await?;
    let _leader = stage.leader().await?;
    let folder = stage.folder.path().to_owned();
    let (authority, stranger) = (Authority::new("ours")?, Authority::new("a stranger")?);
    let Identity { cert, key: secret } = authority.write(&folder, "issuer", &Leaf::server(&["localhost"]))?;
    let certificate = ServerCertificate::load(ServerFiles { cert, key: secret })?;
    let acceptor = TlsAcceptor::from(Arc::new(certificate.config(&[])?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let issuers = one(&format!("https://localhost:{}/jwks", listener.local_addr()?.port()));
    let behind = issuer.address;
    let front = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust it is gone before it has asked.
            let Ok(mut inner) = acceptor.accept(stream).await else { continue };
            let Ok(mut plain) = TcpStream::connect(behind).await else { return };
            let _ended = tokio::io::copy_bidirectional(&mut inner, &mut plain).await;
        }
    });
    let file = |authority: &Authority, name| {
        anyhow::Ok(authority.write_own(&folder, name)?.to_string_lossy().into_owned())
    };
    let other = file(&stranger, "stranger")?;
    let wary = stage.edge(&settings(&issuers, &[("AUTH__JWKS_CA", &other)])).await?;
    fetched(&wary, "unreachable", 1.0).await?;
    assert_eq!(refusal(&wary, &signed(&key, "k")).await?, refused(AWAY));
    assert_eq!(issuer.requests(), 0, "nothing was asked of a server that nobody vouches for");
    let ours = file(&authority, "ours")?;
    let edge = stage.edge(&settings(&issuers, &[("AUTH__JWKS_CA", &ours)])).await?;
    assert_eq!(refusal(&edge, &signed(&key, "k")).await?, None);
    front.abort();
    Ok(())
}
