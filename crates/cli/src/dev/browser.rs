//! Opens the page where somebody sits before a screen.

use std::env;
use std::io::{self, IsTerminal as _};
use std::process::Stdio;

use tokio::process::Command;

use super::say::Say;

/// Opens an address in the user's browser, if there is a terminal, a display, and nothing that says otherwise.
pub fn open(url: &str, say: Say) {
    if !io::stdout().is_terminal() || env::var_os("CI").is_some() {
        return;
    }
    let Some(program) = program() else { return };
    let mut command = Command::new(program);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    // The browser is the user's: it stays when this ends, and nobody waits for it.
    if let Err(error) = command.spawn() {
        say.line(&format!("no browser was opened ({program}: {error})"));
    }
}

fn program() -> Option<&'static str> {
    if cfg!(target_os = "macos") {
        return Some("open");
    }
    let display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
    display.then_some("xdg-open")
}
