//! The start of a `dev`, as parallel as its parts allow, until a client could see the first event.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use futures_util::future::try_join_all;
use rowcast_sandbox::{
    Backend, Haproxy, HaproxyOptions, Missing, Persistence, Redis, RedisOptions, bin, find_haproxy,
    find_postgres, find_redis,
};

use super::DevArgs;
use super::database::{self, Database};
use super::demo;
use super::folder::DevFolder;
use super::rowcast::{EdgeSetting, ListenerSetting, Rowcast};
use super::say::Say;
use crate::client::{Client, ClientError, Event, Options, TokenSource};
use crate::token::Claims;

/// For every part to say that it is ready, and then for the light to be green.
const READY: Duration = Duration::from_secs(60);

/// All that runs.
pub struct Started {
    /// The database server, with its addresses.
    pub database: Database,
    /// Redis.
    pub redis: Redis,
    /// The listeners.
    pub listeners: Vec<Rowcast>,
    /// The edges.
    pub edges: Vec<Rowcast>,
    /// HAProxy.
    pub balancer: Haproxy,
    /// The demo's shop and page; not there with `--no-demo`.
    pub demo: Option<Demo>,
}

/// What the demo needs.
pub struct Demo {
    /// The shop's address of the database.
    pub shop: String,
    /// Where the balancer looks for the page.
    pub page: TcpListener,
}

/// Starts everything. Dropped halfway, it ends what it has started.
pub async fn everything(args: &DevArgs, folder: &DevFolder, say: Say) -> anyhow::Result<Started> {
    let (listener, edge) = programs()?;
    say.line(&format!(
        "starting PostgreSQL, Redis, HAProxy, {} listeners and {} edges in {}",
        args.listeners,
        args.edges,
        folder.path().display()
    ));
    // Bound already, and answered once all is ready: the balancer is told its port.
    let page = (!args.no_demo).then(|| TcpListener::bind("127.0.0.1:0")).transpose();
    let page = page.context("a port for the page")?;
    let page_address = page.as_ref().map(TcpListener::local_addr).transpose()?.map(|page| page.to_string());
    let front = front(args, folder, edge, page_address, say);
    let (database, (redis, edges, balancer)) =
        tokio::try_join!(database::start(folder, Some(&folder.secrets().password), say), front)?;

    let redis_url = redis.url();
    let setting = ListenerSetting { database_url: &database.listener_url, redis_url: &redis_url };
    let starting = (1..=args.listeners).map(|number| Rowcast::listener(folder, &listener, number, &setting));
    let listeners = try_join_all(starting).await?;
    try_join_all(listeners.iter().chain(&edges).map(|one| one.wait_ready(READY))).await?;
    say.line("listeners and edges are ready");

    let addresses = edges.iter().map(|edge| format!("http://{}", edge.listen())).chain([balancer.url()]);
    let lights = addresses.map(|url| green(url, &folder.secrets().jwt_secret));
    try_join_all(lights).await?;
    say.line("a listener leads, and the whole way to each edge works");
    let demo = match page {
        Some(page) => {
            let shop = demo::open(&database.url).await.context("making the shop")?;
            Some(Demo { shop, page })
        }
        None => None,
    };
    Ok(Started { database, redis, listeners, edges, balancer, demo })
}

/// Where Rowcast's own programs are; and whether all the servers are there, so that what is missing is said at once.
fn programs() -> anyhow::Result<(PathBuf, PathBuf)> {
    let servers = [find_postgres(None), find_redis(), find_haproxy()];
    let missing: Vec<String> =
        servers.into_iter().filter_map(Result::err).map(|Missing(name)| name).collect();
    if !missing.is_empty() {
        return Err(Missing(missing.join(", ")).into());
    }
    Ok((bin("rowcast-listener")?, bin("rowcast-edge")?))
}

/// Redis and what needs only Redis.
async fn front(
    args: &DevArgs,
    folder: &DevFolder,
    edge: PathBuf,
    page: Option<String>,
    say: Say,
) -> anyhow::Result<(Redis, Vec<Rowcast>, Haproxy)> {
    let options = RedisOptions {
        folder: Some(folder.path().join("redis")),
        persistence: Persistence::AppendOnly,
        ..RedisOptions::default()
    };
    let redis = Redis::start(options).await?;
    say.line(&format!("Redis answers on 127.0.0.1:{}", redis.port()));
    let redis_url = redis.url();
    let setting = EdgeSetting { redis_url: &redis_url, more: &[] };
    let starting = (1..=args.edges).map(|number| Rowcast::edge(folder, &edge, number, &setting));
    let edges = try_join_all(starting).await?;
    let backends = edges
        .iter()
        .map(|edge| Backend { address: edge.listen().to_owned(), admin: Some(edge.admin().to_owned()) })
        .collect();
    let options = HaproxyOptions {
        folder: Some(folder.path().join("haproxy")),
        port: None,
        backends,
        page,
        proxy_protocol: None,
    };
    let balancer = Haproxy::start(options).await?;
    say.line(&format!("HAProxy answers on 127.0.0.1:{}, in front of {} edges", balancer.port(), edges.len()));
    Ok((redis, edges, balancer))
}

/// Waits until a client is told that the whole way works, from PostgreSQL through the leader to this address.
///
/// # Errors
/// When that takes longer than a minute, or the edge refuses the client.
pub async fn green(url: String, secret: &str) -> anyhow::Result<()> {
    let claims = Claims {
        merchants: vec!["rowcast-dev".to_owned()],
        subject: "rowcast-dev".to_owned(),
        expires_in: READY * 2,
        ..Claims::default()
    };
    let secret = secret.to_owned();
    let token = TokenSource::Renewable(Arc::new(move || claims.sign(&secret, SystemTime::now())));
    let mut client = Client::new(Options::new(url.clone(), token));
    let mut last = "no answer".to_owned();
    let lit = async {
        loop {
            last = match client.next().await? {
                Event::Welcome(welcome) if welcome.live => return Ok(()),
                Event::Status(status) if status.live => return Ok(()),
                Event::Status(status) => status.reason.unwrap_or_else(|| "not live".to_owned()),
                Event::Disconnected { reason, .. } => reason,
                _ => continue,
            };
        }
    };
    let lit: Result<Result<(), ClientError>, _> = tokio::time::timeout(READY, lit).await;
    match lit {
        Ok(outcome) => outcome.with_context(|| format!("{url} refuses a client"))?,
        Err(_) => bail!("{url} is not live after {READY:?}: {last}"),
    }
    client.close().await;
    Ok(())
}
