//! Flow groups go from one core to another while connections are in every state that they can be in: nothing is lost, doubled or reordered, and whoever
//! sends or receives notices nothing.

use abi::Syscall;
use netstack::{Busy, GRACE, ORDER};
use proptest::prelude::*;
use shuffle::Take;
use units::{CoreId, GroupSet, Nanos};
use wire::Seq;
use wire::tcp::Flags;

#[path = "world/cores.rs"]
mod cores;
mod world;

use cores::{Cores, group, heard, set};
use world::{CLOSES, DEAF, ECHO, SOURCE};

#[test]
fn an_established_connection_goes_on_where_its_group_has_gone() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    assert_eq!(w.echoes(&mut client, b"here"), (0, b"here".to_vec()));
    w.go(set(&[4]), 0, 1);
    assert_eq!((w.connections(), w.shared.owner(group(4))), (vec![0, 1], CoreId(1)));
    assert_eq!(w.echoes(&mut client, b"there"), (1, b"there".to_vec()));
    assert!(w.shared.is_settling(group(4)));
    w.settle();
    assert!(!w.shared.is_settling(group(4)) && !w.shared.is_moving(), "it has settled");
    w.go(set(&[4]), 1, 0);
    assert_eq!(w.echoes(&mut client, b"back"), (0, b"back".to_vec()));
    let counted =
        |core: u16| (w.shared.metrics(CoreId(core)).groups_out.get(), w.shared.metrics(CoreId(core)).groups_in.get());
    assert_eq!((counted(0), counted(1)), ((1, 1), (1, 1)));
}

/// The table of the NIC is of no account: a frame that comes to the old core is forwarded, now and after the group has settled.
#[test]
fn frames_that_come_to_the_old_core_are_forwarded() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    w.go(set(&[4]), 0, 1);
    w.reta[4] = 0;
    assert_eq!(w.echoes(&mut client, b"at once").1, b"at once");
    w.settle();
    assert_eq!(w.echoes(&mut client, b"later"), (1, b"later".to_vec()));
    assert_eq!(w.shared.total(|m| m.drops_total()), 0);
}

#[test]
fn a_handshake_begun_on_one_core_ends_on_another() {
    let mut w = Cores::new(2);
    let client = w.syn(4, ECHO);
    w.go(set(&[4]), 0, 1);
    // Its timer has moved as well: the answer is sent again, by the new core, once.
    w.now += Nanos::from_millis(1100);
    let sent = w.rest();
    let again: Vec<_> = heard(&client, &sent).map(|(core, s)| (*core, s.header.flags)).collect();
    assert_eq!(again, [(1, Flags::SYN | Flags::ACK)]);
    let ack = client.ack(65535);
    w.steer(&ack);
    w.rest();
    let mut client = client;
    assert_eq!(w.echoes(&mut client, b"hello"), (1, b"hello".to_vec()));
}

/// The control plane of IX lost the timers of all groups but the last.
#[test]
fn timers_of_all_groups_of_a_request_fire_where_they_have_gone() {
    let mut w = Cores::new(2);
    let all = [2, 4, 6, 8, 126];
    let clients = all.map(|n| w.open(n, SOURCE));
    // What they were sent is not acknowledged.
    w.go(set(&all), 0, 1);
    w.now += Nanos::from_millis(1500);
    let sent = w.rest();
    for client in &clients {
        let again: Vec<_> =
            heard(client, &sent).filter(|(_, s)| !s.payload.is_empty()).map(|(core, _)| *core).collect();
        assert!(
            !again.is_empty() && again.iter().all(|core| *core == 1),
            "port {}: sent again by {again:?}",
            client.port
        );
    }
}

