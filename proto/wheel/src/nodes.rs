use std::num::NonZeroU64;

/// Names an armed timer. Stale once the timer has fired or was cancelled: it then matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TimerId(NonZeroU64);

/// The absence of a node.
pub(crate) const NIL: u32 = u32::MAX;
/// `place` of a node that is in no slot.
const FREE: u16 = u16::MAX;

/// One timer. 32 bytes: two in a cache line.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) tick: u64,
    pub(crate) token: u64,
    next: u32,
    prev: u32,
    /// Odd while armed; [`TimerId`] carries it.
    generation: u32,
    /// level << 8 | slot.
    pub(crate) place: u16,
}

const _: () = assert!(size_of::<Node>() == 32);

impl TimerId {
    fn new(index: u32, generation: u32) -> TimerId {
        // Odd, hence not zero.
        TimerId(NonZeroU64::MIN | (u64::from(index) << 32) | u64::from(generation))
    }

    fn index(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    fn generation(self) -> u32 {
        self.0.get() as u32
    }
}

/// The nodes: a free list, and circular lists of which the wheel holds the heads. Lists are first in, first out.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    /// What was asked for; the vector may have reserved more.
    limit: usize,
    free: u32,
    armed: usize,
}

impl Nodes {
    pub(crate) fn with_capacity(n: usize) -> Nodes {
        assert!(n < NIL as usize, "a wheel's timers are counted in 32 bits");
        Nodes { nodes: Vec::with_capacity(n), limit: n, free: NIL, armed: 0 }
    }

    pub(crate) fn armed(&self) -> usize {
        self.armed
    }

    #[inline]
    pub(crate) fn get(&self, id: TimerId) -> Option<&Node> {
        self.nodes.get(id.index() as usize)
    }

    #[inline]
    pub(crate) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    #[inline]
    pub(crate) fn node_mut(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    /// A node in no list yet. `None` when as many as the capacity are in use.
    #[inline]
    pub(crate) fn take(&mut self, tick: u64, token: u64) -> Option<(u32, TimerId)> {
        let at = if self.free != NIL {
            let at = self.free;
            self.free = self.node(at).next;
            at
        } else if self.nodes.len() < self.limit {
            let at = self.nodes.len() as u32;
            self.nodes.push(Node { tick, token, next: NIL, prev: NIL, generation: 0, place: FREE });
            at
        } else {
            return None;
        };
        let node = self.node_mut(at);
        node.tick = tick;
        node.token = token;
        node.generation = node.generation.wrapping_add(1);
        let generation = node.generation;
        self.armed += 1;
        Some((at, TimerId::new(at, generation)))
    }

    /// Ends a node's life; it must be in no list.
    #[inline]
    pub(crate) fn give(&mut self, at: u32) {
        let free = self.free;
        let node = self.node_mut(at);
        node.generation = node.generation.wrapping_add(1);
        node.place = FREE;
        node.next = free;
        self.free = at;
        self.armed -= 1;
    }

    /// The node that `id` names, if it is armed still.
    #[inline]
    pub(crate) fn find(&self, id: TimerId) -> Option<u32> {
        let node = self.nodes.get(id.index() as usize)?;
        (node.generation == id.generation() && node.place != FREE).then_some(id.index())
    }

    /// Appends a node to the list of `head`.
    #[inline]
    pub(crate) fn append(&mut self, head: &mut u32, at: u32) {
        if *head == NIL {
            *head = at;
            let node = self.node_mut(at);
            (node.next, node.prev) = (at, at);
            return;
        }
        let first = *head;
        let last = self.node(first).prev;
        self.node_mut(last).next = at;
        self.node_mut(first).prev = at;
        let node = self.node_mut(at);
        (node.next, node.prev) = (first, last);
    }

    /// How many nodes are in the list of `head`.
    pub(crate) fn count(&self, head: u32) -> usize {
        let (mut n, mut at) = (0, head);
        while at != NIL {
            n += 1;
            at = self.after(at);
            if at == head {
                break;
            }
        }
        n
    }

    /// The next node in the circle of one that is in a list.
    #[inline]
    pub(crate) fn after(&self, at: u32) -> u32 {
        self.node(at).next
    }

    /// Takes a node out of the list of `head`.
    #[inline]
    pub(crate) fn unlink(&mut self, head: &mut u32, at: u32) {
        let (next, prev) = (self.node(at).next, self.node(at).prev);
        if next == at {
            *head = NIL;
            return;
        }
        self.node_mut(prev).next = next;
        self.node_mut(next).prev = prev;
        if *head == at {
            *head = next;
        }
    }
}
