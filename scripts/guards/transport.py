"""The guards of SECURITY.md's section Transport."""

from . import Mutant

STORE = ["-p", "rowcast-store", "--test", "it", "--", "encryption"]
ADDRESSES = ["-p", "rowcast-store", "--lib", "--", "address"]
BUS = ["-p", "rowcast-bus", "--test", "encryption"]
RIGHTS = ["-p", "rowcast-cli", "--test", "secured", "--", "who_has_an_edges_password"]
EDGE = ["-p", "rowcast-edge", "--test", "tls"]

MUTANTS = [
    Mutant(
        "TLS: verify-full judges the host's name",
        "crates/store/src/address.rs",
        "Mode::VerifyFull => Some(Trust::Full),",
        "Mode::VerifyFull => Some(Trust::Chain),",
        STORE,
    ),
    Mutant(
        "TLS: verify-ca judges the chain",
        "crates/tls/src/verify.rs",
        "            judged => judged,",
        "            _ => Ok(ServerCertVerified::assertion()),",
        STORE,
    ),
    Mutant(
        "TLS: a server of Redis is judged at all",
        "crates/tls/src/client.rs",
        "Trust::Full => builder.with_root_certificates(roots(files)?),",
        "Trust::Full => builder.dangerous().with_custom_certificate_verifier(Weaker::new(None)),",
        BUS,
    ),
    Mutant(
        "TLS: a server that declines it gets nothing in clear",
        "crates/store/src/address.rs",
        "Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,",
        "Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Prefer,",
        STORE,
    ),
    Mutant(
        "TLS: of two modes the stronger counts",
        "crates/store/src/address.rs",
        "mode = mode.max(Some(value.parse()?));",
        "mode = Some(value.parse()?);",
        ADDRESSES,
    ),
    Mutant(
        "TLS: an authority that the mode would not look at is an error",
        "crates/store/src/address.rs",
        "(Some(mode @ (Mode::Disable | Mode::Prefer)), Some(_)) => {",
        "(Some(mode), Some(_)) if false => {",
        ADDRESSES,
    ),
    Mutant(
        "TLS: certificates for a redis:// address are an error",
        "crates/bus/src/connect.rs",
        "} else if self.tls != ClientFiles::default() {",
        "} else if false {",
        BUS,
    ),
    Mutant(
        "TLS: nobody switches the judgement of Redis's certificate off",
        "crates/bus/src/place.rs",
        'if url.contains("#insecure") {',
        "if false {",
        BUS,
    ),
    Mutant(
        "rights in Redis: the edge's user can not publish",
        "docs/transport-security.md",
        "+xrange +xrevrange +subscribe +unsubscribe",
        "+xrange +xrevrange +publish +subscribe +unsubscribe",
        RIGHTS,
    ),
    Mutant(
        "TLS at the edge: a handshake may take so long and no longer",
        "services/edge/src/accept/tls.rs",
        "tokio::time::timeout(self.limit, ",
        "tokio::time::timeout(Duration::MAX, ",
        EDGE,
        binaries=True,
    ),
    Mutant(
        "TLS at the edge: a certificate that has expired does not replace a good one",
        "crates/tls/src/server.rs",
        ".and_then(|new| self.fresh(new))",
        "",
        EDGE,
        binaries=True,
    ),
]
