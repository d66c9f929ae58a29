//! The frames between a tracker and the child that runs an attempt: a length, then postcard.

use quorate_engine::program::{LocalBytes, MapProduct, MapTask, ReduceProduct, ReduceTask};
use quorate_protocol::vote::FailureKind;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

/// The longest frame, in bytes: a product with as many spans as a job has partitions, or a block of output.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// The most output in one frame, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// What the tracker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToHost {
    /// Map, and write into this folder.
    Map {
        /// What to map.
        task: MapTask,
        /// The lengths of the input file's chunks.
        chunk_lengths: Vec<u32>,
        /// Where to write.
        directory: PathBuf,
    },
    /// Reduce.
    Reduce {
        /// What to reduce.
        task: ReduceTask,
        /// Its segments, in the order of the map tasks.
        segments: Vec<LocalBytes>,
        /// Where intermediate merges go.
        directory: PathBuf,
    },
    /// A chunk, or a part of one, that was asked for, or why it is not to be had.
    Chunk(Result<LocalBytes, String>),
}

/// What the child says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromHost {
    /// It needs a chunk of the input file.
    WantChunk(u64),
    /// Units of work done so far.
    Progress(u64),
    /// The next bytes of a reduce task's output.
    Output(Vec<u8>),
    /// The map task is done.
    Mapped(MapProduct),
    /// The reduce task is done.
    Reduced(ReduceProduct),
    /// The program failed.
    Failed {
        /// How.
        kind: FailureKind,
        /// At which record.
        record: Option<u64>,
        /// What it said.
        message: String,
    },
    /// The machine failed.
    Machine(String),
    /// It needs a part of a chunk.
    WantPart {
        /// Which chunk.
        chunk: u64,
        /// Where the part begins and ends in it.
        part: (u64, u64),
    },
}

/// Writes one frame.
///
/// # Errors
/// The stream's errors; `InvalidInput` when the frame would be too long.
pub fn write<T: Serialize>(to: &mut impl Write, frame: &T) -> io::Result<()> {
    let mut bytes = postcard::to_extend(frame, vec![0; 4]).map_err(io::Error::other)?;
    let length = bytes.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a frame to or from a task host is too long"));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    to.write_all(&bytes)
}

/// Reads one frame; `None` at a clean end of the stream.
///
/// # Errors
/// The stream's errors; `InvalidData` for a frame that is too long or unreadable.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_and_garbage_is_refused() {
        let mut wire = Vec::new();
        write(&mut wire, &FromHost::WantChunk(7)).expect("fits");
        let mut from = wire.as_slice();
        assert!(matches!(read::<FromHost>(&mut from), Ok(Some(FromHost::WantChunk(7)))));
        assert!(matches!(read::<FromHost>(&mut from), Ok(None)));

        let too_long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
        assert!(read::<FromHost>(&mut too_long.as_slice()).is_err());
        assert!(read::<FromHost>(&mut [1, 0, 0, 0, 0xFF].as_slice()).is_err());
        assert!(read::<FromHost>(&mut [9, 0, 0, 0, 1].as_slice()).is_err());
    }

    #[test]
    fn output_fits_a_frame_at_its_bound_and_a_frame_has_one() {
        let mut wire = Vec::new();
        assert!(write(&mut wire, &FromHost::Output(vec![0; OUTPUT_BYTES_MAX])).is_ok());
        assert!(write(&mut wire, &FromHost::Output(vec![0; FRAME_BYTES_MAX])).is_err());
    }
}
