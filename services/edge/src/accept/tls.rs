//! TLS on the public port, where the edge itself ends it. Certificates come from `rowcast-tls`, and when they are read
//! again from [`crate::certificate`].

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

use rowcast_tls::tokio_rustls::TlsAcceptor;
use rowcast_tls::{ServerCertificate, TlsError};

use super::stream::{Stream, Tcp};
use crate::metrics::Metrics;

/// What turns a connection into one with TLS.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    /// How long a handshake may take.
    limit: Duration,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// With a certificate, which may be replaced later.
    ///
    /// # Errors
    /// When the configuration is not accepted.
    pub fn new(
        certificate: &ServerCertificate,
        limit: Duration,
        metrics: Arc<Metrics>,
    ) -> std::result::Result<Self, TlsError> {
        // HTTP/2 has no WebSocket here, so it is not offered.
        let config = certificate.config(&[b"http/1.1"])?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), limit, metrics })
    }

    /// The handshake. While it lasts, the connection is one of those that carry nobody.
    ///
    /// # Errors
    /// When it fails or takes too long. It is counted here.
    pub async fn accept(&self, tcp: Tcp) -> Result<Stream> {
        let (reason, error) = match tokio::time::timeout(self.limit, self.acceptor.accept(tcp)).await {
            Ok(Ok(stream)) => return Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => (rowcast_tls::kind(&error), error),
            Err(_) => ("timeout", Error::new(ErrorKind::TimedOut, "the TLS handshake took too long")),
        };
        self.metrics.tls_handshake_failed(reason);
        tracing::debug!(%error, reason, "a TLS handshake failed");
        Err(error)
    }
}
