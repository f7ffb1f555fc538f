//! `make fuzz`: runs targets for as long as one likes. A promise that is broken ends it with the input that breaks it.

use std::time::Duration;

use clap::Parser;
use rowcast_fuzzing::engine::{Budget, run};
use rowcast_fuzzing::{Target, targets};

/// Runs fuzz targets over their corpora and over what is made of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Seconds that each target has.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Targets; all unless given.
    targets: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let chosen = match arguments.targets.as_slice() {
        [] => targets::ALL.to_vec(),
        names => names.iter().map(|name| find(name)).collect::<anyhow::Result<_>>()?,
    };
    for target in chosen {
        let ran = run(&target, Budget::Time(Duration::from_secs(arguments.seconds)))?;
        println!("{:16} {:5} seeds {:9} inputs made: nothing broke", target.name, ran.seeds, ran.made);
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<Target> {
    let names = targets::ALL.map(|target| target.name).join(", ");
    Target::find(name).ok_or_else(|| anyhow::anyhow!("there is no target {name}; there are: {names}"))
}
