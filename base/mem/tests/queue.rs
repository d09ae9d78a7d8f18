//! `MbufQueue` against a `VecDeque` of byte vectors: any operations, in any order, with mbufs of two pools.

use std::collections::VecDeque;

use mem::{Mbuf, MbufQueue, Pool, Room};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    PopFront,
    Append(Vec<Vec<u8>>),
    Prepend(Vec<Vec<u8>>),
    Consume { of_256: u32, with_pool: bool },
    ExtendBack(Vec<u8>),
    TrimFront { of_256: usize },
    TruncateBack { of_256: usize },
    Flip,
}

fn op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let several = || prop::collection::vec(bytes(), 0..4);
    prop_oneof![
        4 => bytes().prop_map(Op::PushBack),
        1 => bytes().prop_map(Op::PushFront),
        2 => Just(Op::PopFront),
        1 => several().prop_map(Op::Append),
        1 => several().prop_map(Op::Prepend),
        2 => (0..=256u32, any::<bool>()).prop_map(|(of_256, with_pool)| Op::Consume { of_256, with_pool }),
        1 => bytes().prop_map(Op::ExtendBack),
        1 => (0..=256usize).prop_map(|of_256| Op::TrimFront { of_256 }),
        1 => (0..=256usize).prop_map(|of_256| Op::TruncateBack { of_256 }),
        1 => Just(Op::Flip),
    ]
}

fn assert_emptied(queue: &MbufQueue) {
    assert_eq!((queue.len(), queue.bytes()), (0, 0));
    assert!(queue.is_empty() && queue.front().is_none() && queue.back().is_none());
}

/// The queue, its model, and pools that take turns, so that chains mix buffers of both.
struct Pair {
    queue: MbufQueue,
    model: VecDeque<Vec<u8>>,
    pools: [Pool; 2],
    turn: usize,
}

impl Pair {
    fn mbuf(&mut self, bytes: &[u8]) -> Mbuf {
        self.turn ^= 1;
        let mut mbuf = self.pools[self.turn].alloc().expect("pools outlast the longest script");
        mbuf.reset(self.turn * 16);
        assert_eq!(mbuf.extend(bytes), bytes.len());
        mbuf
    }

    fn mbufs(&mut self, all: &[Vec<u8>]) -> MbufQueue {
        let mut queue = MbufQueue::new();
        all.iter().for_each(|bytes| queue.push_back(self.mbuf(bytes)));
        queue
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::PushBack(bytes) => {
                let mbuf = self.mbuf(&bytes);
                self.queue.push_back(mbuf);
                self.model.push_back(bytes);
            }
            Op::PushFront(bytes) => {
                let mbuf = self.mbuf(&bytes);
                self.queue.push_front(mbuf);
                self.model.push_front(bytes);
            }
            Op::PopFront => {
                let popped = self.queue.pop_front();
                assert_eq!(popped.as_deref(), self.model.pop_front().as_deref());
            }
            Op::Append(all) => {
                let mut other = self.mbufs(&all);
                self.queue.append(&mut other);
                assert_emptied(&other);
                self.model.extend(all);
            }
            Op::Prepend(all) => {
                let mut other = self.mbufs(&all);
                self.queue.prepend(&mut other);
                assert_emptied(&other);
                all.into_iter().rev().for_each(|bytes| self.model.push_front(bytes));
            }
            Op::Consume { of_256, with_pool } => {
                let n = self.queue.bytes() * of_256 / 256;
                self.queue.consume(n, with_pool.then_some(&mut self.pools[0]));
                let mut left = n as usize;
                while let Some(front) = self.model.front_mut() {
                    if left < front.len() {
                        front.drain(..left);
                        break;
                    }
                    left -= front.len();
                    self.model.pop_front();
                }
            }
            Op::ExtendBack(bytes) => {
                let Some(mut back) = self.queue.back_mut() else {
                    return;
                };
                let taken = back.extend(&bytes);
                assert!(back.tailroom() == 0 || taken == bytes.len());
                self.model.back_mut().unwrap().extend(&bytes[..taken]);
            }
            Op::TrimFront { of_256 } => {
                let Some(mut front) = self.queue.front_mut() else {
                    return;
                };
                let n = front.len() * of_256 / 256;
                front.trim_front(n);
                self.model[0].drain(..n);
            }
            Op::TruncateBack { of_256 } => {
                let Some(mut back) = self.queue.back_mut() else {
                    return;
                };
                let n = back.len() * of_256 / 256;
                back.truncate(n);
                self.model.back_mut().unwrap().truncate(n);
            }
            Op::Flip => {
                if let Some(mut front) = self.queue.front_mut() {
                    front.data_mut().reverse();
                    front.set_tag(7);
                    self.model[0].reverse();
                }
            }
        }
    }

    fn check(&self) {
        let Pair { queue, model, .. } = self;
        let flat: Vec<u8> = model.iter().flatten().copied().collect();
        assert_eq!(
            (queue.len(), queue.bytes() as usize, queue.is_empty()),
            (model.len(), flat.len(), model.is_empty())
        );
        assert!(queue.iter().map(|mbuf| &mbuf[..]).eq(model.iter().map(|bytes| &bytes[..])));
        assert_eq!(queue.front().map(|mbuf| &mbuf[..]), model.front().map(|bytes| &bytes[..]));
        assert_eq!(queue.back().map(|mbuf| &mbuf[..]), model.back().map(|bytes| &bytes[..]));
        for offset in [0, 1, flat.len() / 2, flat.len(), flat.len() + 1] {
            let mut out = [0; 64];
            let n = queue.copy_to(offset as u32, &mut out);
            let expected = &flat[offset.min(flat.len())..];
            assert_eq!(&out[..n], &expected[..expected.len().min(64)]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn behaves_like_a_deque_of_vectors(script in prop::collection::vec(op(), 0..60)) {
        let pools = [(); 2].map(|()| Pool::new(Room::Private, 200, 128).unwrap());
        let mut pair = Pair { queue: MbufQueue::new(), model: VecDeque::new(), pools, turn: 0 };
        for op in script {
            pair.step(op);
            pair.check();
        }
        let Pair { queue, pools, .. } = pair;
        drop(queue);
        for pool in pools {
            prop_assert_eq!(pool.available(), pool.count(), "a buffer was lost");
        }
    }
}

#[test]
fn iterators_are_independent() {
    let mut pool = Pool::new(Room::Private, 4, 64).unwrap();
    let mut queue = MbufQueue::new();
    for tag in 0..3 {
        let mut mbuf = pool.alloc().unwrap();
        mbuf.set_tag(tag);
        queue.push_back(mbuf);
    }
    let mut first = queue.iter();
    first.next();
    let second = first.clone();
    assert_eq!(first.map(|mbuf| mbuf.tag()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(second.count(), 2);
    pool.free_queue(queue);
    assert_eq!(pool.available(), 4);
}

#[test]
#[should_panic(expected = "consumed more than there is")]
fn consuming_too_much_is_a_mistake() {
    MbufQueue::new().consume(1, None);
}
