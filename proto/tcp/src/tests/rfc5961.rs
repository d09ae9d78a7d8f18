//! RFC 5961: blind attacks on a connection, and what bounds our answers.

use wire::tcp::Flags;

use super::*;
use crate::{CloseReason, DropReason, State};

const RST: Flags = Flags::RST;

#[test]
fn section_3_resets() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let out = tcb.segment_arrives(T0, &cfg, &seg(1, 0, RST, 0), true, &mut records());
    assert_eq!((out.drop, out.closed), (Some(DropReason::BadRst), None));
    assert_eq!(out.reply.map(|r| say(&r)), Some("ack 0 from 0".to_string()), "in the window: challenged");
    let out = tcb.segment_arrives(T0 + ms(50), &cfg, &seg(60_001, 0, RST, 0), true, &mut records());
    assert_eq!((out.drop, out.reply), (Some(DropReason::OutOfWindow), None));
    let out = tcb.segment_arrives(T0, &cfg, &seg(0, 0, RST, 0), true, &mut records());
    assert_eq!((out.closed, tcb.state()), (Some(CloseReason::Reset), State::Closed));
}

#[test]
fn section_4_syns() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    for (i, seq) in [0, 5, u32::MAX, 100_000].into_iter().enumerate() {
        let now = T0 + ms(50 * i as u64);
        let out = tcb.segment_arrives(now, &cfg, &seg(seq, 0, Flags::SYN, 0), true, &mut records());
        assert!(out.drop.is_some() && out.closed.is_none());
        let answered = out.reply.map(|r| say(&r)).into_iter().chain(said(&mut tcb, now, &cfg)).collect::<Vec<_>>();
        assert_eq!(answered, ["ack 0 from 0"], "irrespective of the sequence number {seq}");
    }
    assert_eq!(tcb.state(), State::Established);
}

#[test]
fn section_5_acks() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    tcb.send(T0, 100);
    sent(&mut tcb, T0, &cfg);
    let mut at = T0;
    for (ack, drop) in [
        (101, Some(DropReason::FutureAck)),
        (0u32.wrapping_sub(60_001), Some(DropReason::OldAck)),
        (0u32.wrapping_sub(60_000), None),
    ] {
        at += ms(50);
        let out = tcb.segment_arrives(at, &cfg, &seg(tcb.rcv_nxt().since(IRS + 1), ack, ACK, 5), true, &mut records());
        assert_eq!(out.drop, drop);
        assert_eq!(out.reply.is_some(), drop.is_some());
        assert_eq!(out.advanced, if drop.is_none() { 5 } else { 0 });
    }
}

#[test]
fn section_7_challenges_are_rare() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let mut answers = 0;
    for i in 0..1000 {
        let now = T0 + units::Nanos::from_micros(100 * i);
        answers += u32::from(tcb.segment_arrives(now, &cfg, &seg(1, 0, RST, 0), true, &mut records()).reply.is_some());
    }
    assert!((2..=26).contains(&answers), "{answers} in 100 ms");
    // A SYN is challenged wherever it lies; not more often than a reset.
    for (nth, at) in [(2, 0), (4, 7), (6, u32::MAX), (8, 1 << 31), (10, 100_000)] {
        let mut answers = 0;
        for i in 0..1000 {
            let now = T0 + ms(100 * nth) + units::Nanos::from_micros(100 * i);
            let out = tcb.segment_arrives(now, &cfg, &seg(at, 0, Flags::SYN, 0), true, &mut records());
            answers += usize::from(out.reply.is_some()) + said(&mut tcb, now, &cfg).len();
        }
        assert!((1..=26).contains(&answers), "{answers} in 100 ms at {at}");
    }
}

#[test]
fn two_ends_do_not_answer_each_other_for_ever() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let stray = seg(u32::MAX - 10, 0, ACK, 0);
    assert!(tcb.segment_arrives(T0, &cfg, &stray, true, &mut records()).reply.is_some());
    assert_eq!(tcb.segment_arrives(T0, &cfg, &stray, true, &mut records()).reply, None);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    // But a sender that waits is answered each time.
    for _ in 0..3 {
        let _ = tcb.segment_arrives(T0, &cfg, &seg(u32::MAX - 10, 0, ACK, 5), true, &mut records());
        assert_eq!(said(&mut tcb, T0, &cfg), ["ack 0 from 0"]);
    }
}
