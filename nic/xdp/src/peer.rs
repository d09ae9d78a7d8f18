//! Steering on a veth: a program at the other end, which sends each frame by the queue of its flow group.
//!
//! A frame arrives by the queue that it left by, and our socket gets frames of its own queue only. So the choice is the sender's, as it is
//! the NIC's on a wire, and the other end must be within reach: in our namespace, or in one that `ip netns` knows. A connected socket of Linux
//! keeps the queue that its connection was first given until nothing is under way; meanwhile the network layer forwards.
//!
//! In native mode only: without a program in the driver, a veth does not pass on by which queue a frame came.

use std::os::fd::AsFd;

use sys::bpf::Attachment;
use sys::{SysError, ethtool, link, netns};
use tap::{FlowHash, Steering};

/// The table and the program, in force.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) steering: Steering,
    _attached: Attachment,
}

/// Attaches the program to the other end of the veth that `info` describes.
///
/// Errors: a sentence why there is no steering.
pub(crate) fn steer(info: &link::Info, queues: u16, hash: &FlowHash) -> Result<Peer, String> {
    let here = netns::current().map_err(|e| e.to_string())?;
    let there = match info.peer_namespace {
        None => here,
        Some(id) => {
            let found = netns::names().into_iter().filter_map(|name| netns::named(&name).ok());
            let mut found = found.filter(|n| matches!(link::namespace_id(n.as_fd()), Ok(Some(found)) if found == id));
            found.next().ok_or("the other end of the veth is in a namespace that `ip netns` does not know")?
        }
    };
    let (peer, hash) = (info.peer, *hash);
    // A thread of its own enters the namespace: the caller stays where it is.
    let attach = move || -> Result<Peer, String> {
        netns::enter(there).map_err(|e| e.to_string())?;
        let name = link::name(peer).map_err(|e| e.to_string())?;
        let there = ethtool::queues(&name).map_err(|e| e.to_string())?;
        if there.tx < u32::from(queues) {
            let has = there.tx;
            return Err(format!("the other end, {name}, has {has} transmit queue(s): ethtool -L {name} tx {queues}"));
        }
        attach(peer, &hash).map_err(|e| e.to_string())
    };
    std::thread::spawn(attach).join().expect("that thread does not panic")
}

fn attach(peer: u32, hash: &FlowHash) -> Result<Peer, SysError> {
    let steering = Steering::egress(hash)?;
    let attached = Attachment::tcx_egress(&steering.program, peer)?;
    Ok(Peer { steering, _attached: attached })
}
