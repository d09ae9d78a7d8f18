//! RFC 9293 section 3.5 and 3.10.7.1 to 3.10.7.3; RFC 4987.

use std::net::Ipv4Addr;

use units::Nanos;
use wire::tcp::{Flags, Options, Segment, Timestamps};
use wire::{Seq, Tuple};

use super::*;
use crate::{CloseReason, DropReason, Events, Payload, State, SynCookies, reset_reply};

fn syn_ack(cfg: &Config, ack: Seq) -> Segment {
    let mut seg = Segment { ack, flags: Flags::SYN | ACK, ..syn_segment(cfg) };
    if let Some(ts) = &mut seg.opts.timestamps {
        ts.ecr = 7;
    }
    seg
}

#[test]
fn active_open() {
    let cfg = Config { mss: 1460, ..Config::default() };
    let mut tcb = Tcb::connect_with_ts_offset(T0, &cfg, ISS, 77);
    let syn = sent(&mut tcb, T0, &cfg);
    assert_eq!(syn.len(), 1);
    assert_eq!((syn[0].seq, syn[0].flags, syn[0].wnd), (ISS, Flags::SYN, 65_535));
    let ts = Some(Timestamps { val: 100_000 + 77, ecr: 0 });
    let opts = Options { mss: Some(1460), wscale: Some(3), sack_permitted: true, timestamps: ts, ..Options::NONE };
    assert_eq!(syn[0].opts, opts);
    let later = T0 + Nanos::from_micros(50);
    let out = tcb.segment_arrives(later, &cfg, &syn_ack(&cfg, ISS + 1), true, &mut records());
    assert_eq!((out.events, tcb.state(), tcb.mss()), (Events::CONNECTED, State::Established, 1448));
    assert_eq!(said(&mut tcb, later, &cfg), ["ack 0 from 0"]);
    assert_eq!(tcb.srtt(), Some(Nanos::from_micros(50)), "the SYN was timed");
    assert_eq!((tcb.rto(), tcb.deadline()), (cfg.rto_min, Nanos::MAX));
    assert_eq!(tcb.cwnd(), 10 * 1448);
}

#[test]
fn the_syn_is_repeated_with_back_off_and_given_up() {
    let cfg = Config { syn_retries: 3, ..plain() };
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    assert_eq!(said(&mut tcb, T0, &cfg), ["syn -1"]);
    for at in [1, 3, 7] {
        assert_eq!(tcb.deadline(), T0 + Nanos::from_secs(at));
        assert_eq!(tcb.timeout(tcb.deadline(), &cfg, &mut records()), Default::default());
        assert_eq!(said(&mut tcb, T0 + Nanos::from_secs(at), &cfg), ["syn -1 again"]);
    }
    let out = tcb.timeout(T0 + Nanos::from_secs(15), &cfg, &mut records());
    assert_eq!((out.closed, tcb.state()), (Some(CloseReason::TimedOut), State::Closed));
}

/// RFC 9293 section 3.8.3, MUST-23: the attempt goes on for at least 3 minutes.
#[test]
fn an_unanswered_syn_is_repeated_for_three_minutes_by_default() {
    let cfg = Config::default();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    let (mut now, mut syns) = (T0, 0);
    let given_up = loop {
        syns += sent(&mut tcb, now, &cfg).len();
        now = tcb.deadline();
        if tcb.timeout(now, &cfg, &mut records()).closed.is_some() {
            break now;
        }
    };
    assert_eq!((given_up - T0, syns), (Nanos::from_secs(183), 8));
}

#[test]
fn a_lost_syn_costs_the_initial_window_and_timeout() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    sent(&mut tcb, T0, &cfg);
    let now = tcb.deadline();
    let _ = tcb.timeout(now, &cfg, &mut records());
    sent(&mut tcb, now, &cfg);
    let _ = tcb.segment_arrives(now + ms(1), &cfg, &syn_ack(&cfg, ISS + 1), true, &mut records());
    // RFC 5681 section 3.1; RFC 6298 section 5.7.
    assert_eq!((tcb.cwnd(), tcb.rto()), (1000, Nanos::from_secs(3)));
}

#[test]
fn syn_sent_refuses_what_rfc_9293_says() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    sent(&mut tcb, T0, &cfg);
    let out = tcb.segment_arrives(T0, &cfg, &syn_ack(&cfg, ISS + 2), true, &mut records());
    assert_eq!(out.drop, Some(DropReason::FutureAck));
    assert_eq!(out.reply.map(|r| (r.seq, r.flags)), Some((ISS + 2, Flags::RST)));
    let rst = Segment { flags: Flags::RST, ..seg(0, 0, ACK, 0) };
    assert_eq!(tcb.segment_arrives(T0, &cfg, &rst, true, &mut records()).drop, Some(DropReason::BadRst), "blind reset");
    assert_eq!(
        tcb.segment_arrives(T0, &cfg, &seg(0, 0, ACK, 0), true, &mut records()).drop,
        Some(DropReason::NoConnection)
    );
    let rst = Segment { flags: Flags::RST | ACK, ..seg(0, 0, ACK, 0) };
    assert_eq!(tcb.segment_arrives(T0, &cfg, &rst, true, &mut records()).closed, Some(CloseReason::Refused));
}

