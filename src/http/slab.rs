//! Slots for connections, named by keys that are never given twice, so that a late event finds nothing rather than a
//! stranger.

/// Values by key.
#[derive(Debug)]
pub(super) struct Slab<T> {
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
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn insert(&mut self, value: T) -> (u64, &mut T) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, value: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        let key = key(slot.generation, index);
        (key, slot.value.insert(value))
    }

    pub(super) fn get_mut(&mut self, wanted: u64) -> Option<&mut T> {
        let slot = self.slots.get_mut(index(wanted))?;
        if slot.generation == generation(wanted) { slot.value.as_mut() } else { None }
    }

    pub(super) fn remove(&mut self, wanted: u64) -> Option<T> {
        let slot = self.slots.get_mut(index(wanted)).filter(|slot| slot.generation == generation(wanted))?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(wanted));
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let keyed = |(index, slot): (usize, &Slot<T>)| key(slot.generation, index);
        self.slots
            .iter()
            .enumerate()
            .filter_map(move |(index, slot)| Some((keyed((index, slot)), slot.value.as_ref()?)))
    }
}

fn key(generation: u32, index: usize) -> u64 {
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
    fn a_key_outlives_its_value_without_finding_another() {
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
