//! Peers that mean harm, as frames in time that the test moves: what they may cost in buffers, entries and answers, and that a
//! connection which means well is served between any two of their bursts.

use abi::Dead;
use netstack::{DropReason, StackConfig};
use units::Nanos;
use wire::Seq;
use wire::tcp::{Flags, Options, Timestamps};

mod world;
use world::{CLOSES, Client, DEAF, ECHO, FAREWELL, SOURCE, Say, Sent, WHOLE, WHOLES, World, mss, peer};

const SYN: Flags = Flags::SYN;
const ACK: Flags = Flags::ACK;
const RST: Flags = Flags::RST;
const FIN: Flags = Flags::FIN;
const PSH: Flags = Flags::PSH;
/// A reset, or an ACK, without options: Ethernet, IPv4, TCP.
const SHORT: usize = 14 + 20 + 20;
/// Receive buffers of a core.
const POOL: usize = 8192;
/// What an endpoint says of its challenges (RFC 5961 section 7), in this stack's coarse clock.
const CHALLENGES_EVERY: Nanos = Nanos::from_millis(4);

/// What there is of everything that a peer could use up: connections, buffers for receiving and for sending, bytes of tables.
fn level(w: &World) -> (usize, usize, usize, usize) {
    (w.stack.connections(), w.stack.rx_available(), w.arena.available(), w.stack.table_bytes())
}

/// The connection that must not notice anything.
#[track_caller]
fn witness(w: &mut World) -> Client {
    w.open(peer(0), 5000, ECHO, mss(1460)).expect("the witness is let in").0
}

/// Gives the stack what they say in bursts of 64; between any two the witness is served. What the others were sent.
#[track_caller]
fn meanwhile(w: &mut World, witness: &mut Client, said: impl Iterator<Item = Say>) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut said = said.peekable();
    while said.peek().is_some() {
        said.by_ref().take(64).for_each(|say| w.hear(&say));
        let answers = w.turn();
        sent.extend(answers.into_iter().filter(|s| !witness.is(s)));
        sent.extend(w.echoes(witness, b"in the midst of it"));
    }
    sent
}

/// Numbers that look random, the same ones in every run.
fn noise(n: u32) -> u32 {
    let x = (n ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b1);
    (x ^ x >> 15).wrapping_mul(0x85eb_ca77) ^ x >> 13
}

fn payload(sent: &[Sent]) -> usize {
    sent.iter().map(|s| s.payload.len()).sum()
}

// --- handshakes ------------------------------------------------------------------------------------------------------

#[test]
fn a_flood_of_syns_takes_a_groups_entries_and_nothing_else() {
    let mut w = World::new(|c| StackConfig { backlog: 1024, ..c });
    let mut seen = witness(&mut w);
    let before = level(&w);
    let syn = |n: u32| Say::new(peer(n % 8), 1024 + (n / 8) as u16, ECHO, SYN).at(Seq(noise(n)), Seq(0));
    for part in 0..10 {
        let sent = meanwhile(&mut w, &mut seen, (1000 * part..1000 * (part + 1)).map(syn));
        assert!(sent.len() <= 1000, "{} answers to 1000 SYNs", sent.len());
        // Whoever answers gets in.
        let (mut late, _) = w.open(peer(9), 60_000 + part as u16, ECHO, mss(1460)).expect("a client is let in");
        w.echoes(&mut late, b"at last");
        w.tell(&late.say(RST));
    }
    let cookies = w.stack.metrics().syn_cookies_out.get();
    let lost = w.stack.metrics().drops(DropReason::Flood);
    // The group's share of the entries: 1024 / 128.
    assert_eq!(10_000 + 10 - cookies - lost, 8, "half-open entries");
    assert_eq!(w.stack.metrics().syn_cookies_in.get(), 10);
    assert_eq!(level(&w), before);
}

