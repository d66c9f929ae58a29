//! The chunk store: chunk servers over object_store, and a client that verifies every byte.
//!
//! A chunk is named by the digest of its bytes, so f + 1 copies in distinct failure domains survive f lying servers: one
//! honest copy is enough, and a wrong copy is always noticed. [`ChunkStore`] keeps the chunks of one server,
//! [`ChunkService`] serves them to others, and [`ChunkClient`] reads and writes chunks and whole files, trusting nobody.
//!
//! A server's side:
//!
//! ```
//! # use quorate_dfs::ChunkStore;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = ChunkStore::memory();
//! let attempt = "job-1/reduce-0.0".parse()?;
//! let chunk = store.stage(attempt, "output".into()).await?;
//! store.publish(attempt).await?;
//! assert_eq!(store.get(chunk).await?.expect("published"), "output");
//! # Ok(())
//! # }
//! ```
//!
//! A client's side, with the servers that the job tracker named:
//!
//! ```
//! # use futures::TryStreamExt;
//! # use quorate_dfs::{ChunkClient, Servers, Upload};
//! # use quorate_protocol::{cluster::Cluster, query::TrackerView, sign::SecretKey};
//! # use std::sync::Arc;
//! async fn round(cluster: Arc<Cluster>, key: SecretKey, trackers: &[TrackerView]) -> Result<(), Box<dyn std::error::Error>> {
//!     let client = ChunkClient::new(cluster, key);
//!     client.set_servers(Servers::of(trackers));
//!     let file = client.upload(&b"some text"[..], Upload::copies(2)).await?;
//!     let mut bytes = client.read(&file);
//!     while let Some(block) = bytes.try_next().await? {
//!         println!("{} verified bytes", block.len());
//!     }
//!     Ok(())
//! }
//! ```

mod behind;
mod client;
mod digest;
mod direct;
mod fault;
mod piece;
mod placer;
mod read;
mod remote;
mod servers;
mod service;
mod store;
mod upload;
mod youth;

pub use client::ChunkClient;
pub use direct::ALIGNMENT;
pub use fault::{GetError, PutError, ServerFault, UploadError};
pub use piece::PIECE_BYTES;
pub use servers::{Server, Servers};
pub use service::ChunkService;
pub use store::{ChunkStore, StoreError, Usage};
pub use upload::Upload;
pub use youth::{YOUNG, Young};
