//! RFC 5681, 6582 (NewReno), 6675 and 2018 (SACK), 6298 (RTO), 3042 (limited transmit), 9293 section 3.8.6.3 (delayed ACK).

use units::Nanos;

use super::pair::{Pair, Wire};
use super::*;
use crate::{Arrival, CloseReason, Congestion, Payload};

fn arrive(tcb: &mut Tcb, now: Nanos, cfg: &Config, seg: Segment) -> Arrival {
    let out = tcb.segment_arrives(now, cfg, &seg, true, &mut records());
    assert_eq!(tcb.invariants(), Ok(()), "{tcb}");
    out
}

/// A connection with `n` full segments in flight.
fn in_flight(cfg: &Config, n: u32) -> Tcb {
    let mut tcb = established(cfg);
    assert_eq!(tcb.send(T0, n * MSS), n * MSS);
    assert_eq!(sent(&mut tcb, T0, cfg).len(), n as usize);
    tcb
}

fn ack(n: u32) -> Segment {
    seg(0, n * MSS, ACK, 0)
}

#[test]
fn newreno_fast_retransmit_partial_and_full_acknowledgement() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    for _ in 0..2 {
        let _ = arrive(&mut tcb, T0, &cfg, ack(0));
        assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    }
    let _ = arrive(&mut tcb, T0, &cfg, ack(0));
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000 again"], "RFC 5681 section 3.2 step 3");
    assert_eq!((tcb.ssthresh(), tcb.cwnd()), (5000, 8000), "half of the flight, inflated by three");
    let _ = arrive(&mut tcb, T0, &cfg, ack(0));
    assert_eq!(tcb.cwnd(), 9000, "step 4: each further duplicate inflates");
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    // Segment 4 is lost, too: RFC 6582 section 3.2 step 3, partial.
    assert_eq!(arrive(&mut tcb, T0, &cfg, ack(4)).acked, 4000);
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 4000+1000 again"]);
    assert_eq!(tcb.cwnd(), 9000 - 4000 + 1000, "deflated by what was acknowledged, plus one");
    let _ = arrive(&mut tcb, T0, &cfg, ack(10));
    assert_eq!(tcb.cwnd(), 2000, "full: min(ssthresh, max(flight, SMSS) + SMSS)");
    assert_eq!(tcb.deadline(), Nanos::MAX);
    // RFC 6582 section 3.2 step 2: duplicates of the recovery's own retransmissions start no other.
    assert_eq!(tcb.send(T0, 2000), 2000);
    sent(&mut tcb, T0, &cfg);
    for _ in 0..4 {
        let _ = arrive(&mut tcb, T0, &cfg, ack(10));
    }
    assert!(said(&mut tcb, T0, &cfg).iter().all(|s| !s.contains("again")));
}

#[test]
fn duplicate_acks_without_end() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    for _ in 0..1000 {
        let _ = arrive(&mut tcb, T0, &cfg, ack(0));
        sent(&mut tcb, T0, &cfg);
    }
    assert_eq!(arrive(&mut tcb, T0, &cfg, ack(10)).acked, 10_000);
}

#[test]
fn what_is_no_duplicate_ack() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 4);
    for i in 0..4u16 {
        let _ = arrive(&mut tcb, T0, &cfg, Segment { wnd: 60_000 - i - 1, ..ack(0) }); // a window update
        let _ = arrive(&mut tcb, T0, &cfg, seg(u32::from(i), 0, ACK, 1)); // data
    }
    assert!(said(&mut tcb, T0, &cfg).iter().all(|s| !s.contains("again")));
}

#[test]
fn limited_transmit() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    assert_eq!(tcb.send_window(), 0, "cwnd is full");
    let _ = arrive(&mut tcb, T0, &cfg, ack(0));
    assert_eq!(tcb.send(T0, 5000), 1000, "one segment for a duplicate");
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 10000+1000"]);
    let _ = arrive(&mut tcb, T0, &cfg, ack(0));
    assert_eq!(tcb.send(T0, 5000), 1000, "and for the second");
}

