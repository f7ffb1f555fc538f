//! TLS on the public port: by sockets and by HTTP, with certificates that change under way, and against those who begin
//! a handshake and do not go on.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use rowcast_sandbox::{Authority, Folder, Issued, Leaf, wait_for, wait_until};
use rowcast_tls::rustls::pki_types::pem::PemObject;
use rowcast_tls::rustls::pki_types::{CertificateDer, ServerName};
use rowcast_tls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, version};
use rowcast_tls::tokio_rustls::{TlsConnector, client::TlsStream};
use rowcast_tls::{ClientFiles, Trust, client_config};
use serde_json::{Value, json};
use support::{Edge, LIMIT, Stage, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// An edge with TLS, and what its clients trust.
struct Secured {
    stage: Stage,
    edge: Edge,
    authority: Authority,
    ca: PathBuf,
    folder: Folder,
}

impl Secured {
    async fn start(settings: &[(&str, &str)]) -> Result<Self> {
        let folder = Folder::new("tls")?;
        let authority = Authority::new("an authority of our own")?;
        let ca = authority.write_own(folder.path(), "ca")?;
        let identity = authority.write(folder.path(), "edge", &Leaf::server(&["edge.example"]))?;
        let (cert, key) = (identity.cert.display().to_string(), identity.key.display().to_string());
        let mut stage = Stage::new().await?;
        let mut all = vec![
            ("EDGE__TLS__CERT", cert.as_str()),
            ("EDGE__TLS__KEY", &key),
            ("EDGE__TLS__RELOAD_INTERVAL", "50ms"),
        ];
        all.extend_from_slice(settings);
        let edge = stage.edge(&all).await?;
        Ok(Self { stage, edge, authority, ca, folder })
    }

    fn config(&self) -> Result<ClientConfig> {
        let files = ClientFiles { ca: Some(self.ca.clone()), ..ClientFiles::default() };
        Ok(client_config(&files, Trust::Full)?)
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        self.connect_with(self.config()?).await
    }

    async fn connect_with(&self, config: ClientConfig) -> Result<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(&self.edge.listen).await?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(connector.connect(ServerName::try_from("edge.example")?, tcp).await?)
    }

    /// A signed-in socket, and its welcome.
    async fn join(&self, room: &str) -> Result<Socket> {
        let stream = self.connect().await?;
        let (mut socket, _) = tokio_tungstenite::client_async("wss://edge.example/ws", stream).await?;
        let auth = json!({ "op": "auth", "token": token(json!(room)) });
        socket.send(Message::text(auth.to_string())).await?;
        let mut socket = Socket(socket);
        socket.next_of("welcome").await?;
        Ok(socket)
    }

    /// Waits until new connections are shown this certificate.
    async fn shows(&self, certificate: &Issued) -> Result<()> {
        let pem = pem_body(&certificate.cert);
        wait_for("the new certificate", LIMIT, || async {
            let stream = self.connect().await?;
            let shown = stream.get_ref().1.peer_certificates().context("a certificate")?;
            ensure!(shown[0].as_ref() == pem, "another one");
            Ok::<_, anyhow::Error>(())
        })
        .await
    }

    async fn metric(&self, name: &str, label: &str) -> f64 {
        self.edge.metric(name, label).await.unwrap_or_default()
    }
}

struct Socket(tokio_tungstenite::WebSocketStream<TlsStream<TcpStream>>);

impl Socket {
    async fn next_of(&mut self, op: &str) -> Result<Value> {
        loop {
            let message = tokio::time::timeout(LIMIT, self.0.next()).await.context("no frame came")?;
            if let Message::Text(text) = message.context("the socket ended")?? {
                let frame: Value = serde_json::from_str(&text)?;
                if frame["op"] == op {
                    return Ok(frame);
                }
            }
        }
    }
}

fn pem_body(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM").to_vec()
}

