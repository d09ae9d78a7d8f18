//! The whole stack with echo, discard and source on it: frames as they come, frames that are nearly right, time.

use arbitrary::{Result, Unstructured};
use echo::{Echo, Mode};
use units::Nanos;
use wire::tcp::{Flags, Options, SackBlocks, Timestamps};
use wire::{Seq, ipv4, ipv6};

use crate::rig::{CLIENTS, Rig, Sent};

/// Echo, discard and source, on ports from here on; the next is nobody's.
const PORT: u16 = 7;
const SERVERS: u16 = 3;
/// What is done in one run at most.
const STEPS: usize = 100;

/// The bytes say what happens.
pub(crate) fn run(input: &[u8]) {
    let mut rig = play(input);
    // Nothing that a peer sends makes the stack send without end.
    assert!(rig.frames < 200_000, "{} frames in answer", rig.frames);
    rig.end(SERVERS);
}

fn play(input: &[u8]) -> Rig<Echo> {
    let modes = [(PORT, Mode::Echo), (PORT + 1, Mode::Discard), (PORT + 2, Mode::Source)];
    let mut rig = Rig::new(Echo::by_port(modes), PORT, SERVERS);
    let mut bytes = Unstructured::new(input);
    for _ in 0..STEPS {
        if bytes.is_empty() || step(&mut rig, &mut bytes).is_err() {
            break;
        }
    }
    rig
}

fn step(rig: &mut Rig<Echo>, bytes: &mut Unstructured<'_>) -> Result<()> {
    match bytes.int_in_range(0..=9u8)? {
        0 => rig.frame(some(bytes, 1600)?),
        1 => {
            let protocol = *bytes.choose(&[ipv4::ICMP, ipv4::TCP, ipv4::UDP, ipv6::FRAGMENT, ipv6::ICMP, 0, 43, 60])?;
            let (v6, payload) = (bytes.arbitrary()?, some(bytes, 1460)?);
            if v6 { rig.packet_v6(protocol, &payload) } else { rig.packet(protocol, &payload) }
        }
        2 => {
            let (from, to, payload) = (bytes.arbitrary()?, bytes.int_in_range(0..=SERVERS)?, some(bytes, 1472)?);
            rig.datagram(from, to, &payload);
        }
        3 => rig.wait(Nanos::from_millis(bytes.int_in_range(0..=3000)?)),
        4 => open(rig, bytes.int_in_range(0..=CLIENTS - 1)?, bytes.int_in_range(0..=SERVERS)?, options(bytes)?),
        5 => {
            let (flow, to) = (bytes.int_in_range(0..=CLIENTS - 1)?, bytes.int_in_range(0..=SERVERS)?);
            let payload = some(bytes, 1400)?;
            in_order(rig, flow, to, Flags::ACK | Flags::PSH, &payload);
        }
        _ => {
            let (flow, to) = (bytes.int_in_range(0..=CLIENTS - 1)?, bytes.int_in_range(0..=SERVERS)?);
            let known = &rig.flows[usize::from(flow)];
            let near = |bytes: &mut Unstructured<'_>| Ok(i32::from(bytes.arbitrary::<i16>()?) as u32);
            let seg = Sent {
                seq: known.seq.wrapping_add(near(bytes)?),
                ack: known.ack.wrapping_add(near(bytes)?),
                flags: Flags(bytes.arbitrary()?),
                window: bytes.arbitrary()?,
                options: options(bytes)?,
            };
            let payload = some(bytes, 1400)?;
            rig.segment(flow, to, &seg, &payload);
        }
    }
    Ok(())
}

/// A handshake as a client does it.
fn open(rig: &mut Rig<Echo>, flow: u16, to: u16, options: Options) {
    let seq = rig.flows[usize::from(flow)].seq;
    rig.segment(flow, to, &Sent { seq, flags: Flags::SYN, options, ..Sent::default() }, &[]);
    rig.flows[usize::from(flow)].seq = seq.wrapping_add(1);
    in_order(rig, flow, to, Flags::ACK, &[]);
}

/// What a client sends next.
fn in_order(rig: &mut Rig<Echo>, flow: u16, to: u16, flags: Flags, payload: &[u8]) {
    let known = &mut rig.flows[usize::from(flow)];
    let seg = Sent { seq: known.seq, ack: known.ack, flags, ..Sent::default() };
    known.seq = known.seq.wrapping_add(payload.len() as u32);
    rig.segment(flow, to, &seg, payload);
}

fn options(bytes: &mut Unstructured<'_>) -> Result<Options> {
    if bytes.arbitrary::<u8>()? < 128 {
        return Ok(Options::NONE);
    }
    let mut pairs = [(Seq(0), Seq(0)); 3];
    for pair in &mut pairs {
        *pair = (Seq(bytes.arbitrary()?), Seq(bytes.arbitrary()?));
    }
    let many = bytes.int_in_range(0..=3usize)?;
    let sacks: SackBlocks = pairs.into_iter().take(many).collect();
    let ts: Option<(u32, u32)> = bytes.arbitrary()?;
    Ok(Options {
        mss: bytes.arbitrary()?,
        wscale: bytes.arbitrary()?,
        sack_permitted: bytes.arbitrary()?,
        timestamps: ts.map(|(val, ecr)| Timestamps { val, ecr }),
        sacks,
    })
}

fn some(bytes: &mut Unstructured<'_>, most: usize) -> Result<Vec<u8>> {
    let len = bytes.int_in_range(0..=most)?.min(bytes.len());
    Ok(bytes.bytes(len)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_reaches_the_services() {
        let echo = play(include_bytes!("../corpus/frames/echo"));
        assert_eq!(echo.flows[0].received, b"helloagain");
        let both = play(include_bytes!("../corpus/frames/discard-and-source"));
        assert!(both.flows[1].received.starts_with(b"300 "), "{:?}", both.flows[1]);
        assert_eq!(both.flows[2].received.len(), 3000);
        let late = play(include_bytes!("../corpus/frames/out-of-order"));
        assert_eq!(late.flows[0].received, b"0123456789later");
        assert!(play(include_bytes!("../corpus/frames/nobody-there")).flows[3].reset);
    }
}
