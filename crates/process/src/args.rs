//! The command-line arguments that every long-running process takes. Each process flattens them into its own.

use std::path::PathBuf;

use crate::config::{self, ConfigError, LoadOptions};

/// `--config`, `--check` and `--ports-file`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct CommonArgs {
    /// Configuration file (.toml, .yaml or .json); the environment (ROWCAST_…) overrides it.
    #[arg(long, value_name = "FILE", env = "ROWCAST_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the configuration in force as TOML, secrets hidden, and exit; exit 1 when it is wrong.
    #[arg(long)]
    pub check: bool,
    /// Write the bound addresses to this file as JSON once all ports are bound.
    #[arg(long, value_name = "FILE")]
    pub ports_file: Option<PathBuf>,
}

impl CommonArgs {
    /// Loads the configuration of this process from the defaults, `--config` and the environment.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn load<T>(&self) -> Result<T, ConfigError>
    where
        T: serde::Serialize + serde::de::DeserializeOwned + Default,
    {
        config::load(LoadOptions::new(self.config.clone()))
    }
}
