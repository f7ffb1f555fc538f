//! The scripts, by the digest under which Redis keeps them.

use redis::Script;

const APPEND: &str = include_str!("append.lua");
const SYNC: &str = include_str!("sync.lua");
const HEARTBEAT: &str = include_str!("heartbeat.lua");
const CLAIM: &str = include_str!("claim.lua");
const MIRROR: &str = include_str!("mirror.lua");

/// The scripts of the publishing side.
pub(crate) struct Scripts {
    pub append: Script,
    pub sync: Script,
    pub heartbeat: Script,
    pub claim: Script,
    pub mirror: Script,
}

impl Scripts {
    pub fn new() -> Self {
        Self {
            append: Script::new(APPEND),
            sync: Script::new(SYNC),
            heartbeat: Script::new(HEARTBEAT),
            claim: Script::new(CLAIM),
            mirror: Script::new(MIRROR),
        }
    }

    /// One pipeline that makes Redis know them all.
    pub fn load() -> redis::Pipeline {
        let mut pipeline = redis::pipe();
        for code in [APPEND, SYNC, HEARTBEAT, CLAIM, MIRROR] {
            pipeline.cmd("SCRIPT").arg("LOAD").arg(code);
        }
        pipeline
    }
}