/// While cookies go out, half of a full burst is answered at most, so that a core that is flooded has time for those who are connected; where there are
/// no more SYNs than that, each has its answer.
#[test]
fn a_full_burst_of_syns_leaves_half_of_the_time_to_connections() {
    let mut w = World::new(|c| StackConfig { backlog: 128, ..c });
    let mut seen = witness(&mut w);
    let syn = |n: u32| Say::new(peer(n % 8), 1024 + (n / 8) as u16, ECHO, SYN).at(Seq(noise(n)), Seq(0));
    for n in 0..1000 {
        w.tell(&syn(n));
    }
    assert_eq!(w.stack.metrics().drops(DropReason::Flood), 0, "one at a time");
    for (syns, answered) in [(63, 32), (33, 32), (32, 32), (5, 5)] {
        (0..syns).for_each(|n| w.hear(&syn(2000 + n)));
        w.hear(&seen.say(ACK | PSH).with(b"meanwhile"));
        let sent = w.turn();
        assert_eq!(seen.heard(&sent).map(|s| &s.payload[..]).collect::<Vec<_>>(), [b"meanwhile"]);
        assert_eq!(sent.iter().filter(|s| s.has(SYN)).count(), answered, "of {syns}");
        seen.snd += 9;
        seen.rcv += 9;
        w.tell(&seen.ack(65535));
    }
    assert_eq!(w.stack.metrics().drops(DropReason::Flood), 31 + 1);
}

/// Cookies are made in two ways, a short one for SYNs without timestamps: each kind of client can redeem what it got.
#[test]
fn clients_with_any_options_are_let_in_while_syns_flood() {
    let mut w = World::new(|c| StackConfig { backlog: 1024, ..c });
    let mut seen = witness(&mut w);
    let before = level(&w);
    let syn = |n: u32| Say::new(peer(n % 8), 1024 + (n / 8) as u16, ECHO, SYN).at(Seq(noise(n)), Seq(0));
    let stamps = Options { timestamps: Some(Timestamps { val: 7, ecr: 0 }), ..mss(1400) };
    let all = Options { wscale: Some(7), sack_permitted: true, ..stamps };
    let ecn = Flags(SYN.0 | Flags::ECE.0 | Flags::CWR.0);
    let kinds = [
        (SYN, Options::NONE),
        (SYN, mss(1460)),
        (SYN, mss(0)),
        (SYN, stamps),
        (SYN, all),
        (ecn, mss(1460)),
        (ecn, all),
    ];
    for (part, (flags, options)) in kinds.into_iter().enumerate() {
        let part = part as u32;
        meanwhile(&mut w, &mut seen, (1000 * part..1000 * (part + 1)).map(syn));
        let said = Say { options, ..Say::new(peer(9), 60_000 + part as u16, ECHO, flags) };
        let (mut late, _) = w.open_with(said).expect("a client is let in");
        w.echoes(&mut late, b"at last");
        w.tell(&late.say(RST));
    }
    assert_eq!(w.stack.metrics().syn_cookies_in.get(), kinds.len() as u64);
    assert_eq!(level(&w), before);
}

#[test]
fn syns_that_nobody_stands_by_are_answered_eight_times_and_forgotten() {
    let mut w = World::new(|c| StackConfig { backlog: 1024, ..c });
    let mut seen = witness(&mut w);
    let before = level(&w);
    let syns = |from: u32| (from..from + 8).map(|n| Say::new(peer(1), n as u16, ECHO, SYN).at(Seq(n), Seq(0)));
    let mut answers = meanwhile(&mut w, &mut seen, syns(2000)).len();
    for _ in 0..2000 {
        answers += w.after(Nanos::from_millis(100)).len();
    }
    assert_eq!(answers, 8 * 8, "each SYN-ACK, and its seven repetitions");
    meanwhile(&mut w, &mut seen, syns(3000));
    assert_eq!(w.stack.metrics().syn_cookies_out.get(), 0, "the entries are free again");
    assert_eq!(level(&w), before);
}

