//! The rule of the house: planes are folders, and a crate depends on planes above its own only.
//!
//! ```text
//!   base > proto > nic > dp > lib > cp > apps > load > sim > tools      and beside them: testkit tests fuzz xtask
//! ```
//!
//! Within a plane any arrow is allowed (cargo refuses circles). `cp` sees nothing of the data plane but the layout that
//! both share, `dp/abi`, so that neither side can reach into the other. Crates beside the planes may depend on all
//! of them, and no plane on them. Dev-dependencies are exempt: a test may use anything.

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// From the top down.
const PLANES: [&str; 10] = ["base", "proto", "nic", "dp", "lib", "cp", "apps", "load", "sim", "tools"];
/// Folders beside the planes.
const BESIDE: [&str; 4] = ["testkit", "tests", "fuzz", "xtask"];
/// The control plane's plane, what it must not see, and the exception.
const CONTROL: &str = "cp";
const NOT_FOR_CONTROL: [&str; 3] = ["nic", "dp", "lib"];
const SHARED_LAYOUT: &str = "dp/abi";

/// `cargo xtask layers`
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    check(&workspace)?;
    println!("layers: {} crates, every arrow points up", workspace.packages.len());
    Ok(())
}

/// Checks every dependency between crates of the workspace.
///
/// # Errors
/// All edges that break the rule.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let wrong = edges(&workspace.packages);
    if !wrong.is_empty() {
        bail!("{}\nthe order is: {}", wrong.join("\n"), PLANES.join(" > "));
    }
    Ok(())
}

fn edges(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for from in packages {
        for to in from.depends_on.iter().filter_map(|name| packages.iter().find(|p| p.name == *name)) {
            if let Some(why) = refusal(&from.folder, &to.folder) {
                wrong.push(format!("{} -> {}: {why}", from.folder, to.folder));
            }
        }
        if rank(&from.folder).is_none() && !BESIDE.contains(&plane(&from.folder)) {
            wrong.push(format!("{}: `{}` is not a plane", from.folder, plane(&from.folder)));
        }
    }
    wrong
}

/// Why a crate in folder `from` may not depend on the one in folder `to`, if it may not.
fn refusal(from: &str, to: &str) -> Option<String> {
    let own = rank(from)?;
    let Some(theirs) = rank(to) else {
        return Some(format!("`{}` stands beside the planes; only dev-dependencies may name it", plane(to)));
    };
    if plane(from) == CONTROL && NOT_FOR_CONTROL.contains(&plane(to)) && to != SHARED_LAYOUT {
        return Some(format!("the control plane sees of the data plane only {SHARED_LAYOUT}"));
    }
    (theirs > own).then(|| format!("`{}` lies below `{}`", plane(to), plane(from)))
}

fn plane(folder: &str) -> &str {
    folder.split('/').next().unwrap_or(folder)
}

fn rank(folder: &str) -> Option<usize> {
    PLANES.iter().position(|p| *p == plane(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_up() {
        for (from, to) in
            [("nic/shm", "base/mem"), ("nic/shm", "nic/nic"), ("tools/cli", "apps/kv"), ("tests", "lib/zygix")]
        {
            assert_eq!(refusal(from, to), None, "{from} -> {to}");
        }
        for (from, to) in
            [("base/mem", "nic/nic"), ("dp/netstack", "lib/zygix"), ("apps/kv", "load/load"), ("lib/zygix", "testkit")]
        {
            assert!(refusal(from, to).is_some(), "{from} -> {to}");
        }
    }

    #[test]
    fn the_control_plane_sees_the_layout_only() {
        assert_eq!(refusal("cp/ixcp", "dp/abi"), None);
        assert_eq!(refusal("cp/ixcp", "cp/policy"), None);
        assert_eq!(refusal("cp/ixcp", "base/units"), None);
        assert!(refusal("cp/ixcp", "dp/netstack").is_some_and(|why| why.contains("dp/abi")));
        assert!(refusal("cp/ixcp", "lib/zygix").is_some());
    }

    #[test]
    fn the_offending_edge_is_named() {
        let package = |folder: &str, on: &[&str]| Package {
            id: String::new(),
            name: folder.rsplit('/').next().unwrap().to_owned(),
            folder: folder.to_owned(),
            depends_on: on.iter().map(|s| (*s).to_owned()).collect(),
            external: vec![],
            roots: vec![],
            examples: vec![],
        };
        let all = [package("base/a", &["b"]), package("nic/b", &["a"]), package("misc/c", &[])];
        let wrong = edges(&all);
        assert_eq!(wrong, ["base/a -> nic/b: `nic` lies below `base`", "misc/c: `misc` is not a plane"]);
    }
}