#[test]
fn sack_repairs_all_holes_in_one_round_trip() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    // Segments 0, 2 and 4 are lost.
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(1000, 2000)]));
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(3000, 4000), (1000, 2000)]));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0], "within a quarter of the least round trip it may be reordering");
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(5000, 6000), (3000, 4000), (1000, 2000)]));
    assert_eq!(tcb.ssthresh(), 5000);
    // RFC 8985 section 6.2: all three were sent before 5000. RFC 9937: one to begin with.
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000 again"]);
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(5000, 8000), (3000, 4000), (1000, 2000)]));
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 2000+1000 again", "data 4000+1000 again"]);
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(5000, 10000), (3000, 4000), (1000, 2000)]));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(4), &[(5000, 10000)]));
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, ack(10));
    assert_eq!((tcb.cwnd(), tcb.unacked()), (5000, 0));
}

#[test]
fn sack_loss_is_seen_by_bytes_before_the_third_duplicate() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    // RFC 6675 section 4, IsLost: more than (DupThresh - 1) * SMSS above it.
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(1000, 3000)]));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &[(1000, 3001)]));
    assert_eq!(said(&mut tcb, T0, &cfg)[0], "data 0+1000 again");
}

#[test]
fn what_was_sent_before_an_arrived_retransmission_is_lost() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 6);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 5000)]));
    assert_eq!(said(&mut tcb, T0 + ms(10), &cfg), ["data 0+1000 again"]);
    // The last segment is lost, too: the repair of the first, sent later, arrives without it.
    let _ = arrive(&mut tcb, T0 + ms(20), &cfg, ack(5));
    assert_eq!(said(&mut tcb, T0 + ms(20), &cfg), ["data 5000+1000 again"]);
}

#[test]
fn a_lost_retransmission_is_noticed() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 8000)]));
    assert_eq!(said(&mut tcb, T0 + ms(10), &cfg), ["data 0+1000 again"]);
    assert_eq!(tcb.send(T0 + ms(11), 1000), 1000);
    assert_eq!(said(&mut tcb, T0 + ms(11), &cfg), ["data 10000+1000"]);
    let _ = arrive(&mut tcb, T0 + ms(12), &cfg, sacking(ack(0), &[(1000, 10_000)]));
    assert_eq!(said(&mut tcb, T0 + ms(12), &cfg), [""; 0], "all of that was sent before the repair");
    let _ = arrive(&mut tcb, T0 + ms(21), &cfg, sacking(ack(0), &[(1000, 11_000)]));
    assert_eq!(said(&mut tcb, T0 + ms(21), &cfg), ["data 0+1000 again"], "RFC 8985 section 6.2: sent before 10000");
}

#[test]
fn less_than_three_segments_beyond_a_hole_wait_for_the_reordering_window() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 3);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 3000)]));
    assert_eq!(said(&mut tcb, T0 + ms(10), &cfg), [""; 0]);
    assert_eq!(tcb.deadline(), T0 + ms(10) + Nanos::from_micros(2500), "a quarter of the least round trip");
    let _ = tcb.timeout(tcb.deadline(), &cfg, &mut records());
    assert_eq!(said(&mut tcb, T0 + ms(13), &cfg), ["data 0+1000 again"]);
    assert_eq!(tcb.phase, crate::Phase::Recovery);
}

#[test]
fn reordering_makes_three_no_proof_and_dsack_widens_the_window() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 2000)]));
    // The first arrives late: RACK.reordering_seen.
    let _ = arrive(&mut tcb, T0 + ms(11), &cfg, ack(2));
    let _ = arrive(&mut tcb, T0 + ms(11), &cfg, sacking(ack(2), &[(3000, 9000)]));
    assert_eq!(said(&mut tcb, T0 + ms(11), &cfg), [""; 0]);
    assert_eq!(tcb.deadline(), T0 + ms(11) + Nanos::from_micros(2500));
    let _ = tcb.timeout(tcb.deadline(), &cfg, &mut records());
    let now = T0 + ms(14);
    assert_eq!(said(&mut tcb, now, &cfg), ["data 2000+1000 again"]);
    let cwnd = tcb.cwnd();
    // Needless: both arrive.
    let _ = arrive(&mut tcb, now, &cfg, ack(10));
    let _ = arrive(&mut tcb, now + ms(5), &cfg, sacking(ack(10), &[(2000, 3000)]));
    assert_eq!(tcb.reo_mult, 2, "RFC 8985 section 6.2 step 4");
    assert!(tcb.cwnd() >= 10_000 && cwnd < 10_000, "RFC 3708: the reduction is taken back");
}

