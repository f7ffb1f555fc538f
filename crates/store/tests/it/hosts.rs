//! Addresses of several servers: the primary is found, standbys and what is silent are skipped, and what belongs together is not
//! torn apart.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rowcast_sandbox::{Link, Postgres, PostgresOptions, Proxy, free_port};
use rowcast_store::{
    Cleaner, Election, LeadSession, Ring, Session, SessionOptions, Standby, StoreError, Watches, migrate,
    migrations,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

const PATIENCE: Duration = Duration::from_secs(30);

/// A primary and its standby, for all tests here; each has a database of its own.
struct Pair {
    primary: Postgres,
    standby: Postgres,
}

impl Pair {
    async fn shared() -> Result<&'static Self> {
        static PAIR: OnceCell<Pair> = OnceCell::const_new();
        PAIR.get_or_try_init(|| async {
            let options = PostgresOptions { password: Some("hush".to_owned()), ..Default::default() };
            let primary = Postgres::start(options).await?;
            let standby = primary.standby("second").await?;
            Ok(Pair { primary, standby })
        })
        .await
    }

    /// Makes a database and waits until the standby has it.
    async fn database(&self, name: &str) -> Result<()> {
        self.primary.create_database(name).await?;
        self.primary.caught_up(&self.standby).await
    }
}

fn url(ports: &[u16], database: &str, parameters: &str) -> String {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("postgres://postgres:hush@{}/{database}{parameters}", hosts.join(","))
}

fn options() -> SessionOptions {
    SessionOptions::new("test")
}

async fn port(session: &Session) -> Result<u16> {
    let row = session.client().query_one("SELECT current_setting('port')", &[]).await?;
    Ok(row.try_get::<_, &str>(0)?.parse()?)
}

async fn lead(url: &str) -> Result<Box<LeadSession>, StoreError> {
    match Standby::connect(url, &options()).await?.try_lead().await? {
        Election::Elected(lead) => Ok(lead),
        Election::Standby(_) => Err(StoreError::Unexpected("somebody else leads".to_owned())),
    }
}

#[tokio::test]
async fn every_session_ends_at_the_primary_whatever_comes_before_it() -> Result<()> {
    let pair = Pair::shared().await?;
    pair.database("found").await?;
    let ports = [free_port()?, pair.standby.port(), pair.primary.port()];
    for parameters in ["", "?target_session_attrs=primary", "?target_session_attrs=read-write"] {
        let url = url(&ports, "found", parameters);
        migrate(&url).await.context(url.clone())?;
        let lead = lead(&url).await?;
        assert_eq!(port(lead.session()).await?, pair.primary.port());
        let cleaner = Cleaner::beside(lead.session(), &options()).await?;
        assert_eq!(port(cleaner.session()).await?, pair.primary.port());
        // Silent for 3 s, it would be ended.
        lead.prove(Ring::Leave).await?;
        let watches = Watches::connect(&url).await?;
        assert!(watches.set_switch("websocket", parameters.is_empty()).await.is_ok());
        lead.unlock_and_announce().await?;
    }
    Ok(())
}

