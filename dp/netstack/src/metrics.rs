use abi::{LATENCY_BUCKETS, LatencyHistogram};
use units::{Counter, FLOW_GROUPS, FlowGroupId, Nanos};

use crate::DropReason;

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What one core has counted since start. The core writes, anybody reads.
        #[derive(Default, Debug)]
        pub struct Metrics {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            drops: [Counter; DropReason::ALL.len()],
            /// Frames by flow group.
            groups: Many<FLOW_GROUPS>,
            /// Requests by latency.
            latency: Many<LATENCY_BUCKETS>,
        }

        impl Metrics {
            /// Name and value of each counter but the drops.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), &self.$name),)+].into_iter().map(|(n, c)| (n, c.get()))
            }
        }
    };
}

#[derive(Debug)]
struct Many<const N: usize>([Counter; N]);

impl<const N: usize> Default for Many<N> {
    fn default() -> Many<N> {
        Many([const { Counter::new() }; N])
    }
}

metrics! {
    /// Frames taken from the own queue.
    rx_frames,
    /// Polls of the own queue that found frames.
    rx_polls,
    /// Polls that took as many frames as they may.
    ring_full,
    /// Frames that such polls left behind, where the NIC can tell.
    rx_behind,
    /// Frames that another core's queue got and that core forwarded here.
    rx_forwarded_in,
    /// Frames of foreign flow groups, forwarded to their owners.
    rx_forwarded_out,
    /// Flow groups handed over to other cores.
    groups_out,
    /// Flow groups taken over from other cores.
    groups_in,
    /// Connections that went with them.
    conns_out,
    /// Connections that came with them.
    conns_in,
    /// Frames of groups that had just come here, which waited for the group or for older ones to come by its last core.
    deferred,
    /// Those of them that went on although older ones may still have been on their way: nobody could look for too long, or too many waited.
    order_given_up,
    /// Frames given to the NIC.
    tx_frames,
    /// Frames that waited because the NIC was full.
    tx_deferred,
    /// Frames lost because the NIC was full and no buffer was left to wait in, or too many waited.
    tx_lost,
    /// TCP segments received for known connections.
    tcp_segments_in,
    /// TCP payload bytes delivered in order.
    tcp_bytes_in,
    /// TCP payload bytes admitted for sending.
    tcp_bytes_out,
    /// TCP segments that came before one that belongs in front of them.
    tcp_out_of_order,
    /// TCP segments sent again.
    tcp_retransmits,
    /// Timers that asked for that: an acknowledgement did not come in time (RFC 6298 section 5.4, RFC 8985 section 7.3).
    tcp_timeouts,
    /// Connections that peers opened.
    tcp_accepts,
    /// Connections opened here.
    tcp_connects,
    /// Connections ended, for whatever reason.
    tcp_closed,
    /// RST segments sent.
    tcp_resets_out,
    /// SYN cookies sent.
    syn_cookies_out,
    /// Connections opened from a cookie.
    syn_cookies_in,
    /// Datagrams delivered.
    udp_in,
    /// Datagrams sent.
    udp_out,
    /// ICMP echo requests answered.
    icmp_echo,
    /// ARP requests answered.
    arp_replies,
    /// Neighbour solicitations answered.
    ndp_replies,
    /// ICMP errors sent.
    icmp_errors_out,
    /// ICMP errors heard about packets that were ours.
    icmp_errors_in,
    /// Reports that made a path's MTU smaller.
    path_mtu_lowered,
    /// Datagrams put together from fragments.
    reassembled,
    /// Fragments sent.
    fragments_out,
    /// Turns that found something to do.
    turns_busy,
    /// Batches given to the application.
    batches,
    /// Connections in those batches: divided by `batches`, the mean batch size.
    batch_conns,
    /// Slips taken from other cores' shuffle queues.
    steals,
    /// Connections and datagrams on them.
    stolen_conns,
    /// Slips of this core that others ran.
    stolen,
    /// Network passes done in other cores' stead.
    lends,
    /// Network passes that others did in this core's stead.
    lent,
    /// Nanoseconds of this thread in application code for other cores' connections.
    helping_ns,
    /// Nanoseconds of other threads in application code for this core's connections.
    helped_ns,
    /// Interrupts sent to other cores.
    interrupts_sent,
    /// Interrupts that found this core in application code.
    interrupts,
    /// Times that this core found its own network layer taken by another.
    lock_taken,
    /// Application calls of more than 10 ms, once they are over.
    non_responsive,
    /// A gauge: the instant at which the application call began that runs now, on the monotonic clock; 0 while none does.
    app_since_ns,
    /// Slips offered to all cores.
    offers,
    /// Batches that came home to be carried out there: stolen ones, and those that ended while another had the lock.
    remote_syscalls,
    /// Batched syscalls carried out.
    syscalls,
    /// Batched syscalls refused.
    syscalls_refused,
    /// Nanoseconds in turns that found something to do.
    busy_ns,
    /// Nanoseconds polling without finding anything.
    idle_ns,
    /// Nanoseconds asleep.
    sleep_ns,
    /// A gauge: since when it sleeps, on the monotonic clock; 0 while it is awake.
    sleep_since_ns,
}

impl Metrics {
    /// Counts a dropped frame.
    #[inline]
    pub fn drop_frame(&self, why: DropReason) {
        self.drops[why as usize].inc();
    }

    /// Counts several dropped frames.
    pub(crate) fn drop_frames(&self, why: DropReason, n: u64) {
        self.drops[why as usize].add(n);
    }

    /// How many frames were dropped for this reason.
    pub fn drops(&self, why: DropReason) -> u64 {
        self.drops[why as usize].get()
    }

    /// A frame has come for a flow group. By the holder of the stack.
    #[inline]
    pub(crate) fn frame_of(&self, group: FlowGroupId) {
        if let Some(count) = self.groups.0.get(group.index()) {
            count.inc();
        }
    }

    /// Frames that have come for a flow group while it was this core's.
    pub fn frames_of(&self, group: FlowGroupId) -> u64 {
        self.groups.0.get(group.index()).map_or(0, Counter::get)
    }

    /// `n` requests took so long from receive to transmit. By the core's thread.
    #[inline]
    pub fn took(&self, span: Nanos, n: u64) {
        if let Some(count) = self.latency.0.get(LatencyHistogram::bucket_of(span)) {
            count.add(n);
        }
    }

    /// What requests took that this core's thread ran.
    pub fn latency(&self) -> LatencyHistogram {
        LatencyHistogram::of(self.latency.0.iter().map(Counter::get))
    }

    /// Connections of this core's flow groups.
    pub fn connections(&self) -> u64 {
        let came = [&self.tcp_accepts, &self.tcp_connects, &self.conns_in].map(Counter::get).iter().sum::<u64>();
        came.saturating_sub(self.tcp_closed.get() + self.conns_out.get())
    }

    /// Frames dropped for any reason.
    pub fn drops_total(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }
}