#[test]
fn blocks_that_cannot_be_are_not_believed() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 4);
    let absurd = [(3000, 2000), (3000, 9000), (0x8000_0000, 0x8000_1000), (u32::MAX - 5, 2000)];
    for _ in 0..5 {
        let _ = arrive(&mut tcb, T0, &cfg, sacking(ack(0), &absurd));
    }
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    assert_eq!(tcb.pipe(), 4000);
}

#[test]
fn timeout_backs_off_and_starts_slowly() {
    let cfg = Config { data_retries: 3, ..plain() };
    let mut tcb = in_flight(&cfg, 10);
    let rto = tcb.rto();
    assert_eq!((rto, tcb.deadline()), (cfg.rto_min, T0 + cfg.rto_min));
    let mut now = T0;
    for i in 0..3 {
        now += Nanos(rto.0 << i);
        assert_eq!(tcb.deadline(), now, "RFC 6298 section 5.5: doubled");
        assert_eq!(tcb.timeout(now, &cfg, &mut records()), Arrival::default());
        assert_eq!(said(&mut tcb, now, &cfg), ["data 0+1000 again"]);
        assert_eq!((tcb.cwnd(), tcb.ssthresh()), (1000, 5000), "ssthresh of the first timeout is held");
    }
    // Slow start through what was lost.
    assert_eq!(arrive(&mut tcb, now, &cfg, ack(1)).acked, 1000);
    assert_eq!(said(&mut tcb, now, &cfg), ["data 1000+1000 again", "data 2000+1000 again"]);
    // Karn: the timeout stays backed off while there is no sample.
    assert_eq!(tcb.deadline(), now + Nanos(rto.0 << 3));
    let _ = arrive(&mut tcb, now, &cfg, ack(10));
    assert_eq!(tcb.send(now, 1000), 1000);
    sent(&mut tcb, now, &cfg);
    let _ = arrive(&mut tcb, now + ms(1), &cfg, ack(11));
    assert_eq!(tcb.send(now, 1000), 1000);
    sent(&mut tcb, now + ms(1), &cfg);
    assert_eq!(tcb.deadline(), now + ms(1) + rto, "a sample ends the back-off");
}

#[test]
fn data_unanswered_is_given_up_at_r2() {
    let cfg = Config { data_retries: 3, ..plain() };
    let mut tcb = in_flight(&cfg, 1);
    for _ in 0..3 {
        assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, None);
    }
    assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
}

#[test]
fn rfc6298_estimator() {
    let cfg = Config { rto_min: Nanos(0), ..plain() };
    let mut tcb = established(&cfg);
    tcb.srtt8 = 0;
    tcb.measured(&cfg, ms(100));
    assert_eq!((tcb.srtt(), tcb.rto()), (Some(ms(100)), ms(300)), "SRTT = R, RTTVAR = R / 2");
    tcb.measured(&cfg, ms(140));
    // RTTVAR = 3/4 * 50 + 1/4 * 40 = 47.5; SRTT = 7/8 * 100 + 1/8 * 140 = 105.
    assert_eq!((tcb.srtt(), tcb.rto()), (Some(ms(105)), ms(105 + 190)));
    let cfg = Config { rto_max: ms(200), ..cfg };
    tcb.measured(&cfg, ms(140));
    assert_eq!(tcb.rto(), ms(200));
}