#[tokio::test]
async fn where_no_primary_answers_each_host_says_why_and_no_password_is_told() -> Result<()> {
    let pair = Pair::shared().await?;
    let (dead, standby) = (free_port()?, pair.standby.port());
    let error = Session::open(&url(&[dead, standby], "postgres", ""), &options())
        .await
        .err()
        .context("no primary")?;
    let text = error.to_string();
    assert_eq!(error.kind(), "not_primary", "{text}");
    assert!(text.contains(&format!("127.0.0.1:{dead}: could not connect")), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{standby}: this PostgreSQL is a standby")), "{text}");
    assert!(!text.contains("hush"), "{text}");
    let alone = Session::open(&url(&[standby], "postgres", ""), &options()).await.err();
    assert!(matches!(alone, Some(StoreError::NotPrimary)), "{alone:?}");
    let both_dead = Session::open(&url(&[dead, free_port()?], "postgres", ""), &options()).await.err();
    assert_eq!(both_dead.map(|error| error.kind()), Some("connect"));
    Ok(())
}

#[tokio::test]
async fn who_only_looks_may_look_at_a_standby_and_is_told_so_when_it_writes() -> Result<()> {
    let pair = Pair::shared().await?;
    pair.database("looked_at").await?;
    migrate(&url(&[pair.primary.port()], "looked_at", "")).await?;
    pair.primary.caught_up(&pair.standby).await?;
    let standby = url(&[free_port()?, pair.standby.port()], "looked_at", "");
    assert!(!migrations(&standby).await?.is_empty());
    let watches = Watches::connect(&standby).await?;
    assert_eq!(watches.switches().await?.switches.len(), 1);
    let error = watches.set_switch("websocket", false).await.unwrap_err();
    assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    assert!(matches!(migrate(&standby).await, Err(StoreError::NoPrimary(_))));
    let asked = format!("{standby}?target_session_attrs=primary");
    assert!(matches!(Watches::connect(&asked).await, Err(StoreError::NoPrimary(_))));
    Ok(())
}

#[tokio::test]
async fn a_silent_host_is_left_after_its_own_time_and_costs_what_belongs_together_no_more() -> Result<()> {
    let pair = Pair::shared().await?;
    pair.database("silent").await?;
    migrate(&url(&[pair.primary.port()], "silent", "")).await?;
    let proxy = Proxy::start("127.0.0.1:1")?;
    proxy.set(Link::Held);
    let url = url(&[proxy.port(), pair.primary.port()], "silent", "?connect_timeout=2");
    let began = Instant::now();
    let mut lead = lead(&url).await?;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_secs(10), "{took:?}");
    // PostgreSQL ends a leader that is silent for 3 s: nothing else of it waits for the silent host.
    let began = Instant::now();
    let _cleaner = Cleaner::beside(lead.session(), &options()).await?;
    assert!(began.elapsed() < Duration::from_millis(1_900));
    lead.read(NonZeroUsize::MIN, true, Ring::Leave).await?;
    Ok(())
}

#[tokio::test]
async fn a_leader_whose_primary_is_fenced_gives_up_and_skips_it() -> Result<()> {
    let primary = Postgres::start(PostgresOptions::default()).await?;
    let url = primary.create_database("fenced").await?;
    migrate(&url).await?;
    let mut lead = lead(&url).await?;
    let ended = lead.session().ended();
    let admin = primary.connect("fenced").await?;
    let fence = "ALTER SYSTEM SET default_transaction_read_only = on";
    admin.batch_execute(fence).await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    let began = Instant::now();
    while lead.read(NonZeroUsize::MIN, true, Ring::Leave).await.is_ok() {
        assert!(began.elapsed() < PATIENCE, "it leads on");
    }
    let reason = tokio::time::timeout(PATIENCE, ended).await?;
    assert!(reason.to_string().contains("takes no writes any more"), "{reason}");
    let again = Standby::connect(&url, &options()).await.err().context("fenced")?;
    assert!(matches!(again, StoreError::ReadOnly(_)), "{again}");
    Ok(())
}

#[tokio::test]
async fn a_leaders_second_session_at_another_server_behind_a_proxy_is_refused() -> Result<()> {
    let pair = Pair::shared().await?;
    pair.database("torn").await?;
    migrate(&url(&[pair.primary.port()], "torn", "")).await?;
    let other =
        Postgres::start(PostgresOptions { password: Some("hush".to_owned()), ..Default::default() }).await?;
    other.create_database("torn").await?;
    // As a virtual address moves during a fail-over.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (front, target) = (listener.local_addr()?.port(), Arc::new(AtomicU16::new(pair.primary.port())));
    let leads_to = target.clone();
    let forwarding = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = leads_to.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    let lead = lead(&url(&[front], "torn", "")).await?;
    target.store(other.port(), Ordering::Relaxed);
    let error = Cleaner::beside(lead.session(), &options()).await.err().context("another server")?;
    assert!(matches!(error, StoreError::OtherServer), "{error}");
    forwarding.abort();
    Ok(())
}
