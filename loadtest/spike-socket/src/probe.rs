//! How each carrier behaves where an edge depends on it: idle sockets, half-close, reset, stop, limits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::Carrier;
use crate::clients::HANDSHAKE;
use crate::server::Server;

const PING: &[u8] = &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'];
const PONG: &[u8] = &[0x8a, 2, b'h', b'i'];

type Probe = fn(Carrier) -> Result<String>;

const PROBES: [(&str, Probe); 11] = [
    ("a ping sent together with the handshake is answered", early_ping),
    ("a socket idle for 12 s (keep-alive is 5 s)", idle),
    ("the client half-closes: socket ended after", half_close),
    ("the same with `h1_allow_half_closed` at its default", half_close_default),
    ("the client resets: socket ended after", reset),
    ("the client vanishes after 4 frames it did not read: socket ended after", unread),
    ("the server closes with 1002: what the client sees", violation),
    ("the same with 1009 while the client sends on", flood),
    ("graceful stop with 20 sockets open, `shutdown_timeout` 3 s: process ended after", stop),
    ("upgrade on another path", other_path),
    ("12 sockets where `max_connections` is 8: shaken hands", limit),
];

/// Tries everything once and prints the table.
pub fn probe() -> Result<()> {
    let names = Carrier::ALL.map(|carrier| carrier.to_string()).join(" | ");
    println!("| | {names} |\n| --- | --- | --- | --- | --- |");
    for (name, probe) in PROBES {
        let cells = Carrier::ALL.map(|carrier| probe(carrier).unwrap_or_else(|error| error.to_string()));
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

fn connect(address: SocketAddr, handshake: &[u8]) -> Result<(TcpStream, String)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(handshake)?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok((socket, String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()))
}

fn answers_pong(socket: &mut TcpStream) -> bool {
    let mut pong = [0; 4];
    socket.read_exact(&mut pong).is_ok() && pong == *PONG
}

fn ended(server: &Server) -> String {
    match server.wait_for_open(0, Duration::from_secs(8)) {
        Ok(time) => format!("{:.1} s", time.as_secs_f64()),
        Err(_) => "not within 8 s".to_owned(),
    }
}

fn early_ping(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (mut socket, _) = connect(server.address, &[HANDSHAKE, PING].concat())?;
    Ok(if answers_pong(&mut socket) { "yes" } else { "no" }.to_owned())
}

fn idle(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (mut socket, _) = connect(server.address, HANDSHAKE)?;
    std::thread::sleep(Duration::from_secs(12));
    socket.write_all(PING)?;
    Ok(if answers_pong(&mut socket) { "stays" } else { "is closed" }.to_owned())
}

fn half_close(carrier: Carrier) -> Result<String> {
    after_half_close(&Server::start(carrier, &[])?)
}

fn half_close_default(carrier: Carrier) -> Result<String> {
    after_half_close(&Server::start(carrier, &["--half-closed"])?)
}

fn after_half_close(server: &Server) -> Result<String> {
    let (socket, _) = connect(server.address, HANDSHAKE)?;
    socket.shutdown(Shutdown::Write)?;
    Ok(ended(server))
}

fn reset(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (mut socket, _) = connect(server.address, HANDSHAKE)?;
    socket.write_all(PING)?;
    server.get("/open")?;
    // Closing with the pong unread makes the kernel send a reset.
    std::thread::sleep(Duration::from_millis(100));
    drop(socket);
    Ok(ended(&server))
}

fn unread(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (socket, _) = connect(server.address, HANDSHAKE)?;
    server.get("/tick?count=1&interval_ms=10&frames=4")?;
    drop(socket);
    Ok(ended(&server))
}

fn violation(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (mut socket, _) = connect(server.address, HANDSHAKE)?;
    socket.write_all(&[0x81, 2, b'h', b'i'])?;
    Ok(end_as_seen(&mut socket))
}

fn flood(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let (mut socket, _) = connect(server.address, HANDSHAKE)?;
    socket.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 1, 2, 3, 4])?;
    // The server may refuse to take all of it.
    let sent = socket.write_all(&vec![0x55; 2 * 1024 * 1024]).is_ok();
    Ok(format!("{}{}", end_as_seen(&mut socket), if sent { ", all was taken" } else { "" }))
}

/// What comes before the end, and how it ends.
fn end_as_seen(socket: &mut TcpStream) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    let end = loop {
        match socket.read(&mut byte) {
            Ok(0) => break "end of stream",
            Ok(_) => seen.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break "reset",
            Err(_) => break "still open after 1 s",
        }
    };
    match seen.as_slice() {
        [0x88, 2..=125, high, low, ..] => format!("close {}, {end}", u16::from_be_bytes([*high, *low])),
        [0x88, 0] => format!("close without a code, {end}"),
        other => format!("{} bytes, {end}", other.len()),
    }
}

fn stop(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let sockets: Vec<_> = (0..20).map(|_| connect(server.address, HANDSHAKE)).collect::<Result<_>>()?;
    let took = server.stop()?;
    drop(sockets);
    Ok(format!("{:.1} s", took.as_secs_f64()))
}

fn other_path(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &[])?;
    let handshake = String::from_utf8_lossy(HANDSHAKE).replace("/ws", "/elsewhere");
    Ok(connect(server.address, handshake.as_bytes())?.1)
}

fn limit(carrier: Carrier) -> Result<String> {
    let server = Server::start(carrier, &["--max-connections", "8"])?;
    let sockets: Vec<_> = (0..12).map(|_| connect(server.address, HANDSHAKE)).collect();
    Ok(sockets.iter().filter(|socket| socket.is_ok()).count().to_string())
}