#[test]
fn slow_start_and_congestion_avoidance() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    let _ = arrive(&mut tcb, T0, &cfg, ack(1));
    assert_eq!(tcb.cwnd(), 11_000);
    let _ = arrive(&mut tcb, T0, &cfg, ack(5));
    assert_eq!(
        tcb.cwnd(),
        15_000,
        "RFC 9406 section 4.2: up to eight segments for a stretch ACK in the first slow start"
    );
    tcb.set_congestion(Congestion::Dctcp);
    assert!(tcb.send(T0, 100_000) > 0);
    sent(&mut tcb, T0, &cfg);
    let _ = arrive(&mut tcb, T0, &cfg, ack(8));
    assert_eq!(tcb.cwnd(), 17_000, "RFC 3465: else two");
    tcb.ssthresh = 13_000;
    tcb.cwnd = 13_000;
    let (mut acked, before) = (8, tcb.cwnd());
    for _ in 0..13 {
        assert!(tcb.send(T0, 100_000) > 0);
        sent(&mut tcb, T0, &cfg);
        acked += 1;
        let _ = arrive(&mut tcb, T0, &cfg, ack(acked));
    }
    assert_eq!(tcb.cwnd(), before + 1000, "one segment per window");
}

#[test]
fn a_window_that_is_not_used_does_not_grow_and_idleness_restarts_it() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let mut now = T0;
    for i in 1..50 {
        tcb.send(now, 1000);
        sent(&mut tcb, now, &cfg);
        let _ = arrive(&mut tcb, now, &cfg, ack(i));
    }
    assert_eq!(tcb.cwnd(), 10_000);
    tcb.cwnd = 40_000;
    now += Nanos::from_secs(1);
    assert_eq!(tcb.send(now, 20_000), 10_000, "RFC 5681 section 4.1");
}

#[test]
fn delayed_ack() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = arrive(&mut tcb, T0, &cfg, seg(0, 0, ACK, 1000));
    assert_eq!((said(&mut tcb, T0, &cfg), tcb.deadline()), (vec![], T0 + cfg.delayed_ack));
    assert_eq!(tcb.timeout(T0 + cfg.delayed_ack, &cfg, &mut records()), Arrival::default());
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 1000 from 0"]);
    let _ = arrive(&mut tcb, T0, &cfg, seg(1000, 0, ACK, 1000));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let _ = arrive(&mut tcb, T0, &cfg, seg(2000, 0, ACK, 1000));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 3000 from 0"], "every second full segment");
    let _ = arrive(&mut tcb, T0, &cfg, seg(3000, 0, ACK, 1000));
    assert_eq!(tcb.send(T0, 10), 10);
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+10"], "data carries the ACK");
    assert_eq!(tcb.deadline(), T0 + cfg.rto_min, "and no other is due");
}

#[test]
fn out_of_order_data_is_answered_at_once_and_reported_most_recent_first() {
    let cfg = with_sack();
    let mut tcb = established(&cfg);
    let out = arrive(&mut tcb, T0, &cfg, seg(1000, 0, ACK, 1000));
    assert_eq!(out.payload, Payload::OutOfOrder { skip: 0, len: 1000, seq: IRS + 1001 });
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 0 from 0 [1000 2000)"]);
    let _ = arrive(&mut tcb, T0, &cfg, seg(5000, 0, ACK, 1000));
    let _ = arrive(&mut tcb, T0, &cfg, seg(3000, 0, ACK, 1000));
    let blocks = "[3000 4000) [5000 6000) [1000 2000)";
    assert_eq!(said(&mut tcb, T0, &cfg), vec![format!("ack 0 from 0 {blocks}"); 2], "one for each arrival");
    // RFC 5681 section 4.2: filling a gap is answered at once.
    let out = arrive(&mut tcb, T0, &cfg, seg(0, 0, ACK, 1000));
    assert_eq!((out.payload, out.advanced), (Payload::InOrder { skip: 0, len: 1000 }, 2000));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 2000 from 0 [3000 4000) [5000 6000)"]);
    let out = arrive(&mut tcb, T0, &cfg, seg(1500, 0, ACK, 4000));
    assert_eq!((out.payload, out.advanced), (Payload::InOrder { skip: 500, len: 3500 }, 4000));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 6000 from 0 [1500 2000)"], "RFC 2883: what came twice");
}

#[test]
fn a_small_segment_that_fills_a_gap_is_answered_at_once() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = arrive(&mut tcb, T0, &cfg, seg(10, 0, ACK, 10));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 0 from 0"]);
    let _ = arrive(&mut tcb, T0, &cfg, seg(0, 0, ACK, 10));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 20 from 0"]);
}

