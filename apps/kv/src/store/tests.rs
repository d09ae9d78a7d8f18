use std::collections::HashMap;
use std::sync::Barrier;

use proptest::prelude::*;

use super::{Mode, Put, Store, Stored, Value};
use crate::Config;

const NOW: u32 = 10;

fn store(config: Config) -> Store {
    Store::new(&Config { hash_key: Some([3, 4]), ..config })
}

fn set(store: &Store, key: &[u8], value: &[u8]) -> Stored {
    store.put(NOW, store.hash(key), key, &Put::new(Mode::Set, 0, 0), Value::Borrowed(value))
}

fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    let hash = store.hash(key);
    let mut shard = store.shard(hash);
    let at = shard.lookup(NOW, hash as u32, key).hit()?;
    Some(shard.entry(at).value().to_vec())
}

#[test]
fn the_index_grows_and_loses_nothing() {
    let store = store(Config { shards: 2, ..Config::default() });
    for i in 0..50_000u32 {
        assert!(matches!(set(&store, &i.to_be_bytes(), &i.to_le_bytes()), Stored::Done { .. }));
    }
    for i in 0..50_000u32 {
        assert_eq!(get(&store, &i.to_be_bytes()), Some(i.to_le_bytes().to_vec()), "{i}");
    }
    let mut items = 0;
    store.each_shard(|shard| items += shard.items());
    assert_eq!(items, 50_000);
}

#[test]
fn cas_values_are_unique() {
    let store = store(Config { shards: 8, ..Config::default() });
    let mut seen = std::collections::HashSet::new();
    for i in 0..1000u32 {
        let Stored::Done { cas, .. } = set(&store, &(i % 300).to_be_bytes(), b"v") else { panic!("stored") };
        assert!(cas > 0 && seen.insert(cas));
    }
}

#[test]
fn threads_share_it() {
    let store = store(Config { memory_limit: 1 << 20, shards: 4, ..Config::default() });
    let barrier = Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for i in 0..5000u32 {
                    let key = (i * 7 % 1500).to_be_bytes();
                    let value = vec![thread as u8; 100 + (i as usize % 900)];
                    set(store, &key, &value);
                    if let Some(found) = get(store, &key) {
                        assert!(found.iter().all(|byte| *byte == found[0]), "no value is torn");
                    }
                    assert!(store.claimed() <= 1 << 20);
                }
            });
        }
    });
}

proptest! {
    #[test]
    fn a_small_store_forgets_but_does_not_lie(ops in prop::collection::vec((0..200u16, 0..3000usize, any::<bool>()), 1..600)) {
        let limit = 128 << 10;
        let store = store(Config { memory_limit: limit, shards: 2, ..Config::default() });
        let mut model = HashMap::new();
        for (key, len, write) in ops {
            let name = key.to_be_bytes();
            if write {
                let value = vec![len as u8; len];
                let stored = set(&store, &name, &value);
                prop_assert!(matches!(stored, Stored::Done { .. }), "{stored:?}");
                model.insert(key, value);
                prop_assert!(get(&store, &name).is_some(), "what was just stored is there");
            } else if let Some(value) = get(&store, &name) {
                prop_assert_eq!(Some(&value), model.get(&key));
            }
            prop_assert!(store.claimed() <= limit);
            store.each_shard(|shard| {
                let sum: usize = shard.iter().map(|entry| entry.data.cost()).sum();
                assert_eq!(sum, shard.used());
                assert_eq!(shard.iter().count(), shard.items() as usize);
            });
        }
    }
}
