//! A vector in pieces: it grows without being copied, so that a table that doubles needs no room for both.

use std::ops::{Index, IndexMut};

/// Entries of a piece.
const PIECE: usize = 1 << 14;

/// See the module. Entries are never removed: their places are used again.
#[derive(Clone, Debug)]
pub(crate) struct Chunked<T> {
    /// All but the last are full.
    pieces: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked { pieces: Vec::new() }
    }
}

impl<T> Chunked<T> {
    pub(crate) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        full + self.pieces.last().map_or(0, Vec::len)
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        let at = at as usize;
        self.pieces.get(at / PIECE)?.get(at % PIECE)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        let at = at as usize;
        self.pieces.get_mut(at / PIECE)?.get_mut(at % PIECE)
    }

    /// Inlined, so that a value is written where it belongs: a copy of one just put together waits until its parts
    /// have been written, and these wait for all that was written before.
    #[inline]
    pub(crate) fn push(&mut self, value: T) {
        match self.pieces.last_mut() {
            Some(last) if last.len() < PIECE => last.push(value),
            _ => self.push_piece(value),
        }
    }

    #[cold]
    fn push_piece(&mut self, value: T) {
        // The first grows as it has to: most tables are small.
        let size = if self.pieces.is_empty() { 0 } else { PIECE };
        let mut piece = Vec::with_capacity(size);
        piece.push(value);
        self.pieces.push(piece);
    }
}

impl<T> Index<u32> for Chunked<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        let at = at as usize;
        &self.pieces[at / PIECE][at % PIECE]
    }
}

impl<T> IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        let at = at as usize;
        &mut self.pieces[at / PIECE][at % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_vector() {
        let mut chunked = Chunked::default();
        let end = u32::try_from(2 * PIECE + 3).unwrap();
        for n in 0..end {
            assert_eq!(chunked.len(), n as usize);
            assert_eq!(chunked.get(n), None);
            chunked.push(n);
        }
        for n in 0..end {
            assert_eq!((chunked[n], chunked.get(n)), (n, Some(&n)));
            *chunked.get_mut(n).unwrap() += 1;
            chunked[n] += 1;
        }
        assert!((0..end).all(|n| chunked[n] == n + 2));
    }
}
