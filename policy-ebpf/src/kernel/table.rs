//! A map of the kernel with its types.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::KernelError;
use super::sys::{self, Plain};

/// Entries that are read or written in one call.
const BATCH: usize = 512;

/// A map with keys `K` and values `V`.
#[derive(Debug)]
pub struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Plain + Copy, V: Plain> Table<K, V> {
    /// Takes a map, whose types are those of the object that was loaded.
    pub(super) fn new(name: &'static str, fd: OwnedFd) -> Result<Table<K, V>, KernelError> {
        let table = Table {
            name,
            fd,
            types: PhantomData,
        };
        let info = sys::map_info(table.fd.as_fd()).map_err(|e| table.failed("look at", e))?;
        let fits = (info.key as usize, info.value as usize) == (size_of::<K>(), size_of::<V>());
        match fits {
            true => Ok(table),
            false => Err(KernelError::NoSuchPart(name)),
        }
    }

    /// The same map once more.
    pub(super) fn again(&self) -> Result<Table<K, V>, KernelError> {
        let fd = self.fd.try_clone().map_err(|e| self.failed("open", e))?;
        Table::new(self.name, fd)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> KernelError {
        let map = self.name;
        match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => KernelError::Full { map },
            _ => KernelError::Map {
                operation,
                map,
                source,
            },
        }
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// The map is full, or the kernel refuses.
    pub fn put(&self, key: &K, value: &V) -> Result<(), KernelError> {
        sys::update(self.fd(), key, value).map_err(|e| self.failed("write", e))
    }

    /// Writes entries in order, many in one call where the kernel can do that with this kind of map.
    ///
    /// # Errors
    /// As [`Table::put`]; the entries before the one that failed are written.
    pub fn put_all(&self, keys: &[K], values: &[V]) -> Result<(), KernelError> {
        let mut rest = keys.iter().zip(values);
        let (written, result) = match keys.len() {
            0 => return Ok(()),
            1 => (0, Err(io::ErrorKind::Unsupported.into())),
            _ => sys::update_batch(self.fd(), keys, values),
        };
        match result {
            Ok(()) => Ok(()),
            // No batches for longest-prefix tables before Linux 5.13: one by one.
            Err(_) => rest
                .by_ref()
                .skip(written)
                .try_for_each(|(k, v)| self.put(k, v)),
        }
    }

    /// Removes an entry, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove(&self, key: &K) -> Result<(), KernelError> {
        let removed = sys::delete(self.fd(), key).map_err(|e| self.failed("write", e))?;
        let _ = removed;
        Ok(())
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        let mut value = [V::zeroed()];
        let found = sys::look_up(self.fd(), key, &mut value).map_err(|e| self.failed("read", e))?;
        let [value] = value;
        Ok(found.then_some(value))
    }

    /// Reads an entry of a map that has a value for each CPU.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn get_of_cpus(&self, key: &K) -> Result<Vec<V>, KernelError> {
        let mut values: Vec<V> = (0..possible_cpus()).map(|_| V::zeroed()).collect();
        let found =
            sys::look_up(self.fd(), key, &mut values).map_err(|e| self.failed("read", e))?;
        if !found {
            values.clear();
        }
        Ok(values)
    }

    /// All keys. What others change meanwhile may be there, or not, or twice.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn keys(&self) -> Result<Vec<K>, KernelError> {
        let mut keys: Vec<K> = Vec::new();
        while let Some(next) =
            sys::next_key(self.fd(), keys.last()).map_err(|e| self.failed("read", e))?
        {
            keys.push(next);
        }
        Ok(keys)
    }

    /// All entries of a hash map with one value, a part of it in one call. As with [`Table::keys`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        let mut entries = Vec::new();
        let mut from = None;
        let mut size = BATCH;
        loop {
            let mut keys: Vec<K> = (0..size).map(|_| K::zeroed()).collect();
            let mut values: Vec<V> = (0..size).map(|_| V::zeroed()).collect();
            match sys::look_up_batch(self.fd(), from, &mut keys, &mut values) {
                Ok((count, next)) => {
                    entries.extend(keys.into_iter().zip(values).take(count));
                    match next {
                        Some(next) => from = Some(next),
                        None => return Ok(entries),
                    }
                }
                // A bucket has more than fit.
                Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && size < 1 << 20 => size *= 4,
                Err(e) => return Err(self.failed("read", e)),
            }
        }
    }
}

/// How many values a map for each CPU has.
fn possible_cpus() -> usize {
    aya::util::nr_cpus().unwrap_or(1)
}
