//! Storing: an object becomes visible under its digest only after its bytes were seen to have it.

use std::{io::Read, path::Path};

use bytes::Bytes;
use ceteris_shared::digest::{Digest, Hasher};
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart};

use crate::{Blobs, Error, key};

/// Objects up to this length are one conditional PUT; larger ones go up in parts of this length.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_IN_FLIGHT: usize = 4;

/// An object on its way into the store. Dropping it before [`Writer::finish`] throws it away.
#[derive(Debug)]
pub struct Writer {
    blobs: Blobs,
    digest: Digest,
    bytes: u64,
    written: u64,
    hasher: Hasher,
    sink: Option<Sink>,
}

#[derive(Debug)]
enum Sink {
    Whole(Vec<Bytes>),
    Parts(WriteMultipart),
}

impl Blobs {
    /// Stores `bytes`; their digest is their name.
    ///
    /// # Errors
    /// When the store fails, or holds a damaged object of this name.
    pub async fn put_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        if let Some(mut writer) = self.writer(digest, bytes.len() as u64).await? {
            writer.write(Bytes::copy_from_slice(bytes)).await?;
            writer.finish().await?;
        }
        Ok(digest)
    }

    /// Stores a file; returns its digest and length. Nothing is sent where the object is stored already. With `expected`,
    /// a file of another digest is refused.
    ///
    /// # Errors
    /// When the file cannot be read, is not what was expected or changes meanwhile, or when the store fails.
    pub async fn put_file(&self, path: &Path, expected: Option<Digest>) -> Result<(Digest, u64), Error> {
        let (digest, bytes) = digest_file(path).await?;
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(Error::Mismatch(format!("{} has digest {digest}, not {expected}", path.display())));
        }
        let Some(mut writer) = self.writer(digest, bytes).await? else { return Ok((digest, bytes)) };
        let mut chunks = read_file(path);
        while let Some(chunk) = chunks.recv().await {
            writer.write(chunk?).await?;
        }
        writer.finish().await?;
        Ok((digest, bytes))
    }

    /// Begins to store an object of known digest and length whose bytes arrive in pieces. None where it is stored
    /// already: there is nothing to send.
    ///
    /// # Errors
    /// When the store does not answer, or holds a whole object of this name with another length. A damaged one is set
    /// aside.
    pub async fn writer(&self, digest: Digest, bytes: u64) -> Result<Option<Writer>, Error> {
        if let Some(stored) = self.size(&digest).await? {
            if stored == bytes {
                return Ok(None);
            }
            // What has another length cannot be whole: one of the two is not what the name says.
            if !self.set_aside(&digest).await? {
                let cause = format!("it is {stored} bytes long, not {bytes}");
                return Err(Error::Corrupt { place: self.place().to_owned(), digest, cause });
            }
        }
        let sink = if bytes <= PART_BYTES as u64 {
            Sink::Whole(Vec::new())
        } else {
            let upload = self.store.put_multipart(&key(&digest)).await;
            let upload = upload.map_err(|source| self.failed(format!("storing {digest}"), source))?;
            Sink::Parts(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
        };
        Ok(Some(Writer { blobs: self.clone(), digest, bytes, written: 0, hasher: Hasher::default(), sink: Some(sink) }))
    }
}

impl Writer {
    /// Adds the next piece, of any length.
    ///
    /// # Errors
    /// When there is more than was announced, or the store fails.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Error> {
        self.written += piece.len() as u64;
        if self.written > self.bytes {
            return Err(Error::Mismatch(format!("{} is longer than {} bytes", self.digest, self.bytes)));
        }
        self.hasher.update(&piece);
        match &mut self.sink {
            Some(Sink::Whole(pieces)) => pieces.push(piece),
            Some(Sink::Parts(upload)) => {
                let ready = upload.wait_for_capacity(PARTS_IN_FLIGHT).await;
                ready.map_err(|source| self.blobs.failed(format!("storing {}", self.digest), source))?;
                upload.put(piece);
            }
            None => {}
        }
        Ok(())
    }

    /// Checks length and digest, and makes the object visible.
    ///
    /// # Errors
    /// When the bytes are not the announced ones, or the store fails; then nothing becomes visible.
    pub async fn finish(mut self) -> Result<(), Error> {
        let found = std::mem::take(&mut self.hasher).finish();
        if self.written != self.bytes || found != self.digest {
            return Err(Error::Mismatch(format!(
                "{} bytes with digest {found} came, not {} bytes with digest {}",
                self.written, self.bytes, self.digest
            )));
        }
        let name = key(&self.digest);
        let result = match self.sink.take() {
            Some(Sink::Whole(pieces)) => {
                let payload = PutPayload::from_iter(pieces);
                self.blobs.store.put_opts(&name, payload, PutMode::Create.into()).await
            }
            Some(Sink::Parts(upload)) => upload.finish().await,
            None => return Ok(()),
        };
        match result {
            // Someone else stored the same bytes meanwhile, or a request that seemed lost had arrived.
            Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(source) => Err(self.blobs.failed(format!("storing {}", self.digest), source)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(Sink::Parts(upload)) = self.sink.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = upload.abort().await {
                tracing::debug!(%error, "the parts of an unfinished upload stay behind");
            }
        });
    }
}

/// The digest and length of a file.
///
/// # Errors
/// When it cannot be read.
pub async fn digest_file(path: &Path) -> Result<(Digest, u64), Error> {
    let mut chunks = read_file(path);
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk?;
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
    }
    Ok((hasher.finish(), bytes))
}

/// Reads a file on a thread that may wait.
fn read_file(path: &Path) -> tokio::sync::mpsc::Receiver<Result<Bytes, Error>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(2);
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || {
        let read = || -> std::io::Result<()> {
            let mut file = std::fs::File::open(&path)?;
            loop {
                let mut chunk = Vec::with_capacity(1 << 20);
                file.by_ref().take(1 << 20).read_to_end(&mut chunk)?;
                if chunk.is_empty() || sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(source) = read() {
            // A receiver that is gone wants to know nothing more.
            let _ = sender.blocking_send(Err(Error::File { path, source }));
        }
    });
    receiver
}