/// SYNs from addresses of our network that nobody has: each wants a neighbour's address, and none must push out one that is in use.
#[test]
fn invented_neighbours_displace_no_real_one() {
    let mut w = World::new(|c| StackConfig { backlog: 1024, ..c });
    let mut seen = witness(&mut w);
    let before = level(&w);
    w.resolves = false;
    let mut least = before.1;
    for n in 0..20_000u32 {
        w.hear(&Say::new(peer(1 + n), 1024, ECHO, SYN).at(Seq(n), Seq(0)));
        if n % 64 == 63 {
            assert!(w.turn().is_empty(), "nobody can be answered");
            w.echoes(&mut seen, b"still known");
            least = least.min(w.stack.rx_available());
        }
    }
    assert!(before.1 - least <= 256 + 64, "{} frames wait for addresses", before.1 - least);
    w.resolves = true;
    for _ in 0..4 {
        w.after(Nanos::from_secs(1));
    }
    assert_eq!(level(&w), before);
}

// --- segments to no connection ---------------------------------------------------------------------------------------

#[test]
fn strays_get_one_short_answer_at_most_and_resets_get_none() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    let kinds = [
        ACK,
        ACK | PSH,
        FIN | ACK,
        SYN,
        SYN | ACK,
        SYN | FIN,
        Flags::NONE,
        FIN,
        PSH,
        RST,
        RST | ACK,
        RST | SYN,
        RST | FIN | ACK,
    ];
    for (kind, flags) in (0..).zip(kinds) {
        for len in [0, 1000] {
            let stray = |n: u32| {
                let [to, port, seq, ack] = [0, 1, 2, 3].map(|i| noise(4 * n + i + 10_000 * kind));
                // None of the ports that are served has this bit.
                let stray = Say::new(peer(n % 4), port as u16, to as u16 | 64, flags);
                stray.at(Seq(seq), Seq(ack)).with(&vec![0; len])
            };
            let sent = meanwhile(&mut w, &mut seen, (0..1024).map(stray));
            let most = if flags.contains(RST) { 0 } else { 1024 };
            assert!(sent.len() <= most, "{} answers to 1024 of {flags:?}", sent.len());
            assert!(sent.iter().all(|s| s.has(RST) && s.frame <= SHORT), "{flags:?} got more than a reset");
            // To a port that is served, what is no SYN.
            let sent = meanwhile(&mut w, &mut seen, (0..1024).map(stray).map(|s| Say { dst_port: ECHO, ..s }));
            if flags != SYN {
                assert!(sent.len() <= most && sent.iter().all(|s| s.frame <= SHORT));
            }
        }
    }
    assert_eq!(level(&w), before);
}

#[test]
fn a_scan_of_all_ports_leaves_nothing_behind() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    let began = w.now;
    let sent = meanwhile(&mut w, &mut seen, (1..=65535).map(|to| Say::new(peer(3), 777, to, SYN).at(Seq(1), Seq(0))));
    let (open, closed): (Vec<_>, Vec<_>) = sent.iter().partition(|s| s.has(SYN));
    // A burst of resets, then ten a millisecond: a scan from forged addresses is not turned against those who own them.
    let paced = 256 + (w.now - began).0 as usize / 100_000;
    assert_eq!(open.len(), 6);
    assert!((256..=paced.min(65529)).contains(&closed.len()), "{} resets of {paced}", closed.len());
    assert!(closed.iter().all(|s| s.has(RST) && s.frame <= SHORT));
    assert_eq!(level(&w), before);
}

/// RFC 1122 section 3.3.6: a packet for one host in a frame for many is no packet for that host.
#[test]
fn frames_for_all_open_no_connection_and_end_none() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    let mut all = |say: &Say| {
        let mut frame = say.frame();
        frame[..6].fill(0xff);
        w.give(frame);
        w.turn()
    };
    for to in [ECHO, 9] {
        assert!(all(&Say::new(peer(3), 777, to, SYN).at(Seq(1), Seq(0))).is_empty());
    }
    assert!(all(&seen.say(RST)).is_empty());
    w.echoes(&mut seen, b"unmoved");
    assert_eq!(w.stack.metrics().drops(DropReason::LinkGroup), 3);
    assert_eq!(level(&w), before);
}

