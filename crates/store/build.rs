//! The migrations are embedded by a macro that does not see new files appear.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