#[test]
fn a_connection_that_ends_goes_on_ending() {
    let mut w = Cores::new(3);
    // The server closes first: FIN-WAIT-2 once its FIN is acknowledged.
    let mut client = w.syn(3, CLOSES);
    let ack = client.ack(65535);
    w.steer(&ack);
    let sent = w.rest();
    assert!(heard(&client, &sent).any(|(_, s)| s.has(Flags::FIN)));
    client.rcv += 1;
    let ack = client.ack(65535);
    w.steer(&ack);
    w.rest();
    w.go(set(&[3]), 0, 1);
    assert_eq!(w.connections(), [0, 1, 0]);
    let fin = client.say(Flags::ACK | Flags::FIN);
    w.steer(&fin);
    client.snd += 1;
    let sent = w.rest();
    let last: Vec<_> = heard(&client, &sent).map(|(core, s)| (*core, s.header.ack)).collect();
    assert_eq!(last, [(1, client.snd)], "the peer's FIN is acknowledged: TIME-WAIT");
    w.settle();
    w.go(set(&[3]), 1, 2);
    assert_eq!(w.connections(), [0, 0, 1]);
    w.now += Nanos::from_secs(2);
    w.rest();
    assert_eq!(w.connections(), [0, 0, 0], "its time has run out on the core that it has come to");
}

#[test]
fn ready_connections_keep_their_order() {
    let mut w = Cores::new(2);
    let mut clients = [2, 4, 6].map(|n| w.open(n, ECHO));
    for i in [2, 0, 1] {
        let say = clients[i].say(Flags::ACK | Flags::PSH).with(b"x");
        clients[i].snd += 1;
        w.steer(&say);
    }
    w.cores[0].stack.ingest(w.now, 64);
    assert_eq!(w.cores[0].stack.ready(), 3);
    w.go(set(&[2, 4]), 0, 1);
    assert_eq!((w.cores[0].stack.ready(), w.cores[1].stack.ready()), (1, 2));
    let sent = w.rest();
    let order: Vec<_> =
        sent.iter().filter(|(_, s)| !s.payload.is_empty()).map(|(c, s)| (*c, s.header.dst_port)).collect();
    assert_eq!(order, [(0, clients[2].port), (1, clients[0].port), (1, clients[1].port)]);
}

/// The application has a connection while its group goes, and answers as if nothing had happened: before the group has arrived, or after.
#[test]
fn what_the_application_answers_meanwhile_follows_its_connection() {
    for arrived in [false, true] {
        let mut w = Cores::new(2);
        let (mut client, other) = (w.open(4, ECHO), w.open(6, ECHO));
        for c in [&client, &other] {
            let say = c.say(Flags::ACK | Flags::PSH).with(b"question");
            w.steer(&say);
        }
        client.snd += 8;
        w.begin(0);
        w.hand_over(set(&[4]), 0, 1).unwrap();
        w.reta[4] = 1;
        // More comes while the application is at it, and while the group is under way.
        let more = client.say(Flags::ACK | Flags::PSH).with(b", more");
        client.snd += 6;
        w.steer(&more);
        if arrived {
            w.take_over(1);
            w.turn(1);
        }
        w.end(0);
        w.turn(1);
        if !arrived {
            w.take_over(1);
        }
        let sent = w.rest();
        let answers: Vec<_> = heard(&client, &sent).filter(|(_, s)| !s.payload.is_empty()).collect();
        let text: Vec<u8> = answers.iter().flat_map(|(_, s)| s.payload.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&text), "question, more");
        assert!(answers.iter().all(|(core, _)| *core == 1), "the group's core answers");
        let here: Vec<_> = heard(&other, &sent).filter(|(_, s)| !s.payload.is_empty()).map(|(core, _)| *core).collect();
        assert_eq!(here, [0], "the other connection of the batch has not moved");
        client.rcv += text.len() as u32;
        let ack = client.ack(65535);
        w.steer(&ack);
        assert_eq!(w.rest().len(), 0);
        assert_eq!(w.echoes(&mut client, b"and on"), (1, b"and on".to_vec()));
    }
}

