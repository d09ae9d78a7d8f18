use proptest::prelude::*;
use units::Nanos;
use wire::{Addr, Ipv4Addr, Ipv6Addr};

use crate::{Key, Limits, Outcome, PIECES, Piece, Refused, Table};

const NOW: Nanos = Nanos::from_secs(100);

fn key(src: u32, id: u32) -> Key {
    let at = |n| Addr::v4(Ipv4Addr::from_bits(n));
    Key { src: at(0x0a00_0000 + src), dst: at(1), id, protocol: 17 }
}

fn piece(offset: u16, len: u16, more: bool) -> Piece {
    Piece { offset, len, more }
}

/// Pieces with their own offsets for bytes.
fn insert(t: &mut Table<u16>, key: Key, p: Piece) -> Outcome {
    t.insert(NOW, key, p, p.offset)
}

fn taken(t: &mut Table<u16>, outcome: Outcome) -> (u32, Vec<u16>) {
    let Outcome::Whole(whole) = outcome else { panic!("not whole: {outcome:?}") };
    let mut pieces = Vec::new();
    t.take(whole, |p, bytes| {
        assert_eq!(p.offset, bytes);
        pieces.push(bytes);
    });
    (whole.len, pieces)
}

#[test]
fn pieces_in_any_order_make_a_datagram() {
    let mut t = Table::new(Limits::default());
    for p in [piece(16, 3, false), piece(0, 8, true)] {
        assert_eq!(insert(&mut t, key(1, 7), p), Outcome::Kept { evicted: 0 });
    }
    assert_eq!(insert(&mut t, key(1, 7), piece(0, 8, true)), Outcome::Duplicate);
    assert_eq!(insert(&mut t, key(1, 8), piece(8, 8, true)), Outcome::Kept { evicted: 0 }, "another datagram's");
    let outcome = insert(&mut t, key(1, 7), piece(8, 8, true));
    assert_eq!(taken(&mut t, outcome), (19, vec![0, 8, 16]));
    assert_eq!((t.datagrams(), t.pieces()), (1, 1));
}

#[test]
fn an_overlap_costs_the_whole_datagram() {
    for bad in [piece(8, 8, true), piece(0, 24, true), piece(16, 8, true), piece(8, 16, false)] {
        let mut t = Table::new(Limits::default());
        insert(&mut t, key(1, 7), piece(8, 16, true));
        let refused = insert(&mut t, key(1, 7), bad);
        assert_eq!(refused, Outcome::Refused { why: Refused::Overlap, pieces: 2 }, "{bad:?}");
        assert_eq!((t.datagrams(), t.pieces()), (0, 0));
    }
}

#[test]
fn contradictions_and_odd_shapes_cost_the_whole_datagram() {
    let refused = |held: Piece, bad: Piece| {
        let mut t = Table::new(Limits::default());
        insert(&mut t, key(1, 7), held);
        match insert(&mut t, key(1, 7), bad) {
            Outcome::Refused { why, pieces: 2 } if t.pieces() == 0 => why,
            other => panic!("{other:?}"),
        }
    };
    let last = piece(16, 5, false);
    assert_eq!(refused(last, piece(24, 5, false)), Refused::Contradiction, "a second end");
    assert_eq!(refused(last, piece(24, 8, true)), Refused::Contradiction, "beyond the end");
    assert_eq!(refused(piece(24, 8, true), piece(0, 3, false)), Refused::Contradiction, "an end before what has come");
    assert_eq!(refused(last, piece(0, 0, true)), Refused::Shape);
    assert_eq!(refused(last, piece(0, 7, true)), Refused::Shape);
    assert_eq!(refused(last, piece(0xfff8, 8, false)), Refused::Shape, "beyond 64 KiB");
}

#[test]
fn a_datagram_in_crumbs_is_refused() {
    let mut t = Table::new(Limits::default());
    for n in 0..PIECES as u16 {
        assert_eq!(insert(&mut t, key(1, 7), piece(16 * n, 8, true)), Outcome::Kept { evicted: 0 });
    }
    let refused = insert(&mut t, key(1, 7), piece(8, 8, true));
    assert_eq!(refused, Outcome::Refused { why: Refused::TooMany, pieces: PIECES + 1 });
}

#[test]
fn who_floods_pushes_out_its_own() {
    let limits = Limits { datagrams: 8, per_source: 3, ..Limits::default() };
    let mut t = Table::new(limits);
    insert(&mut t, key(2, 1), piece(0, 8, true));
    for id in 0..1000 {
        let outcome = insert(&mut t, key(1, id), piece(0, 8, true));
        assert_eq!(outcome, Outcome::Kept { evicted: usize::from(id >= 3) });
        assert!(t.datagrams() <= 4);
    }
    let outcome = insert(&mut t, key(2, 1), piece(8, 8, false));
    assert_eq!(taken(&mut t, outcome).0, 16, "the other's datagram has survived");
}

