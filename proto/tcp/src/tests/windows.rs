//! RFC 9293 section 3.8.4 (keep-alive) and 3.8.6 (window management): zero windows, silly windows, updates.

use units::Nanos;

use super::*;
use crate::{Arrival, CloseReason, DropReason, Events, KeepAlive, Payload, Timer};

fn wnd(seg: Segment, wnd: u16) -> Segment {
    Segment { wnd, ..seg }
}

#[test]
fn a_closed_window_is_probed_with_back_off_until_it_opens() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
    assert_eq!((tcb.send(T0, 500), tcb.send_window()), (0, 0));
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let mut now = T0;
    for i in 0..20 {
        let span = (tcb.rto().0 << i).min(cfg.rto_max.0);
        now += Nanos(span);
        assert_eq!(tcb.timers().collect::<Vec<_>>(), [(Timer::Persist, now)]);
        assert_eq!(tcb.timeout(now, &cfg, &mut records()), Arrival::default());
        assert_eq!(said(&mut tcb, now, &cfg), ["ack 0 from -1"], "a segment that must be answered");
        // MUST-37: as long as it is answered, for ever.
        assert_eq!(
            tcb.segment_arrives(now, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records()),
            Arrival::default()
        );
    }
    let out = tcb.segment_arrives(now, &cfg, &seg(0, 0, ACK, 0), true, &mut records());
    assert_eq!(out.events, Events::WRITABLE);
    assert_eq!((tcb.deadline(), tcb.send(now, 500)), (Nanos::MAX, 500));
    assert_eq!(said(&mut tcb, now, &cfg), ["data 0+500"]);
    assert_eq!(tcb.deadline(), now + tcb.rto(), "the back-off of the probes is over");
}

#[test]
fn a_closed_window_that_nobody_answers_for_is_given_up() {
    let cfg = Config { data_retries: 3, ..plain() };
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
    tcb.send(T0, 500);
    for _ in 0..3 {
        assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, None);
    }
    assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
}

/// Answers keep a connection only as long as there is a user who could give it up.
#[test]
fn a_closed_window_does_not_keep_what_the_user_has_closed() {
    let cfg = Config { data_retries: 3, ..plain() };
    for in_flight in [0, 700] {
        let mut tcb = established(&cfg);
        assert_eq!(tcb.send(T0, in_flight), in_flight);
        sent(&mut tcb, T0, &cfg);
        let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
        let _ = tcb.close(T0, &cfg);
        sent(&mut tcb, T0, &cfg);
        let mut now = T0;
        for _ in 0..3 {
            now = tcb.deadline();
            assert_eq!(tcb.timeout(now, &cfg, &mut records()).closed, None);
            sent(&mut tcb, now, &cfg);
            let _ = tcb.segment_arrives(now, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
        }
        // Progress counts: the retries begin anew.
        let mut other = tcb.clone();
        let open = wnd(seg(0, in_flight, ACK, 0), 0);
        let _ = other.segment_arrives(now, &cfg, &open, true, &mut records());
        let gone = other.timeout(other.deadline(), &cfg, &mut records()).closed;
        assert_eq!(gone.is_none(), in_flight > 0);
        assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
    }
}

#[test]
fn a_fin_waits_for_the_window() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
    let _ = tcb.shutdown(T0, &cfg);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    assert_eq!(tcb.timers().map(|t| t.0).collect::<Vec<_>>(), [Timer::Persist]);
    let _ = tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK, 0), true, &mut records());
    assert_eq!(said(&mut tcb, T0, &cfg), ["fin 0+0"]);
}

#[test]
fn a_window_that_shrinks_under_admitted_data() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    assert_eq!(tcb.send(T0, 3000), 3000);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 1500), true, &mut records());
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000"], "the rest would be silly");
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
    // In flight and out of the window: the retransmission is the probe, and an answered one never gives up.
    for _ in 0..40 {
        let now = tcb.deadline();
        assert_eq!(tcb.timeout(now, &cfg, &mut records()), Arrival::default());
        assert_eq!(said(&mut tcb, now, &cfg), ["data 0+1000 again"]);
        let _ = tcb.segment_arrives(now, &cfg, &wnd(seg(0, 0, ACK, 0), 0), true, &mut records());
    }
    let now = tcb.deadline();
    let _ = tcb.segment_arrives(now, &cfg, &seg(0, 1000, ACK, 0), true, &mut records());
    assert_eq!(said(&mut tcb, now, &cfg), ["data 1000+1000", "data 2000+1000"]);
}

