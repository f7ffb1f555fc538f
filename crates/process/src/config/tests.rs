//! What loading promises, over a configuration like that of a process.

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    LoadOptions, SECTIONS, Secret, load, print,
    shared::{LogConfig, LogFormat, RedisConfig},
};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Auth {
    hs256_secret: Secret,
    keys: BTreeMap<String, Secret>,
    audience: Option<String>,
    leeway_seconds: Option<u32>,
    origins: Vec<String>,
    ports: Vec<u16>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            hs256_secret: Secret::new("default-secret"),
            keys: BTreeMap::new(),
            audience: None,
            leeway_seconds: None,
            origins: Vec::new(),
            ports: vec![1],
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    log: LogConfig,
    redis: RedisConfig,
    auth: Auth,
}

fn options(file: Option<&std::path::Path>, environment: &[(&str, &str)]) -> LoadOptions {
    LoadOptions {
        file: file.map(Into::into),
        other_sections: SECTIONS,
        environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
    }
}

fn file(extension: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(extension).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn error(file: Option<&std::path::Path>, environment: &[(&str, &str)]) -> String {
    load::<Sample>(options(file, environment)).unwrap_err().to_string()
}

#[test]
fn without_file_and_environment_the_defaults_count_secrets_included() {
    let sample = load::<Sample>(options(None, &[])).unwrap();
    assert_eq!(sample, Sample::default());
    assert_eq!(sample.auth.hs256_secret.expose(), "default-secret");
}

#[test]
fn environment_overrides_file_overrides_defaults() {
    for (extension, text) in [
        (".toml", "[redis]\nprefix = \"file\"\nlog_ttl = \"2h\"\n[log]\nformat = \"text\"\n"),
        (".yaml", "redis:\n  prefix: file\n  log_ttl: 2h\nlog:\n  format: text\n"),
        (".json", r#"{"redis":{"prefix":"file","log_ttl":"2h"},"log":{"format":"text"}}"#),
    ] {
        let file = file(extension, text);
        let sample = load::<Sample>(options(
            Some(file.path()),
            &[("ROWCAST_REDIS__PREFIX", "environment"), ("ROWCAST_AUTH__HS256_SECRET", "hush")],
        ))
        .unwrap();
        assert_eq!(sample.redis.prefix, "environment", "{extension}");
        assert_eq!(sample.redis.log_ttl, Duration::from_secs(7200), "{extension}");
        assert_eq!(sample.log.format, LogFormat::Text, "{extension}");
        assert_eq!(sample.redis.log_max_entries, 1000, "{extension}");
        assert_eq!(sample.auth.hs256_secret.expose(), "hush", "{extension}");
    }
}

#[test]
fn environment_values_take_the_type_of_their_key() {
    let sample = load::<Sample>(options(
        None,
        &[
            ("ROWCAST_REDIS__LOG_MAX_ENTRIES", "50"),
            ("ROWCAST_AUTH__HS256_SECRET", "007"),
            ("ROWCAST_AUTH__AUDIENCE", "12"),
            ("ROWCAST_AUTH__LEEWAY_SECONDS", "12"),
            ("ROWCAST_AUTH__ORIGINS", "https://a.example, https://b.example"),
            ("ROWCAST_AUTH__PORTS", "80,443"),
            ("ROWCAST_AUTH__KEYS__OLD", "true"),
        ],
    ))
    .unwrap();
    assert_eq!(sample.redis.log_max_entries, 50);
    assert_eq!(sample.auth.hs256_secret.expose(), "007");
    assert_eq!(sample.auth.audience.as_deref(), Some("12"));
    assert_eq!(sample.auth.leeway_seconds, Some(12));
    assert_eq!(sample.auth.origins, ["https://a.example", "https://b.example"]);
    assert_eq!(sample.auth.ports, [80, 443]);
    assert_eq!(sample.auth.keys["old"].expose(), "true");
}

#[test]
fn an_unknown_key_names_itself_its_source_and_the_nearest_known_key() {
    let deep = file(".toml", "[redis]\nprefx = \"x\"\n");
    let message = error(Some(deep.path()), &[]);
    assert!(message.contains("`redis.prefx`") && message.contains("`redis.prefix`"), "{message}");
    assert!(message.contains(&deep.path().display().to_string()), "{message}");

    let top = file(".yaml", "edgee:\n  listen: x\n");
    assert!(error(Some(top.path()), &[]).contains("nearest known key is `edge`"));

    let message = error(None, &[("ROWCAST_REDIS_URL", "redis://:hush@x")]);
    assert!(message.contains("ROWCAST_REDIS_URL") && message.contains("(ROWCAST_REDIS__URL)"), "{message}");
    assert!(!message.contains("hush"));

    let message = error(None, &[("ROWCAST_LOG__PREFIX", "x")]);
    assert!(message.contains("`redis.prefix`"), "{message}");
}

#[test]
fn sections_of_other_processes_are_passed_over() {
    let file = file(".toml", "[edge]\nlisten = \"127.0.0.1:0\"\n");
    load::<Sample>(options(Some(file.path()), &[("ROWCAST_LISTENER__ANYTHING", "1")])).unwrap();
}

#[test]
fn kubernetes_service_links_are_not_settings() {
    load::<Sample>(options(
        None,
        &[
            ("ROWCAST_EDGE_SERVICE_HOST", "10.0.0.1"),
            ("ROWCAST_EDGE_SERVICE_PORT_HTTP", "8080"),
            ("ROWCAST_EDGE_PORT", "tcp://10.0.0.1:8080"),
            ("ROWCAST_EDGE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ],
    ))
    .unwrap();
    assert!(error(None, &[("ROWCAST_EDGE_PORT", "8080")]).contains("unknown key"));
}

#[test]
fn a_wrong_type_names_key_type_and_source() {
    let message = error(None, &[("ROWCAST_REDIS__LOG_MAX_ENTRIES", "many")]);
    assert_eq!(
        message,
        "`redis.log_max_entries` from the environment variable ROWCAST_REDIS__LOG_MAX_ENTRIES: got text, expected a whole number, not negative"
    );
    let wrong = file(".toml", "[log]\nformat = \"jsn\"\n");
    let message = error(Some(wrong.path()), &[]);
    assert!(message.contains("`log.format`") && message.contains("`json` or `text`"), "{message}");

    let message = error(None, &[("ROWCAST_REDIS__LOG_TTL", "3600")]);
    assert!(message.contains("`redis.log_ttl`") && message.contains("is not a duration"), "{message}");

    let message = error(None, &[("ROWCAST_AUTH__LEEWAY_SECONDS", "-1")]);
    assert!(message.contains("`auth.leeway_seconds`") && !message.contains("-1"), "{message}");
    let wrong = file(".toml", "[auth]\nports = [70000]\n");
    assert!(error(Some(wrong.path()), &[]).contains("out of range, expected u16"));

    let section = file(".toml", "log = 3\n");
    assert!(error(Some(section.path()), &[]).contains("expected a section"));
    assert!(error(None, &[("ROWCAST_LOG", "x")]).contains("it is a section"));
}

#[test]
fn no_error_shows_a_secret() {
    let wrong_type = file(".toml", "[auth]\nhs256_secret = 918273\n");
    let broken = file(".toml", "[auth]\nhs256_secret = \"918273\n");
    let broken_yaml = file(".yaml", "auth:\n  hs256_secret: \"918273\n");
    let in_list = file(".toml", "[auth.keys]\nold = [918273]\n");
    for file in [&wrong_type, &broken, &broken_yaml, &in_list] {
        let message = error(Some(file.path()), &[]);
        assert!(!message.contains("918273"), "{message}");
    }
    assert!(error(Some(broken.path()), &[]).contains("line 2"));
    let message =
        error(None, &[("ROWCAST_REDIS__URL__X", "918273"), ("ROWCAST_AUTH__HS256_SECRT", "918273")]);
    assert!(!message.contains("918273"), "{message}");
}

#[test]
fn a_printed_configuration_hides_secrets_and_loads_again_without_them() {
    let sample = load::<Sample>(options(
        None,
        &[("ROWCAST_REDIS__URL", "redis://u:hush@cache"), ("ROWCAST_AUTH__HS256_SECRET", "hush")],
    ))
    .unwrap();
    let printed = print(&sample).unwrap();
    assert!(!printed.contains("hush") && printed.contains("redis://u:***@cache"), "{printed}");
    assert!(printed.contains("# audience is not set") && printed.contains("log_ttl = \"1h\""), "{printed}");

    // The masks themselves are refused, so nobody deploys "***" as a password.
    let again = file(".toml", &printed);
    let message = error(Some(again.path()), &[]);
    assert!(message.contains("hs256_secret") && message.contains("the mask of a printed"), "{message}");
    let again = file(".toml", &printed.replace("***", "x"));
    assert_eq!(
        load::<Sample>(options(Some(again.path()), &[])).unwrap().redis.url.expose(),
        "redis://u:x@cache"
    );
}

#[test]
fn names_in_a_free_table_keep_their_case() {
    let file = file(".toml", "[auth.keys]\nOld-Kid = \"x\"\n\"a.b\" = \"y\"\n");
    let keys = load::<Sample>(options(Some(file.path()), &[])).unwrap().auth.keys;
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["Old-Kid", "a.b"]);
}

#[test]
fn a_secret_can_come_from_a_file() {
    let secret = file("", "hush\n");
    let path = secret.path().to_str().unwrap();
    let sample = load::<Sample>(options(None, &[("ROWCAST_AUTH__HS256_SECRET_FILE", path)])).unwrap();
    assert_eq!(sample.auth.hs256_secret.expose(), "hush");

    let both = [("ROWCAST_AUTH__HS256_SECRET_FILE", path), ("ROWCAST_AUTH__HS256_SECRET", "x")];
    assert!(error(None, &both).contains("only one of them"));
    let missing = error(None, &[("ROWCAST_AUTH__HS256_SECRET_FILE", "/nonexistent/secret")]);
    assert!(missing.contains("/nonexistent/secret") && missing.contains("HS256_SECRET_FILE"), "{missing}");
}

#[test]
fn a_missing_or_nameless_file_is_an_error_that_names_it() {
    let missing = error(Some(std::path::Path::new("/nonexistent/rowcast.toml")), &[]);
    assert!(missing.contains("/nonexistent/rowcast.toml"), "{missing}");
    let nameless = file(".ini", "x");
    assert!(error(Some(nameless.path()), &[]).contains(&nameless.path().display().to_string()));
}
