//! The connection to the coordinator. The only file of this crate that knows gRPC.
//!
//! Control messages are small; read-outs come as JSON documents and are parsed here; blobs go up and down in chunks and
//! are verified against their digest on the way down.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use ceteris_coordinator::Token;
use ceteris_proto::{
    BLOB_CHUNK_BYTES, MAX_MESSAGE_BYTES,
    v1::{self, coordinator_client::CoordinatorClient},
};
use ceteris_shared::{
    digest::{Digest, Hasher},
    document::Document,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Without keep-alive a stream whose peer vanished would wait for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The same where another coordinator can take over.
const KEEP_ALIVE_OF_SEVERAL: Duration = Duration::from_secs(2);
/// How long one of several coordinators may take to say that it is there.
const ANSWER: Duration = Duration::from_secs(3);
/// Chunks of a blob that are read ahead of the network.
const CHUNKS_AHEAD: usize = 4;

/// Adds the token to every call.
#[derive(Clone, Debug)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    fn new(token: Option<&Token>) -> Self {
        Self(token.map(|token| {
            let mut value: MetadataValue<Ascii> =
                format!("Bearer {}", token.expose()).parse().expect("a token is visible ASCII");
            value.set_sensitive(true);
            value
        }))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// What a blob is uploaded from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Memory.
    Bytes(Bytes),
}

/// Called with the number of bytes each time some have gone over the wire.
pub type OnBytes = std::sync::Arc<dyn Fn(u64) + Send + Sync>;

/// A connected client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The calls, as generated.
    pub rpc: CoordinatorClient<InterceptedService<Channel, Bearer>>,
}

impl Client {
    /// Connects to the first of `urls`, which commas divide, that answers.
    ///
    /// # Errors
    /// When one of them is not an http URL, or when nothing answers at any.
    pub async fn connect(urls: &str, token: Option<&Token>) -> Result<Self, Failure> {
        let bearer = Bearer::new(token);
        let urls: Vec<&str> = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let keep_alive = if urls.len() > 1 { KEEP_ALIVE_OF_SEVERAL } else { KEEP_ALIVE };
        let endpoints = urls.iter().map(|url| endpoint(url, keep_alive)).collect::<Result<Vec<_>, _>>()?;
        let mut refused = Vec::new();
        for (url, endpoint) in urls.iter().zip(&endpoints) {
            let channel = match endpoint.connect().await {
                Ok(channel) => channel,
                Err(error) => {
                    refused.push(format!("{url}: {}", innermost(&error)));
                    continue;
                }
            };
            // With one address, its own answer to the call says enough.
            if urls.len() > 1 && !answers(channel.clone(), bearer.clone()).await {
                refused.push(format!("{url}: no answer within {} s", ANSWER.as_secs()));
                continue;
            }
            let rpc = CoordinatorClient::with_interceptor(channel, bearer)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES);
            return Ok(Self { rpc });
        }
        if urls.is_empty() {
            return Err(not_a_url(""));
        }
        Err(Failure::infrastructure(format!("cannot reach the coordinator at {}", refused.join("; at ")))
            .help("start one with `ceteris up`, or say where it is with --coordinator URL or CETERIS_COORDINATOR"))
    }

    /// Stores a blob; returns whether it was there already.
    ///
    /// # Errors
    /// When the source cannot be read, or the coordinator refuses it.
    pub async fn put_blob(&mut self, digest: Digest, bytes: u64, source: Source, on: OnBytes) -> Result<bool, Failure> {
        let (chunks, receiver) = tokio::sync::mpsc::channel(CHUNKS_AHEAD);
        let reading = tokio::spawn(send_chunks(digest, bytes, source, chunks, on));
        let answer = self.rpc.put_blob(tokio_stream::wrappers::ReceiverStream::new(receiver)).await;
        // A source that failed explains an upload that was cut short better than the coordinator can.
        let read = reading.await.map_err(|error| Failure::infrastructure(format!("the upload ended: {error}")))?;
        read?;
        Ok(answer?.into_inner().existed)
    }

    /// Writes a blob to `target`, verified; fails if it is longer than `limit`.
    ///
    /// # Errors
    /// When there is no such blob, when it is not what its digest says, or when `target` cannot be written.
    pub async fn get_blob(
        &mut self,
        digest: Digest,
        limit: u64,
        target: &mut (impl AsyncWrite + Unpin),
        on: OnBytes,
    ) -> Result<(), Failure> {
        let request = v1::GetBlobRequest { digest: digest.to_string() };
        let mut chunks = self.rpc.get_blob(request).await?.into_inner();
        let (mut hasher, mut length) = (Hasher::default(), 0);
        while let Some(chunk) = chunks.message().await? {
            length += chunk.data.len() as u64;
            if length > limit {
                return Err(Failure::infrastructure(format!(
                    "the object {} is longer than the {limit} bytes it may have",
                    digest.short()
                )));
            }
            hasher.update(&chunk.data);
            target.write_all(&chunk.data).await.map_err(|error| Failure::io("write what was fetched", &error))?;
            on(chunk.data.len() as u64);
        }
        target.flush().await.map_err(|error| Failure::io("write what was fetched", &error))?;
        if hasher.finish() == digest {
            Ok(())
        } else {
            Err(Failure::infrastructure(format!("the object {digest} arrived with other bytes than its digest says"))
                .help("its copy in the store is damaged: restore it from a backup, or make it again"))
        }
    }

    /// A small blob in memory.
    ///
    /// # Errors
    /// As [`Self::get_blob`].
    pub async fn get_bytes(&mut self, digest: Digest, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        self.get_blob(digest, limit, &mut bytes, ignore_bytes()).await?;
        Ok(bytes.into_inner())
    }
}

