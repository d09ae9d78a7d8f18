//! RFC 7323: window scale, timestamps, PAWS.

use units::Nanos;
use wire::tcp::Flags;

use super::*;
use crate::{DropReason, Payload};

fn cfg() -> Config {
    Config { timestamps: true, ..plain() }
}

#[test]
fn windows_are_scaled_both_ways() {
    let cfg = Config { wscale: Some(2), rcv_wnd: 200_000, ..plain() };
    let mut tcb = established(&cfg);
    assert_eq!(tcb.snd_wnd(), 240_000);
    let _ = tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK | Flags::FIN, 0), true, &mut records());
    assert_eq!(sent(&mut tcb, T0, &cfg)[0].wnd, 50_000);
}

#[test]
fn a_shift_is_used_only_if_both_offer_one() {
    let ours = Config { wscale: Some(2), ..plain() };
    let (mut half, emit) = HalfOpen::syn_arrives(T0, &ours, ISS, &syn_segment(&plain()));
    assert_eq!(emit.opts.wscale, None);
    let HalfOutcome::Established(tcb) = half.segment_arrives(T0, &ours, &seg(0, 0, ACK, 0)) else { panic!() };
    assert_eq!(tcb.snd_wnd(), 60_000);
}

#[test]
fn a_shift_that_the_buffer_cannot_show_is_reduced() {
    let shift = |rcv_wnd, wscale| Config { rcv_wnd, wscale, ..plain() }.shift();
    assert_eq!(shift(2000, Some(14)), Some(2));
    assert_eq!(shift(1 << 30, Some(200)), Some(14));
    assert_eq!(shift(1, Some(3)), Some(0));
    assert_eq!(shift(1 << 20, None), None);
}

#[test]
fn every_segment_carries_and_echoes() {
    let cfg = cfg();
    let mut tcb = established(&cfg);
    assert_eq!(tcb.mss(), 1000 - 12);
    let _ = tcb.segment_arrives(T0, &cfg, &with_ts(seg(0, 0, ACK, 10), 5003, 0), true, &mut records());
    tcb.send(T0, 10);
    let now = T0 + ms(7);
    let ts = sent(&mut tcb, now, &cfg)[0].opts.timestamps;
    assert_eq!(ts, Some(Timestamps { val: 100_007, ecr: 5003 }));
}

#[test]
fn section_4_3_the_echo_is_of_the_segment_that_spans_the_last_ack() {
    let cfg = cfg();
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &with_ts(seg(0, 0, ACK, 10), 5001, 0), true, &mut records());
    let _ = tcb.segment_arrives(T0, &cfg, &with_ts(seg(10, 0, ACK, 10), 5002, 0), true, &mut records());
    let _ = tcb.segment_arrives(T0, &cfg, &with_ts(seg(100, 0, ACK, 10), 5003, 0), true, &mut records());
    let acks = sent(&mut tcb, T0, &cfg);
    assert_eq!(acks[0].opts.timestamps.unwrap().ecr, 5001, "of the first that the delayed ACK covers");
    let _ = tcb.segment_arrives(T0, &cfg, &with_ts(seg(20, 0, ACK, 10), 5004, 0), true, &mut records());
    tcb.send(T0, 1);
    assert_eq!(sent(&mut tcb, T0, &cfg).last().unwrap().opts.timestamps.unwrap().ecr, 5004, "of what fills the gap");
}

#[test]
fn paws() {
    let cfg = cfg();
    let mut tcb = established(&cfg);
    let out = tcb.segment_arrives(T0, &cfg, &with_ts(seg(0, 0, ACK, 10), 4999, 0), true, &mut records());
    assert_eq!((out.payload, out.drop), (Payload::None, Some(DropReason::Paws)));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 0 from 0"], "R1: acknowledged and dropped");
    // RFC 7323 section 5.5: after 24 days without a segment TS.Recent is invalid.
    let late = T0 + Nanos::from_secs(24 * 24 * 3600);
    let out = tcb.segment_arrives(late, &cfg, &with_ts(seg(0, 0, ACK, 10), 4999, 0), true, &mut records());
    assert_eq!((out.advanced, out.drop), (10, None));
    // Across the wrap of the clock.
    let mut tcb = established(&cfg);
    tcb.ts_recent = u32::MAX - 1;
    let out = tcb.segment_arrives(T0, &cfg, &with_ts(seg(0, 0, ACK, 10), 3, 0), true, &mut records());
    assert_eq!((out.advanced, tcb.ts_recent), (10, 3));
}

#[test]
fn section_3_2_a_segment_without_the_option_is_dropped_silently_but_a_reset_counts() {
    let cfg = cfg();
    let mut tcb = established(&cfg);
    let out = tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK, 10), true, &mut records());
    assert_eq!((out.drop, out.reply), (Some(DropReason::NoTimestamp), None));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let out = tcb.segment_arrives(T0, &cfg, &seg(0, 0, Flags::RST, 0), true, &mut records());
    assert!(out.closed.is_some());
}

#[test]
fn an_echo_gives_the_sample_that_karn_forbids() {
    let cfg = Config { rto_min: ms(1), ..cfg() };
    let mut tcb = established(&cfg);
    tcb.send(T0, 10);
    sent(&mut tcb, T0, &cfg);
    let now = tcb.deadline();
    let _ = tcb.timeout(now, &cfg, &mut records());
    let again = sent(&mut tcb, now, &cfg)[0];
    assert!(again.rexmit);
    tcb.srtt8 = 0;
    let echo = again.opts.timestamps.unwrap().val;
    let _ = tcb.segment_arrives(now + ms(30), &cfg, &with_ts(seg(0, 10, ACK, 0), 5001, echo), true, &mut records());
    assert_eq!((tcb.srtt(), tcb.backoff), (Some(ms(30)), 0));
}
