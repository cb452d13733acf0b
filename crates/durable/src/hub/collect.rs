//! Removing what is not needed any more, in pieces between which others commit.

use std::collections::BTreeSet;

use super::{Hub, WriteError, future};
use crate::ids::{Digest, ExecutionId, UnixMs};
use crate::store::{Mark, Write, Written};

/// Executions that go in one transaction at most.
const EXECUTIONS_A_PIECE: usize = 64;
/// Calls of executions that go in one transaction, if it is not a single one.
const CALLS_A_PIECE: u64 = 4096;
/// Payloads that are noted, or go, in one transaction at most.
const PAYLOADS_A_PIECE: usize = 1024;
/// Bytes of payloads that go in one transaction, if it is not a single one.
const BYTES_A_PIECE: u64 = 8 << 20;

/// The entries in lots of no more than so many, and of no more weight unless there is a single one in it.
fn pieces<T: Copy>(all: &[(T, u64)], most: usize, weight: u64) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut left = 0;
    for (one, own) in all {
        match pieces.last_mut() {
            Some(piece) if piece.len() < most && *own <= left => {
                piece.push(*one);
                left -= own;
            }
            _ => {
                pieces.push(vec![*one]);
                left = weight.saturating_sub(*own);
            }
        }
    }
    pieces
}

impl Hub {
    /// Removes executions that ended before a time, the payloads that nothing names any more, and the lock files of
    /// dead owners. Says how many executions went. Blocks until it is done; others commit meanwhile.
    ///
    /// # Errors
    /// The store failed.
    pub fn collect(&self, before: UnixMs) -> Result<u64, WriteError> {
        future::block_on(self.collect_async(before))
    }

    async fn collect_async(&self, before: UnixMs) -> Result<u64, WriteError> {
        let mut removed = 0;
        let ended: Vec<(ExecutionId, u64)> = self.0.shared.read(|reader| reader.ended(before))?;
        for executions in pieces(&ended, EXECUTIONS_A_PIECE, CALLS_A_PIECE) {
            if let Written::Collected(count) = self.write(Write::Collect { executions, before }).await? {
                removed += count;
            }
        }
        self.sweep().await?;
        self.0.shared.backend.owners()?.sweep()?;
        Ok(removed)
    }

    /// Looks for payloads without a name twice: what is named between the note and the second look is out of the
    /// note, and what was named before is seen by the second look.
    async fn sweep(&self) -> Result<(), WriteError> {
        let first = self.0.shared.read(|reader| reader.unnamed())?;
        if first.is_empty() {
            return Ok(());
        }
        let mark = Mark::generate();
        for digests in pieces(&first, PAYLOADS_A_PIECE, u64::MAX) {
            self.write(Write::Doom { digests, mark }).await?;
        }
        let noted: BTreeSet<Digest> = first.into_iter().map(|(digest, _)| digest).collect();
        let mut second = self.0.shared.read(|reader| reader.unnamed())?;
        second.retain(|(digest, _)| noted.contains(digest));
        for digests in pieces(&second, PAYLOADS_A_PIECE, BYTES_A_PIECE) {
            self.write(Write::Sweep { digests, mark }).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_nothing_is_left_out() {
        let all = [(1, 3), (2, 3), (3, 9), (4, 1), (5, 0), (6, 0), (7, 0), (8, 5)];
        assert_eq!(pieces(&all, 3, 6), [vec![1, 2], vec![3], vec![4, 5, 6], vec![7, 8]]);
        assert_eq!(pieces::<u8>(&[], 3, 6), Vec::<Vec<u8>>::new());
    }
}
