//! A client of the ways in by HTTP, on a bare connection: what it gets is what the edge wrote.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{Edge, LIMIT};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {:?}", self.body))
    }

    /// Status and error code.
    pub fn refusal(&self) -> Result<(u16, String)> {
        Ok((self.status, self.json()?["error"].as_str().context("an error code")?.to_owned()))
    }
}

/// A form-encoded query.
pub fn form(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A connection on which a request was sent.
pub struct Exchange {
    pub reader: BufReader<TcpStream>,
}

impl Exchange {
    pub async fn begin(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Self> {
        let mut reader = BufReader::new(TcpStream::connect(address).await?);
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        reader.write_all(format!("{request}\r\n").as_bytes()).await?;
        Ok(Self { reader })
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(LIMIT, self.reader.read_line(&mut line))
            .await
            .context("no answer came")??;
        ensure!(read > 0, "the connection ended");
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Status and headers.
    pub async fn head(&mut self) -> Result<Answer> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).context("a status")?;
        let mut headers: HashMap<String, String> = HashMap::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(": ") else { break };
            let known = headers.entry(name.to_ascii_lowercase()).or_default();
            let separator = if known.is_empty() { "" } else { ", " };
            *known = format!("{known}{separator}{value}");
        }
        Ok(Answer { status, headers, body: String::new() })
    }

    /// The whole answer.
    pub async fn answer(mut self) -> Result<Answer> {
        let mut answer = self.head().await?;
        let length = answer.headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        let mut body = vec![0; length];
        tokio::time::timeout(LIMIT, self.reader.read_exact(&mut body)).await.context("a whole body")??;
        answer.body = String::from_utf8(body)?;
        Ok(answer)
    }

    /// The next chunk of a body that has no length; nothing at its end.
    async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let length = usize::from_str_radix(&self.line().await?, 16)?;
        let mut chunk = vec![0; length + 2];
        tokio::time::timeout(LIMIT, self.reader.read_exact(&mut chunk)).await.context("a whole chunk")??;
        chunk.truncate(length);
        Ok((length > 0).then_some(chunk))
    }
}

/// One message of a stream.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub frame: Value,
}

/// A stream of server-sent events.
pub struct Stream {
    pub exchange: Exchange,
    pub head: Answer,
    buffer: Vec<u8>,
    pub pings: usize,
    pub retry: Option<u64>,
}

impl Stream {
    /// The next message; nothing when the stream has ended in order.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                if let Some(message) = self.take(&String::from_utf8(block)?)? {
                    return Ok(Some(message));
                }
            }
            match self.exchange.chunk().await? {
                Some(chunk) => self.buffer.extend(chunk),
                None => return Ok(None),
            }
        }
    }

    /// Reads on until so many comments have come.
    pub async fn pinged(&mut self, times: usize) -> Result<()> {
        while self.pings < times {
            let chunk = self.exchange.chunk().await?.context("the stream ended")?;
            self.buffer.extend(chunk);
            while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let message = self.take(&String::from_utf8(block)?)?;
                // The light may be turned on meanwhile.
                ensure!(message.is_none_or(|message| message.frame["op"] == "status"), "not a comment");
            }
        }
        Ok(())
    }

    /// Reads a block as browsers do.
    fn take(&mut self, block: &str) -> Result<Option<Message>> {
        let (mut id, mut data) = (String::new(), Vec::new());
        for line in block.lines() {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("", _) if line.starts_with(':') => self.pings += 1,
                ("", _) => {}
                ("id", value) => value.clone_into(&mut id),
                ("data", value) => data.push(value),
                ("retry", value) => self.retry = Some(value.parse()?),
                _ => anyhow::bail!("an unknown field: {line:?}"),
            }
        }
        if data.is_empty() {
            return Ok(None);
        }
        Ok(Some(Message { id, frame: serde_json::from_str(&data.join("\n"))? }))
    }

    /// The next frame of a kind; others are passed over.
    pub async fn next_of(&mut self, op: &str) -> Result<Message> {
        loop {
            let message = self.next().await?.with_context(|| format!("the stream ended before {op}"))?;
            if message.frame["op"] == op {
                return Ok(message);
            }
        }
    }
}

impl Edge {
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        Exchange::begin(&self.listen, method, path, headers).await?.answer().await
    }

    /// Asks for events and does not wait for the answer.
    pub async fn ask(
        &self,
        token: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Result<Exchange> {
        let path = format!("/v1/events?{}", form(fields));
        let bearer = format!("Bearer {token}");
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        Exchange::begin(&self.listen, "GET", &path, &headers).await
    }

    /// A page.
    pub async fn page(&self, token: &str, fields: &[(&str, &str)]) -> Result<Value> {
        let answer = self.ask(token, fields, &[]).await?.answer().await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(answer.header("cache-control") == "no-store", "{answer:?}");
        answer.json()
    }

    /// A stream.
    pub async fn stream(&self, token: &str, fields: &[(&str, &str)], last_event_id: &str) -> Result<Stream> {
        let mut headers = vec![("accept", "text/event-stream")];
        if !last_event_id.is_empty() {
            headers.push(("last-event-id", last_event_id));
        }
        let mut exchange = self.ask(token, fields, &headers).await?;
        let head = exchange.head().await?;
        ensure!(head.status == 200 && head.header("content-type") == "text/event-stream", "{head:?}");
        Ok(Stream { exchange, head, buffer: Vec::new(), pings: 0, retry: None })
    }
}