/// What cannot leave must not fill the buffers that the NIC receives into.
#[test]
fn answers_that_the_nic_has_no_room_for_do_not_pile_up() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    w.stack.nic().full = true;
    for n in 0..20_000u32 {
        w.hear(&Say::new(peer(0), n as u16, 9, SYN).at(Seq(n), Seq(0)));
        if n % 64 == 63 {
            // Resets have a pace: time for the next ones.
            w.after(Nanos::from_millis(7));
        }
    }
    let waits = before.1 - w.stack.rx_available();
    assert!((1..=POOL / 8).contains(&waits), "{waits} frames wait");
    assert!(w.stack.metrics().tx_lost.get() > 0);
    w.stack.nic().full = false;
    assert_eq!(w.turn().len(), waits);
    w.echoes(&mut seen, b"the way is free");
    assert_eq!(level(&w), before);
}

// --- forged segments to a connection ---------------------------------------------------------------------------------

#[test]
fn who_knows_the_ports_but_not_the_numbers_changes_nothing() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    // The whole circle in steps of half a window: one guess in each falls into it, and none is exact.
    let guesses = (0..1u32 << 17).map(|n| n << 15 | 1);
    let far = 1 << 30;
    let kinds = [
        (RST, 0, false),
        (RST | ACK, 0, false),
        (SYN, 0, false),
        (SYN | ACK, 0, false),
        (ACK, 0, false),
        (ACK | PSH, 100, true),
    ];
    for (flags, len, waits) in kinds {
        let (began, mut answers, mut given) = (w.now, 0, 0);
        for guess in guesses.clone().step_by(7) {
            w.hear(&seen.say(flags).at(seen.snd + guess, seen.rcv + far).with(&[b'x'; 100][..len]));
            given += 1;
            if given % 64 == 0 {
                let sent = w.turn();
                assert!(sent.iter().all(|s| seen.is(s) && s.payload.is_empty() && !s.has(RST)));
                answers += sent.len();
                w.echoes(&mut seen, b"what I say, and nothing else");
            }
        }
        // Data is answered, for its sender might wait for that; nothing else is, but by a challenge now and then.
        let challenges = ((w.now - began).0 / CHALLENGES_EVERY.0) as usize + 1;
        let most = if waits { given } else { challenges };
        assert!(answers <= most, "{answers} answers to {given} of {flags:?}, {challenges} challenges are due");
    }
    assert_eq!((w.ends.len(), level(&w)), (0, before));
}

#[test]
fn acknowledging_what_was_not_sent_is_challenged_and_moves_nothing() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (greedy, flight) = w.open(peer(1), 6000, SOURCE, mss(1460)).unwrap();
    let began = w.now;
    let sent = payload(&flight) as u32;
    assert_eq!(sent, 10 * 1460, "the initial window");
    let ahead = (1..2000).map(|n| Client { rcv: greedy.rcv + sent + n * 700, ..greedy.clone() }.ack(65535));
    let answers = meanwhile(&mut w, &mut seen, ahead);
    assert_eq!(payload(&answers), 0);
    let challenges = ((w.now - began).0 / CHALLENGES_EVERY.0) as usize + 1;
    assert!(answers.len() <= challenges, "{} answers, {challenges} challenges", answers.len());
    assert_eq!(w.ends, []);
}

/// RFC 3465: the window grows by what is acknowledged, not by how often.
#[test]
fn many_acks_for_one_segment_open_the_window_no_faster() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (mut greedy, flight) = w.open(peer(1), 6000, SOURCE, mss(1460)).unwrap();
    let (start, first) = (greedy.rcv, payload(&flight) as u32);
    let acks =
        (1..=first / 10).map(|n| Client { rcv: start + 10 * n, ..greedy.clone() }.ack(65535)).collect::<Vec<_>>();
    let second = payload(&meanwhile(&mut w, &mut seen, acks.into_iter())) as u32;
    assert!((first..=2 * first).contains(&second), "{second} bytes after {first}");
    greedy.rcv = start + first + second;
    let third = payload(&w.tell(&greedy.ack(65535))) as u32;
    assert!(third <= 2 * second, "{third} bytes after {second}");
}

