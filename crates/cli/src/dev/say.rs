//! What `dev` says while it works: short lines, each with the time since it was started.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Instant;

/// Says lines on standard output.
#[derive(Debug, Clone, Copy)]
pub struct Say {
    begun: Instant,
    colours: bool,
}

impl Default for Say {
    fn default() -> Self {
        Self::new()
    }
}

impl Say {
    /// Its clock starts now.
    pub fn new() -> Self {
        let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { begun: Instant::now(), colours }
    }

    /// A line with the time since the start.
    pub fn line(&self, text: &str) {
        let seconds = format!("{:7.2} s", self.begun.elapsed().as_secs_f64());
        self.raw(&format!("{}  {text}", self.paint(DIM, &seconds)));
    }

    /// A line as it is.
    pub fn raw(&self, text: &str) {
        // Where nobody reads any more (`rowcast dev | head`), the servers go on.
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// Coloured where a terminal shows it.
    pub fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Grey.
pub const DIM: &str = "2";
/// Red.
pub const RED: &str = "31";
/// Green.
pub const GREEN: &str = "32";
/// Yellow.
pub const YELLOW: &str = "33";
/// Cyan.
pub const CYAN: &str = "36";