/// The same for a batch that was stolen: it comes home to the core that offered it, and its slip is free again.
#[test]
fn a_stolen_batch_comes_home_and_then_follows_its_connections() {
    let mut w = Cores::new(3);
    let clients = [3, 6, 9].map(|n| w.open(n, ECHO));
    for client in &clients {
        let say = client.say(Flags::ACK | Flags::PSH).with(b"question");
        w.steer(&say);
    }
    w.cores[0].stack.ingest(w.now, 64);
    assert_eq!(w.cores[0].stack.offer(8, 8), 1);
    let shuffle = w.cores[0].stack.shuffle().clone();
    let Take::One(slip, mut work) = shuffle.take() else { panic!("it was offered") };
    // Two of the three go, to different cores.
    w.go(set(&[3]), 0, 1);
    w.go(set(&[9]), 0, 2);
    std::mem::swap(&mut w.cores[1].batch, &mut work);
    w.application(1);
    std::mem::swap(&mut w.cores[1].batch, &mut work);
    shuffle.give_back(slip, work);
    assert_eq!(w.cores[0].stack.complete_returned(w.now, 16), 1);
    for core in [1, 2, 0] {
        w.cores[core].stack.ingest(w.now, 64);
        w.egress(core);
    }
    let sent = std::mem::take(&mut w.sent);
    for (client, home) in clients.iter().zip([1, 0, 2]) {
        let answers: Vec<_> = heard(client, &sent).filter(|(_, s)| !s.payload.is_empty()).collect();
        assert!(answers.iter().all(|(core, s)| (*core, &s.payload[..]) == (home, b"question")) && answers.len() == 1);
    }
    w.cores[0].stack.complete_returned(w.now, 16);
    assert_eq!(w.cores[0].stack.slips_out(), 0);
}

/// A sender's frames come to the old ring, then to the new one; the new core looks first.
#[test]
fn a_frame_of_the_new_ring_waits_for_those_of_the_old_one() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    let first = client.say(Flags::ACK | Flags::PSH).with(b"first, ");
    client.snd += 7;
    w.steer(&first);
    w.go(set(&[4]), 0, 1);
    let second = client.say(Flags::ACK | Flags::PSH).with(b"second");
    client.snd += 6;
    w.steer(&second);
    for _ in 0..5 {
        w.turn(1);
    }
    assert!(w.sent.is_empty(), "the second waits");
    let waits_for = |w: &Cores, us| w.cores[1].stack.waits_for(Nanos::from_micros(us));
    assert_eq!(waits_for(&w, 0), Some(CoreId(0)), "for the old core");
    assert_eq!(waits_for(&w, 200), None, "which is given time to come by itself");
    w.now += Nanos::from_micros(200);
    w.turn(1);
    assert_eq!(waits_for(&w, 200), Some(CoreId(0)), "and may be helped then");
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "first, second");
    assert!(sent.iter().all(|(_, s)| s.header.options.sacks.is_empty()), "nothing came out of order");
    assert_eq!(w.shared.metrics(CoreId(1)).deferred.get(), 1);
}

/// What counts is what was in the old ring, not whether it ever runs empty: others' frames come faster than that core takes them.
#[test]
fn a_ring_that_never_runs_empty_holds_nobody_up() {
    let mut w = Cores::new(2);
    let (mut client, busy) = (w.open(4, ECHO), w.open(6, ECHO));
    let filler = busy.ack(65535);
    (0..100).for_each(|_| w.give(0, &filler));
    let first = client.say(Flags::ACK | Flags::PSH).with(b"first, ");
    client.snd += 7;
    w.steer(&first);
    w.go(set(&[4]), 0, 1);
    let second = client.say(Flags::ACK | Flags::PSH).with(b"second");
    client.snd += 6;
    w.steer(&second);
    for _ in 0..12 {
        (0..70).for_each(|_| w.give(0, &filler));
        w.turn(0);
        w.turn(1);
        assert!(!w.cores[0].stack.nic().to_stack.is_empty());
    }
    let text: Vec<u8> = heard(&client, &w.sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "first, second");
    assert!(w.sent.iter().all(|(_, s)| s.header.options.sacks.is_empty()), "nothing came out of order");
    assert_eq!(w.shared.total(|m| m.order_given_up.get()), 0);
}

