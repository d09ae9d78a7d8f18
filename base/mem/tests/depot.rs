//! Chunks: lazily resident, recycled, dropped once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use mem::{CHUNK, Depot, Pages};

/// Pages of the range that are in memory, by `/proc/self/pagemap` (bit 63: present).
fn resident_pages<T>(at: *const T, bytes: usize) -> usize {
    use std::os::unix::fs::FileExt;
    let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
    let mut entries = vec![0; bytes / 4096 * 8];
    pagemap.read_exact_at(&mut entries, (at.addr() / 4096 * 8) as u64).unwrap();
    entries.chunks_exact(8).filter(|entry| entry[7] & 0x80 != 0).count()
}

struct Connection([u8; 512]);

impl Default for Connection {
    fn default() -> Connection {
        Connection([1; 512])
    }
}

#[test]
fn only_chunks_taken_are_resident() {
    let depot: Depot<Connection> = Depot::new(1_000_000, Pages::Small).unwrap();
    let first = depot.take().unwrap();
    let base = first.as_ptr();
    let whole = depot.capacity() * size_of::<Connection>();
    assert_eq!(resident_pages(base, whole), CHUNK * 512 / 4096);
    let ten: Vec<_> = (0..9).map(|_| depot.take().unwrap()).collect();
    assert_eq!(resident_pages(base, whole), 10 * CHUNK * 512 / 4096);
    assert!(ten.iter().flat_map(|chunk| chunk.iter()).all(|connection| connection.0 == [1; 512]));
    assert_eq!(depot.taken(), 10 * CHUNK);
}

#[test]
fn a_chunk_given_back_is_the_next_one_out() {
    let depot: Depot<u64> = Depot::new(CHUNK * 2, Pages::Small).unwrap();
    let mut chunk = depot.take().unwrap();
    chunk[5] = 77;
    let number = chunk.number();
    drop(chunk);
    let chunk = depot.take().unwrap();
    assert_eq!((chunk.number(), chunk[5], chunk.len()), (number, 77, CHUNK));
    let other = depot.take().unwrap();
    assert_ne!(other.number(), number);
    assert!(depot.take().is_none(), "64 objects are two chunks");
    assert_eq!(depot.taken(), depot.capacity());
}

static BUILT: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Counted;

impl Default for Counted {
    fn default() -> Counted {
        BUILT.fetch_add(1, Relaxed);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Relaxed);
    }
}

#[test]
fn objects_are_built_once_and_dropped_with_the_last_of_depot_and_chunks() {
    let depot: Depot<(Counted, u8)> = Depot::new(CHUNK * 4, Pages::Small).unwrap();
    drop((depot.take(), depot.take()));
    let (kept, _) = (depot.take().unwrap(), depot.take().unwrap());
    drop(depot);
    assert_eq!((BUILT.load(Relaxed), DROPPED.load(Relaxed)), (2 * CHUNK, 0));
    drop(kept);
    assert_eq!(DROPPED.load(Relaxed), 2 * CHUNK);
}

#[test]
fn threads_never_share_a_chunk() {
    let depot: Depot<AtomicUsize> = Depot::new(CHUNK * 3, Pages::Small).unwrap();
    let depot = Arc::new(depot);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    let Some(chunk) = depot.take() else { continue };
                    assert_eq!(chunk[0].fetch_add(1, Relaxed), 0, "somebody else has this chunk");
                    chunk[0].store(0, Relaxed);
                }
            });
        }
    });
    assert_eq!(depot.taken(), 0);
}
