//! The configuration's page says what the code does.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use rowcast_docs::{page, renewed, settings};
use rowcast_process::config::{LoadOptions, SECTIONS, load};

#[test]
fn the_page_is_what_the_code_generates() {
    let there = std::fs::read_to_string(page()).expect("the page");
    let renewed = renewed(&there).expect("it has a place for the tables");
    // Not assert_eq: it would print both pages.
    let line = there.lines().zip(renewed.lines()).find(|(there, renewed)| there != renewed);
    assert!(there == renewed, "docs/configuration.md is not what the code says (run `make docs`): {line:#?}");
}

#[test]
fn every_setting_has_a_comment_that_names_its_variable_and_its_default() {
    let all = settings().expect("settings");
    assert!(all.len() > 40, "{} settings", all.len());
    for setting in all {
        let begin = format!("`{}`: ", setting.variable);
        assert!(setting.comment.starts_with(&begin), "{}: {}", setting.key, setting.comment);
        assert!(
            setting.comment.contains(&setting.default),
            "{} is {}: {}",
            setting.key,
            setting.default,
            setting.comment
        );
    }
}

/// Every block of that language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match &mut open {
            Some(block) if line.starts_with("```") => {
                blocks.push(std::mem::take(block));
                open = None;
            }
            Some(block) => *block += &format!("{line}\n"),
            None => open = (line == format!("```{language}")).then(String::new),
        }
    }
    blocks
}

fn loads<T: serde::Serialize + serde::de::DeserializeOwned + Default>(file: &Path) -> Result<T, String> {
    let options =
        LoadOptions { file: Some(file.to_owned()), other_sections: SECTIONS, environment: BTreeMap::new() };
    load::<T>(options).map_err(|error| error.to_string())
}

#[test]
fn examples_of_configuration_load() {
    let root = page().parent().and_then(Path::parent).expect("the repository").to_owned();
    let mut count = 0;
    for name in ["README.md", "docs/configuration.md", "docs/transport-security.md"] {
        let text = std::fs::read_to_string(root.join(name)).expect("a page");
        for block in blocks(&text, "toml") {
            let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
            file.write_all(block.as_bytes()).expect("a file");
            let mut listener = loads::<rowcast_listener::Config>(file.path())
                .unwrap_or_else(|said| panic!("{name}: {said}\n{block}"));
            listener.database.url = "postgres://127.0.0.1/shop".into();
            // Files of certificates are read by that, and there are none here.
            if !block.contains(".crt") {
                listener.validate().unwrap_or_else(|said| panic!("{name}: {said}\n{block}"));
            }
            loads::<rowcast_edge::config::Config>(file.path())
                .unwrap_or_else(|said| panic!("{name}: {said}\n{block}"));
            loads::<rowcast_cli::config::Config>(file.path())
                .unwrap_or_else(|said| panic!("{name}: {said}\n{block}"));
            count += 1;
        }
    }
    assert!(count >= 2, "{count} examples");
}
