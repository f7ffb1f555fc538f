//! SECURITY.md's tables of attacks: each row names a test that is there, and a guard that `make mutants` takes out to see
//! that test fail. Whether it fails is seen by `make mutants`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// A row of a table of attacks.
#[derive(Debug)]
struct Row {
    section: String,
    attack: String,
    /// `services/edge/tests/hostile.rs` and the test's name there.
    tests: Vec<(String, String)>,
}

/// One of scripts/guards.
#[derive(Debug, Deserialize)]
struct Mutant {
    name: String,
    file: String,
    old: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let (_, attacks) = page.split_once("\n## Attacks\n").expect("a chapter of attacks");
    let attacks = attacks.split("\n## ").next().unwrap_or_default();
    let mut section = String::new();
    let mut rows = Vec::new();
    for line in attacks.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            section = title.to_owned();
        } else if line.starts_with("| ") && !line.starts_with("| attack ") && !line.starts_with("| ---") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [attack, happens, tests] = *cells else { panic!("{section}: not three cells: {line}") };
            assert!(!attack.is_empty() && !happens.is_empty(), "{section}: {line}");
            let quoted = tests.split('`').skip(1).step_by(2);
            let named = |test: &str| {
                let (file, name) =
                    test.split_once("::").unwrap_or_else(|| panic!("{section}: no test's path: {test}"));
                (file.to_owned(), name.to_owned())
            };
            let tests = quoted.map(named).collect();
            rows.push(Row { section: section.clone(), attack: attack.to_owned(), tests });
        }
    }
    rows
}

fn mutants() -> Vec<Mutant> {
    let program = "import dataclasses, json, guards; print(json.dumps([dataclasses.asdict(m) for m in guards.all_mutants()]))";
    let told = Command::new("python3")
        .args(["-B", "-c", program])
        .current_dir(root().join("scripts"))
        .output()
        .expect("python3 runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).expect("mutants")
}

/// What is missing of a test that a row names, if anything.
fn fault(file: &str, name: &str) -> Option<String> {
    let Ok(text) = std::fs::read_to_string(root().join(file)) else {
        return Some(format!("there is no {file}"));
    };
    let there = if file.ends_with(".rs") {
        text.contains(&format!("fn {name}("))
    } else {
        [format!("\"{name}\""), format!("`{name}`")].iter().any(|title| text.contains(title))
    };
    (!there).then(|| format!("{file} has no test {name}"))
}

/// Whether what a mutant runs has that test in it: cargo's package and target, and the filters behind `--`.
fn runs(mutant: &Mutant, file: &str, name: &str) -> bool {
    let arguments: Vec<&str> = mutant.tests.iter().map(String::as_str).collect();
    let mut halves = arguments.split(|argument| *argument == "--");
    let (cargo, filters) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let Some((package, target, modules)) = place(file) else { return false };
    let of_package = cargo.windows(2).any(|pair| pair == ["-p", &format!("rowcast-{package}")]);
    let of_target = match &target {
        None => cargo.contains(&"--lib"),
        Some(target) => cargo.windows(2).any(|pair| pair == ["--test", target.as_str()]),
    };
    let every_target = !cargo.iter().any(|argument| ["--lib", "--test"].contains(argument));
    let paths = [format!("{modules}{name}"), format!("{modules}tests::{name}")];
    let named = |filter: &&str| filter.starts_with("--") || paths.iter().any(|path| path.contains(*filter));
    of_package && (of_target || every_target) && (filters.is_empty() || filters.iter().any(named))
}

/// Package, integration test (none for a unit test), and the path of modules with `::` behind each.
fn place(file: &str) -> Option<(String, Option<String>, String)> {
    let (folder, inner, unit) = match (file.split_once("/src/"), file.split_once("/tests/")) {
        (Some((folder, inner)), _) => (folder, inner, true),
        (None, Some((folder, inner))) => (folder, inner, false),
        (None, None) => return None,
    };
    let package = folder.rsplit('/').next()?.to_owned();
    let mut modules: Vec<&str> = inner.trim_end_matches(".rs").trim_end_matches("/mod").split('/').collect();
    let target = (!unit).then(|| modules.remove(0).to_owned());
    modules.retain(|module| *module != "lib");
    Some((package, target, modules.iter().map(|module| format!("{module}::")).collect()))
}

fn none_is(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n{}", faults.join("\n"));
}

#[test]
fn each_attack_names_tests_that_are_there() {
    let rows = rows();
    assert!(rows.len() >= 10, "{} rows", rows.len());
    let faults = rows.iter().flat_map(|row| {
        let missing = row.tests.iter().filter_map(|(file, name)| fault(file, name));
        let none = row.tests.is_empty().then(|| "no test".to_owned());
        missing.chain(none).map(move |fault| format!("{}: {}: {fault}", row.section, row.attack))
    });
    none_is("tests are missing", &faults.collect::<Vec<_>>());
}

#[test]
fn each_attacks_guard_can_be_taken_out() {
    let mutants = mutants();
    let guarded =
        |row: &Row| row.tests.iter().any(|(file, name)| mutants.iter().any(|m| runs(m, file, name)));
    let faults = rows().into_iter().filter(|row| !guarded(row));
    let faults = faults.map(|row| {
        format!("{}: {}: no mutant of scripts/guards runs {:?}", row.section, row.attack, row.tests)
    });
    none_is("guards are missing", &faults.collect::<Vec<_>>());
}

#[test]
fn each_guard_stands_where_it_is_taken_out() {
    let faults = mutants().into_iter().filter_map(|mutant| {
        let text = std::fs::read_to_string(root().join(&mutant.file)).unwrap_or_default();
        let count = text.matches(&mutant.old).count();
        (count != 1)
            .then(|| format!("{}: {} holds it {count} times: {}", mutant.name, mutant.file, mutant.old))
    });
    none_is("scripts/guards and the code do not agree", &faults.collect::<Vec<_>>());
}

#[test]
fn a_tests_place_is_told_by_its_path() {
    let place = |file| place(file).expect("a place");
    let owned = |package: &str, target: Option<&str>, modules: &str| {
        (package.to_owned(), target.map(str::to_owned), modules.to_owned())
    };
    assert_eq!(place("services/edge/src/auth/mod.rs"), owned("edge", None, "auth::"));
    assert_eq!(place("services/edge/tests/hostile.rs"), owned("edge", Some("hostile"), ""));
    assert_eq!(place("crates/store/tests/it/cases/types.rs"), owned("store", Some("it"), "cases::types::"));
    let mutant = |tests: &[&str]| Mutant {
        name: String::new(),
        file: String::new(),
        old: String::new(),
        tests: tests.iter().map(|text| (*text).to_owned()).collect(),
    };
    let of = |tests: &[&str]| runs(&mutant(tests), "crates/store/tests/it/cases/types.rs", "a_test");
    assert!(of(&["-p", "rowcast-store", "--test", "it"]));
    assert!(of(&["-p", "rowcast-store", "--test", "it", "--", "cases::types"]));
    assert!(!of(&["-p", "rowcast-store", "--test", "it", "--", "rights::"]));
    assert!(!of(&["-p", "rowcast-store", "--lib"]) && !of(&["-p", "rowcast-edge", "--test", "it"]));
}