#[test]
fn data_and_fin_of_the_syn_ack_count() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    sent(&mut tcb, T0, &cfg);
    let seg = Segment { len: 5, flags: Flags::SYN | ACK | Flags::FIN, ..syn_ack(&cfg, ISS + 1) };
    let out = tcb.segment_arrives(T0, &cfg, &seg, true, &mut records());
    assert_eq!(out.payload, Payload::InOrder { skip: 0, len: 5 });
    assert_eq!((out.events, tcb.state()), (Events::CONNECTED | Events::PEER_FIN, State::CloseWait));
    assert_eq!(said(&mut tcb, T0, &cfg), ["ack 6 from 0"]);
}

#[test]
fn send_and_close_before_the_handshake_are_remembered() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    assert_eq!(tcb.send(T0, 10), 0);
    sent(&mut tcb, T0, &cfg);
    let out = tcb.segment_arrives(T0, &cfg, &syn_ack(&cfg, ISS + 1), true, &mut records());
    assert_eq!(out.events, Events::CONNECTED | Events::WRITABLE);
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    assert_eq!(tcb.shutdown(T0, &cfg).closed, Some(CloseReason::Aborted));
    assert_eq!(sent(&mut tcb, T0, &cfg), []);
}

#[test]
fn simultaneous_open_figure_8() {
    let cfg = plain();
    let mut tcb = Tcb::connect(T0, &cfg, ISS);
    sent(&mut tcb, T0, &cfg);
    let out = tcb.segment_arrives(T0, &cfg, &syn_segment(&cfg), true, &mut records());
    assert_eq!((out, tcb.state()), (Default::default(), State::SynReceived));
    let answer = sent(&mut tcb, T0, &cfg);
    assert_eq!(answer.iter().map(|e| (e.seq, e.ack, e.flags)).collect::<Vec<_>>(), [(ISS, IRS + 1, Flags::SYN | ACK)]);
    let _ = tcb.shutdown(T0, &cfg);
    let out = tcb.segment_arrives(T0, &cfg, &syn_ack(&cfg, ISS + 1), true, &mut records());
    assert_eq!((out.events, tcb.state()), (Events::CONNECTED, State::FinWait1), "the CLOSE was queued");
    assert_eq!(said(&mut tcb, T0, &cfg), ["fin 0+0"]);
}