// --- odd sizes -------------------------------------------------------------------------------------------------------

#[test]
fn a_tiny_mss_makes_no_tinier_segments_than_64_bytes_and_no_longer_bursts() {
    for (offered, used) in [(Some(0), 64), (Some(1), 64), (Some(63), 64), (Some(64), 64), (Some(100), 100), (None, 536)]
    {
        let mut w = World::new(|c| c);
        let mut seen = witness(&mut w);
        let options = Options { mss: offered, ..Options::NONE };
        let (mut tiny, mut sent) = w.open(peer(1), 6000, SOURCE, options).unwrap();
        let (mut frames, mut bytes) = (0, 0);
        assert!(sent.len() <= 10, "a first burst of {} segments", sent.len());
        for _ in 0..20 {
            assert!(sent.iter().all(|s| s.payload.len() == used), "{offered:?}");
            assert!(sent.len() <= 2 * (10 + frames), "the window has no more than doubled");
            frames += sent.len();
            bytes += payload(&sent);
            tiny.rcv += payload(&sent) as u32;
            w.echoes(&mut seen, b"a segment of an ordinary size");
            sent = w.tell(&tiny.ack(2000));
        }
        assert_eq!(frames, bytes.div_ceil(used));
    }
}

/// RFC 9293 section 3.8.6.2.1: a sliver of window is worth a segment per timeout at most, or one that fills it.
#[test]
fn slivers_of_window_cost_no_more_than_a_segment_for_each_ack() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (mut tiny, flight) = w.open(peer(1), 6000, SOURCE, mss(1460)).unwrap();
    tiny.rcv += payload(&flight) as u32;
    let (mut frames, mut acks) = (0, 0);
    for n in 0..2000u16 {
        let sent = w.tell(&tiny.ack(1 + n % 10));
        acks += 1;
        assert!(sent.iter().all(|s| s.payload.len() <= 10));
        frames += sent.len();
        tiny.rcv += payload(&sent) as u32;
        w.echoes(&mut seen, b"a window of an ordinary size");
    }
    assert!(frames <= acks, "{frames} segments for {acks} ACKs");
    assert_eq!(w.ends, []);
}

#[test]
fn small_pieces_that_nobody_reads_share_buffers() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (drip, _) = w.open(peer(1), 6000, DEAF, mss(1460)).unwrap();
    let before = w.stack.rx_available();
    let byte = |n| Client { snd: drip.snd + n, ..drip.clone() }.say(ACK).with(b"d");
    meanwhile(&mut w, &mut seen, (0..60_000).map(byte));
    let pinned = before - w.stack.rx_available();
    assert!((20..=60).contains(&pinned), "60000 bytes lie in {pinned} buffers of 2048");
}

/// Connections that nobody reads from take buffers until they are short. Requests that come in pieces get through still.
#[test]
fn hoarders_of_buffers_leave_room_for_requests_of_several_segments() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (mut asker, _) = w.open(peer(2), 5001, WHOLES, mss(1460)).unwrap();
    let mut least = POOL;
    for port in 6000..6100 {
        let (hoarder, _) = w.open(peer(1), port, DEAF, mss(1460)).unwrap();
        // Too long to be copied together.
        let piece = |n: u32| Client { snd: hoarder.snd + 600 * n, ..hoarder.clone() }.say(ACK).with(&[b'h'; 600]);
        meanwhile(&mut w, &mut seen, (0..100).map(piece));
        least = least.min(w.stack.rx_available());
    }
    assert!((POOL / 16..POOL / 8).contains(&least), "{least} buffers are left");
    for _ in 0..10 {
        let request: Vec<u8> = (0..WHOLE as u32).map(letter).collect();
        let mut back = Vec::new();
        for piece in request.chunks(1000) {
            back.extend(
                w.tell(&asker.say(ACK).with(piece)).into_iter().filter(|s| asker.is(s)).flat_map(|s| s.payload),
            );
            asker.snd += piece.len() as u32;
        }
        assert!(back == request, "{} bytes came back", back.len());
        asker.rcv += WHOLE as u32;
        w.tell(&asker.ack(65535));
    }
}

