//! Alone in its process: resident memory is everybody's.

/// The budget of an idle connection in bytes, everything included.
const BUDGET: f64 = 1024.0;

#[test]
fn a_hundred_thousand_idle_connections_cost_less_than_a_kilobyte_each() {
    let r = bench::idle(100_000).unwrap();
    let (each, own) = (r.bytes_per_connection, r.conn_struct_bytes);
    println!("{} connections, {each:.0} bytes each, {own} of them the network layer's own structure", r.connections);
    assert_eq!(r.connections, 100_000);
    // A resident set that did not grow would mean that nothing was measured.
    assert!(each > own as f64 && each <= BUDGET, "{r:?}");
}