#[tokio::test]
async fn sockets_and_http_go_through_tls_of_both_versions() -> Result<()> {
    let secured = Secured::start(&[]).await?;
    let mut leader = secured.stage.leader().await?;
    let mut socket = secured.join("m1").await?;
    // More than fits into one record, and into a socket's buffers.
    let large = "x".repeat(300_000);
    leader.append("m1", "note.added", json!({ "text": large })).await?;
    let event = socket.next_of("event").await?;
    assert_eq!(event["data"]["text"].as_str().map(str::len), Some(large.len()));

    for (versions, wanted) in
        [([&version::TLS12], ProtocolVersion::TLSv1_2), ([&version::TLS13], ProtocolVersion::TLSv1_3)]
    {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&secured.ca)?)?;
        let config = ClientConfig::builder_with_protocol_versions(&versions);
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = secured.connect_with(config).await?;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(wanted));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        let request = format!(
            "GET /v1/events HTTP/1.1\r\nHost: edge.example\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            token(json!("m1"))
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"cursor\""), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn a_new_certificate_counts_for_new_connections_and_a_bad_one_for_none() -> Result<()> {
    let secured = Secured::start(&[]).await?;
    let mut leader = secured.stage.leader().await?;
    let mut socket = secured.join("m1").await?;
    let expires = secured.metric("rowcast_edge_tls_certificate_expires_seconds", "").await;
    ensure!(expires > 1.7e9, "{expires}");

    let mut later = Leaf::server(&["edge.example"]);
    later.until += Duration::from_secs(7_200);
    let second = secured.authority.issue(&later)?;
    second.write(secured.folder.path(), "edge")?;
    secured.shows(&second).await?;
    wait_until("the new expiry", LIMIT, || async {
        secured.metric("rowcast_edge_tls_certificate_expires_seconds", "").await > expires + 3_600.0
    })
    .await?;

    let refused = || secured.metric("rowcast_edge_tls_reloads_total", "result=\"refused\"");
    let expired = secured.authority.issue(&later.clone().expired())?;
    let mixed = Issued { cert: second.cert.clone(), key: expired.key.clone() };
    let empty = Issued { cert: String::new(), key: second.key.clone() };
    for bad in [expired, mixed, empty] {
        let before = refused().await;
        bad.write(secured.folder.path(), "edge")?;
        wait_until("a refusal", LIMIT, || async { refused().await > before }).await?;
        secured.shows(&second).await?;
    }
    let third = secured.authority.issue(&later)?;
    third.write(secured.folder.path(), "edge")?;
    secured.shows(&third).await?;

    leader.append("m1", "note.added", json!({ "n": 1 })).await?;
    socket.next_of("event").await.context("who was connected all the while")?;
    Ok(())
}

#[tokio::test]
async fn whoever_does_not_finish_a_handshake_is_cut_and_counted() -> Result<()> {
    let secured = Secured::start(&[("EDGE__SIGN_IN_TIMEOUT", "1s")]).await?;
    let _leader = secured.stage.leader().await?;
    let mut half = TcpStream::connect(&secured.edge.listen).await?;
    // The beginning of a ClientHello that never ends.
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]).await?;
    let mut plain = TcpStream::connect(&secured.edge.listen).await?;
    plain.write_all(b"GET /ws HTTP/1.1\r\nHost: edge.example\r\n\r\n").await?;
    for (name, connection) in [("half", &mut half), ("plain", &mut plain)] {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(LIMIT, connection.read_to_end(&mut rest)).await;
        let read = read.with_context(|| format!("{name} stays open"))?;
        ensure!(read.is_err() || !rest.starts_with(b"HTTP"), "{name} was served");
    }
    let counted = "rowcast_edge_tls_handshakes_failed_total";
    wait_until("both to be counted", LIMIT, || async {
        secured.metric(counted, "reason=\"timeout\"").await >= 1.0
            && secured.metric(counted, "reason=\"not_tls\"").await >= 1.0
    })
    .await?;
    secured.join("m1").await?;
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_ends_the_start_with_its_files_name() -> Result<()> {
    let folder = Folder::new("tls")?;
    let leaf = Leaf::server(&["edge.example"]);
    let authority = Authority::new("an authority of our own")?;
    let one = authority.write(folder.path(), "one", &leaf)?;
    let other = authority.write(folder.path(), "other", &leaf)?;
    for (cert, key, said) in [
        (
            one.cert.clone(),
            other.key.clone(),
            "other.key: the private key is not that of the first certificate",
        ),
        (one.cert.clone(), one.cert.clone(), "one.crt: it holds no private key"),
        (one.key.clone(), one.key.clone(), "one.key: it holds no certificate"),
        (folder.path().join("none"), one.key.clone(), "none: No such file"),
        (one.cert, PathBuf::new(), "edge.tls.key is not"),
    ] {
        let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_rowcast-edge"))
            .arg("--check")
            .env("ROWCAST_AUTH__HS256_SECRET", support::SECRET)
            .env("ROWCAST_EDGE__TLS__CERT", cert)
            .env("ROWCAST_EDGE__TLS__KEY", key)
            .output()
            .await?;
        let error = String::from_utf8(output.stderr)?;
        ensure!(!output.status.success() && error.contains(said), "{said}: {error}");
    }
    Ok(())
}
