//! Handles that can be checked. A handle looks like a pointer to the caller and is a number to us: its place in a table,
//! and how often that place has been used. A stale one is recognised whatever memory does.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use super::failure::{AvatorchStatus, Failure};
use super::fork;

const _: () = assert!(usize::BITS == 64, "handles hold a kind, a place and a generation in 64 bits");

const PLACE_BITS: u32 = 28;
const GENERATION_BITS: u32 = 32;

/// All live objects of one kind.
pub(super) struct Handles<T> {
    /// Distinguishes the handles of different kinds; 8 to 15, so that no handle is an address of user memory.
    kind: usize,
    name: &'static str,
    table: RwLock<Table<T>>,
}

struct Table<T> {
    places: Vec<Place<T>>,
    vacant: Vec<usize>,
}

struct Place<T> {
    generation: u32,
    value: Option<Arc<T>>,
}

impl<T> Handles<T> {
    pub(super) const fn new(kind: usize, name: &'static str) -> Self {
        assert!(kind >= 8 && kind < 16);
        Self { kind, name, table: RwLock::new(Table { places: Vec::new(), vacant: Vec::new() }) }
    }

    /// Keeps `value` and gives its handle.
    pub(super) fn insert<H>(&self, value: T) -> Result<*mut H, Failure> {
        fork::prepare();
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let place = table.vacant.pop().unwrap_or(table.places.len());
        if place >> PLACE_BITS != 0 {
            return Err(Failure::new(
                AvatorchStatus::AVATORCH_ALLOCATION,
                format!("{place} {}s are alive, no more fit", self.name),
            ));
        }
        if place == table.places.len() {
            // Counting begins anywhere, so that handles of another copy of this library are not taken for our own.
            let generation = RandomState::new().build_hasher().finish() as u32;
            table.places.push(Place { generation, value: None });
        }
        table.places[place].value = Some(Arc::new(value));
        let generation = table.places[place].generation;
        let number = (self.kind << (PLACE_BITS + GENERATION_BITS)) | ((generation as usize) << PLACE_BITS) | place;
        Ok(std::ptr::without_provenance_mut(number))
    }

    /// The object behind a handle.
    pub(super) fn get<H>(&self, handle: *const H) -> Result<Arc<T>, Failure> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let place = self.find(&table, handle.addr()).ok_or_else(|| self.refused(handle.addr()))?;
        Ok(Arc::clone(table.places[place].value.as_ref().expect("`find` gives live places")))
    }

    /// Forgets the object; threads that are using it finish first. NULL is fine.
    pub(super) fn remove<H>(&self, handle: *mut H) -> Result<(), Failure> {
        if handle.is_null() {
            return Ok(());
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let place = self.find(&table, handle.addr()).ok_or_else(|| self.refused(handle.addr()))?;
        let value = table.places[place].value.take();
        table.places[place].generation = table.places[place].generation.wrapping_add(1);
        table.vacant.push(place);
        drop(table);
        drop(value);
        Ok(())
    }

    /// Nobody reads or changes the table until the result is dropped.
    pub(super) fn hold(&self) -> RwLockWriteGuard<'_, impl Sized> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, table: &Table<T>, number: usize) -> Option<usize> {
        let place = number & ((1 << PLACE_BITS) - 1);
        let generation = (number >> PLACE_BITS) as u32;
        let kind = number >> (PLACE_BITS + GENERATION_BITS);
        let entry = table.places.get(place)?;
        (kind == self.kind && entry.generation == generation && entry.value.is_some()).then_some(place)
    }

    fn refused(&self, number: usize) -> Failure {
        let text = if number == 0 {
            format!("the {} is NULL", self.name)
        } else {
            format!("{number:#x} is not a {} that is alive: it was freed, or never given out", self.name)
        };
        Failure::new(AvatorchStatus::AVATORCH_INVALID_HANDLE, text)
    }
}
