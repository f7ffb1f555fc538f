//! Certificates for servers and clients of tests: an authority, and what it signs. Nothing here outlives its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// How long a certificate of a test is good.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// An authority that signs certificates, and that nobody trusts who was not given its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Which certificate to make.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The common name: what PostgreSQL compares with a role.
    pub name: String,
    /// Host names and addresses that it is for.
    pub hosts: Vec<String>,
    /// When it ends.
    pub until: SystemTime,
}

impl Leaf {
    /// A server's, for host names and addresses.
    pub fn server(hosts: &[&str]) -> Self {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let name = hosts.first().cloned().unwrap_or_default();
        Self { name, hosts, until: SystemTime::now() + LIFE }
    }

    /// A client's, for a common name.
    pub fn client(name: &str) -> Self {
        Self { name: name.to_owned(), hosts: Vec::new(), until: SystemTime::now() + LIFE }
    }

    /// One that ended an hour ago.
    pub fn expired(mut self) -> Self {
        self.until = SystemTime::now() - Duration::from_secs(3600);
        self
    }
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// Where a certificate and its key were written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's file.
    pub cert: PathBuf,
    /// The key's.
    pub key: PathBuf,
}

/// What a server with TLS is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// What it shows of itself.
    pub identity: Identity,
    /// The authority whose clients it takes, where it looks at certificates of clients.
    pub client_ca: Option<PathBuf>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When a key can not be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new()).context("a certificate")?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("a key")?;
        let certificate = params.self_signed(&key).context("a certificate")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Signs a new certificate.
    ///
    /// # Errors
    /// When a host's name is none.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued> {
        let (params, key) = (params(leaf)?, KeyPair::generate().context("a key")?);
        let cert = params.signed_by(&key, &self.issuer).context("signing a certificate")?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Signs one and writes it to a folder, as `<file>.crt` and `<file>.key`.
    ///
    /// # Errors
    /// As [`Authority::issue`], and those of the file system.
    pub fn write(&self, folder: &Path, file: &str, leaf: &Leaf) -> Result<Identity> {
        self.issue(leaf)?.write(folder, file)
    }

    /// Writes its own certificate to a folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_own(&self, folder: &Path, file: &str) -> Result<PathBuf> {
        let path = folder.join(format!("{file}.crt"));
        fs::write(&path, &self.certificate).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Writes to a folder what a server of these hosts is given that takes clients of this authority's and nobody else's.
    /// With it comes the file of the authority's own certificate, `ca.crt`.
    ///
    /// # Errors
    /// When a host's name is none; those of the file system.
    pub fn write_server(&self, folder: &Path, hosts: &[&str]) -> Result<(PathBuf, ServerTls)> {
        let ca = self.write_own(folder, "ca")?;
        let identity = self.write(folder, "server", &Leaf::server(hosts))?;
        Ok((ca.clone(), ServerTls { identity, client_ca: Some(ca) }))
    }
}

impl Issued {
    /// A certificate that no authority has signed.
    ///
    /// # Errors
    /// When a host's name is none.
    pub fn self_signed(leaf: &Leaf) -> Result<Self> {
        let key = KeyPair::generate().context("a key")?;
        let cert = params(leaf)?.self_signed(&key).context("signing a certificate")?;
        Ok(Self { cert: cert.pem(), key: key.serialize_pem() })
    }

    /// Writes both to a folder, each whole at once.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path, file: &str) -> Result<Identity> {
        let identity =
            Identity { cert: folder.join(format!("{file}.crt")), key: folder.join(format!("{file}.key")) };
        for (path, text) in [(&identity.key, &self.key), (&identity.cert, &self.cert)] {
            let unfinished = path.with_extension("unfinished");
            fs::write(&unfinished, text).with_context(|| format!("writing {}", path.display()))?;
            fs::rename(&unfinished, path).with_context(|| format!("naming {}", path.display()))?;
        }
        Ok(identity)
    }
}

fn params(leaf: &Leaf) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(leaf.hosts.clone()).context("names of hosts")?;
    params.distinguished_name.push(DnType::CommonName, leaf.name.clone());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (leaf.until - 2 * LIFE).into();
    params.not_after = leaf.until.into();
    Ok(params)
}