/// Whoever looks at a ring for another may ask for more frames than a burst has room for.
#[test]
fn a_burst_that_is_smaller_than_what_was_asked_for_is_no_empty_ring() {
    let mut w = Cores::new(2);
    let (mut client, busy) = (w.open(4, ECHO), w.open(6, ECHO));
    let filler = busy.ack(65535);
    (0..500).for_each(|_| w.give(0, &filler));
    let first = client.say(Flags::ACK | Flags::PSH).with(b"first, ");
    client.snd += 7;
    w.steer(&first);
    w.go(set(&[4]), 0, 1);
    let second = client.say(Flags::ACK | Flags::PSH).with(b"second");
    client.snd += 6;
    w.steer(&second);
    w.turn(1);
    for _ in 0..4 {
        w.cores[0].stack.receive(w.now, 1000);
        w.turn(1);
        assert!(w.sent.is_empty(), "the second waits");
    }
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "first, second");
    assert!(sent.iter().all(|(_, s)| s.header.options.sacks.is_empty()), "nothing came out of order");
}

/// A core that has few buffers left, and work to do, does not look at its ring: that says nothing about what is there.
#[test]
fn a_ring_that_is_not_looked_at_for_want_of_buffers_is_not_taken_for_empty() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    let all = w.cores[0].stack.rx_available();
    let others: Vec<u16> = (0..200).map(|n| 6 + 2 * n).filter(|n| n % 128 != 4).collect();
    let mut others: Vec<_> = others.into_iter().map(|n| w.open(n, DEAF)).collect();
    for busy in &mut others {
        for _ in 0..40 {
            let more = busy.say(Flags::ACK | Flags::PSH).with(&[b'x'; 1000]);
            busy.snd += 1000;
            w.give(0, &more);
            w.cores[0].stack.receive(w.now, 64);
        }
    }
    assert!(w.cores[0].stack.rx_available() < all / 4);
    let first = client.say(Flags::ACK | Flags::PSH).with(b"first, ");
    client.snd += 7;
    w.steer(&first);
    assert_eq!(w.cores[0].stack.receive(w.now, 64), 0, "first what is here");
    w.go(set(&[4]), 0, 1);
    let second = client.say(Flags::ACK | Flags::PSH).with(b"second");
    client.snd += 6;
    w.steer(&second);
    for _ in 0..5 {
        w.cores[0].stack.receive(w.now, 64);
        w.turn(1);
        assert_eq!(heard(&client, &w.sent).count(), 0, "the second waits");
    }
    for _ in 0..400 {
        w.turn(0);
        w.turn(1);
    }
    let sent = std::mem::take(&mut w.sent);
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "first, second");
    assert!(sent.iter().all(|(_, s)| s.header.options.sacks.is_empty()), "nothing came out of order");
}

/// Frames that come before the group does wait for it, in their order.
#[test]
fn frames_that_come_before_their_group_wait_for_it() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    w.hand_over(set(&[4]), 0, 1).unwrap();
    for (core, text) in [(0, "a"), (0, "b"), (1, "c"), (1, "d")] {
        let say = client.say(Flags::ACK | Flags::PSH).with(text.as_bytes());
        client.snd += 1;
        w.give(core, &say);
    }
    let sent = w.rest();
    assert!(sent.is_empty());
    w.take_over(1);
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "abcd");
    assert!(sent.iter().all(|(_, s)| s.header.options.sacks.is_empty()), "nothing came out of order");
}

