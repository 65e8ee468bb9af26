//! Objects up and down. What comes up counts only after its length and its digest were found to be the announced ones.

use bytes::Bytes;
use ceteris_proto::{BLOB_CHUNK_BYTES, v1};
use ceteris_shared::digest::Digest;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;

use super::{Error, Service, StreamOf, digest};

/// The longest object that is accepted: a shard of 1024 images of 4096 × 4096, with room to spare.
const MAX_BLOB_BYTES: u64 = 32 << 30;

impl Service {
    /// Stores an object; true where it was stored already.
    pub(super) async fn receive_blob<S>(&self, chunks: S) -> Result<bool, Error>
    where
        S: Stream<Item = Result<v1::BlobChunk, Status>> + Send,
    {
        let mut chunks = std::pin::pin!(chunks);
        let first = next(&mut chunks).await?.ok_or_else(|| {
            Error::invalid("the upload ended before its first message", "send the digest and the length first")
        })?;
        let named = digest("digest", &first.digest)?;
        if first.bytes > MAX_BLOB_BYTES {
            let problem = format!("{} is above the limit of {MAX_BLOB_BYTES} bytes", first.bytes);
            return Err(Error::Field { field: "bytes", problem });
        }
        let Some(mut writer) = self.blobs.writer(named, first.bytes).await? else { return Ok(true) };
        let mut chunk = Some(first);
        while let Some(v1::BlobChunk { data, .. }) = chunk {
            if !data.is_empty() {
                writer.write(Bytes::from(data)).await?;
            }
            chunk = next(&mut chunks).await?;
        }
        writer.finish().await?;
        ceteris_crash::here(ceteris_crash::Point::UploadStored);
        Ok(false)
    }

    /// An object, in chunks; the first carries the digest and the length. A damaged object ends in an error.
    pub(super) async fn send_blob(&self, named: Digest) -> Result<StreamOf<v1::BlobChunk>, Error> {
        let reader = self.blobs.read_stream(&named).await?;
        let head = v1::BlobChunk { digest: named.to_string(), bytes: reader.bytes, data: Vec::new() };
        let pieces = reader.map_err(|error| Status::from(Error::from(error)));
        let chunks = pieces.map_ok(|piece| futures::stream::iter(split(piece).map(Ok))).try_flatten();
        Ok(futures::stream::once(async { Ok(head) }).chain(chunks).boxed())
    }
}

async fn next<S>(chunks: &mut std::pin::Pin<&mut S>) -> Result<Option<v1::BlobChunk>, Error>
where
    S: Stream<Item = Result<v1::BlobChunk, Status>>,
{
    chunks.try_next().await.map_err(|status| Error::Client(Box::new(status)))
}

/// Pieces come from the store as long as it likes.
fn split(piece: Bytes) -> impl Iterator<Item = v1::BlobChunk> {
    let ends = (0..piece.len().div_ceil(BLOB_CHUNK_BYTES)).map(|index| index * BLOB_CHUNK_BYTES);
    ends.map(move |start| {
        let end = piece.len().min(start + BLOB_CHUNK_BYTES);
        v1::BlobChunk { data: piece[start..end].to_vec(), ..Default::default() }
    })
}
