//! What the command reads of the configuration that all processes share: the same file, the same environment, secrets from
//! files too. An argument on the command line counts before all of it.

use std::path::Path;

use rowcast_process::config::{
    LoadOptions, load,
    shared::{AuthConfig, DatabaseConfig},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sections that the command looks into.
#[derive(Debug, Clone, Default, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For the commands that work on the database.
    pub database: DatabaseConfig,
    /// For tokens.
    pub auth: AuthConfig,
}

impl Config {
    /// Loads it.
    ///
    /// # Errors
    /// The first thing that is wrong with the file or the environment.
    pub fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(load(LoadOptions::new(file.map(Path::to_owned)))?)
    }
}
