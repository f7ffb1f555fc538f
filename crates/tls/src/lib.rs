//! TLS from files: certificates and keys are read and judged here, and become configurations for both ends of a
//! connection. Who connects to whom, and over what, is not here.
//!
//! Everything is rustls with aws-lc-rs, TLS 1.2 and 1.3. The provider is named wherever one is asked for, so that
//! nothing depends on a default of the whole process.

mod client;
mod explain;
mod files;
mod server;
mod verify;

use std::sync::Arc;

pub use client::{ClientFiles, Trust, client_config};
pub use explain::{explain, kind};
pub use files::TlsError;
pub use rustls;
pub use server::{Reload, ServerCertificate, ServerFiles};
pub use tokio_rustls;

/// What does the cryptography.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