/// When buffers are short, a frame that fills many of them is taken in part, whatever its sender holds already, and the window offered is
/// small: a sender of much whose data is read goes on without a timeout.
#[test]
fn readers_go_on_when_hoarders_have_the_buffers() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let (mut reader, _) = w.open(peer(2), 5001, ECHO, mss(1460)).unwrap();
    for port in 6000..6100 {
        let (hoarder, _) = w.open(peer(1), port, DEAF, mss(1460)).unwrap();
        let piece = |n: u32| Client { snd: hoarder.snd + 600 * n, ..hoarder.clone() }.say(ACK).with(&[b'h'; 600]);
        meanwhile(&mut w, &mut seen, (0..100).map(piece));
    }
    assert!(w.stack.rx_available() < POOL / 8);
    let text: Vec<u8> = (0..400_000).map(letter).collect();
    let (start, edge) = (reader.snd, reader.snd + 65_535);
    let mut back = Vec::new();
    let mut rounds = 0;
    while back.len() < text.len() {
        let done = reader.snd.since(start) as usize;
        // A super-frame of what was promised at first, later of what is offered.
        let len = (text.len() - done).min(if reader.snd.lt(edge) { 40_000 } else { 5840 });
        let sent = w.tell(&reader.say(ACK).with(&text[done..done + len]));
        let heard: Vec<&Sent> = reader.heard(&sent).collect();
        let acked = heard.iter().map(|s| s.header.ack.since(start) as usize).max().unwrap_or(done);
        assert!(acked > done, "after {done} bytes nothing was taken");
        for part in heard {
            back.extend_from_slice(&part.payload);
            reader.rcv += part.payload.len() as u32;
        }
        reader.snd = start + acked as u32;
        let more = w.tell(&reader.ack(65535));
        for part in reader.heard(&more) {
            back.extend_from_slice(&part.payload);
            reader.rcv += part.payload.len() as u32;
        }
        w.tell(&reader.ack(65535));
        rounds += 1;
    }
    assert!(back == text, "{} bytes", back.len());
    assert!(rounds < 120, "{rounds} rounds");
}

// --- disorder --------------------------------------------------------------------------------------------------------

/// The bytes of a stream that is sent in disorder.
fn letter(n: u32) -> u8 {
    b'a' + (n % 26) as u8
}