#[test]
fn no_silly_segments_but_the_override_sends_what_there_is() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    // A tenth of the largest window seen, less than a segment.
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 700), true, &mut records());
    assert_eq!(tcb.send(T0, 5000), 0);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let now = tcb.deadline();
    assert_eq!(tcb.timeout(now, &cfg, &mut records()).events, Events::WRITABLE);
    assert_eq!(tcb.send(now, 5000), 700);
    assert_eq!(said(&mut tcb, now, &cfg), ["data 0+700"]);
    // All that the user has fits: sent at once.
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 700), true, &mut records());
    assert_eq!(tcb.send(T0, 600), 600);
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+600"]);
}

#[test]
fn send_admits_whole_segments_when_limited_and_tells_when_there_is_more_room() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 0), 4500), true, &mut records());
    assert_eq!(tcb.send(T0, 100_000), 4000);
    assert_eq!(sent(&mut tcb, T0, &cfg).len(), 4);
    let out = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 100, ACK, 0), 4400), true, &mut records());
    assert_eq!((out.acked, out.events), (100, Events::NONE), "not worth it yet");
    let out = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 1000, ACK, 0), 4500), true, &mut records());
    assert_eq!((out.acked, out.events), (900, Events::WRITABLE));
    let out = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 2000, ACK, 0), 4500), true, &mut records());
    assert_eq!(out.events, Events::NONE, "told once");
}

#[test]
fn an_older_segment_does_not_set_the_window() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(0, 0, ACK, 100), 5000), true, &mut records());
    // Reordered: sent before, with another window, out of order data so that it is acceptable.
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(200, 0, ACK, 100), 7000), true, &mut records());
    let _ = tcb.segment_arrives(T0, &cfg, &wnd(seg(100, 0, ACK, 100), 6000), true, &mut records());
    assert_eq!(tcb.snd_wnd(), 7000);
}

#[test]
fn the_receive_window_closes_and_opens_without_silliness() {
    let cfg = Config { rcv_wnd: 8000, ..plain() };
    let mut tcb = established(&cfg);
    for i in 0..8 {
        let _ = tcb.segment_arrives(T0, &cfg, &seg(i * 1000, 0, ACK, 1000), true, &mut records());
    }
    let acks = sent(&mut tcb, T0, &cfg);
    assert_eq!((acks.len(), acks[0].wnd), (1, 0));
    // The peer's probe: its data does not fit, its ACK counts, and it is answered.
    let out = tcb.segment_arrives(T0, &cfg, &seg(8000, 0, ACK, 1), true, &mut records());
    assert_eq!((out.payload, out.drop), (Payload::None, Some(DropReason::OutOfWindow)));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 8000 from 0"]);
    tcb.consumed(999);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    tcb.consumed(1001);
    let update = sent(&mut tcb, T0, &cfg);
    assert_eq!((update.len(), update[0].wnd), (1, 2000), "two segments when none were left");
    tcb.consumed(6000);
    assert_eq!(sent(&mut tcb, T0, &cfg)[0].wnd, 8000);
}

#[test]
fn a_sparing_window_keeps_what_was_promised_and_offers_four_segments_from_there() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let edge = tcb.rcv_edge();
    tcb.set_sparing(true);
    // A user that does not read: the edge stays until it is reached, then the window is closed.
    for i in 0..60 {
        let _ = tcb.segment_arrives(T0, &cfg, &seg(i * 1000, 0, ACK, 1000), true, &mut records());
        sent(&mut tcb, T0, &cfg);
        assert_eq!(tcb.rcv_edge(), edge);
    }
    // One that reads again gets four segments at a time, each time it has read that much.
    tcb.consumed(60_000);
    for i in 15..20 {
        assert_eq!(sent(&mut tcb, T0, &cfg)[0].wnd, 4000);
        for n in 0..4 {
            let _ = tcb.segment_arrives(T0, &cfg, &seg(4000 * i + 1000 * n, 0, ACK, 1000), true, &mut records());
        }
        assert_eq!(sent(&mut tcb, T0, &cfg).last().unwrap().wnd, 0);
        tcb.consumed(4000);
    }
    // Enough again: the whole buffer is offered, with the next thing that is said.
    sent(&mut tcb, T0, &cfg);
    tcb.set_sparing(false);
    let _ = tcb.segment_arrives(T0, &cfg, &seg(80_000, 0, ACK, 1000), true, &mut records());
    tcb.consumed(1000);
    assert_eq!(sent(&mut tcb, T0, &cfg).last().unwrap().wnd, 60_000);
}

#[test]
fn small_growth_rides_on_the_next_segment_and_never_moves_the_edge_back() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let edge = tcb.rcv_edge();
    let _ = tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK, 500), true, &mut records());
    tcb.consumed(500);
    tcb.send(T0, 1);
    let e = sent(&mut tcb, T0, &cfg)[0];
    assert_eq!((tcb.rcv_edge(), u32::from(e.wnd)), (edge, 59_500), "less than a segment: unchanged");
    let _ = tcb.segment_arrives(T0, &cfg, &seg(500, 1, ACK, 600), true, &mut records());
    tcb.consumed(600);
    tcb.send(T0, 1);
    sent(&mut tcb, T0, &cfg);
    assert_eq!(tcb.rcv_edge(), edge + 1100);
}