#[test]
fn a_batch_of_arrivals_still_gives_every_duplicate_ack() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    for at in [0, 1000, 3000, 4000, 5000] {
        let _ = arrive(&mut tcb, T0, &cfg, seg(at, 0, ACK, 1000));
    }
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 2000 from 0"; 4], "one that is new, three that are not");
}

#[test]
fn held_data_is_trimmed_to_what_is_new_and_bounded() {
    let cfg = with_sack();
    let mut tcb = established(&cfg);
    let _ = arrive(&mut tcb, T0, &cfg, seg(1000, 0, ACK, 1000));
    let out = arrive(&mut tcb, T0, &cfg, seg(1500, 0, ACK, 1000));
    assert_eq!(out.payload, Payload::OutOfOrder { skip: 500, len: 500, seq: IRS + 2001 });
    let out = arrive(&mut tcb, T0, &cfg, seg(500, 0, ACK, 5000));
    assert_eq!(out.payload, Payload::OutOfOrder { skip: 0, len: 500, seq: IRS + 501 }, "up to the held run");
    let out = arrive(&mut tcb, T0, &cfg, seg(600, 0, ACK, 100));
    assert_eq!((out.payload, out.drop), (Payload::None, Some(crate::DropReason::Duplicate)));
    let out = tcb.segment_arrives(T0, &cfg, &seg(9000, 0, ACK, 100), false, &mut records());
    assert_eq!((out.payload, out.drop), (Payload::None, Some(crate::DropReason::OooFull)), "no buffer of the caller's");
    for i in 0..11 {
        assert_eq!(arrive(&mut tcb, T0, &cfg, seg(10_000 + i * 1000, 0, ACK, 100)).drop, None);
    }
    let out = arrive(&mut tcb, T0, &cfg, seg(30_000, 0, ACK, 100));
    assert_eq!(out.drop, Some(crate::DropReason::OooFull), "no range slot");
}

/// One lost segment, whichever, costs a round trip and not a timeout.
#[test]
fn one_loss_in_the_middle_is_repaired_without_a_timeout() {
    for sack in [false, true] {
        for lost in 1..=97 {
            // The last three can only be found missing by a timeout: nothing comes after them.
            let cfg = Config { sack, rto_min: Nanos::from_secs(5), ..Config::default() };
            let mut pair = Pair::client_and_server(cfg.clone(), cfg, Wire::GOOD, 1);
            pair.lose_data = Some(lost);
            // 100 segments one way.
            pair.ends[1].close_when_done = false;
            let data = vec![7; 100 * 1448];
            pair.ends[0].to_send.extend(&data);
            let ok = pair.run_until(pair.now + Nanos::from_millis(100), |p| p.ends[1].received.len() == data.len());
            assert!(ok, "sack {sack}, lost data #{lost}: waited for a timeout\n{}", pair.trace.join("\n"));
        }
    }
}

/// Without records out-of-order data comes again and loss is found by duplicates; when there are some, each comes back.
#[test]
fn records_are_bounded_and_come_back() {
    let cfg = with_sack();
    let (mut a, mut b, mut pool) = (established(&cfg), established(&cfg), Records::new(1));
    let early = seg(1000, 0, ACK, 1000);
    assert_eq!(a.segment_arrives(T0, &cfg, &early, true, &mut pool).drop, None);
    assert_eq!(b.segment_arrives(T0, &cfg, &early, true, &mut pool).drop, Some(crate::DropReason::OooFull));
    assert_eq!(said(&mut b, T0, &cfg), ["ack 0 from 0"]);
    assert_eq!(a.segment_arrives(T0, &cfg, &seg(0, 0, ACK, 1000), true, &mut pool).advanced, 2000);
    assert_eq!(pool.available(), 1, "the gap is closed");
    assert_eq!(b.segment_arrives(T0, &cfg, &early, true, &mut pool).drop, None);
    assert!(b.abort().is_some());
    b.retire(&mut pool);
    assert_eq!(pool.available(), 1);
}