/// Pieces of a byte behind a gap, so that each could pin a buffer: rising, falling, apart, from both ends. All of them make one run or many.
fn disorders() -> [(&'static str, Vec<u32>); 4] {
    let both = (0..2000).map(|n| if n % 2 == 0 { 30_000 + n } else { 20_000 - n });
    [
        ("rising", (1..4000).collect()),
        ("falling", (1..4000).rev().collect()),
        ("apart", (1..4000).map(|n| 2 * n).collect()),
        ("both", both.collect()),
    ]
}

#[test]
fn bytes_out_of_order_hold_a_bounded_number_of_buffers() {
    for (name, places) in disorders() {
        let mut w = World::new(|c| c);
        let mut seen = witness(&mut w);
        let options = Options { sack_permitted: true, ..mss(1460) };
        let (evil, _) = w.open(peer(1), 6000, ECHO, options).unwrap();
        let before = w.stack.rx_available();
        let byte = |at: &u32| Client { snd: evil.snd + *at, ..evil.clone() }.say(ACK).with(&[letter(*at)]);
        let answers = meanwhile(&mut w, &mut seen, places.iter().map(byte));
        let pinned = before - w.stack.rx_available();
        assert!(pinned <= 256, "{name}: {pinned} buffers for bytes out of order");
        assert!(answers.len() <= 2 * places.len(), "{name}: {} answers", answers.len());
        // What is held is right: the gap closes, and the beginning comes back.
        let sent = w.tell(&evil.say(ACK).with(&[letter(0)]));
        let back: Vec<u8> = evil.heard(&sent).flat_map(|s| s.payload.clone()).collect();
        assert!(!back.is_empty() && back.iter().zip(0..).all(|(b, n)| *b == letter(n)), "{name}");
    }
}

#[test]
fn many_who_send_out_of_order_leave_buffers_for_the_others() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let mut least = POOL;
    for port in 6000..6100 {
        let (evil, _) = w.open(peer(1), port, DEAF, mss(1460)).unwrap();
        let byte = |at: u32| Client { snd: evil.snd + at, ..evil.clone() }.say(ACK).with(&[letter(at)]);
        meanwhile(&mut w, &mut seen, (1..400).map(byte));
        least = least.min(w.stack.rx_available());
    }
    assert!((POOL / 8 - 64..POOL / 2).contains(&least), "{least} buffers are left");
    // Newcomers are let in and served.
    let (mut late, _) = w.open(peer(2), 7000, ECHO, mss(1460)).unwrap();
    w.echoes(&mut late, b"there is room");
}

#[test]
fn invented_blocks_make_nothing_go_out_again_and_again() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let options = Options { sack_permitted: true, ..mss(1460) };
    let (mut liar, flight) = w.open(peer(1), 6000, SOURCE, options).unwrap();
    let sent = payload(&flight) as u32;
    let una = liar.rcv;
    // Four blocks in each: of a byte anywhere, backwards, beyond, below, half the circle wide, overlapping.
    let lies = (0..20_000u32).map(|n| {
        let at = |k: u32| una + noise(4 * n + k) % sent;
        let odd = match n % 8 {
            0 => (at(3), at(3)),
            1 => (at(3) + 10, at(3)),
            2 => (at(3), una + sent + 1 + n),
            3 => (una - 1 - n, at(3)),
            4 => (at(3), at(3) + (1 << 31)),
            5 => (at(0), at(0) + 3),
            _ => (at(3), at(3) + 1),
        };
        liar.sack(&[(at(0), at(0) + 1), (at(1), at(1) + 1), (at(2), at(2) + 1), odd])
    });
    let lies: Vec<_> = lies.collect();
    let answers = meanwhile(&mut w, &mut seen, lies.into_iter());
    // What is said to have arrived makes room for new data, up to the window; what is said to be missing goes out again, round trip by round trip.
    assert!(payload(&answers) <= 2 * 65535, "{} bytes for {sent} in flight", payload(&answers));
    assert!(answers.len() <= 400, "{} frames for 20000 lies", answers.len());
    assert_eq!(w.ends, []);
    // The truth is heard after all of this.
    let top = answers.iter().chain(&flight).map(|s| s.header.seq + s.payload.len() as u32).fold(una, Seq::max);
    liar.rcv = top;
    assert!(payload(&w.tell(&liar.ack(65535))) > 0);
}

// --- those who stay --------------------------------------------------------------------------------------------------

/// Lets time pass; who is sent something answers that its window is closed. How much was sent.
#[track_caller]
fn closed_windows(w: &mut World, seen: &mut Client, deaf: &[Client], seconds: u64) -> usize {
    let mut frames = 0;
    for n in 0..2 * seconds {
        let sent = w.after(Nanos::from_millis(500));
        frames += sent.len();
        let asked = deaf.iter().filter(|d| d.heard(&sent).next().is_some());
        asked.map(|d| d.ack(0)).for_each(|say| w.hear(&say));
        frames += w.turn().len();
        if n % 20 == 0 {
            w.echoes(seen, b"I do read");
        }
    }
    frames
}

