//! RFC 9293 section 3.6 and 3.10.4, RFC 1337, RFC 6191.

use units::Nanos;
use wire::tcp::{Flags, Segment};

use super::*;
use crate::{CloseReason, DropReason, Events, Payload, State};

const FIN: Flags = Flags::FIN;

/// A connection with its FIN out.
fn fin_wait_1(cfg: &Config) -> Tcb {
    let mut tcb = established(cfg);
    let _ = tcb.shutdown(T0, cfg);
    assert_eq!(said(&mut tcb, T0, cfg), ["fin 0+0"]);
    assert_eq!(tcb.state(), State::FinWait1);
    tcb
}

fn arrive(tcb: &mut Tcb, cfg: &Config, seg: Segment) -> crate::Arrival {
    tcb.segment_arrives(T0, cfg, &seg, true, &mut records())
}

/// A connection in each synchronized state.
fn in_state(cfg: &Config, state: State) -> Tcb {
    let mut tcb = match state {
        State::Established | State::CloseWait | State::LastAck => established(cfg),
        _ => fin_wait_1(cfg),
    };
    match state {
        State::CloseWait | State::Closing => drop(arrive(&mut tcb, cfg, seg(0, 0, FIN | ACK, 0))),
        State::FinWait2 => drop(arrive(&mut tcb, cfg, seg(0, 1, ACK, 0))),
        State::TimeWait => drop(arrive(&mut tcb, cfg, seg(0, 1, FIN | ACK, 0))),
        State::LastAck => {
            let _ = arrive(&mut tcb, cfg, seg(0, 0, FIN | ACK, 0));
            let _ = tcb.shutdown(T0, cfg);
        }
        _ => {}
    }
    sent(&mut tcb, T0, cfg);
    assert_eq!(tcb.state(), state);
    tcb
}

#[test]
fn we_close_first() {
    let cfg = plain();
    let mut tcb = fin_wait_1(&cfg);
    assert_eq!(arrive(&mut tcb, &cfg, seg(0, 1, ACK, 0)), Default::default());
    assert_eq!((tcb.state(), tcb.deadline()), (State::FinWait2, Nanos::MAX));
    let out = arrive(&mut tcb, &cfg, seg(0, 1, ACK | FIN, 10));
    assert_eq!(out.payload, Payload::InOrder { skip: 0, len: 10 });
    assert_eq!((out.events, tcb.state()), (Events::PEER_FIN, State::TimeWait));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 11 from 1"]);
    let end = T0 + cfg.msl + cfg.msl;
    assert_eq!(tcb.deadline(), end);
    assert_eq!(tcb.timeout(end, &cfg, &mut records()).closed, Some(CloseReason::Normal));
    assert_eq!(tcb.state(), State::Closed);
}

#[test]
fn the_peer_closes_first() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let out = arrive(&mut tcb, &cfg, seg(0, 0, ACK | FIN, 10));
    assert_eq!((out.events, tcb.state(), out.advanced), (Events::PEER_FIN, State::CloseWait, 10));
    assert_eq!(tcb.send(T0, 500), 500, "CLOSE-WAIT still sends");
    let _ = tcb.shutdown(T0, &cfg);
    assert_eq!((said(&mut tcb, T0, &cfg), tcb.state()), (vec!["fin 0+500".to_string()], State::LastAck));
    let out = arrive(&mut tcb, &cfg, seg(11, 500, ACK, 0));
    assert_eq!((out.acked, out.closed), (500, None), "the data, not the FIN");
    let out = arrive(&mut tcb, &cfg, seg(11, 501, ACK, 0));
    assert_eq!((out.acked, out.closed), (0, Some(CloseReason::Normal)));
}

#[test]
fn both_close_at_once() {
    let cfg = plain();
    let mut tcb = fin_wait_1(&cfg);
    let out = arrive(&mut tcb, &cfg, seg(0, 0, ACK | FIN, 0));
    assert_eq!((out.events, tcb.state()), (Events::PEER_FIN, State::Closing));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 1 from 1"]);
    assert_eq!(arrive(&mut tcb, &cfg, seg(1, 1, ACK, 0)), Default::default());
    assert_eq!(tcb.state(), State::TimeWait);
}

#[test]
fn one_segment_acknowledges_our_fin_and_carries_theirs() {
    let cfg = plain();
    let mut tcb = fin_wait_1(&cfg);
    assert_eq!(arrive(&mut tcb, &cfg, seg(0, 1, ACK | FIN, 0)).events, Events::PEER_FIN);
    assert_eq!(tcb.state(), State::TimeWait);
}

#[test]
fn a_fin_before_its_data_waits_for_it() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let out = arrive(&mut tcb, &cfg, seg(100, 0, ACK | FIN, 50));
    assert_eq!((out.events, out.payload), (Events::NONE, Payload::OutOfOrder { skip: 0, len: 50, seq: IRS + 101 }));
    let out = arrive(&mut tcb, &cfg, seg(0, 0, ACK, 100));
    assert_eq!((out.advanced, out.events, tcb.state()), (150, Events::PEER_FIN, State::CloseWait));
    assert_eq!(said(&mut tcb, T0, &cfg).last().unwrap(), "ack 151 from 0");
}

#[test]
fn the_fin_is_sent_again_and_given_up_at_last() {
    let cfg = Config { data_retries: 2, ..plain() };
    let mut tcb = fin_wait_1(&cfg);
    for _ in 0..2 {
        let now = tcb.deadline();
        assert_eq!(tcb.timeout(now, &cfg, &mut records()), Default::default());
        assert_eq!(said(&mut tcb, now, &cfg), ["fin 0+0 again"]);
    }
    assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
}

