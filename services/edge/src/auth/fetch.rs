//! Fetches an issuer's key set over HTTP: one request a connection, with a bound on everything: time, size, head. A
//! redirect is not followed, whatever it leads to: an issuer's keys are where the configuration says.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use rowcast_tls::rustls::pki_types::ServerName;
use rowcast_tls::tokio_rustls::{TlsConnector, client::TlsStream};
use rowcast_tls::{ClientFiles, Trust};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::jwks::{self, JwksFault};
use super::keys::KeySet;

/// The largest key set, in bytes.
const MAX_BODY: usize = 256 * 1024;

/// The largest head of an answer, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchFault {
    /// It took too long.
    #[error("no whole answer came within {0:?}")]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("the issuer cannot be reached: {0:#}")]
    Unreachable(anyhow::Error),
    /// Something else than 200.
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    /// More than a key set has.
    #[error("the answer is larger than {MAX_BODY} bytes, or broke off")]
    Body,
    /// An answer that is no key set.
    #[error(transparent)]
    Jwks(#[from] JwksFault),
}

impl FetchFault {
    /// A metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::Body => "body",
            Self::Jwks(_) => "not_a_key_set",
        }
    }
}

/// A key set, as it came.
pub struct Fetched {
    /// Its keys, at least one.
    pub keys: KeySet,
    /// Entries that are none.
    pub passed_over: usize,
    /// For how long the issuer says that it is fresh.
    pub max_age: Option<Duration>,
}

/// Fetches one issuer's keys.
pub struct Fetcher {
    url: Uri,
    timeout: Duration,
    /// Whom it trusts.
    files: ClientFiles,
}

impl Fetcher {
    /// From this URL.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(url: &str, timeout: Duration, plain_http: bool, ca: &str) -> anyhow::Result<Self> {
        let url: Uri = url.parse().context("it is not a URL")?;
        let host = url.host().context("it is not a URL with a host, such as https://id.example.com/jwks")?;
        let is_near = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        match url.scheme_str() {
            Some("https") => {}
            Some("http") if is_near || plain_http => {}
            Some("http") => anyhow::bail!(
                "it is http://, and whoever is on the way could sign tokens: use https://, or set auth.jwks_plain_http"
            ),
            _ => anyhow::bail!("it must begin with https://"),
        }
        Ok(Self { url, timeout, files: ClientFiles::from_settings(ca, "", "") })
    }

    /// Fetches them.
    pub async fn fetch(&self) -> Result<Fetched, FetchFault> {
        let ask = tokio::time::timeout(self.timeout, self.ask());
        ask.await.map_err(|_| FetchFault::Timeout(self.timeout))?
    }

    async fn ask(&self) -> Result<Fetched, FetchFault> {
        let is_tls = self.url.scheme_str() == Some("https");
        let address = (self.host(), self.url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        let stream = TcpStream::connect(address).await.context("cannot connect");
        let stream = stream.map_err(FetchFault::Unreachable)?;
        if !is_tls {
            return self.exchange(stream).await;
        }
        self.exchange(self.encrypt(stream).await.map_err(FetchFault::Unreachable)?).await
    }

    /// The authorities are read for each fetch: what is replaced counts from the next one on.
    async fn encrypt(&self, stream: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
        let config = rowcast_tls::client_config(&self.files, Trust::Full)?;
        let name = ServerName::try_from(self.host().to_owned()).context("its host is no name for TLS")?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.context("no TLS with it")
    }

    fn host(&self) -> &str {
        self.url.host().unwrap_or_default().trim_matches(['[', ']'])
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<Fetched, FetchFault> {
        let broke = |error: hyper::Error| FetchFault::Unreachable(error.into());
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        let request = self.request().map_err(FetchFault::Unreachable)?;
        let answer = async { read(sender.send_request(request).await.map_err(broke)?).await };
        let (mut connection, mut answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
        tokio::select! {
            biased;
            fetched = &mut answer => fetched,
            // The connection may end with the answer; what has come of it is still to be read.
            _ended = &mut connection => answer.await,
        }
    }

    fn request(&self) -> anyhow::Result<Request<Empty<Bytes>>> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let host = self.url.authority().context("a host")?.as_str();
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Ok(Request::get(path)
            .header(HOST, host)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("rowcast-edge/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())?)
    }
}

async fn read(answer: Response<Incoming>) -> Result<Fetched, FetchFault> {
    if answer.status() != StatusCode::OK {
        return Err(FetchFault::Status(answer.status()));
    }
    let max_age = answer.headers().get(CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(|_| FetchFault::Body)?;
    let (keys, passed_over) = jwks::read(&body.to_bytes())?;
    Ok(Fetched { keys, passed_over, max_age })
}

fn max_age(cache_control: &str) -> Option<Duration> {
    let mut directives = cache_control.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}
