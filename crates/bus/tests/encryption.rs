//! TLS to Redis: who is taken for the server, who is let in, and what is said where it fails.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_bus::{
    BusConfig, BusError, ClientFiles, Finder, Heard, Keys, PublishLink, ReadLink, Retention, subscribe,
    subscribe_at,
};
use rowcast_protocol::RoomName;
use rowcast_sandbox::{
    Authority, ClusterOptions, Folder, Issued, Leaf, Link, Proxy, Redis, RedisCluster, RedisOptions,
};

/// A server that takes clients with a certificate of its authority's, and nobody else.
struct Secured {
    redis: Redis,
    authority: Authority,
    files: ClientFiles,
    folder: Folder,
    shown: usize,
}

impl Secured {
    async fn start() -> Result<Self> {
        let folder = Folder::new("encryption")?;
        let authority = Authority::new("an authority of our own")?;
        let (ca, tls) = authority.write_server(folder.path(), &["localhost", "127.0.0.1"])?;
        let client = authority.write(folder.path(), "client", &Leaf::client("rowcast"))?;
        let redis = Redis::start(RedisOptions { tls: Some(tls), ..RedisOptions::default() }).await?;
        let files = ClientFiles { ca: Some(ca), cert: Some(client.cert), key: Some(client.key) };
        Ok(Self { redis, authority, files, folder, shown: 0 })
    }

    /// Has the server show another certificate from now on.
    async fn show(&mut self, certificate: Issued) -> Result<()> {
        self.shown += 1;
        let identity = certificate.write(self.folder.path(), &format!("server-{}", self.shown))?;
        let mut connection = self.redis.connection().await?;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("tls-cert-file").arg(identity.cert.as_os_str().as_encoded_bytes());
        set.arg("tls-key-file").arg(identity.key.as_os_str().as_encoded_bytes());
        Ok(set.query_async(&mut connection).await?)
    }

    fn config(&self, host: &str) -> BusConfig {
        BusConfig::new(self.redis.tls_url("", host), Keys::new("rowcast", "test"))
            .with_tls(self.files.clone())
    }

