//! Guests that are compiled and linked, kept in memory while they are used.

use std::collections::HashMap;
use std::sync::Arc;

use parole_capabilities::StoreData;
use parole_durable::Digest;
use wasmtime::component::{Component, InstancePre};

use crate::link::Wanted;
use crate::surface::Surface;

/// Guests of which the machine code is kept in memory.
pub const PREPARED_MAX: usize = 64;
/// What their machine code may weigh together, in bytes; one alone may weigh more.
pub const PREPARED_BYTES: usize = 512 << 20;

/// A guest that is compiled and linked.
pub(crate) struct Prepared {
    pub pre: InstancePre<StoreData>,
    pub surface: Arc<Surface>,
}

impl Prepared {
    fn weight(&self) -> usize {
        let image = self.pre.component().image_range();
        (image.end as usize).saturating_sub(image.start as usize)
    }
}

/// The digest of a component and the capabilities that are linked to it.
pub(crate) type Key = (Digest, Wanted);

/// What was used longest ago makes room.
#[derive(Default)]
pub(crate) struct Cache {
    clock: u64,
    entries: HashMap<Key, Entry>,
}

struct Entry {
    used: u64,
    weight: usize,
    prepared: Arc<Prepared>,
}

impl Cache {
    pub(crate) fn get(&mut self, key: &Key) -> Option<Arc<Prepared>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.prepared))
    }

    /// The component of a guest, and what it imports and exports.
    pub(crate) fn component(&self, digest: &Digest) -> Option<(Component, Arc<Surface>)> {
        let found = self.entries.iter().find(|((known, _), _)| known == digest);
        found.map(|(_, entry)| (entry.prepared.pre.component().clone(), Arc::clone(&entry.prepared.surface)))
    }

    /// A guest by its digest alone: all that a component imports is linked, or it is not run.
    pub(crate) fn any(&mut self, digest: &Digest) -> Option<Arc<Prepared>> {
        self.clock += 1;
        let (_, entry) = self.entries.iter_mut().find(|((known, _), _)| known == digest)?;
        entry.used = self.clock;
        Some(Arc::clone(&entry.prepared))
    }

    pub(crate) fn insert(&mut self, key: Key, prepared: Arc<Prepared>) {
        self.insert_within(key, prepared, PREPARED_MAX, PREPARED_BYTES);
    }

    fn insert_within(&mut self, key: Key, prepared: Arc<Prepared>, most: usize, bytes: usize) {
        self.clock += 1;
        let entry = Entry { used: self.clock, weight: prepared.weight(), prepared };
        self.entries.insert(key, entry);
        let weight = |entries: &HashMap<_, Entry>| entries.values().map(|entry| entry.weight).sum::<usize>();
        while self.entries.len() > 1 && (self.entries.len() > most || weight(&self.entries) > bytes) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let engine = wasmtime::Engine::new(&crate::engine::config().unwrap()).unwrap();
        let component = Component::new(&engine, "(component)").unwrap();
        let pre = wasmtime::component::Linker::new(&engine).instantiate_pre(&component).unwrap();
        let prepared = Arc::new(Prepared { pre, surface: Arc::default() });
        let weight = prepared.weight();
        assert!(weight > 0);
        let digest = |n: u8| Digest::of(&[n]);
        let key = |n: u8| (digest(n), Wanted::new());
        let other = (digest(0), Wanted::from([(Arc::from("one"), None)]));
        let mut cache = Cache::default();
        let insert = |cache: &mut Cache, n: u8| {
            cache.insert_within(key(n), Arc::clone(&prepared), 3, 1 << 30);
        };
        for n in 0..3 {
            insert(&mut cache, n);
        }
        assert!(cache.get(&key(0)).is_some() && cache.get(&other).is_none());
        insert(&mut cache, 3);
        let kept = |cache: &mut Cache| (0..4).filter(|n| cache.component(&digest(*n)).is_some()).collect::<Vec<u8>>();
        assert_eq!(kept(&mut cache), [0, 2, 3]);
        // By weight as well; the last one stays, whatever it weighs.
        cache.insert_within(key(1), Arc::clone(&prepared), 3, weight * 2);
        assert_eq!(kept(&mut cache), [1, 3]);
        cache.insert_within(key(2), Arc::clone(&prepared), 3, weight - 1);
        assert_eq!(kept(&mut cache), [2]);
    }
}
