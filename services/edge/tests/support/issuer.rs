//! An issuer that serves its keys over HTTP, and that rotates, stalls, lies or dies when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What it does when it is asked.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// It answers with a status, further headers, and a body.
    Answer(u16, String, String),
    /// It takes the request and says nothing.
    Stall,
    /// Its body never ends.
    Endless,
    /// It hangs up.
    HangUp,
}

impl Behaviour {
    /// It serves these keys.
    pub fn keys(keys: &[Value]) -> Self {
        Self::answer(200, json!({ "keys": keys }).to_string())
    }

    pub fn answer(status: u16, body: impl Into<String>) -> Self {
        Self::Answer(status, String::new(), body.into())
    }
}

/// An issuer's server.
pub struct Issuer {
    pub address: SocketAddr,
    behaviour: watch::Sender<Behaviour>,
    requests: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Issuer {
    pub async fn start(behaviour: Behaviour) -> Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), behaviour).await
    }

    pub async fn start_at(address: SocketAddr, behaviour: Behaviour) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (behaviour, said) = watch::channel(behaviour);
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, said.clone(), Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, behaviour, requests, server })
    }

    /// What it does from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// How often it was asked.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// The end of its server; its address, to come back at.
    pub async fn die(mut self) -> SocketAddr {
        self.server.abort();
        let _aborted = (&mut self.server).await;
        self.address
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }
}

async fn serve(mut stream: TcpStream, behaviour: watch::Receiver<Behaviour>, requests: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let behaviour = behaviour.borrow().clone();
    match behaviour {
        Behaviour::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} So\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
            let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
        Behaviour::Stall => tokio::time::sleep(Duration::from_secs(600)).await,
        Behaviour::Endless => {
            let mut written = stream.write_all(b"HTTP/1.1 200 So\r\n\r\n{\"keys\":[").await;
            while written.is_ok() {
                written = stream.write_all(&[b' '; 8 * 1024]).await;
            }
        }
        Behaviour::HangUp => {}
    }
}