#[test]
fn what_does_not_fit_the_window_is_cut_off() {
    let cfg = Config { rcv_wnd: 1000, ..plain() };
    let mut tcb = established(&cfg);
    let out = tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK | Flags::FIN, 1500), true, &mut records());
    assert_eq!((out.payload, out.events), (Payload::InOrder { skip: 0, len: 1000 }, Events::NONE));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 1000 from 0"]);
    let out = tcb.segment_arrives(T0, &cfg, &seg(1000, 0, ACK | Flags::FIN, 0), true, &mut records());
    assert_eq!(out.events, Events::PEER_FIN, "a bare FIN needs no buffer");
}

#[test]
fn keep_alive() {
    let keep = KeepAlive { idle: Nanos::from_secs(10), interval: Nanos::from_secs(1), probes: 2 };
    let cfg = Config { keepalive: Some(keep), ..plain() };
    let mut tcb = established(&cfg);
    let s = Nanos::from_secs;
    let heard = T0 + s(4);
    let _ = tcb.segment_arrives(heard, &cfg, &seg(0, 0, ACK, 0), true, &mut records());
    assert_eq!(tcb.deadline(), T0 + s(10), "segments do not move the timer");
    assert_eq!(tcb.timeout(T0 + s(10), &cfg, &mut records()), Arrival::default());
    assert_eq!((said(&mut tcb, T0 + s(10), &cfg), tcb.deadline()), (vec![], heard + s(10)));
    let _ = tcb.timeout(heard + s(10), &cfg, &mut records());
    assert_eq!(said(&mut tcb, heard + s(10), &cfg), ["ack 0 from -1"]);
    // Answered: starts over.
    let heard = heard + s(10) + ms(1);
    let _ = tcb.segment_arrives(heard, &cfg, &seg(0, 0, ACK, 0), true, &mut records());
    let _ = tcb.timeout(tcb.deadline(), &cfg, &mut records());
    assert_eq!(tcb.deadline(), heard + s(10));
    // Not answered: given up.
    for _ in 0..2 {
        assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, None);
        assert_eq!(said(&mut tcb, heard, &cfg), ["ack 0 from -1"]);
    }
    assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
}

#[test]
fn super_segments_are_whole_but_the_last() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    assert_eq!(tcb.send(T0, 9500), 9500);
    let emits: Vec<_> = std::iter::from_fn(|| tcb.poll_transmit(T0, &cfg, 4999)).collect();
    let cut: Vec<_> = emits.iter().map(|e| (e.offset, e.len, e.mss, e.flags.contains(Flags::PSH))).collect();
    assert_eq!(cut, [(0, 4000, 1000, false), (4000, 4000, 1000, false), (8000, 1500, 1000, true)]);
}

/// RFC 9293 section 3.7.4 (Nagle), and its stronger sibling.
#[test]
fn cork_holds_small_segments_until_it_is_taken_back() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    tcb.set_cork(true);
    assert_eq!(tcb.send(T0, 300), 300);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0], "nothing is in flight, and yet it waits");
    assert_eq!(tcb.send(T0, 900), 900);
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 0+1000"]);
    tcb.set_cork(false);
    assert_eq!(said(&mut tcb, T0, &cfg), ["data 1000+200"]);
}

#[test]
fn a_cork_that_is_forgotten_holds_for_a_timeout_only() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    tcb.set_cork(true);
    assert_eq!(tcb.send(T0, 300), 300);
    assert_eq!(said(&mut tcb, T0, &cfg), [""; 0]);
    let now = tcb.deadline();
    assert!(now > T0 && now < Nanos::MAX);
    let _ = tcb.timeout(now, &cfg, &mut records());
    assert_eq!(said(&mut tcb, now, &cfg), ["data 0+300"]);
}

#[test]
fn the_user_timeout_is_of_one_connection() {
    let cfg = Config { data_retries: 100, ..plain() };
    let mut tcb = established(&cfg);
    tcb.set_user_timeout(Some(ms(500)));
    assert_eq!(tcb.send(T0, 300), 300);
    sent(&mut tcb, T0, &cfg);
    let (end, now) = loop {
        let now = tcb.deadline();
        if let Some(why) = tcb.timeout(now, &cfg, &mut records()).closed {
            break (why, now);
        }
        sent(&mut tcb, now, &cfg);
    };
    assert_eq!(end, CloseReason::TimedOut);
    assert!(now - T0 >= ms(499) && now - T0 <= ms(502), "{:?}", now - T0);
}
