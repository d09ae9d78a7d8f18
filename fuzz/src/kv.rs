//! The memcached protocols: a stream of bytes from a client, cut anywhere, through the whole stack into the store.

use kv::{Config, Kv};
use units::Nanos;
use wire::tcp::Flags;

use crate::rig::{Rig, Sent};

const PORT: u16 = 11_211;
/// Replies may be much longer than requests: a `get` of many keys. But a store of this size bounds them.
const REPLY_MAX: usize = 64 << 20;

/// The first byte says how the stream is cut, the rest is the stream.
pub(crate) fn run(input: &[u8]) {
    let Some((cut, stream)) = input.split_first() else { return };
    let mut rig = play(usize::from(*cut).max(1) * 5, stream);
    let flow = &rig.flows[0];
    assert!(flow.reset || flow.finished, "the server ends what its client has ended");
    rig.end(1);
}

fn play(cut: usize, stream: &[u8]) -> Rig<Kv> {
    let config = Config {
        memory_limit: 1 << 20,
        item_size_max: 64 << 10,
        shards: 2,
        start_wall: Some(1_000_000),
        hash_key: Some([1, 2]),
        ..Config::default()
    };
    let mut rig = Rig::new(Kv::new(config), PORT, 1);
    let seq = rig.flows[0].seq;
    rig.segment(0, 0, &Sent { seq, flags: Flags::SYN, ..Sent::default() }, &[]);
    rig.flows[0].seq = seq.wrapping_add(1);
    say(&mut rig, Flags::ACK, &[]);
    for piece in stream.chunks(cut) {
        say(&mut rig, Flags::ACK | Flags::PSH, piece);
        take(&mut rig);
        if rig.flows[0].reset || rig.flows[0].finished {
            break;
        }
    }
    say(&mut rig, Flags::ACK | Flags::FIN, &[]);
    rig.flows[0].seq = rig.flows[0].seq.wrapping_add(1);
    take(&mut rig);
    rig
}

fn say(rig: &mut Rig<Kv>, flags: Flags, payload: &[u8]) {
    let flow = &mut rig.flows[0];
    let seg = Sent { seq: flow.seq, ack: flow.ack, flags, ..Sent::default() };
    flow.seq = flow.seq.wrapping_add(payload.len() as u32);
    rig.segment(0, 0, &seg, payload);
}

/// Acknowledges until nothing more comes.
fn take(rig: &mut Rig<Kv>) {
    loop {
        let before = rig.flows[0].ack;
        say(rig, Flags::ACK, &[]);
        rig.wait(Nanos::from_millis(1));
        if rig.flows[0].ack == before {
            return;
        }
        assert!(rig.flows[0].received.len() < REPLY_MAX, "replies without end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_answers() {
        for cut in [1, 7, 1400] {
            let rig = play(cut, b"set a 0 0 5\r\nhello\r\nget a\r\n");
            assert_eq!(rig.flows[0].received, b"STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n", "{cut}");
        }
    }
}
