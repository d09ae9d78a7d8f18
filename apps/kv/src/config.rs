/// The settings, with the meaning and defaults of memcached's flags.
#[derive(Clone, Debug)]
pub struct Config {
    /// `-m`: bytes that items, their index and half-received values may occupy (default 64 MiB).
    pub memory_limit: usize,
    /// `-I`: the largest item in bytes, with key and header (default 1 MiB). At most half of the memory limit is used.
    pub item_size_max: usize,
    /// `-c`: connections served at once (default 1024).
    pub max_conns: u32,
    /// `-M` makes this false: when memory is used up, refuse to store instead of evicting.
    pub evict: bool,
    /// `-v`: only reported; a client may change it with `verbosity`.
    pub verbosity: u32,
    /// Parts of the store with a lock each; a power of two (rounded up if it is not).
    pub shards: usize,
    /// The wall clock in seconds since 1970 at the first request, if it should not be asked (simulation).
    pub start_wall: Option<u64>,
    /// The key of the hash that places items, if it should not be random (simulation: runs that can be repeated).
    pub hash_key: Option<[u64; 2]>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            memory_limit: 64 << 20,
            item_size_max: 1 << 20,
            max_conns: 1024,
            evict: true,
            verbosity: 0,
            shards: 128,
            start_wall: None,
            hash_key: None,
        }
    }
}
