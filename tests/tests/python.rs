//! Two client libraries from PyPI against `kv`. What they do is in the scripts under `python/`.
#![forbid(unsafe_code)]

use tests::{App, Rig, Serve, Stack, need, on_stacks};

fn script(stack: Stack, module: &str, last: &str) {
    let python = need!(need::python(module));
    let rig = need!(Rig::start(&Serve::new(App::Kv, stack).threads(2)));
    let script = format!("{}/python/with_{module}.py", env!("CARGO_MANIFEST_DIR"));
    let (host, port) = (rig.addr().ip().to_string(), rig.addr().port().to_string());
    let out = rig.run(python, &[&script, &host, &port]).ok();
    assert_eq!(out.lines().last(), Some(last), "{out}");
    rig.still_serves_kv();
}

on_stacks! {
    /// pymemcache: pure Python, text protocol.
    [zygix = Zygix, software = Software, linux = Linux, floating = Floating]
    fn pymemcache(stack) {
        script(stack, "pymemcache", "threads ok");
    }

    /// pylibmc: libmemcached, both protocols.
    [zygix = Zygix, software = Software, linux = Linux, floating = Floating]
    fn pylibmc(stack) {
        script(stack, "pylibmc", "binary ok");
    }
}