#[test]
fn without_a_record_three_duplicates_with_blocks_still_tell() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    let mut none = Records::new(0);
    for i in 2..5 {
        let _ = tcb.segment_arrives(T0, &cfg, &sacking(ack(0), &[(1000, i * 1000)]), true, &mut none);
    }
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000 again"], "RFC 6582");
}

/// A record that comes in the middle of a recovery does not open the window.
#[test]
fn a_record_in_the_middle_of_a_recovery() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    let mut none = Records::new(0);
    for i in 2..5 {
        let _ = tcb.segment_arrives(T0, &cfg, &sacking(ack(0), &[(1000, i * 1000)]), true, &mut none);
    }
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000 again"]);
    let _ = arrive(&mut tcb, T0 + ms(5), &cfg, sacking(ack(0), &[(1000, 6000)]));
    assert!(tcb.cwnd() <= 10_000, "{}", tcb.cwnd());
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, ack(10));
    assert_eq!((tcb.unacked(), tcb.cwnd()), (0, 5000));
}

/// RFC 5682: the second timeout of the same data is no longer in doubt, and a spurious first one gives everything back.
#[test]
fn a_spurious_timeout_is_undone() {
    let cfg = Config { frto: true, ..plain() };
    let mut tcb = in_flight(&cfg, 10);
    assert!(tcb.send(T0, 5000) == 0, "the window is full");
    let (cwnd, ssthresh, now) = (tcb.cwnd(), tcb.ssthresh(), tcb.deadline());
    let mut pool = records();
    let _ = tcb.timeout(now, &cfg, &mut pool);
    assert_eq!(said(&mut tcb, now, &cfg), ["data 0+1000 again"]);
    let _ = tcb.segment_arrives(now, &cfg, &ack(1), true, &mut pool);
    assert_eq!(tcb.send(now, 5000), 2000, "two new segments");
    assert_eq!(said(&mut tcb, now, &cfg), ["data 10000+1000", "data 11000+1000"]);
    let _ = tcb.segment_arrives(now, &cfg, &ack(2), true, &mut pool);
    assert_eq!((tcb.cwnd(), tcb.ssthresh()), (cwnd, ssthresh));
    assert!(said(&mut tcb, now, &cfg).iter().all(|s| !s.contains("again")));
}

/// ACKs come in batches, and nothing is sent between those of one. The reduction goes by what was in flight before the batch, and what the
/// batch delivered before the loss was found is replaced (RFC 5681 section 3.1: FlightSize; RFC 9937: in proportion to what was delivered).
#[test]
fn a_batch_of_acks_does_not_deepen_the_reduction() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    tcb.ssthresh = 10_000;
    assert_eq!(tcb.send(T0, 30_000), 0, "cwnd holds the sender back");
    let now = T0 + ms(10);
    for i in 1..=6 {
        let _ = arrive(&mut tcb, now, &cfg, ack(i));
    }
    let _ = arrive(&mut tcb, now, &cfg, sacking(ack(6), &[(7000, 10_000)]));
    assert_eq!(tcb.ssthresh(), 5000, "half of the 10 in flight, not of the 4 that the batch has left");
    assert_eq!(said(&mut tcb, now, &cfg), ["data 6000+1000 again"]);
    assert_eq!(tcb.send(now, 30_000), 4000);
    assert_eq!(said(&mut tcb, now, &cfg).len(), 4, "ssthresh is in the network at once");
}

/// RFC 9406: a queue that grows by a millisecond per round trip ends the first slow start before anything is lost; ssthresh is then cwnd.
#[test]
fn the_first_slow_start_ends_where_round_trips_grow() {
    let cfg = Config { timestamps: true, mss: 1012, wscale: Some(3), ..plain() };
    let mut tcb = in_flight(&cfg, 10);
    assert_eq!(tcb.send(T0, 100_000), 0, "cwnd holds the sender back");
    let (mut now, mut sent_at, mut acked, mut rounds) = (T0, T0, 0, 0);
    while tcb.ssthresh() > 1 << 29 {
        rounds += 1;
        assert!(rounds < 12, "cwnd {}", tcb.cwnd());
        // The queue: what goes beyond ten segments waits, a millisecond for each two of them.
        let flight = tcb.flight() / 1000;
        now += ms(20 + u64::from(flight.saturating_sub(10)) / 2);
        let echo = tcb.ts_now(sent_at);
        for _ in 0..flight {
            acked += 1;
            let seg = Segment { wnd: 60_000, ..ack(acked) };
            let _ = arrive(&mut tcb, now, &cfg, with_ts(seg, 5000 + now.millis() as u32, echo));
        }
        assert!(tcb.send(now, 100_000) > 0);
        sent(&mut tcb, now, &cfg);
        sent_at = now;
    }
    assert_eq!(tcb.ssthresh(), tcb.cwnd());
    // Seen with 20 segments in flight, then five rounds that add a quarter each.
    assert!((40_000..=80_000).contains(&tcb.cwnd()), "{}", tcb.cwnd());
}

