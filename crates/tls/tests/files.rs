//! What is said of files that can not be used, and what a look at changed ones comes to.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result};
use rowcast_sandbox::{Authority, Folder, Issued, Leaf};
use rowcast_tls::{ClientFiles, Reload, ServerCertificate, ServerFiles, Trust, client_config};

#[test]
fn each_fault_of_a_file_is_told_by_its_name() -> Result<()> {
    let folder = Folder::new("files")?;
    let authority = Authority::new("an authority of our own")?;
    let ca = authority.write_own(folder.path(), "ca")?;
    let ours = authority.write(folder.path(), "ours", &Leaf::client("ours"))?;
    let theirs = authority.write(folder.path(), "theirs", &Leaf::client("theirs"))?;
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let passphrase = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let cases = [
        (Some(folder.path().join("none.crt")), Some(&ours.cert), Some(&ours.key), "none.crt: No such file"),
        (
            Some(file("empty.crt", "")?),
            Some(&ours.cert),
            Some(&ours.key),
            "empty.crt: it holds no certificate",
        ),
        (Some(file("large.crt", &"x".repeat(5 << 20))?), None, None, "large.crt: 5242880 bytes"),
        (Some(ca.clone()), Some(&ours.cert), Some(&theirs.key), "theirs.key: the private key is not that of"),
        (Some(ca.clone()), Some(&ours.cert), Some(&ours.cert), "ours.crt: it holds no private key"),
        (Some(ca.clone()), Some(&ours.cert), None, "the key is missing"),
        (Some(ca.clone()), None, Some(&ours.key), "the certificate is missing"),
        (Some(ca.clone()), Some(&ours.cert), Some(&file("locked.key", passphrase)?), "has a passphrase"),
        (Some(ca), Some(&ours.cert), Some(&ours.key), ""),
    ]
    .map(|(ca, cert, key, said)| (ClientFiles { ca, cert: cert.cloned(), key: key.cloned() }, said));
    for (files, said) in cases {
        match client_config(&files, Trust::Full) {
            Ok(_) => assert_eq!(said, "", "{files:?}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!said.is_empty() && error.contains(said), "{said:?}: {error}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_can_not_be_used_is_told_once_and_changes_nothing() -> Result<()> {
    let folder = Folder::new("files")?;
    let leaf = Leaf::server(&["edge.example"]);
    // A start takes what there is.
    let old = Issued::self_signed(&leaf.clone().expired())?.write(folder.path(), "edge")?;
    let served = ServerCertificate::load(ServerFiles { cert: old.cert.clone(), key: old.key })?;
    assert!(served.expires() < SystemTime::now());
    assert!(matches!(served.reload(), Reload::Unchanged));

    let good = Issued::self_signed(&leaf)?;
    good.write(folder.path(), "edge")?;
    assert!(matches!(served.reload(), Reload::Replaced));
    let expires = served.expires();
    assert!(expires > SystemTime::now());

    let mixed = Issued { cert: Issued::self_signed(&leaf)?.cert, key: good.key.clone() };
    for bad in [Some(mixed), Some(Issued { cert: "nonsense".to_owned(), key: good.key.clone() }), None] {
        match bad {
            Some(bad) => drop(bad.write(folder.path(), "edge")?),
            None => fs::remove_file(&old.cert).context("removing it")?,
        }
        assert!(matches!(served.reload(), Reload::Refused(_)));
        assert!(matches!(served.reload(), Reload::Unchanged), "told twice");
        assert_eq!(served.expires(), expires);
    }
    good.write(folder.path(), "edge")?;
    assert!(matches!(served.reload(), Reload::Replaced));
    Ok(())
}