#[test]
fn half_close_goes_on_receiving_and_a_full_close_does_not() {
    let cfg = plain();
    for state in [State::FinWait1, State::FinWait2] {
        let acked = u32::from(state == State::FinWait2);
        let mut tcb = in_state(&cfg, state);
        assert_eq!(arrive(&mut tcb, &cfg, seg(0, acked, ACK, 10)).advanced, 10);
        tcb.consumed(10);
        let _ = tcb.close(T0, &cfg);
        let out = arrive(&mut tcb, &cfg, seg(10, acked, ACK, 10));
        assert_eq!((out.closed, out.drop), (Some(CloseReason::Aborted), Some(DropReason::AfterClose)));
        assert_eq!(out.reply.map(|r| say(&r)), Some("rst 1".to_string()));
    }
}

#[test]
fn close_with_unread_data_resets() {
    let cfg = plain();
    let mut tcb = established(&cfg);
    let _ = arrive(&mut tcb, &cfg, seg(0, 0, ACK, 10));
    let out = tcb.close(T0, &cfg);
    assert_eq!((out.closed, out.reply.map(|r| say(&r))), (Some(CloseReason::Aborted), Some("rst 0".to_string())));
    assert_eq!(sent(&mut tcb, T0, &cfg), []);
}

#[test]
fn fin_wait_2_ends_when_nobody_reads() {
    let cfg = plain();
    let mut tcb = in_state(&cfg, State::FinWait2);
    assert_eq!(tcb.deadline(), Nanos::MAX, "the user may still read");
    let _ = tcb.close(T0, &cfg);
    assert_eq!(tcb.deadline(), T0 + cfg.fin_wait2);
    assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()).closed, Some(CloseReason::TimedOut));
}

#[test]
fn abort_resets_where_the_peer_expects_more() {
    use State::*;
    let cfg = plain();
    for state in [Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait] {
        let mut tcb = in_state(&cfg, state);
        let rst = tcb.abort();
        assert_eq!(rst.is_some(), matches!(state, Established | FinWait1 | FinWait2 | CloseWait), "{state}");
        assert!(rst.is_none_or(|r| r.seq == tcb.snd_nxt()));
        assert_eq!(tcb.state(), Closed);
    }
    assert_eq!(Tcb::connect(T0, &cfg, ISS).abort(), None);
}

#[test]
fn a_reset_ends_every_state_but_time_wait() {
    use State::*;
    let cfg = plain();
    for state in [Established, FinWait1, FinWait2, CloseWait, Closing, LastAck, TimeWait] {
        let mut tcb = in_state(&cfg, state);
        let rst = Segment { seq: tcb.rcv_nxt(), ..seg(0, 0, Flags::RST, 0) };
        let out = arrive(&mut tcb, &cfg, rst);
        if state == TimeWait {
            assert_eq!((out.closed, out.drop), (None, Some(DropReason::BadRst)), "RFC 1337");
        } else {
            assert_eq!(out.closed, Some(CloseReason::Reset), "{state}");
        }
    }
}

#[test]
fn time_wait_acknowledges_the_fin_again_and_starts_over() {
    let cfg = plain();
    let mut tcb = in_state(&cfg, State::TimeWait);
    let later = T0 + ms(400);
    let out = tcb.segment_arrives(later, &cfg, &seg(0, 1, ACK | FIN, 0), true, &mut records());
    assert_eq!(out.drop, Some(DropReason::Duplicate));
    assert_eq!(said(&mut tcb, later, &cfg), ["ack 1 from 1"]);
    assert_eq!(tcb.deadline(), later + cfg.msl + cfg.msl);
}

#[test]
fn a_new_syn_may_reuse_time_wait() {
    let cfg = plain();
    let mut tcb = in_state(&cfg, State::TimeWait);
    let syn = |seq| Segment { seq: IRS + seq, ..syn_segment(&cfg) };
    assert_eq!(arrive(&mut tcb, &cfg, syn(500)).events, Events::TIMEWAIT_REUSE, "RFC 1122: above what was used");
    let out = arrive(&mut tcb, &cfg, syn(0));
    assert_eq!((out.events, out.drop), (Events::NONE, Some(DropReason::Duplicate)));

    let cfg = Config { timestamps: true, ..plain() };
    let mut tcb = fin_wait_1(&cfg);
    let _ = arrive(&mut tcb, &cfg, with_ts(seg(0, 1, ACK | FIN, 0), 6000, 0));
    assert_eq!(tcb.state(), State::TimeWait);
    let at = |val| with_ts(Segment { seq: IRS - 9999, ..syn_segment(&cfg) }, val, 0);
    assert_eq!(arrive(&mut tcb, &cfg, at(6001)).events, Events::TIMEWAIT_REUSE, "RFC 6191: a newer timestamp suffices");
    assert_eq!(arrive(&mut tcb, &cfg, at(6000)).events, Events::NONE);
}

#[test]
fn data_after_the_fin_is_ignored() {
    let cfg = plain();
    let mut tcb = in_state(&cfg, State::CloseWait);
    let out = arrive(&mut tcb, &cfg, seg(1, 0, ACK, 10));
    assert_eq!((out.payload, out.drop), (Payload::None, Some(DropReason::AfterClose)));
}
