//! Slab of connections. Keys are never reused, so a late event for a closed connection finds nothing instead of another
//! connection.

/// A slab: values in reusable slots, addressed by a key of slot index and generation.
#[derive(Debug)]
pub(in crate::http) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(in crate::http) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(in crate::http) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Inserts a value and returns its key.
    pub(in crate::http) fn insert(&mut self, value: T) -> (u64, &mut T) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let key = make_key(slot.generation, index);
        (key, slot.value.insert(value))
    }

    pub(in crate::http) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(index(key))?;
        if slot.generation == generation(key) { slot.value.as_mut() } else { None }
    }

    /// Removes and returns the value of a key, if it is still present.
    pub(in crate::http) fn remove(&mut self, key: u64) -> Option<T> {
        let slot = self.slots.get_mut(index(key)).filter(|slot| slot.generation == generation(key))?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(key));
        Some(value)
    }

    pub(in crate::http) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(index, slot)| Some((make_key(slot.generation, index), slot.value.as_ref()?)))
    }
}

fn make_key(generation: u32, index: usize) -> u64 {
    u64::from(generation) << 32 | index as u64
}

fn index(key: u64) -> usize {
    (key & u64::from(u32::MAX)) as usize
}

fn generation(key: u64) -> u32 {
    (key >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_keys_find_nothing() {
        let mut slab = Slab::default();
        let (first, _) = slab.insert("a");
        assert_eq!(slab.remove(first), Some("a"));
        let (second, _) = slab.insert("b");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.len(), 1);
        assert_eq!(slab.iter().collect::<Vec<_>>(), [(second, &"b")]);
        assert_eq!(slab.get_mut(second), Some(&mut "b"));
    }
}
