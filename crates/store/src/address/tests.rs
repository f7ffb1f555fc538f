//! What addresses come to.

use std::path::Path;

use super::*;

fn read(address: &str) -> Result<(SslMode, Option<Trust>, ClientFiles), String> {
    let address = Address::parse(address).map_err(|error| error.to_string())?;
    Ok((address.config.get_ssl_mode(), address.trust, address.files))
}

#[test]
fn modes_mean_what_they_mean_to_libpq() {
    for (parameters, mode, trust) in [
        ("", SslMode::Prefer, Some(Trust::Anyone)),
        ("?sslmode=disable", SslMode::Disable, None),
        ("?sslmode=prefer", SslMode::Prefer, Some(Trust::Anyone)),
        ("?sslmode=require", SslMode::Require, Some(Trust::Anyone)),
        ("?sslmode=require&sslrootcert=/ca", SslMode::Require, Some(Trust::Chain)),
        ("?sslmode=verify-ca", SslMode::Require, Some(Trust::Chain)),
        ("?connect_timeout=3&sslmode=verify-full", SslMode::Require, Some(Trust::Full)),
        ("?sslrootcert=/ca", SslMode::Require, Some(Trust::Full)),
        ("?sslrootcert=system", SslMode::Require, Some(Trust::Full)),
    ] {
        let (read_mode, read_trust, _) = read(&format!("postgres://app:p?w@db/shop{parameters}")).unwrap();
        assert_eq!((read_mode, read_trust), (mode, trust), "{parameters}");
    }
    assert_eq!(read("host=/run/postgresql sslmode=verify-full").unwrap().0, SslMode::Disable);
}

#[test]
fn of_several_modes_the_strongest_counts_wherever_it_stands() {
    for parameters in ["sslmode=verify-full&sslmode=disable", "sslmode=require&sslmode=verify-full"] {
        assert_eq!(read(&format!("postgres://db/shop?{parameters}")).unwrap().1, Some(Trust::Full));
    }
}

#[test]
fn files_come_from_both_forms_and_the_rest_is_left_as_it_was() {
    let url = "postgresql://app@db:5433/shop?sslcert=%2Ftls%2Fa%20b.crt&options=-c%20x%3D1&sslkey=/k";
    let pairs =
        "host=db port = 5433 user=app dbname='shop' sslcert='/tls/a b.crt' options='-c x=1' sslkey=/k";
    for address in [url, pairs] {
        let address = Address::parse(address).expect(address);
        assert_eq!(address.files.cert.as_deref(), Some(Path::new("/tls/a b.crt")));
        assert_eq!(address.files.key.as_deref(), Some(Path::new("/k")));
        assert_eq!(address.config.get_options(), Some("-c x=1"));
        assert_eq!((address.config.get_dbname(), address.config.get_ports()), (Some("shop"), &[5433][..]));
    }
}

#[test]
fn what_would_protect_less_than_it_says_is_refused() {
    for (parameters, said) in [
        ("sslmode=allow", "use prefer"),
        ("sslmode=verify_full", "verify-full"),
        ("sslmode=disable&sslrootcert=/ca", "would not look at"),
        ("sslmode=prefer&sslrootcert=/ca", "would not look at"),
        ("sslmode=verify-ca&sslrootcert=system", "needs sslmode=verify-full"),
    ] {
        let error = read(&format!("postgres://app:hush@db/shop?{parameters}")).unwrap_err();
        assert!(error.contains(said) && !error.contains("hush"), "{parameters}: {error}");
    }
}

#[test]
fn what_is_wanted_of_several_hosts_is_read_from_both_forms_and_standbys_are_refused() {
    for (text, wanted) in
        [("any", Wanted::Any), ("primary", Wanted::Primary), ("read-write", Wanted::ReadWrite)]
    {
        let url = format!("postgres://app:hush@a:1,b:2/shop?target_session_attrs={text}&sslmode=disable");
        let pairs = format!("host=a,b port=1,2 target_session_attrs='{text}' dbname=shop");
        for address in [url, pairs] {
            let address = Address::parse(&address).expect(&address);
            assert_eq!((address.wanted, address.config.get_ports()), (wanted, &[1, 2][..]));
        }
    }
    assert_eq!(Address::parse("postgres://a,b/shop").unwrap().wanted, Wanted::Any);
    for text in ["standby", "prefer-standby", "read-only", "master"] {
        let error = read(&format!("postgres://app:hush@a,b/shop?target_session_attrs={text}")).unwrap_err();
        assert!(error.contains(text) && error.contains("primary") && !error.contains("hush"), "{error}");
    }
}

#[test]
fn an_address_elsewhere_without_proof_is_exposed() {
    for (address, exposed) in [
        ("postgres://localhost/a", false),
        ("postgres://127.0.0.1/a", false),
        ("postgres://[::1]/a", false),
        ("host=/run/postgresql", false),
        ("postgres://db/a", true),
        ("postgres://db/a?sslmode=require", true),
        ("postgres://db/a?sslmode=verify-ca", false),
        ("postgres://10.0.0.7/a?sslmode=verify-full", false),
    ] {
        assert_eq!(Address::parse(address).unwrap().is_exposed(), exposed, "{address}");
    }
}