/// RFC 5681 section 3.2 step 2: what limited transmit has sent is not of the window that is reduced.
#[test]
fn limited_transmit_does_not_soften_the_reduction() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    for i in 1..=2 {
        assert_eq!(tcb.send(T0, 30_000), if i == 1 { 0 } else { 1000 });
        let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 1000 + 1000 * i)]));
        sent(&mut tcb, T0 + ms(10), &cfg);
    }
    assert_eq!(tcb.send(T0, 30_000), 1000);
    sent(&mut tcb, T0 + ms(10), &cfg);
    assert_eq!(tcb.flight(), 12_000);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 4000)]));
    assert_eq!(tcb.ssthresh(), 5000);
}

/// Two segments are sent again, one of which was only late: the ACK that it causes at last echoes its first transmission (RFC 3522), but the
/// other was lost, and the reduction stands.
#[test]
fn one_that_was_only_late_does_not_excuse_another_that_was_lost() {
    let cfg = Config { timestamps: true, mss: 1012, ..with_sack() };
    let mut tcb = in_flight(&cfg, 10);
    let first = tcb.ts_now(T0);
    let at = |n: u64, seg: Segment, ecr: u32| (T0 + ms(n), with_ts(seg, 5000 + n as u32, ecr));
    let (now, told) = at(10, sacking(ack(0), &[(6000, 10_000), (1000, 5000)]), first);
    let _ = arrive(&mut tcb, now, &cfg, told);
    assert_eq!(said(&mut tcb, now, &cfg), ["data 0+1000 again", "data 5000+1000 again"]);
    let (now, late) = at(13, sacking(ack(5), &[(6000, 10_000)]), first);
    let _ = arrive(&mut tcb, now, &cfg, late);
    assert_eq!((tcb.phase, tcb.ssthresh()), (crate::Phase::Recovery, 5000));
    let (now, repaired) = at(20, ack(10), first + 10);
    let _ = arrive(&mut tcb, now, &cfg, repaired);
    assert_eq!(tcb.cwnd(), 5000);
}

/// The network doubles a segment that nobody sent again: its report (RFC 2883) does not take a reduction back.
#[test]
fn what_the_network_doubles_does_not_undo_a_reduction() {
    let cfg = with_sack();
    let mut tcb = in_flight(&cfg, 10);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, sacking(ack(0), &[(1000, 10_000)]));
    assert_eq!(said(&mut tcb, T0 + ms(10), &cfg), ["data 0+1000 again"]);
    let _ = arrive(&mut tcb, T0 + ms(11), &cfg, sacking(ack(0), &[(3000, 4000), (1000, 10_000)]));
    assert_eq!(tcb.phase, crate::Phase::Recovery);
    let _ = arrive(&mut tcb, T0 + ms(20), &cfg, ack(10));
    let _ = arrive(&mut tcb, T0 + ms(21), &cfg, sacking(ack(10), &[(4000, 5000)]));
    assert_eq!(tcb.cwnd(), 5000);
}

