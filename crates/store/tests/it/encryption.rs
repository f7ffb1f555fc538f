//! TLS to PostgreSQL: who is taken for the server, who is let in, and what is said where it fails.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use rowcast_sandbox::{Authority, Folder, Identity, Issued, Leaf, Postgres, PostgresOptions, wait_for};
use rowcast_store::{Session, SessionOptions, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server with TLS, the authority that signed its certificate, and a role for each way in.
struct Secured {
    postgres: Postgres,
    authority: Authority,
    ca: PathBuf,
    folder: Folder,
}

impl Secured {
    async fn start() -> Result<Self> {
        let folder = Folder::new("encryption")?;
        let authority = Authority::new("an authority of our own")?;
        let (ca, tls) = authority.write_server(folder.path(), &["localhost", "127.0.0.1"])?;
        let tls = Some(tls);
        let access = [
            "hostssl all by_certificate 127.0.0.1/32 cert",
            "host all by_certificate 127.0.0.1/32 reject",
            "host all by_password 127.0.0.1/32 scram-sha-256",
        ];
        let access = access.map(str::to_owned).to_vec();
        let postgres = Postgres::start(PostgresOptions { tls, access, ..PostgresOptions::default() }).await?;
        let roles = "CREATE ROLE by_certificate LOGIN; CREATE ROLE by_password LOGIN PASSWORD 'hush'";
        postgres.connect("postgres").await?.batch_execute(roles).await?;
        Ok(Self { postgres, authority, ca, folder })
    }

    /// Has the server show another certificate.
    async fn show(&self, certificate: Issued) -> Result<()> {
        certificate.write(self.folder.path(), "server")?;
        self.postgres.renew_certificate().await
    }

    /// An address whose parameters trust the server's authority.
    fn url(&self, user: &str, host: &str, mode: &str) -> String {
        let port = self.postgres.port();
        format!("postgres://{user}@{host}:{port}/postgres?sslmode={mode}&sslrootcert={}", self.ca.display())
    }

    fn client(&self, authority: &Authority, name: &str) -> Result<Identity> {
        authority.write(self.folder.path(), name, &Leaf::client("by_certificate"))
    }
}

async fn open(url: &str) -> Result<Session, StoreError> {
    Session::open(url, &SessionOptions::new("test")).await
}

/// Whether the session is encrypted, as the server sees it.
async fn encrypted(session: &Session) -> Result<bool> {
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(session.client().query_one(sql, &[]).await?.try_get(0)?)
}

/// Waits until the server's new certificate counts, and connections fail so.
async fn expect_refusal(url: &str, said: &str) -> Result<()> {
    wait_for(format!("{said:?} from {url}"), PATIENCE, || async {
        match open(url).await {
            Err(error @ StoreError::Handshake(_)) if error.to_string().contains(said) => anyhow::Ok(()),
            Err(error) => anyhow::bail!("{error}"),
            Ok(_) => anyhow::bail!("it is connected"),
        }
    })
    .await
}

async fn expect_encrypted(url: &str) -> Result<()> {
    let session = wait_for(format!("a session at {url}"), PATIENCE, || open(url)).await?;
    anyhow::ensure!(encrypted(&session).await?, "{url} is not encrypted");
    Ok(())
}

#[tokio::test]
async fn verify_full_takes_the_server_that_is_named_and_nobody_else_for_it() -> Result<()> {
    let server = Secured::start().await?;
    for host in ["localhost", "127.0.0.1"] {
        expect_encrypted(&server.url("postgres", host, "verify-full")).await?;
    }
    let full = server.url("postgres", "localhost", "verify-full");
    let (right, elsewhere) = (Leaf::server(&["localhost"]), Leaf::server(&["db.example"]));

    server.show(server.authority.issue(&elsewhere)?).await?;
    expect_refusal(&full, "not for localhost but for").await?;
    expect_encrypted(&server.url("postgres", "localhost", "verify-ca")).await?;

    let impostor = Authority::new("an authority of somebody else's")?;
    server.show(impostor.issue(&right)?).await?;
    expect_refusal(&full, "sslrootcert (database.tls.ca)").await?;
    // As with libpq, a named authority counts for `require` too.
    for mode in ["verify-ca", "require"] {
        expect_refusal(&server.url("postgres", "localhost", mode), "not signed by an authority").await?;
    }
    let anyone = format!("postgres://postgres@localhost:{}/postgres?sslmode=require", server.postgres.port());
    expect_encrypted(&anyone).await?;

    server.show(Issued::self_signed(&right)?).await?;
    expect_refusal(&full, "not signed by an authority").await?;
    server.show(server.authority.issue(&right.clone().expired())?).await?;
    expect_refusal(&full, "has expired: renew it").await?;
    server.show(server.authority.issue(&right)?).await?;
    expect_encrypted(&full).await
}

#[tokio::test]
async fn a_server_that_declines_tls_gets_nothing_in_clear() -> Result<()> {
    for mode in ["require", "verify-ca", "verify-full"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url =
            format!("postgres://app:hush@localhost:{}/shop?sslmode={mode}", listener.local_addr()?.port());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut request = [0; 8];
            stream.read_exact(&mut request).await?;
            stream.write_all(b"N").await?;
            let mut more = Vec::new();
            stream.read_to_end(&mut more).await?;
            anyhow::Ok(more)
        });
        let error = open(&url).await.err().context("no TLS, no connection")?;
        assert!(matches!(error, StoreError::Handshake(_)), "{error}");
        assert!(error.to_string().contains("turn ssl on there"), "{error}");
        assert_eq!(answering.await??, b"", "{mode}");
    }
    Ok(())
}

