//! What the functions of a capability keep between the calls of one execution, in memory: a quota, connections.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, PoisonError};

/// What is kept. One for each execution and type, shared by all its calls.
pub trait Slot: Default + Send + Sync + 'static {
    /// Whether something in it would be lost if the guest gave its memory up while it waits.
    fn holds(&self) -> bool {
        false
    }

    /// The guest waits, perhaps for weeks: what is idle is let go.
    fn rest(&self) {}
}

impl Slot for () {}

trait AnySlot: Send + Sync {
    fn holds(&self) -> bool;
    fn rest(&self);
    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

impl<S: Slot> AnySlot for S {
    fn holds(&self) -> bool {
        Slot::holds(self)
    }

    fn rest(&self) {
        Slot::rest(self);
    }

    fn any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// The slots of an execution: as many as capabilities that it has called and that keep something.
#[derive(Default)]
pub(super) struct Slots(Mutex<Vec<(TypeId, Arc<dyn AnySlot>)>>);

impl Slots {
    /// That of one type.
    pub(super) fn get<S: Slot>(&self) -> Arc<S> {
        let id = TypeId::of::<S>();
        if id == TypeId::of::<()>() {
            return Arc::default();
        }
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().find(|(other, _)| *other == id).map(|(_, slot)| Arc::clone(slot));
        match found.and_then(|slot| slot.any().downcast().ok()) {
            Some(slot) => slot,
            None => {
                let new = Arc::<S>::default();
                slots.push((id, Arc::clone(&new) as Arc<dyn AnySlot>));
                new
            }
        }
    }

    /// The guest waits: whether it has to keep its memory.
    pub(super) fn rest(&self) -> bool {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().for_each(|(_, slot)| slot.rest());
        slots.iter().any(|(_, slot)| slot.holds())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Quota(AtomicU64);

    impl Slot for Quota {
        fn holds(&self) -> bool {
            self.0.load(Ordering::SeqCst) > 1
        }

        fn rest(&self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn one_for_each_type() {
        let slots = Slots::default();
        slots.get::<Quota>().0.store(3, Ordering::SeqCst);
        let () = *slots.get::<()>();
        assert!(slots.rest() && !slots.rest());
        assert_eq!(slots.get::<Quota>().0.load(Ordering::SeqCst), 1);
        assert_eq!(slots.0.lock().unwrap().len(), 1);
    }
}