/// A user that may not send half a segment, and waits, is held back by cwnd all the same: the window grows on every ACK of a batch, also on
/// those that find less than half of it in flight.
#[test]
fn a_user_that_waits_with_half_a_segment_of_room_is_limited_by_cwnd() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    (tcb.cwnd, tcb.ssthresh) = (10_500, 10_000);
    assert_eq!(tcb.send_window(), 500);
    tcb.send_later(T0);
    for i in 1..=10 {
        let _ = arrive(&mut tcb, T0 + ms(10), &cfg, ack(i));
    }
    assert_eq!(tcb.credit, 10_000, "RFC 5681 section 3.1: all that was acknowledged counts");
    // A peer's window that holds the sender back is no reason to grow (RFC 7661).
    let mut tcb = in_flight(&cfg, 10);
    tcb.cwnd = 70_000;
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, Segment { wnd: 9500, ..ack(1) });
    assert_eq!((tcb.send_window(), tcb.cwnd()), (500, 70_000));
    tcb.send_later(T0 + ms(10));
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, Segment { wnd: 9500, ..ack(2) });
    assert_eq!(tcb.cwnd(), 70_000);
}

/// The clock of the timestamps shows whole milliseconds. At whichever fraction of one a lost segment is sent again and acknowledged, the ACK of
/// its repair is not taken for one of the first transmission.
#[test]
fn the_ack_of_a_repair_is_never_taken_for_an_earlier_one() {
    let cfg = Config { timestamps: true, mss: 1012, ..with_sack() };
    for phase in 0..40u64 {
        let mut tcb = in_flight(&cfg, 10);
        let (sent_at, back_at) = (T0 + ms(10) + Nanos(phase * 25_000), T0 + ms(20) + Nanos(phase * 65_000));
        let told = with_ts(sacking(ack(0), &[(1000, 10_000)]), 5010, tcb.ts_now(T0));
        let _ = arrive(&mut tcb, sent_at, &cfg, told);
        assert_eq!(said(&mut tcb, sent_at, &cfg), ["data 0+1000 again"]);
        let repaired = with_ts(ack(10), 5020, tcb.ts_now(sent_at));
        let _ = arrive(&mut tcb, back_at, &cfg, repaired);
        assert_eq!((tcb.cwnd(), tcb.ssthresh()), (5000, 5000), "{phase}");
    }
}

/// RFC 9438 section 4.3: alpha is 1 from the window of the last loss on, but 9/17 where round trips tell of a queue.
#[test]
fn cubic_grows_as_reno_beyond_the_last_window_unless_there_is_a_queue() {
    let grown = |rtt: u64| {
        let cfg = Config { congestion: Congestion::Cubic, ..plain() };
        let mut tcb = in_flight(&cfg, 10);
        (tcb.ssthresh, tcb.cwnd, tcb.min_rtt_us, tcb.srtt8) = (7000, 10_000, 10_000, 8000 * rtt as u32);
        assert_eq!(tcb.send(T0, 100_000), 0, "cwnd holds the sender back");
        let mut acked = 0;
        for round in 1..=17 {
            let now = T0 + ms(rtt * round);
            for _ in 0..tcb.flight() / 1000 {
                acked += 1;
                let _ = arrive(&mut tcb, now, &cfg, ack(acked));
            }
            assert!(tcb.send(now, 100_000) > 0);
            sent(&mut tcb, now, &cfg);
        }
        tcb.cwnd() - 10_000
    };
    assert!((16_000..=18_000).contains(&grown(10)), "a segment per round trip: {}", grown(10));
    assert!((8000..=10_000).contains(&grown(15)), "9 in 17 round trips: {}", grown(15));
}

/// A user that waits is woken for what is sent in a millisecond, an eighth of the window at most; at once where no ACK will make more room.
#[test]
fn a_burst_is_a_millisecond_or_an_eighth_of_the_window() {
    let cfg = plain();
    let mut tcb = in_flight(&cfg, 10);
    (tcb.cwnd, tcb.snd_wnd_max, tcb.srtt8) = (48_000, 60_000, 8 * 10_000);
    assert_eq!(tcb.burst(), 4000, "4.8 segments a millisecond");
    tcb.srtt8 = 8 * 100;
    assert_eq!(tcb.burst(), 6000);
    tcb.cwnd = 12_000;
    assert_eq!(tcb.burst(), 1000);
    let _ = arrive(&mut tcb, T0 + ms(10), &cfg, ack(10));
    assert_eq!(tcb.burst(), 1, "nothing is in flight");
}