#[tokio::test]
async fn of_several_hosts_each_is_proven_to_be_the_one_that_is_named() -> Result<()> {
    let secured = Secured::start().await?;
    let (port, ca) = (secured.postgres.port(), secured.ca.display().to_string());
    let url = |hosts: &str| {
        format!(
            "postgres://postgres@{hosts}/postgres?sslmode=verify-full&sslrootcert={ca}&target_session_attrs=primary"
        )
    };
    secured.show(secured.authority.issue(&Leaf::server(&["localhost"]))?).await?;
    let dead = rowcast_sandbox::free_port()?;
    expect_encrypted(&url(&format!("localhost:{dead},localhost:{port}"))).await?;
    // The same server by a name that its certificate does not have is skipped, and does not count as the other.
    expect_encrypted(&url(&format!("127.0.0.1:{port},localhost:{port}"))).await?;
    let error = open(&url(&format!("127.0.0.1:{port},127.0.0.1:{dead}"))).await.err().context("proven")?;
    assert_eq!(error.kind(), "tls", "{error}");
    Ok(())
}

#[tokio::test]
async fn whoever_asks_for_no_proof_takes_what_the_server_has() -> Result<()> {
    let plain = Postgres::shared().await?;
    let session = open(&plain.url()).await?;
    assert!(!encrypted(&session).await?);
    let server = Secured::start().await?;
    expect_encrypted(&server.postgres.url()).await?;
    let session = open(&format!("{}?sslmode=disable", server.postgres.url())).await?;
    assert!(!encrypted(&session).await?);
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_only_the_right_one_is_let_in() -> Result<()> {
    let server = Secured::start().await?;
    let url = server.url("by_certificate", "localhost", "verify-full");
    let with = |identity: &Identity| {
        format!("{url}&sslcert={}&sslkey={}", identity.cert.display(), identity.key.display())
    };
    let ours = server.client(&server.authority, "client")?;
    expect_encrypted(&with(&ours)).await?;

    let none = open(&url).await.err().context("nobody without a certificate")?;
    assert!(none.to_string().contains("client certificate"), "{none}");
    let stranger = server.client(&Authority::new("an authority of somebody else's")?, "stranger")?;
    let refused = open(&with(&stranger)).await.err().context("no stranger")?;
    assert!(matches!(refused, StoreError::Handshake(_)), "{refused}");
    assert!(refused.to_string().contains("sslcert and sslkey"), "{refused}");

    let mixed = Identity { cert: ours.cert.clone(), key: stranger.key.clone() };
    let error = open(&with(&mixed)).await.err().context("two that do not belong together")?.to_string();
    assert!(error.contains("stranger.key") && error.contains("client.crt"), "{error}");
    let half = open(&format!("{url}&sslcert={}", ours.cert.display())).await.err().context("half")?;
    assert!(half.to_string().contains("the key is missing"), "{half}");
    let missing = Identity { cert: ours.cert.with_extension("gone"), ..ours };
    let error = open(&with(&missing)).await.err().context("no file")?.to_string();
    assert!(error.contains("client.gone") && error.contains("No such file"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_password_is_bound_to_the_connection_that_it_goes_over() -> Result<()> {
    let server = Secured::start().await?;
    let url = |password: &str, mode: &str| {
        let url = server.url(&format!("by_password:{password}"), "localhost", mode);
        format!("{url}&channel_binding=require")
    };
    expect_encrypted(&url("hush", "verify-full")).await?;
    let wrong = open(&url("loud", "verify-full")).await.err().context("a wrong password")?;
    assert_eq!(wrong.code().map(tokio_postgres::error::SqlState::code), Some("28P01"), "{wrong}");
    let plain = format!(
        "{}?channel_binding=require&sslmode=disable",
        server.postgres.url_with("by_password", Some("hush"), "postgres")
    );
    assert!(open(&plain).await.is_err(), "nothing to bind to in clear");
    Ok(())
}

#[tokio::test]
async fn a_session_outlives_the_servers_certificate_and_the_next_one_sees_the_new() -> Result<()> {
    let server = Secured::start().await?;
    let full = server.url("postgres", "localhost", "verify-full");
    let session = open(&full).await?;
    let next = Authority::new("the next authority")?;
    server.show(next.issue(&Leaf::server(&["localhost"]))?).await?;
    expect_refusal(&full, "not signed by an authority").await?;
    // The file is read for each connection: no restart is needed to trust another authority.
    next.write_own(server.folder.path(), "ca")?;
    expect_encrypted(&full).await?;
    assert!(encrypted(&session).await?);
    Ok(())
}
