//! The wire: generated gRPC types, and conversions to and from the domain's own.
//!
//! Generated types stop here. What comes from a peer is converted by [`fleet`] with an error that names the field;
//! nothing else in the workspace matches on generated messages. Sizes are bounded by [`MAX_MESSAGE_BYTES`].

pub mod fleet;

/// Generated code of package `ceteris.v1`.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod v1 {
    tonic::include_proto!("ceteris.v1");
}

/// The services' descriptors, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Largest message either side accepts.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Bytes of data in one blob chunk.
pub const BLOB_CHUNK_BYTES: usize = 1 << 20;
