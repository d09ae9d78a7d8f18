//! The TAP of an unprivileged user: in a user and network namespace of the process's own, where bpf(2) is refused.

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{End, HOST, US, config, open, skipped};
use nic::{Nic, Steering};
use tap::TapError;

const NAME: &str = "an_unprivileged_user_gets_a_tap_without_steering";

fn main() {
    // Before any thread: see unshare_user_net.
    if let Err(e) = sys::netns::unshare_user_net() {
        return skipped(NAME, &e);
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        return skipped(NAME, &"/dev/net/tun is missing; load the tun module");
    }
    assert!(sys::netns::is_root() && sys::netns::can_admin());
    let mut nic = match open(&config(2)) {
        // Some systems let root alone open the device.
        Err(TapError::Sys(e)) if e.call == "open" && e.is_permission() => return skipped(NAME, &e),
        opened => opened.unwrap(),
    };
    let refusal = nic.steering_refusal().expect("bpf(2) is refused in a user namespace");
    assert!(refusal.is_permission() && refusal.to_string().contains("CAP_BPF"), "{refusal}");
    assert_eq!((nic.steering(), nic.caps().steering), (Steering::Software, Steering::Software));

    let mut ends = End::of(&mut nic);
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for port in 1000..1100 {
        socket.send_to(b"down", (US, port)).unwrap();
    }
    let arrived: usize = ends.iter_mut().map(|end| std::iter::from_fn(|| end.poll()).count()).sum();
    assert_eq!(arrived, 100);
    for end in &mut ends {
        end.send_udp(7, socket.local_addr().unwrap().port(), b"up", 0);
        let mut buffer = [0; 8];
        let n = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"up");
    }
    println!("test {NAME} ... ok");
}