#[test]
fn passive_open() {
    let cfg = Config { wscale: Some(2), ..Config::default() };
    let (half, emit) = HalfOpen::syn_arrives_with_ts_offset(T0, &cfg, ISS, 9, &syn_segment(&cfg));
    assert_eq!((emit.seq, emit.ack, emit.flags), (ISS, IRS + 1, Flags::SYN | ACK));
    let ts = Some(Timestamps { val: 100_009, ecr: 5000 });
    let opts = Options { mss: Some(1460), wscale: Some(2), sack_permitted: true, timestamps: ts, ..Options::NONE };
    assert_eq!((emit.opts, emit.wnd), (opts, 65_535));
    let mut half = half;
    match half.segment_arrives(T0, &cfg, &syn_segment(&cfg)) {
        HalfOutcome::Reply(again) => assert_eq!(again, emit, "a repeated SYN"),
        other => panic!("{other:?}"),
    }
    match half.segment_arrives(T0 + ms(2), &cfg, &with_ts(seg(0, 0, ACK, 0), 5001, 100_009)) {
        HalfOutcome::Established(tcb) => {
            assert_eq!((tcb.state(), tcb.snd_wnd(), tcb.srtt()), (State::Established, 240_000, Some(ms(2))));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_half_open_entry_refuses_what_rfc_9293_says() {
    let cfg = plain();
    let (mut half, _) = HalfOpen::syn_arrives(T0, &cfg, ISS, &syn_segment(&cfg));
    let reply = |half: &mut HalfOpen, seg: Segment| match half.segment_arrives(T0, &cfg, &seg) {
        HalfOutcome::Reply(emit) => say(&emit),
        other => format!("{other:?}"),
    };
    assert_eq!(reply(&mut half, seg(0, 1, ACK, 0)), "rst 1", "acknowledges what was never sent");
    assert_eq!(reply(&mut half, seg(70_000, 0, ACK, 0)), "ack 0 from 0", "outside of the window");
    assert_eq!(reply(&mut half, seg(1, 0, Flags::RST, 0)), "ack 0 from 0", "RFC 5961: not at RCV.NXT");
    assert_eq!(reply(&mut half, seg(70_000, 0, Flags::RST, 0)), "Drop(OutOfWindow)");
    assert_eq!(reply(&mut half, seg(0, 0, Flags::NONE, 0)), "Drop(NoAckBit)");
    assert_eq!(reply(&mut half, seg(0, 0, Flags::RST, 0)), "Reset");
    assert_eq!(reply(&mut half, seg(5, 0, Flags::SYN, 0)), "Reset", "back to LISTEN");
}

#[test]
fn a_half_open_entry_is_given_up() {
    let cfg = Config { syn_retries: 2, ..plain() };
    let (mut half, _) = HalfOpen::syn_arrives(T0, &cfg, ISS, &syn_segment(&cfg));
    for at in [1, 3] {
        assert_eq!(half.deadline(), T0 + Nanos::from_secs(at));
        assert_eq!(half.timeout(half.deadline(), &cfg).map(|e| say(&e)), Some("syn -1 again".into()));
    }
    assert_eq!(half.deadline(), T0 + Nanos::from_secs(7));
    assert_eq!(half.timeout(half.deadline(), &cfg), None);
}

#[test]
fn segments_to_no_connection() {
    let rst = |seg| reset_reply(&seg).map(|r| (r.seq, r.ack, r.flags));
    assert_eq!(rst(seg(0, 5, ACK, 10)), Some((ISS + 6, Seq(0), Flags::RST)));
    assert_eq!(rst(seg(0, 0, Flags::SYN, 10)), Some((Seq(0), IRS + 12, Flags::RST | ACK)));
    assert_eq!(rst(seg(0, 0, Flags::RST, 0)), None);
}

fn tuple(remote_port: u16) -> Tuple {
    let (local, remote) = (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2));
    Tuple { local: local.into(), remote: remote.into(), local_port: 80, remote_port }
}

/// The ACK that answers a SYN-ACK.
fn answer(syn_ack: &Emit) -> Segment {
    let ack = Segment { ack: syn_ack.seq + 1, ..seg(0, 0, ACK, 0) };
    syn_ack.opts.timestamps.map_or(ack, |ts| with_ts(ack, 5001, ts.val))
}

#[test]
fn a_cookie_remembers_the_options_in_the_timestamp() {
    let cfg = Config::default();
    let cookies = SynCookies::new([1; 16]);
    for (wscale, sack) in [(Some(7), true), (Some(14), false), (None, true), (Some(0), false)] {
        let mut syn = syn_segment(&cfg);
        (syn.opts.wscale, syn.opts.sack_permitted, syn.opts.mss) = (wscale, sack, Some(1401));
        let emit = cookies.make(T0, &cfg, &tuple(1), &syn);
        assert_eq!((emit.opts.wscale.is_some(), emit.opts.sack_permitted), (wscale.is_some(), sack));
        let tcb = cookies.check(T0 + ms(9), &cfg, &tuple(1), &answer(&emit)).expect("good");
        assert_eq!((tcb.snd_una(), tcb.rcv_nxt(), tcb.state()), (emit.seq + 1, IRS + 1, State::Established));
        assert_eq!(tcb.mss(), 1400 - 12, "rounded down to what a cookie can say");
        assert_eq!(tcb.snd_wnd(), 60_000 << wscale.unwrap_or(0));
        assert_eq!(tcb.has(crate::tcb::Bits::SACK), sack);
        let said = emit.opts.timestamps.unwrap().val;
        assert!(tcb.ts_now(T0).wrapping_sub(said) < 64, "timestamps go on from the SYN-ACK's and never back");
    }
}

#[test]
fn a_cookie_without_timestamps_offers_nothing_that_it_cannot_remember() {
    let cfg = Config::default();
    let cookies = SynCookies::new([1; 16]);
    let mut syn = syn_segment(&cfg);
    syn.opts.timestamps = None;
    let emit = cookies.make(T0, &cfg, &tuple(1), &syn);
    assert_eq!(emit.opts, Options { mss: Some(1460), ..Options::NONE });
    let tcb = cookies.check(T0, &cfg, &tuple(1), &answer(&emit)).expect("good");
    assert_eq!((tcb.mss(), tcb.snd_wnd()), (1460, 60_000));
}

#[test]
fn a_cookie_is_good_for_its_tuple_its_key_and_two_slots_more() {
    let cfg = plain();
    let cookies = SynCookies::new([1; 16]);
    let start = Nanos::from_secs(64 * 1000);
    let emit = cookies.make(start, &cfg, &tuple(1), &syn_segment(&cfg));
    let ack = answer(&emit);
    let good = |at: u64, ack: &Segment| cookies.check(start + Nanos::from_secs(at), &cfg, &tuple(1), ack).is_some();
    assert!(good(0, &ack) && good(64, &ack) && good(64 * 3 - 1, &ack));
    assert!(!good(64 * 3, &ack) && !good(64 * 4, &ack), "too old");
    assert!(cookies.check(start, &cfg, &tuple(2), &ack).is_none());
    assert!(SynCookies::new([2; 16]).check(start, &cfg, &tuple(1), &ack).is_none());
    for bit in 0..32 {
        let forged = Segment { ack: Seq((ack.ack - 1).0 ^ (1 << bit)) + 1, ..ack };
        assert!(!good(0, &forged), "bit {bit}");
    }
    assert!(!good(0, &Segment { seq: ack.seq + 1, ..ack }), "another ISN of the peer");
    assert!(!good(0, &Segment { flags: ACK | Flags::RST, ..ack }));
}
