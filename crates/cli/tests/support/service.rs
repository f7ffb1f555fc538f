//! One of our processes, started as it is in production.

use std::{path::Path, time::Duration};

use rowcast_sandbox::{Launch, Process, bin};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// Starts one of our processes and reads the address that it wrote to its ports file.
pub async fn start(name: &str, folder: &Path, key: &str, env: &[(&str, &str)]) -> (Process, String) {
    let ports = folder.join(format!("{name}.json"));
    if ports.exists() {
        std::fs::remove_file(&ports).expect("the old ports file goes");
    }
    let program = bin(name).expect("run `cargo build --workspace --bins` first");
    let mut launch = Launch::new(name, program, folder.join(format!("{name}.log")))
        .args(["--ports-file".as_ref(), ports.as_os_str()])
        .env("ROWCAST_ADMIN__LISTEN", "127.0.0.1:0");
    for (name, value) in env {
        launch = launch.env(name, value);
    }
    let process = launch.spawn().expect("it starts");
    let probe = || async {
        let text = std::fs::read(&ports).map_err(|error| error.to_string())?;
        let ports: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        Ok::<_, String>(ports[key].as_str().unwrap_or_default().to_owned())
    };
    let address = process.wait_ready(PATIENCE, probe).await.expect("it writes its ports");
    (process, address)
}
