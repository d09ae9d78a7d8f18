//! Handshakes in numbers, given to one stack as frames: floods, cookies, churn.

use netstack::{DropReason, StackConfig};
use units::Nanos;
use wire::Seq;
use wire::tcp::Flags;

mod world;
use world::{CLOSES, ECHO, Say, World, mss, peer};

fn world(max_conns: usize) -> World {
    World::new(|c| StackConfig { max_conns, backlog: 1024, ..c })
}

/// A whole handshake, then a reset by the peer: true if the connection was open in between.
fn open_and_reset(w: &mut World, port: u16) -> bool {
    let Some((client, _)) = w.open(peer(0), port, ECHO, mss(1460)) else { return false };
    let open = w.stack.connections() > 0;
    w.tell(&client.say(Flags::RST | Flags::ACK));
    open
}

/// Says as much in bursts of 64.
fn flood(w: &mut World, said: impl Iterator<Item = Say>) {
    for (n, say) in (1..).zip(said) {
        w.hear(&say);
        if n % 64 == 0 {
            w.turn();
        }
    }
    w.turn();
}

fn syns(n: u32) -> impl Iterator<Item = Say> {
    (0..n).map(|n| Say::new(peer(0), 1024 + n as u16, ECHO, Flags::SYN).at(Seq(n), Seq(0)))
}

/// Far more handshakes, one after the other, than there are timers, slots or half-open entries at once.
#[test]
fn churn_uses_nothing_up() {
    let mut w = world(64);
    for n in 0..20_000u32 {
        assert!(open_and_reset(&mut w, 1024 + (n % 50_000) as u16), "handshake {n} failed");
    }
    assert_eq!((w.stack.connections(), w.stack.rx_available()), (0, 8192));
    // The last one still has its timers: an unanswered SYN-ACK is sent again.
    assert_eq!(w.tell(&Say::new(peer(0), 999, ECHO, Flags::SYN)).len(), 1);
    let again: usize = (0..4).map(|_| w.after(Nanos::from_secs(1)).len()).sum();
    assert!(again >= 1, "the SYN-ACK was not sent again in four seconds");
}

#[test]
fn a_flood_of_syns_costs_no_connection_and_keeps_nobody_out() {
    let mut w = world(256);
    flood(&mut w, syns(5_000));
    let cookies = w.stack.metrics().syn_cookies_out.get();
    // What is beyond half of a full burst is not answered.
    let lost = w.stack.metrics().drops(DropReason::Flood);
    assert!(cookies + lost > 4_000 && cookies > 2_000, "{cookies} cookies, {lost} without an answer");
    assert_eq!(w.stack.connections(), 0);
    // The backlog is full of entries that nobody will ever answer: a real client gets in by a cookie.
    assert!(open_and_reset(&mut w, 60_000));
    assert_eq!(w.stack.metrics().syn_cookies_in.get(), 1);
}

/// The first SYN found no room for an entry and was answered by a cookie, its repetition found some. Whichever answer the client has heard lets it in.
#[test]
fn a_cookie_holds_also_when_there_is_an_entry_by_now() {
    for heeds_the_cookie in [true, false] {
        let mut w = world(64);
        flood(&mut w, syns(8));
        let syn = Say::new(peer(0), 9_000, ECHO, Flags::SYN).at(Seq(77), Seq(0));
        let by_cookie = w.tell(&syn)[0].header.seq;
        assert_eq!(w.stack.metrics().syn_cookies_out.get(), 1);
        // Somebody gives up.
        w.tell(&Say::new(peer(0), 1024, ECHO, Flags::RST).at(Seq(1), Seq(0)));
        let by_entry = w.tell(&syn)[0].header.seq;
        assert_eq!(w.stack.metrics().syn_cookies_out.get(), 1);
        assert_ne!(by_cookie, by_entry);
        let heard = if heeds_the_cookie { by_cookie } else { by_entry };
        let said = Say::new(peer(0), 9_000, ECHO, Flags::ACK | Flags::PSH).at(Seq(78), heard + 1).with(b"in");
        let sent = w.tell(&said);
        assert!(
            sent.iter().any(|s| s.payload == b"in") && !sent.iter().any(|s| s.has(Flags::RST)),
            "{heeds_the_cookie}"
        );
        assert_eq!(w.stack.connections(), 1);
    }
}

#[test]
fn an_invented_cookie_opens_nothing() {
    let mut w = world(256);
    flood(&mut w, syns(2_000));
    let invented = |n: u32| Seq(n.wrapping_mul(0x9e37_79b9));
    flood(&mut w, (0..5_000).map(|n| Say::new(peer(0), 50_000, ECHO, Flags::ACK).at(Seq(1), invented(n))));
    assert_eq!((w.stack.connections(), w.stack.metrics().syn_cookies_in.get()), (0, 0));
}

/// The server closes first, again and again: connections in TIME-WAIT make room for new ones.
#[test]
fn time_wait_keeps_nobody_out() {
    let mut w = world(100);
    for port in 2_000..3_000u16 {
        let (mut client, sent) = w
            .open(peer(0), port, CLOSES, mss(1460))
            .unwrap_or_else(|| panic!("the connection from {port} was refused"));
        assert!(sent.iter().any(|s| s.has(Flags::FIN)), "the server closes");
        client.rcv += 1;
        w.tell(&client.say(Flags::ACK | Flags::FIN));
    }
    assert!(w.stack.connections() >= 60, "the last ones, as many as the group holds, are in TIME-WAIT");
}

#[test]
fn beyond_the_limit_clients_are_refused_and_those_within_live_on() {
    let mut w = world(100);
    let refused = (2_000..2_300u16).filter(|port| w.open(peer(0), *port, ECHO, mss(1460)).is_none()).count();
    // The limit of a flow group; here all flows fall into one.
    let open = w.stack.connections();
    assert_eq!((open + refused, open <= 100), (300, true), "{open} open, {refused} refused");
    assert_eq!(w.stack.metrics().drops(DropReason::NoConn), refused as u64);
}
