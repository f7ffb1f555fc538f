//! Configuration: files in three languages, and the environment.

use std::collections::BTreeMap;
use std::io::Write as _;

use rowcast_process::config::{LoadOptions, SECTIONS, load, print};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Stands where secrets stand.
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

/// What secrets are printed as.
const MASK: &str = "***";

/// The first line names the file's language; up to a line `---` come variables, behind it the file. What is wrong is an
/// error that shows no secret; what loads is printed without one, and loads again as the same.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (language, rest) = text.split_once('\n').unwrap_or(("toml", &text));
    let suffix = match language {
        "yaml" => ".yaml",
        "json" => ".json",
        _ => ".toml",
    };
    let (variables, file) = rest.split_once("\n---\n").unwrap_or(("", rest));
    let mut environment: BTreeMap<String, String> = variables
        .lines()
        .filter_map(|line| line.split_once('='))
        // These would have any file of this machine read.
        .filter(|(name, _)| !name.ends_with("_FILE"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    environment.insert("ROWCAST_AUTH__HS256_SECRET".to_owned(), SECRET.to_owned());
    environment.insert("ROWCAST_REDIS__URL".to_owned(), format!("redis://:{SECRET}@127.0.0.1"));
    if let Some(edge) = loaded::<rowcast_edge::config::Config>(suffix, file, &environment) {
        silent(&edge.validate().map_err(|error| format!("{error:#}")).err().unwrap_or_default());
    }
    if let Some(listener) = loaded::<rowcast_listener::Config>(suffix, file, &environment) {
        silent(&listener.validate().map_err(|error| format!("{error:#}")).err().unwrap_or_default());
    }
}

fn loaded<T>(suffix: &str, file: &str, environment: &BTreeMap<String, String>) -> Option<T>
where
    T: Serialize + DeserializeOwned + Default,
{
    let config = match load_from::<T>(suffix, file, environment) {
        Ok(config) => config,
        Err(error) => {
            silent(&error);
            return None;
        }
    };
    let printed = print(&config).expect("a configuration can be printed");
    silent(&printed);
    // A mask is refused where a secret belongs.
    let again = load_from::<T>(".toml", &printed.replace(MASK, SECRET), &BTreeMap::new());
    let again = again.unwrap_or_else(|error| panic!("{error}\n{printed}"));
    let again = print(&again).expect("a configuration can be printed");
    assert_eq!(again.replace(SECRET, MASK), printed);
    Some(config)
}

fn load_from<T>(suffix: &str, file: &str, environment: &BTreeMap<String, String>) -> Result<T, String>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut place = tempfile::Builder::new().suffix(suffix).tempfile().expect("a file");
    place.write_all(file.as_bytes()).expect("a file");
    let options = LoadOptions {
        file: Some(place.path().to_owned()),
        other_sections: SECTIONS,
        environment: environment.clone(),
    };
    load(options).map_err(|error| format!("{error}"))
}

fn silent(text: &str) {
    assert!(!text.contains(SECRET), "a secret is shown: {text}");
}
