//! Sockets to listen on, and the file that tells others where they are.

use std::{io, net::TcpListener, path::Path};

use rustix::net::listen;
use serde::Serialize;

/// Connections that may wait to be accepted. The standard library asks for 128, which a storm of reconnections
/// overflows; the kernel caps this at its own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Binds `address` ("127.0.0.1:0", "0.0.0.0:8080", "localhost:8080") for a non-blocking server.
///
/// # Errors
/// When the address is malformed, taken or not allowed; the error names it and the configuration key.
pub fn bind(key: &str, address: &str) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        // Listening again on a listening socket only changes its backlog.
        listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    bound.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address} (`{key}`): {error}"))
    })
}

/// Writes `ports` as JSON, by rename, so that a reader sees the whole file or none.
///
/// # Errors
/// When the file cannot be written or renamed; the error names it.
pub fn write_file(path: &Path, ports: &impl Serialize) -> io::Result<()> {
    let write = || {
        let mut text = serde_json::to_vec_pretty(ports)?;
        text.push(b'\n');
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        std::fs::write(&temporary, text)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_whole_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.json");
        for listen in ["127.0.0.1:1", "127.0.0.1:2"] {
            write_file(&path, &serde_json::json!({ "listen": listen })).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(read["listen"], listen);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_file(&folder.path().join("none/ports.json"), &1).unwrap_err();
        assert!(error.to_string().contains("none/ports.json"));
    }

    #[test]
    fn a_taken_port_is_named_with_its_key() {
        let taken = bind("edge.listen", "127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind("admin.listen", &address).unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("admin.listen"), "{error}");
    }
}