/// For transfers that nobody watches.
pub fn ignore_bytes() -> OnBytes {
    std::sync::Arc::new(|_| ())
}

async fn send_chunks(
    digest: Digest,
    bytes: u64,
    source: Source,
    chunks: tokio::sync::mpsc::Sender<v1::BlobChunk>,
    on: OnBytes,
) -> Result<(), Failure> {
    let head = v1::BlobChunk { digest: digest.to_string(), bytes, data: Vec::new() };
    if chunks.send(head).await.is_err() {
        return Ok(());
    }
    let send = async |data: Vec<u8>| {
        let sent = data.len() as u64;
        let sent = chunks.send(v1::BlobChunk { data, ..Default::default() }).await.is_ok().then_some(sent);
        sent.into_iter().for_each(|sent| on(sent));
        sent.is_some()
    };
    match source {
        Source::Bytes(all) => {
            for part in all.chunks(BLOB_CHUNK_BYTES) {
                // The coordinator may answer before it has read everything: then it has the blob, or wants none of it.
                if !send(part.to_vec()).await {
                    return Ok(());
                }
            }
        }
        Source::File(path) => {
            let reading = |error: std::io::Error| Failure::io(format!("read {}", path.display()), &error);
            let mut file = tokio::fs::File::open(&path).await.map_err(reading)?;
            loop {
                let mut part = Vec::with_capacity(BLOB_CHUNK_BYTES);
                (&mut file).take(BLOB_CHUNK_BYTES as u64).read_to_end(&mut part).await.map_err(reading)?;
                if part.is_empty() || !send(part).await {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn not_a_url(url: &str) -> Failure {
    Failure::usage(format!("{url:?} is not the URL of a coordinator"))
        .help("write it like http://127.0.0.1:7417, with --coordinator or the variable CETERIS_COORDINATOR")
}

fn endpoint(url: &str, keep_alive: Duration) -> Result<Endpoint, Failure> {
    if !url.starts_with("http://") {
        return Err(not_a_url(url));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| not_a_url(url))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(keep_alive)
        .keep_alive_while_idle(true))
}

/// Whether a coordinator is there: the system accepts connections for one that was stopped, too. Whatever it says, it is.
async fn answers(channel: Channel, bearer: Bearer) -> bool {
    let mut health = HealthClient::with_interceptor(channel, bearer);
    let answer = tokio::time::timeout(ANSWER, health.check(HealthCheckRequest::default())).await;
    answer.is_ok_and(|answer| answer.map_or_else(|status| status.code() != Code::Unavailable, |_| true))
}

/// The last error of a chain: tonic's own says only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// An answer's document as its type.
///
/// # Errors
/// When the coordinator speaks another version of it.
pub fn parse<T: Document>(answer: tonic::Response<v1::Document>) -> Result<T, Failure> {
    read(answer.get_ref())
}

/// A document as its type.
///
/// # Errors
/// As [`parse`].
pub fn read<T: Document>(document: &v1::Document) -> Result<T, Failure> {
    T::from_json(&document.json)
        .map_err(|error| Failure::infrastructure(format!("the coordinator's answer is not understood: {error}")))
}
