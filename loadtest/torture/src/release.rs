//! Whose programs run: those of this release, which stand beside the torture's own, or of the one before it, in a folder of
//! their own; and a rolling restart, which may lead from one to the other. Only processes are of a release here: clients,
//! writers and the ledger are always this one's.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rowcast_cli::dev::database::{self, Database};
use rowcast_cli::dev::folder::DevFolder;
use rowcast_cli::dev::say::Say;
use rowcast_sandbox::bin;
use tokio::process::Command;

use crate::system::{Node, System};

/// Which programs some processes are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Release {
    /// This one.
    This,
    /// The one before it.
    Previous,
    /// Those with an odd number are of the one before it, the others of this one.
    Both,
}

impl Release {
    /// Of the process with this number, from 1.
    pub(crate) fn of(self, number: u8) -> Self {
        match self {
            Self::Both if number % 2 == 1 => Self::Previous,
            Self::Both => Self::This,
            all => all,
        }
    }
}

/// Where programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    previous: Option<PathBuf>,
}

impl Programs {
    pub(crate) fn new(previous: Option<PathBuf>) -> Self {
        Self { previous }
    }

    /// A program of one release.
    pub(crate) fn find(&self, name: &str, release: Release) -> Result<PathBuf> {
        match (release, &self.previous) {
            (Release::This, _) => bin(name),
            (_, previous) => Ok(previous.as_ref().context("there is no previous release")?.join(name)),
        }
    }

    /// A database with the schema that these releases make. Without a password: checking one costs a build without
    /// optimisation more than all else that it does to connect.
    pub(crate) async fn database(&self, schema: Release, folder: &DevFolder, say: Say) -> Result<Database> {
        if self.previous.is_none() {
            return database::start(folder, None, say).await;
        }
        database::start_with(folder, None, say, async |url| {
            for release in [Release::Previous, Release::This] {
                if schema == release || schema == Release::Both {
                    say.line(&self.migrate(release, &url).await?);
                }
            }
            Ok(())
        })
        .await
    }

    /// `rowcast migrate` of one release, which says what it does.
    pub(crate) async fn migrate(&self, release: Release, database_url: &str) -> Result<String> {
        let mut command = Command::new(self.find("rowcast", release)?);
        // The developer's own settings of Rowcast are for other runs.
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ROWCAST_")) {
            command.env_remove(key);
        }
        let output = command.args(["migrate", "--database-url", database_url]).kill_on_drop(true).output();
        let output = output.await.context("starting `rowcast migrate`")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        anyhow::ensure!(output.status.success(), "`rowcast migrate` ended with {}: {said}", output.status);
        Ok(said)
    }
}

impl System {
    /// Restarts every process in turn; where there is a previous release, with the other one's programs. Who reads comes
    /// before who writes on the way up, and behind it on the way back, as docs/upgrading.md has it.
    pub(crate) async fn roll(&self, say: Say) -> Result<()> {
        let release = self.plan.rolls_to(self.rolled.fetch_add(1, Ordering::Relaxed));
        if release == Some(Release::This) {
            say.line(&self.programs.migrate(Release::This, &self.database_url).await?);
        }
        let mut nodes: Vec<&Node> = self.nodes().collect();
        if release == Some(Release::This) {
            nodes.sort_by_key(|node| node.is_listener());
        }
        for node in nodes {
            let program = if node.is_listener() { "rowcast-listener" } else { "rowcast-edge" };
            let program = release.map(|release| self.programs.find(program, release)).transpose()?;
            let took =
                node.roll(program.as_deref()).await.with_context(|| format!("rolling {}", node.name))?;
            let which = release.map(|release| format!(" as of {release:?}")).unwrap_or_default();
            say.line(&format!("{} was restarted{which}; its end took {took:.1?}", node.name));
        }
        Ok(())
    }
}
