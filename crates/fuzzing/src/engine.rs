//! Runs a target over its corpus, and over inputs that are made from the corpus by small changes. Proptest makes them, so
//! that a failure is told with as few changes as show it. What coverage would find is cargo-fuzz's.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::Target;

/// Inputs that one runner makes before the time is looked at.
const BATCH: u32 = 500;

/// No input may keep a target busy for longer. Far more than any needs, since other things run on the machine.
const LONGEST: Duration = Duration::from_secs(10);

/// Longer inputs are not made.
const MAX_BYTES: usize = 64 * 1024;

/// What is odd anywhere: bytes that are no text, and a text that turns the direction of others.
const ODD: &[&[u8]] = &[&[0], &[0x7f], &[0xff], &[0xc3, 0x28], "\u{202e}".as_bytes()];

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub enum Budget {
    /// So many inputs, the same in every run: a test passes or fails.
    Inputs(u32),
    /// As many as fit into a time, others in every run.
    Time(Duration),
}

/// What was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Inputs of the corpus.
    pub seeds: usize,
    /// Inputs that were made.
    pub made: u64,
}

/// Runs a target.
///
/// # Errors
/// An input with which it failed, and where that input was written to; or an empty corpus.
pub fn run(target: &Target, budget: Budget) -> anyhow::Result<Ran> {
    let seeds = corpus(target)?;
    for (name, seed) in &seeds {
        let passed = catch_unwind(AssertUnwindSafe(|| timed(target, seed)));
        ensure!(passed.is_ok(), "{}: the corpus's {name} breaks a promise; see above", target.name);
    }
    let inputs: Vec<Vec<u8>> = seeds.into_iter().map(|(_, input)| input).collect();
    let begun = Instant::now();
    let mut made = 0;
    loop {
        let batch = match budget {
            Budget::Inputs(all) => all.saturating_sub(u32::try_from(made).unwrap_or(u32::MAX)).min(BATCH),
            Budget::Time(time) if begun.elapsed() < time => BATCH,
            Budget::Time(_) => 0,
        };
        if batch == 0 {
            return Ok(Ran { seeds: inputs.len(), made });
        }
        let config =
            Config { cases: batch, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
        let runner = match budget {
            Budget::Inputs(_) => TestRunner::new_with_rng(config, repeatable(made)),
            Budget::Time(_) => TestRunner::new(config),
        };
        run_batch(target, &inputs, runner)?;
        made += u64::from(batch);
    }
}

/// Random numbers of the batch that begins at an input.
fn repeatable(from: u64) -> TestRng {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&from.to_be_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &seed)
}

fn run_batch(target: &Target, seeds: &[Vec<u8>], mut runner: TestRunner) -> anyhow::Result<()> {
    let outcome = runner.run(&recipe(target), |recipe| {
        let input = recipe.make(seeds);
        let passed = catch_unwind(AssertUnwindSafe(|| timed(target, &input)));
        passed.map_err(|_| TestCaseError::fail("a promise is broken; see above"))
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(_, recipe)) => {
            let input = recipe.make(seeds);
            let path = keep(target, &input)?;
            bail!(
                "{}: an input of {} bytes breaks a promise: {}\nit is kept in {}; put it into {}",
                target.name,
                input.len(),
                input.escape_ascii(),
                path.display(),
                folder(target).display()
            )
        }
        Err(TestError::Abort(reason)) => bail!("{}: proptest gave up: {reason}", target.name),
    }
}

fn timed(target: &Target, input: &[u8]) {
    let begun = Instant::now();
    (target.check)(input);
    assert!(begun.elapsed() < LONGEST, "{} bytes kept it busy for {:?}", input.len(), begun.elapsed());
}

/// The folder of a target's corpus.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

fn corpus(target: &Target) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).with_context(|| format!("no corpus in {}", folder.display()))?;
    let mut seeds = Vec::new();
    for entry in entries {
        let entry = entry?;
        seeds.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    ensure!(!seeds.is_empty(), "{} is empty", folder.display());
    // In the order of their names, so that equal random numbers make equal inputs.
    seeds.sort();
    Ok(seeds)
}

fn keep(target: &Target, input: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzzing").join(target.name);
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("broken-{}-bytes", input.len()));
    fs::write(&path, input)?;
    Ok(path)
}

/// How an input comes to be: a seed, and changes of it.
#[derive(Debug, Clone)]
struct Recipe {
    seed: Index,
    changes: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Set { at: Index, byte: u8 },
    Flip { at: Index, bit: u8 },
    Insert { at: Index, bytes: Vec<u8> },
    Remove { at: Index, length: usize },
    Repeat { at: Index, length: usize, times: usize },
    Cut { at: Index },
    Splice { at: Index, other: Index, from: Index },
    Replace { bytes: Vec<u8> },
}

fn recipe(target: &Target) -> impl Strategy<Value = Recipe> + use<> {
    (any::<Index>(), vec(change(target.words), 1..8)).prop_map(|(seed, changes)| Recipe { seed, changes })
}

fn change(words: &'static [&'static [u8]]) -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let word = proptest::sample::select(words).prop_map(<[u8]>::to_vec);
    let odd = proptest::sample::select(ODD);
    let bytes = prop_oneof![4 => word, 1 => odd.prop_map(<[u8]>::to_vec), 1 => vec(any::<u8>(), 1..12)];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set { at, byte }),
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        6 => (at(), bytes).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
        4 => (at(), 1..24usize).prop_map(|(at, length)| Change::Remove { at, length }),
        2 => (at(), 1..24usize, 1..200usize)
            .prop_map(|(at, length, times)| Change::Repeat { at, length, times }),
        2 => at().prop_map(|at| Change::Cut { at }),
        3 => (at(), at(), at()).prop_map(|(at, other, from)| Change::Splice { at, other, from }),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| Change::Replace { bytes }),
    ]
}

impl Recipe {
    fn make(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.seed.get(seeds).clone();
        for change in &self.changes {
            change.apply(&mut input, seeds);
            input.truncate(MAX_BYTES);
        }
        input
    }
}

impl Change {
    fn apply(&self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        // A place in an input of any length, its end too.
        let place = |at: &Index, input: &[u8]| at.index(input.len() + 1);
        match self {
            Self::Set { at, byte } if !input.is_empty() => *at.get_mut(input) = *byte,
            Self::Flip { at, bit } if !input.is_empty() => *at.get_mut(input) ^= 1 << bit,
            Self::Set { .. } | Self::Flip { .. } => {}
            Self::Insert { at, bytes } => {
                let at = place(at, input);
                input.splice(at..at, bytes.iter().copied());
            }
            Self::Remove { at, length } => {
                let at = place(at, input);
                input.drain(at..(at + length).min(input.len()));
            }
            Self::Repeat { at, length, times } => {
                let at = place(at, input);
                let piece = input[at..(at + length).min(input.len())].repeat(*times);
                input.splice(at..at, piece);
            }
            Self::Cut { at } => input.truncate(place(at, input)),
            Self::Splice { at, other, from } => {
                let other = other.get(seeds);
                input.truncate(place(at, input));
                input.extend_from_slice(&other[place(from, other)..]);
            }
            Self::Replace { bytes } => input.clone_from(bytes),
        }
    }
}