#[test]
fn many_sources_and_many_pieces_push_out_the_oldest() {
    let mut t = Table::new(Limits { datagrams: 8, pieces: 20, ..Limits::default() });
    for src in 0..100 {
        insert(&mut t, key(src, 1), piece(0, 8, true));
        assert!(t.datagrams() <= 8);
    }
    for n in 1..40 {
        insert(&mut t, key(99, 1), piece(8 * n, 8, true));
        assert!(t.pieces() <= 20 || t.datagrams() == 1, "{}", t.pieces());
    }
    let outcome = insert(&mut t, key(99, 1), piece(8 * 40, 8, false));
    assert_eq!(taken(&mut t, outcome).0, 8 * 41, "the one that is being put together stays");
}

#[test]
fn what_takes_too_long_goes_and_names_its_first_piece() {
    let mut t = Table::new(Limits::default());
    let six = |n: u128| Addr::v6(Ipv6Addr::from_bits(0x2001 << 112 | n));
    let v6 = Key { src: six(1), dst: six(2), id: 1, protocol: 0 };
    insert(&mut t, key(1, 1), piece(0, 8, true));
    insert(&mut t, key(1, 2), piece(8, 8, true));
    insert(&mut t, v6, piece(0, 8, true));
    assert_eq!(t.deadline(), NOW + Nanos::from_secs(30));
    let mut late = Vec::new();
    assert_eq!(t.expire(NOW + Nanos::from_secs(29), 9, |k, first| late.push((k, first))), 0);
    assert_eq!(t.expire(NOW + Nanos::from_secs(30), 9, |k, first| late.push((k, first))), 2);
    assert_eq!(late, [(key(1, 1), Some(0)), (key(1, 2), None)]);
    assert_eq!(t.deadline(), NOW + Nanos::from_secs(60));
    assert_eq!(t.expire(NOW + Nanos::from_secs(60), 9, |_, _| ()), 1);
    assert_eq!((t.deadline(), t.datagrams()), (Nanos::MAX, 0));
}

proptest! {
    /// Any cut of a payload, in any order, with duplicates, comes out as it went in.
    #[test]
    fn any_order_of_any_cut_is_put_together(
        cuts in prop::collection::vec(1u16..40, 1..30),
        order in prop::collection::vec(any::<u16>(), 30),
        twice in prop::collection::vec(any::<bool>(), 30),
    ) {
        let mut pieces = Vec::new();
        let mut offset = 0;
        for (i, cut) in cuts.iter().enumerate() {
            let last = i + 1 == cuts.len();
            let p = piece(offset, if last { *cut } else { 8 * cut }, !last);
            offset += p.len;
            pieces.push((order[i], p));
        }
        pieces.sort_by_key(|(o, _)| *o);
        let mut t = Table::new(Limits::default());
        for (i, (_, p)) in pieces.iter().enumerate() {
            let outcome = insert(&mut t, key(1, 1), *p);
            if i + 1 == pieces.len() {
                let (len, taken) = taken(&mut t, outcome);
                prop_assert_eq!(len, u32::from(offset));
                prop_assert_eq!(taken.len(), pieces.len());
                prop_assert!(taken.is_sorted());
            } else {
                prop_assert_eq!(outcome, Outcome::Kept { evicted: 0 });
                if twice[i] {
                    prop_assert_eq!(insert(&mut t, key(1, 1), *p), Outcome::Duplicate);
                }
            }
        }
        prop_assert_eq!((t.pieces(), t.datagrams()), (0, 0));
    }

    /// Whatever comes, the bounds hold and the counts agree.
    #[test]
    fn bounds_hold_whatever_comes(ops in prop::collection::vec((0u32..6, 0u32..6, 0u16..24, 0u16..5, any::<bool>()), 1..400)) {
        let limits = Limits { datagrams: 5, per_source: 2, pieces: 12, ..Limits::default() };
        let mut t = Table::new(limits);
        for (n, (src, id, offset, len, more)) in ops.into_iter().enumerate() {
            let now = NOW + Nanos::from_secs(n as u64);
            t.expire(now, 9, |_, _| ());
            if let Outcome::Whole(whole) = t.insert(now, key(src, id), piece(8 * offset, 8 * len, more), 0) {
                t.take(whole, |_, _| ());
            }
            prop_assert!(t.datagrams() <= 5 && (t.pieces() <= 12 || t.datagrams() == 1));
            prop_assert_eq!(t.datagrams() == 0, t.pieces() == 0);
            prop_assert_eq!(t.deadline() == Nanos::MAX, t.datagrams() == 0);
        }
    }
}

/// What moves to another table leaves nothing behind, not even its deadline.
#[test]
fn datagrams_can_be_taken_out() {
    let mut t = Table::new(Limits::default());
    for (source, p) in [(1, piece(0, 8, true)), (2, piece(0, 8, true)), (1, piece(16, 8, true))] {
        insert(&mut t, key(source, 7), p);
    }
    let mut out = Vec::new();
    t.take_out(|k| *k == key(1, 7), |bytes| out.push(bytes));
    assert_eq!((out, t.pieces(), t.datagrams()), (vec![0, 16], 1, 1));
    t.take_out(|_| true, |_| ());
    assert_eq!((t.pieces(), t.datagrams(), t.deadline()), (0, 0, Nanos::MAX));
    assert_eq!(insert(&mut t, key(1, 7), piece(8, 8, true)), Outcome::Kept { evicted: 0 });
}
