//! Two elastic threads: flows spread by RSS, done by the NIC (no frame passes from core to core), by software because
//! that was asked for, and by software because bpf(2) is refused to whoever started it.
#![forbid(unsafe_code)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::{App, Namespace, Rig, Serve, Server, Stack, Text, need, on_stacks, zygix_path};

const SOFTWARE: &str = "software RSS";

/// 64 connections, each used many times, all of them in turn.
fn converse(rig: &Rig) {
    let mut clients: Vec<Text> = (0..64).map(|_| rig.text()).collect();
    for round in 0..20 {
        for (i, text) in clients.iter_mut().enumerate() {
            let value = format!("{round} of {i}");
            text.set(&format!("key-{i}"), value.as_bytes());
            assert_eq!(text.get(&format!("key-{i}")).as_deref(), Some(value.as_bytes()));
        }
    }
}

/// Each of the two cores has accepted its share of the connections and done its share of the work.
fn check_spread(rig: &Rig) {
    let counters = rig.server.counters();
    for name in ["tcp_accepts", "tcp_segments_in", "tcp_bytes_out", "batches"] {
        let per_core = counters.per_core(name);
        assert_eq!(per_core.len(), 2, "{name} of two cores: {counters:?}");
        // 64 flows by a fair coin: fewer than 8 on one side come about once in 10^10 runs.
        let least = if name == "tcp_accepts" { 8 } else { 100 };
        assert!(per_core.iter().all(|n| *n >= least), "{name} is {per_core:?}");
    }
    assert_eq!(counters.total("tcp_accepts"), 64);
    // Linux's own chatter (IPv6 neighbour discovery, IGMP) is not for us, and on a busy machine its TCP may send again
    // what was not lost (out of the window then). Nothing else is dropped.
    let mut drops = counters.drops();
    drops.retain(|reason, _| !["not_our_mac", "ethertype", "protocol", "tcp_window"].contains(&reason.as_str()));
    assert!(drops.is_empty(), "dropped: {drops:?}");
}

fn forwarded(rig: &Rig) -> (u64, u64) {
    let counters = rig.server.counters();
    (counters.total("rx_forwarded_in"), counters.total("rx_forwarded_out"))
}

on_stacks! {
    /// The NIC brings each frame to the core that owns its flow.
    [zygix = Zygix, xdp = Xdp]
    fn with_steering_a_connection_is_seen_by_its_core_only(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Kv, stack).threads(2)));
        if rig.server.log().contains(SOFTWARE) {
            return need::skip("bpf(2) is refused to root here: there is no steering");
        }
        converse(&rig);
        check_spread(&rig);
        assert_eq!(forwarded(&rig), (0, 0));
        let frames = rig.server.counters().per_core("rx_frames");
        assert!(frames.iter().all(|n| *n > 100), "each queue delivers: {frames:?}");
        rig.still_serves_kv();
    }

    /// The cores bring frames to each other.
    [software = Software]
    fn software_rss_forwards_to_the_owner(stack) {
        let rig = need!(Rig::start(&Serve::new(App::Kv, stack).threads(2)));
        assert!(rig.server.log().contains(SOFTWARE), "start-up says it:\n{}", rig.server.log());
        converse(&rig);
        check_spread(&rig);
        let (received, sent) = forwarded(&rig);
        assert!(sent > 0 && received == sent, "{sent} frames were forwarded, {received} received");
        rig.still_serves_kv();
    }

    /// As a user without privilege would: `unshare -rn zygix serve kv`. Root in a user namespace may have a TAP, but not bpf(2).
    [software = Software]
    fn without_privilege_software_rss_is_used_and_said(stack) {
        need!(need::network());
        for name in ["unshare", "setpriv", "mount"] {
            need!(need::program(&[name], "util-linux"));
        }
        // Nobody may not be allowed into the target directory.
        let copy = std::env::temp_dir().join(format!("zxt-{}-zygix", std::process::id()));
        std::fs::copy(zygix_path(), &copy).expect("the temporary directory can be written");
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).expect("it is ours");
        let serve = Serve::new(App::Kv, Stack::Zygix).threads(2);
        // The device may be for root alone on the machine itself: this mount namespace has one for everybody.
        let script = "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && cd / && \
            exec setpriv --reuid=65534 --regid=65534 --clear-groups unshare --user --map-root-user --net \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(&copy).args(serve.arguments()).arg("--supervised");
        tests::piped(&mut command);
        let allowed = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "--map-root-user", "--net", "true"])
            .status();
        if !allowed.is_ok_and(|s| s.success()) {
            return need::skip("user namespaces are not allowed here; kernel.unprivileged_userns_clone=1");
        }
        let server = Server::attach(command.spawn().expect("unshare is there"));
        let _ = std::fs::remove_file(&copy);

        // Each of these programs became the next one, so the process that we started is the server.
        let namespace = Namespace::of(server.pid());
        let rig = Rig::around(server, namespace, stack);
        let log = rig.server.log();
        assert!(log.contains(SOFTWARE), "start-up says it:\n{log}");
        converse(&rig);
        check_spread(&rig);
        let (received, sent) = forwarded(&rig);
        assert!(sent > 0 && received == sent, "{sent} frames were forwarded, {received} received");
        rig.still_serves_kv();
    }
}