/// A core that is not there at all keeps nobody waiting for ever; and a straggler in its ring is not lost when it is back.
#[test]
fn when_the_old_core_is_away_for_long_order_gives_way() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    let first = client.say(Flags::ACK | Flags::PSH).with(b"first, ");
    client.snd += 7;
    w.steer(&first);
    w.go(set(&[4]), 0, 1);
    let second = client.say(Flags::ACK | Flags::PSH).with(b"second");
    client.snd += 6;
    w.steer(&second);
    w.turn(1);
    w.now += GRACE;
    (0..3).for_each(|_| w.turn(1));
    assert_eq!(w.cores[1].stack.waits_for(Nanos::ZERO), Some(CoreId(0)), "it may be back in a moment");
    w.now += ORDER;
    (0..3).for_each(|_| w.turn(1));
    assert_eq!(w.cores[1].stack.waits_for(Nanos::ZERO), None);
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "first, second", "TCP puts it in order");
}

/// An acknowledgement lies in the ring of the old core, which is off its processor, while the retransmission timer that has moved runs out on the new one.
#[test]
fn nothing_is_sent_again_while_its_acknowledgement_may_lie_in_the_old_ring() {
    let mut w = Cores::new(2);
    // Its data is not acknowledged yet.
    let client = w.open(4, SOURCE);
    let ack = client.ack(65535);
    w.give(0, &ack);
    w.go(set(&[4]), 0, 1);
    // Longer than the smallest timeout, shorter than order is kept.
    w.now += Nanos::from_millis(70);
    for _ in 0..5 {
        w.turn(1);
        w.now += Nanos::from_millis(1);
    }
    assert!(w.sent.is_empty(), "{:?}", w.sent);
    let sent = w.rest();
    assert_eq!(heard(&client, &sent).count(), 0, "it is acknowledged, and there is no more: {sent:?}");
    assert_eq!(w.shared.total(|m| m.tcp_timeouts.get()), 0);
}

#[test]
fn what_came_out_of_order_goes_along() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    let mut hole = client.clone();
    hole.snd += 4;
    let later = hole.say(Flags::ACK | Flags::PSH).with(b"behind");
    w.steer(&later);
    w.rest();
    w.go(set(&[4]), 0, 1);
    let say = client.say(Flags::ACK | Flags::PSH).with(b"hole");
    w.steer(&say);
    client.snd += 10;
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(String::from_utf8_lossy(&text), "holebehind");
}

/// What a connection takes in trouble is its stack's. A thousand moves of one in trouble leave every stack with what it needs.
#[test]
fn trouble_on_the_way_costs_no_core_its_records() {
    let mut w = Cores::new(2);
    let (mut client, mut at) = (w.open(4, ECHO), 0);
    for _ in 0..2500 {
        let mut hole = client.clone();
        hole.snd += 1;
        let later = hole.say(Flags::ACK | Flags::PSH).with(b"b");
        w.steer(&later);
        w.rest();
        w.go(set(&[4]), at, 1 - at);
        at = 1 - at;
        let sent = w.echoes(&mut client, b"a");
        assert_eq!((sent.0, &sent.1[..]), (at, &b"ab"[..]), "it could be kept out of order");
        client.snd += 1;
        let ack = client.ack(65535);
        w.steer(&ack);
        w.settle();
    }
}

