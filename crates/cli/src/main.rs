//! The `rowcast` command; all of it is in the library beside this file.

fn main() -> std::process::ExitCode {
    rowcast_cli::main()
}