#[test]
fn windows_that_stay_closed_are_asked_ever_less_and_cost_what_is_in_flight() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let buffers = w.arena.available();
    let syn = |port, window| Say { window, options: mss(1460), ..Say::new(peer(1), port, SOURCE, SYN) };
    // From the beginning; and after a flight that is never acknowledged.
    let mut deaf: Vec<_> = (6000..6050).map(|port| w.open_with(syn(port, 0)).unwrap().0).collect();
    deaf.extend((7000..7050).map(|port| w.open_with(syn(port, 20_000)).unwrap().0));
    let frames = closed_windows(&mut w, &mut seen, &deaf, 3600);
    // Intervals double up to a minute.
    assert!(frames <= 100 * (60 + 25), "{frames} frames in an hour to 100 connections");
    // RFC 9293 section 3.8.6.1, MUST-37: they may stay.
    assert_eq!((w.stack.connections(), w.ends.len()), (101, 0));
    let used = buffers - w.arena.available();
    assert!(used <= 50 * 8, "{used} buffers of 2048 for flights of 14600 bytes");
}

/// Nobody is there to give it up, so the stack does (RFC 6429).
#[test]
fn a_closed_window_does_not_keep_a_connection_that_the_application_has_left() {
    let mut w = World::new(|c| c);
    let mut seen = witness(&mut w);
    let before = level(&w);
    let syn = |port, window| Say { window, options: mss(1460), ..Say::new(peer(1), port, FAREWELL, SYN) };
    let mut deaf: Vec<_> = (6000..6020).map(|port| w.open_with(syn(port, 0)).unwrap().0).collect();
    deaf.extend((7000..7020).map(|port| w.open_with(syn(port, 20_000)).unwrap().0));
    assert_eq!(w.stack.connections(), 41);
    closed_windows(&mut w, &mut seen, &deaf, 900);
    let (conns, rx, tx, _) = level(&w);
    assert_eq!((conns, rx, tx), (before.0, before.1, before.2));
}

#[test]
fn who_never_closes_after_us_makes_room_for_others() {
    let mut w = World::new(|c| StackConfig { max_conns: 100, ..c });
    let mut seen = witness(&mut w);
    let before = level(&w);
    for port in 6000..6500 {
        let (mut half, sent) = w.open(peer(1), port, CLOSES, mss(1460)).expect("each is let in");
        assert!(half.heard(&sent).any(|s| s.has(FIN)));
        half.rcv += 1;
        w.tell(&half.ack(65535));
        w.echoes(&mut seen, b"I have not closed");
    }
    assert!((60..=100).contains(&w.stack.connections()));
    // The one that the stack has forgotten is told so.
    let gone = w.tell(&Say::new(peer(1), 6000, CLOSES, FIN | ACK).at(Seq(1001), Seq(1)));
    assert!(gone.iter().all(|s| s.has(RST)) && gone.len() == 1);
    // The others are forgotten in time.
    w.after(Nanos::from_secs(61));
    for _ in 0..10 {
        w.turn();
    }
    assert_eq!((level(&w).0, level(&w).1), (before.0, before.1));
}

#[test]
fn connections_that_end_in_time_leave_nothing_behind() {
    let mut w = World::new(|c| StackConfig { max_conns: 100, ..c });
    let mut seen = witness(&mut w);
    let close = |w: &mut World| {
        let (mut c, _) = w.open(peer(1), 6000, CLOSES, mss(1460)).expect("it is let in");
        c.rcv += 1;
        w.tell(&c.say(FIN | ACK));
        assert_eq!(w.stack.connections(), 2, "in TIME-WAIT");
        w.after(Nanos::from_millis(1100));
    };
    close(&mut w);
    let before = level(&w);
    for _ in 0..5000 {
        close(&mut w);
    }
    w.echoes(&mut seen, b"no more than at first");
    assert_eq!(level(&w), before);
    assert_eq!(w.stack.metrics().drops(DropReason::NoConn), 0);
    assert!(!w.ends.iter().any(|(_, why)| *why == Dead::TimedOut));
}
