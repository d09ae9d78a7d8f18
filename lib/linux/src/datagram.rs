use std::net::{SocketAddr, UdpSocket};

use zygix::{Peer, Service};

use crate::handler::Env;

/// The largest UDP payload over IPv4.
pub(crate) const DATAGRAM: usize = 65_507;

/// Answers up to `most` of the datagrams that wait at `udp`.
pub(crate) fn serve<S: Service>(udp: &UdpSocket, local: SocketAddr, env: &mut Env<S>, most: usize) {
    for _ in 0..most {
        let Some(mut fresh) = env.rx_pool.alloc() else { return };
        let Ok((n, remote)) = udp.recv_from(fresh.spare_mut()) else {
            env.rx_pool.free(fresh);
            return;
        };
        fresh.grow(n);
        let out = env.datagram(&Peer { remote, local }, &fresh);
        let n = out.bytes() as usize;
        if n > 0 {
            // The request is answered: its buffer carries the reply.
            fresh.reset(0);
            fresh.grow(n);
            out.copy_to(0, &mut fresh);
            // A full socket loses the answer, as datagrams may be lost anywhere.
            let _ = udp.send_to(&fresh, remote);
        }
        env.tx_pool.free_queue(out);
        env.rx_pool.free(fresh);
    }
}