    async fn expect_refusal(&self, said: &str) {
        let config = self.config("localhost");
        let read = ReadLink::connect(&config).await.err().expect("no link");
        let subscribed = subscribe(&config).await.err().expect("no subscription");
        for error in [read, subscribed] {
            assert!(matches!(error, BusError::Handshake(_)), "{error:?}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}

#[tokio::test]
async fn every_link_goes_through_tls_with_a_client_certificate() -> Result<()> {
    let server = Secured::start().await?;
    for host in ["localhost", "127.0.0.1"] {
        let config = server.config(host);
        config.check()?;
        let lifetime = Duration::from_secs(60);
        let retention = Retention { log_entries: 10, log_lifetime: lifetime, head_lifetime: 2 * lifetime };
        let mut publishing = PublishLink::connect(&config, retention).await?;
        assert!(publishing.identity().await?.claimed.is_none());
        let mut read = ReadLink::connect(&config).await?;
        read.ping().await?;
        let (mut subscriptions, mut subscription) = subscribe(&config).await?;
        let channel = config.keys.events(&RoomName::parse("m1")?);
        subscriptions.add(std::slice::from_ref(&channel)).await?;
        let mut plain = server.redis.connection().await?;
        redis::cmd("PUBLISH").arg(&channel).arg("x").query_async::<()>(&mut plain).await?;
        let Some(Heard::Message(message)) = subscription.next().await else { anyhow::bail!("no message") };
        assert_eq!((message.channel, &*message.payload), (channel, b"x".as_slice()));
        // Three links with TLS and, on another port, the test's own.
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut plain).await?;
        let port = format!(":{}", config.url.rsplit_once(':').context("a port")?.1);
        let encrypted = clients
            .lines()
            .filter(|line| line.split(' ').any(|f| f.starts_with("laddr=") && f.ends_with(&port)));
        assert!(encrypted.count() >= 3, "{clients}");
    }
    Ok(())
}

#[tokio::test]
async fn only_the_server_that_is_named_is_taken_for_it() -> Result<()> {
    let mut server = Secured::start().await?;
    let right = Leaf::server(&["localhost"]);
    server.show(server.authority.issue(&Leaf::server(&["cache.example"]))?).await?;
    server.expect_refusal("not for localhost but for").await;
    server.show(Authority::new("an authority of somebody else's")?.issue(&right)?).await?;
    server.expect_refusal("redis.tls.ca").await;
    server.show(Issued::self_signed(&right)?).await?;
    server.expect_refusal("not signed by an authority").await;
    server.show(server.authority.issue(&right.clone().expired())?).await?;
    server.expect_refusal("has expired: renew it").await;
    server.show(server.authority.issue(&right)?).await?;
    ReadLink::connect(&server.config("localhost")).await?.ping().await?;
    Ok(())
}

#[tokio::test]
async fn whoever_has_no_certificate_or_anothers_is_told_so() -> Result<()> {
    let mut server = Secured::start().await?;
    let ours = server.files.clone();
    server.files = ClientFiles { ca: ours.ca.clone(), ..ClientFiles::default() };
    server.expect_refusal("redis.tls.cert and redis.tls.key").await;
    let stranger = Authority::new("an authority of somebody else's")?;
    let stranger = stranger.write(server.folder.path(), "stranger", &Leaf::client("rowcast"))?;
    server.files = ClientFiles { cert: Some(stranger.cert), key: Some(stranger.key), ..ours };
    server.expect_refusal("redis.tls.cert and redis.tls.key").await;
    Ok(())
}

#[tokio::test]
async fn a_held_link_is_noticed_through_tls_too() -> Result<()> {
    let server = Secured::start().await?;
    let port = server.config("localhost").url.rsplit_once(':').context("a port")?.1.to_owned();
    let proxy = Proxy::start(format!("127.0.0.1:{port}"))?;
    let mut config = server.config("localhost");
    config.url = format!("rediss://localhost:{}", proxy.port());
    let mut read = ReadLink::connect(&config).await?;
    let (mut subscriptions, _subscription) = subscribe(&config).await?;
    subscriptions.ping().await?;
    proxy.set(Link::Held);
    assert!(matches!(read.ping().await, Err(BusError::Link(_))));
    assert!(matches!(subscriptions.ping().await, Err(BusError::Link(_))));
    assert!(matches!(ReadLink::connect(&config).await, Err(BusError::Link(_))), "nor can one be made");
    Ok(())
}

#[test]
fn an_address_that_would_protect_less_than_it_says_is_refused() {
    let ca = PathBuf::from("/nowhere/ca.crt");
    let files = ClientFiles { ca: Some(ca), ..ClientFiles::default() };
    for (url, files, said) in [
        ("rediss://cache:6379/#insecure", ClientFiles::default(), "redis.tls.ca"),
        ("redis://cache:6379", files.clone(), "begin it with rediss://"),
        ("rediss://cache:6379", files, "/nowhere/ca.crt"),
        ("rediss+unix:///run/redis", ClientFiles::default(), "not usable"),
    ] {
        let config = BusConfig::new(url, Keys::new("rowcast", "test")).with_tls(files);
        let error = config.check().expect_err(url).to_string();
        assert!(error.contains(said), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_one_and_not_shown() -> Result<()> {
    let redis = Redis::start(RedisOptions::default()).await?;
    let mut admin = redis.connection().await?;
    let user = ["SETUSER", "somebody", "on", ">hush", "~*", "&*", "+@all"];
    redis::cmd("ACL").arg(&user).query_async::<()>(&mut admin).await?;
    let with = |password: &str| {
        let url = redis.url().replace("redis://", &format!("redis://somebody:{password}@"));
        BusConfig::new(url, Keys::new("rowcast", "test"))
    };
    ReadLink::connect(&with("hush")).await?.ping().await?;
    for error in [
        ReadLink::connect(&with("loud")).await.err().context("a wrong password")?,
        subscribe(&with("loud")).await.err().context("a wrong password")?,
    ] {
        let said = error.to_string();
        assert!(said.contains("check user and password in redis.url") && !said.contains("loud"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn each_master_of_a_cluster_is_found_and_linked_to_through_tls() -> Result<()> {
    let folder = Folder::new("encryption")?;
    let authority = Authority::new("an authority of our own")?;
    let (ca, tls) = authority.write_server(folder.path(), &["127.0.0.1"])?;
    let client = authority.write(folder.path(), "client", &Leaf::client("rowcast"))?;
    // So that nodes tell the ports that speak TLS to those who speak it.
    let extra_args = ["--tls-cluster", "yes", "--tls-replication", "yes"].map(str::to_owned).to_vec();
    let redis = RedisOptions { tls: Some(tls), extra_args, ..RedisOptions::default() };
    let cluster = RedisCluster::start(ClusterOptions { masters: 3, replicas: 0, redis }).await?;
    let url = cluster.nodes()[0].tls_url("", "127.0.0.1").replace("rediss://", "rediss+cluster://");
    let files = ClientFiles { ca: Some(ca), cert: Some(client.cert), key: Some(client.key) };
    let config = BusConfig::new(url, Keys::new("rowcast", "test")).with_tls(files);
    config.check()?;
    let topology = Finder::new(&config)?.find().await?;
    anyhow::ensure!(topology.is_whole() && topology.servers().len() == 3, "{topology:?}");
    for server in topology.servers() {
        ReadLink::connect_to(&config, server).await?.ping().await?;
        let (mut subscriptions, _) = subscribe_at(&config, server).await?;
        subscriptions.add(&[config.keys.heartbeat(server)]).await?;
        subscriptions.ping().await?;
    }
    Ok(())
}
