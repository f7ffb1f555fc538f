//! Any target of crates/fuzzing, by the name in `FUZZ`, guided by coverage.

#![no_main]

use std::sync::LazyLock;

use rowcast_fuzzing::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ").expect("FUZZ names the target, such as wire");
    Target::find(&name).expect("FUZZ names a target of crates/fuzzing")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.check)(data));
