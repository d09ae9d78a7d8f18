//! What a stack sends under its congestion window, given as frames: ACKs come in batches, and the application is asked once for each.

use wire::tcp::{Flags, Options};

mod world;
use world::{SOURCE, World, peer};

const MSS: u32 = 1000;

/// A window of ten segments, of which the seventh is lost; all ACKs come in one batch, before the application can send anything. The window is
/// reduced as if they had come one by one: it had grown to 16 segments, all of them used, when the loss was seen, and 0.7 of them are in the network
/// at once (RFC 9438 section 4.6, RFC 9937).
#[test]
fn a_loss_at_the_end_of_a_batch_of_acks() {
    let mut w = World::new(|config| config);
    let options = Options { mss: Some(MSS as u16), sack_permitted: true, ..Options::NONE };
    let (mut client, first) = w.open(peer(1), 4000, SOURCE, options).unwrap();
    assert_eq!(client.heard(&first).count(), 10, "RFC 6928");
    let una = client.rcv;
    for i in 1..=6 {
        client.rcv = una + i * MSS;
        w.hear(&client.ack(65535));
    }
    w.hear(&client.sack(&[(una + 7 * MSS, una + 10 * MSS)]));
    let sent = w.turn();
    let sent: Vec<_> = client.heard(&sent).filter(|s| !s.payload.is_empty()).collect();
    assert_eq!(sent[0].header.seq, una + 6 * MSS, "what was lost goes first");
    assert!(sent[1..].iter().all(|s| !s.header.seq.lt(una + 10 * MSS) && !s.has(Flags::FIN)));
    let bytes: usize = sent.iter().map(|s| s.payload.len()).sum();
    assert_eq!(bytes as u32, 11 * MSS);
}