#[test]
fn pieces_of_a_datagram_go_along() {
    let mut w = Cores::new(2);
    let mut client = w.open(5, ECHO);
    let whole = client.say(Flags::ACK | Flags::PSH).with(&[b'p'; 600]).frame();
    client.snd += 600;
    let piece = |from: usize, to: usize, more: bool| {
        let mut frame = whole[..34].to_vec();
        frame.extend_from_slice(&whole[34 + from..34 + to]);
        let (len, at) = ((20 + to - from) as u16, (from / 8) as u16 | if more { 0x2000 } else { 0 });
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[20..22].copy_from_slice(&at.to_be_bytes());
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = wire::checksum::Sum::new().with(&frame[14..34]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    };
    let end = whole.len() - 34;
    w.cores[0].stack.nic().to_stack.push_back(piece(0, 320, true));
    w.rest();
    // Wherever the pieces meet: both cores change places.
    let all = |w: &Cores, core: usize| w.cores[core].stack.groups_here();
    let (of_0, of_1) = (all(&w, 0), all(&w, 1));
    w.go(of_0, 0, 1);
    w.go(of_1, 1, 0);
    w.cores[1].stack.nic().to_stack.push_back(piece(320, end, false));
    let sent = w.rest();
    let text: Vec<u8> = heard(&client, &sent).flat_map(|(_, s)| s.payload.clone()).collect();
    assert_eq!(text.len(), 600, "the datagram was put together");
}

#[test]
fn messages_follow_their_connection() {
    let mut w = Cores::new(2);
    w.open(4, DEAF);
    let handle = w.handle(4);
    // Before: in the old core's inbox; and in its hands, not told yet.
    w.shared.post(handle, 1).unwrap();
    w.cores[0].stack.ingest(w.now, 64);
    w.shared.post(handle, 2).unwrap();
    w.hand_over(set(&[4]), 0, 1).unwrap();
    // While it is under way: to the new core already.
    w.shared.post(handle, 3).unwrap();
    w.cores[1].stack.ingest(w.now, 64);
    w.cores[0].stack.ingest(w.now, 64);
    w.take_over(1);
    w.shared.post(handle, 4).unwrap();
    w.rest();
    let mut told = w.told.clone();
    told.sort_unstable();
    assert_eq!(told, [1, 2, 3, 4], "each once: {:?}", w.told);
}

#[test]
fn what_cannot_be_handed_over_stays() {
    let mut w = Cores::new(2);
    let mut client = w.open(4, ECHO);
    assert_eq!(w.hand_over(set(&[4, 5]), 0, 1), Err(Busy::NotHere), "group 5 is another core's");
    w.cores[0].stack.nic().full = true;
    let say = client.say(Flags::ACK | Flags::PSH).with(b"question");
    client.snd += 8;
    w.steer(&say);
    w.turn(0);
    assert_eq!(w.hand_over(set(&[4]), 0, 1), Err(Busy::Transmit), "the answer waits for room in the NIC");
    w.cores[0].stack.nic().full = false;
    w.go(set(&[4]), 0, 1);
    assert_eq!(w.hand_over(set(&[4]), 1, 0), Err(Busy::Settling));
    assert_eq!(w.connections(), [0, 1]);
}

/// A connection opened here belongs to a core like any other, and moves like any other.
#[test]
fn connections_opened_here_move() {
    let mut w = Cores::new(2);
    w.begin(0);
    let dst = std::net::SocketAddr::from((world::peer(0), 80));
    w.cores[0].batch.call(Syscall::Connect { cookie: abi::Cookie(9), dst }).unwrap();
    w.end(0);
    let sent = w.rest();
    // Its group is what the peer's port makes it; the test's function knows no other.
    let group_of = 80u16.wrapping_sub(cores::PORT) % 128;
    let syn = sent.iter().find(|(_, s)| s.has(Flags::SYN));
    if let Some((core, syn)) = syn {
        assert_eq!(*core, usize::from(group_of) % 2);
        let mut client = world::Client {
            ip: world::peer(0),
            port: 80,
            to: syn.header.src_port,
            snd: Seq(5),
            rcv: syn.header.seq + 1,
        };
        let answer = client.say(Flags::SYN | Flags::ACK);
        client.snd += 1;
        w.go(set(&[group_of]), *core, 1 - core);
        w.steer(&answer);
        let sent = w.rest();
        assert!(heard(&client, &sent).any(|(c, s)| *c == 1 - core && s.has(Flags::ACK)), "the handshake is done there");
    } else {
        assert_eq!(group_of % 2, 1, "core 0 has no port for it");
    }
}

/// What a random history is made of.
#[derive(Clone, Debug)]
enum Act {
    /// A client says so many bytes.
    Say(u8, u8),
    /// Everything a client has heard is acknowledged.
    Ack(u8),
    /// Half a turn of a core.
    Begin(u8),
    End(u8),
    /// A group goes, or arrives.
    Give(u8, u8),
    Take,
    /// The table of the NIC follows the owners.
    Steer,
    Pass(u16),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..6, 1u8..40).prop_map(|(c, n)| Act::Say(c, n)),
        2 => (0u8..6).prop_map(Act::Ack),
        5 => (0u8..3).prop_map(Act::Begin),
        5 => (0u8..3).prop_map(Act::End),
        2 => (0u8..6, 0u8..3).prop_map(|(g, to)| Act::Give(g, to)),
        2 => Just(Act::Take),
        2 => Just(Act::Steer),
        1 => (0u16..30_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens in whatever order: each client hears what it said, in order, and no frame was lost, sent again, or met out of order.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(acts in prop::collection::vec(act(), 1..160)) {
        let mut w = Cores::new(3);
        let mut clients: Vec<_> = (0..6).map(|n| w.open(n, ECHO)).collect();
        let mut said = vec![Vec::new(); 6];
        let mut acked: Vec<_> = clients.iter().map(|c| c.rcv).collect();
        let mut pending: Option<(GroupSet, usize)> = None;
        let mut heard_by = vec![Vec::<u8>::new(); 6];
        let mut hears = |w: &mut Cores, clients: &mut Vec<world::Client>| {
            for (_, s) in std::mem::take(&mut w.sent) {
                let i = usize::from(s.header.dst_port - cores::PORT);
                assert!(s.header.options.sacks.is_empty(), "out of order");
                assert!(s.payload.is_empty() || s.header.seq == clients[i].rcv, "sent again, or out of order");
                clients[i].rcv += s.payload.len() as u32;
                heard_by[i].extend(s.payload);
            }
        };
        for act in acts {
            match act {
                Act::Say(c, n) => {
                    let c = usize::from(c);
                    let text: Vec<u8> = (0..n).map(|i| i ^ said[c].len() as u8).collect();
                    let say = clients[c].say(Flags::ACK | Flags::PSH).with(&text);
                    clients[c].snd += u32::from(n);
                    said[c].extend(text);
                    w.steer(&say);
                }
                // Once: a second one would tell of a loss.
                Act::Ack(c) => {
                    let client = &clients[usize::from(c)];
                    if acked[usize::from(c)] != client.rcv {
                        acked[usize::from(c)] = client.rcv;
                        w.steer(&client.ack(65535));
                    }
                }
                Act::Begin(core) => w.begin(core.into()),
                Act::End(core) => w.end(core.into()),
                Act::Give(g, to) => {
                    let (from, to) = (w.shared.owner(group(g.into())).index(), usize::from(to));
                    if pending.is_none() && from != to && w.hand_over(set(&[g.into()]), from, to).is_ok() {
                        pending = Some((set(&[g.into()]), to));
                    }
                }
                Act::Take => {
                    if let Some((_, to)) = pending.take() {
                        w.take_over(to);
                    }
                }
                Act::Steer => (0..6).for_each(|g| w.reta[g] = w.shared.owner(group(g as u16)).index()),
                // Short of a retransmission, and of the grace: who is away for as long is helped, which this test does not do.
                Act::Pass(ns) => w.now += Nanos(ns.into()),
            }
            hears(&mut w, &mut clients);
        }
        if let Some((_, to)) = pending.take() {
            w.take_over(to);
        }
        for _ in 0..20 {
            (0..3).for_each(|core| { w.begin(core); w.end(core); });
            hears(&mut w, &mut clients);
        }
        for (said, heard) in said.iter().zip(&heard_by) {
            prop_assert_eq!(said, heard);
        }
        for client in &clients {
            let ack = client.ack(65535);
            w.steer(&ack);
        }
        w.settle();
        prop_assert_eq!(w.shared.total(|m| m.drops_total()), 0);
        prop_assert_eq!(w.shared.total(|m| m.tcp_retransmits.get() + m.tcp_out_of_order.get()), 0);
        prop_assert!(!w.shared.is_moving());
        prop_assert_eq!(w.connections().iter().sum::<usize>(), 6);
    }
}
